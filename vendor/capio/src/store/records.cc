#include "store/records.h"

#include <algorithm>

#include "os/paths.h"

namespace capio {
namespace {

void Push(std::atomic<uint64_t>* head, std::atomic<uint64_t>* next, uint64_t offset) {
  uint64_t first = head->load(std::memory_order_acquire);
  do {
    next->store(first, std::memory_order_relaxed);
  } while (!head->compare_exchange_weak(first, offset, std::memory_order_acq_rel));
}

uint32_t FlagsOf(const Rule& rule) {
  return (rule.permanent ? uint32_t{kFilePermanent} : 0) |
         (rule.storage == Storage::kFs ? uint32_t{kFileOnDisk} : 0);
}

bool Matches(const FileRecord* record, const FileIdentity& id) {
  return record->ino == id.ino && record->dev == id.dev && record->incarnation == id.incarnation;
}

}  // namespace

uint32_t PackRule(const Rule& rule) {
  return static_cast<uint32_t>(rule.streaming.commit) |
         static_cast<uint32_t>(rule.streaming.fire) << 8 | (rule.declared() ? 1u << 16 : 0u);
}

std::atomic<uint64_t>* Records::Bucket(const FileIdentity& id) {
  uint64_t hash = (id.ino ^ id.dev << 40 ^ id.incarnation) * 0x9e3779b97f4a7c15u;
  return &segment_->header().buckets[hash >> 47];
}
static_assert(kFileBuckets == 1u << 17);

FileRecord* Records::Find(const FileIdentity& id) {
  for (auto* record = At(Bucket(id)->load(std::memory_order_acquire)); record != nullptr;
       record = At(record->next.load(std::memory_order_acquire))) {
    if (Matches(record, id)) return Canonical(record);
  }
  return nullptr;
}

FileRecord* Records::AtIfRecord(uint64_t offset) {
  if (offset % 16 != 0 || !segment_->Contains(offset, sizeof(FileRecord))) return nullptr;
  FileRecord* record = At(offset);
  return Find({record->dev, record->ino, record->incarnation}) == record ? record : nullptr;
}

Result<FileRecord*> Records::FindOrCreate(const FileIdentity& id, std::string_view name,
                                          const Rule& rule, bool* created) {
  *created = false;
  if (FileRecord* found = Find(id)) return found;
  auto block = segment_->AllocateName(name);
  if (!block.ok()) return block.status();
  auto offset = segment_->Allocate(sizeof(FileRecord));
  if (!offset.ok()) return offset.status();
  FileRecord* record = At(*offset);
  record->dev = id.dev;
  record->ino = id.ino;
  record->incarnation = id.incarnation;
  record->first_name = *block;
  record->status.store(MakeStatus(1, kGrowing), std::memory_order_relaxed);
  record->hole.store(kNoHole, std::memory_order_relaxed);
  record->want.store(kNobodyWants, std::memory_order_relaxed);
  record->name.store(*block, std::memory_order_relaxed);
  record->rule.store(PackRule(rule), std::memory_order_relaxed);
  record->close_count.store(rule.streaming.close_count, std::memory_order_relaxed);
  record->flags.store(FlagsOf(rule), std::memory_order_relaxed);
  record->age.store(*offset, std::memory_order_relaxed);
  if (FileRecord* linked = Link(record); linked != record) return linked;
  *created = true;
  CAPIO_RETURN_IF_ERROR(NoteDependent(record));
  return record;
}

FileRecord* Records::Link(FileRecord* record) {
  const FileIdentity id{record->dev, record->ino, record->incarnation};
  std::atomic<uint64_t>* bucket = Bucket(id);
  uint64_t first = bucket->load(std::memory_order_acquire);
  uint64_t seen = 0;
  for (;;) {
    // Somebody may have linked the same inode meanwhile: look only at what is new in the chain.
    for (uint64_t at = first; at != seen; at = At(at)->next.load(std::memory_order_acquire)) {
      if (Matches(At(at), id)) return Canonical(At(at));
    }
    seen = first;
    record->next.store(first, std::memory_order_relaxed);
    if (bucket->compare_exchange_strong(first, OffsetOf(record), std::memory_order_acq_rel)) {
      return Canonical(record);
    }
  }
}

Status Records::AddIdentity(FileRecord* record, const FileIdentity& id) {
  FileRecord* known = Find(id);
  if (known == nullptr) {
    auto offset = segment_->Allocate(sizeof(FileRecord));
    if (!offset.ok()) return offset.status();
    FileRecord* entry = At(*offset);
    entry->dev = id.dev;
    entry->ino = id.ino;
    entry->incarnation = id.incarnation;
    entry->stands_for = OffsetOf(record);
    known = Link(entry);
  }
  return known == record ? Status::Ok() : Status::Error(EEXIST);
}

Status Records::NoteDependent(FileRecord* record) {
  if (CommitOf(record->rule.load(std::memory_order_acquire)) != CommitRule::kOnFile) {
    return Status::Ok();
  }
  auto offset = segment_->Allocate(sizeof(Dependent));
  if (!offset.ok()) return offset.status();
  auto* node = segment_->At<Dependent>(*offset);
  node->record = OffsetOf(record);
  Push(&segment_->header().dependents, &node->next, *offset);
  return Status::Ok();
}

Status Records::Rename(FileRecord* record, std::string_view name, const Rule& rule) {
  auto block = segment_->AllocateName(name);
  if (!block.ok()) return block.status();
  record->name.store(*block, std::memory_order_release);
  SetRule(record, rule);
  record->flags.fetch_or(FlagsOf(rule));
  if (rule.storage != Storage::kFs) record->flags.fetch_and(~uint32_t{kFileOnDisk});
  return NoteDependent(record);
}

void Records::SetRule(FileRecord* record, const Rule& rule) {
  record->close_count.store(rule.streaming.close_count, std::memory_order_relaxed);
  record->rule.store(PackRule(rule), std::memory_order_release);
}

std::string Records::NameOf(const FileRecord* record) const {
  return std::string(segment_->Name(record->name.load(std::memory_order_acquire)));
}

Result<Cell*> Records::AddCell(FileRecord* record, uint32_t slot, uint32_t epoch, uint32_t app) {
  auto offset = segment_->Allocate(sizeof(Cell));
  if (!offset.ok()) return offset.status();
  auto* cell = segment_->At<Cell>(*offset);
  cell->record = OffsetOf(record);
  cell->slot = slot;
  cell->epoch = epoch;
  cell->app = app;
  // To the client first: a cell that only its client knows is settled with it and harms nobody.
  Push(&segment_->header().clients[slot].cells, &cell->next_of_client, *offset);
  Push(&record->cells, &cell->next_in_file, *offset);
  return cell;
}

WaitWord* Records::PathWord(std::string_view relative) {
  return &segment_->header().path_words[HashString(relative) % kPathWords];
}

void NoteGap(FileRecord* record, uint64_t size, uint64_t start) {
  if (start <= size) return;
  record->gaps.fetch_add(1);
  uint64_t none = kNoHole;
  // The end first: a reader that sees the hole may look for its end.
  uint64_t end = record->hole_end.load();
  while (end < start && !record->hole_end.compare_exchange_weak(end, start)) {
  }
  if (record->hole.compare_exchange_strong(none, size)) return;
  record->flags.fetch_or(kFileManyHoles);
  uint64_t hole = none;
  while (size < hole && !record->hole.compare_exchange_weak(hole, size)) {
  }
}

void NoteWritten(FileRecord* record, uint64_t start, uint64_t end) {
  uint64_t hole = record->hole.load(std::memory_order_acquire);
  while (hole != kNoHole && start <= hole && end > hole) {
    uint64_t next = end;
    // With several gaps, where the next one begins is not known: readers stay below until commit.
    if (end >= record->hole_end.load() && (record->flags.load() & kFileManyHoles) == 0) {
      next = kNoHole;
    }
    if (record->hole.compare_exchange_weak(hole, next)) return;
  }
}

}  // namespace capio
