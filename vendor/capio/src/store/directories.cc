#include "store/directories.h"

#include <string.h>

#include "os/paths.h"

namespace capio {

std::atomic<uint64_t>* DirectoryLogs::Bucket(std::string_view directory) {
  return &segment_->header().directory_logs[HashString(directory) % kDirectoryBuckets];
}

DirectoryLog* DirectoryLogs::Find(std::string_view directory) {
  for (auto* log = segment_->At<DirectoryLog>(Bucket(directory)->load(std::memory_order_acquire));
       log != nullptr;
       log = segment_->At<DirectoryLog>(log->next.load(std::memory_order_acquire))) {
    if (segment_->Name(log->name) == directory) return log;
  }
  return nullptr;
}

Result<DirectoryLog*> DirectoryLogs::FindOrCreate(std::string_view directory) {
  if (DirectoryLog* found = Find(directory)) return found;
  auto name = segment_->AllocateName(directory);
  if (!name.ok()) return name.status();
  auto offset = segment_->Allocate(sizeof(DirectoryLog));
  if (!offset.ok()) return offset.status();
  auto* log = segment_->At<DirectoryLog>(*offset);
  log->name = *name;
  std::atomic<uint64_t>* bucket = Bucket(directory);
  uint64_t first = bucket->load(std::memory_order_acquire);
  for (;;) {
    log->next.store(first, std::memory_order_relaxed);
    if (bucket->compare_exchange_strong(first, *offset, std::memory_order_acq_rel)) return log;
    // Another process may have been faster with the same directory.
    if (DirectoryLog* found = Find(directory)) return found;
  }
}

Status DirectoryLogs::Append(std::string_view directory, std::string_view name) {
  auto log = FindOrCreate(directory);
  if (!log.ok()) return log.status();
  auto offset = segment_->Allocate(sizeof(DirectoryLogEntry) + name.size());
  if (!offset.ok()) return offset.status();
  auto* entry = segment_->At<DirectoryLogEntry>(*offset);
  entry->size = static_cast<uint32_t>(name.size());
  memcpy(reinterpret_cast<char*>(entry + 1), name.data(), name.size());
  // From the hint on to the end: another process may have died before it moved the hint.
  auto* last = segment_->At<DirectoryLogEntry>((*log)->last.load(std::memory_order_acquire));
  std::atomic<uint64_t>* link = last == nullptr ? &(*log)->first : &last->next;
  uint64_t next = 0;
  while (!link->compare_exchange_strong(next, *offset, std::memory_order_acq_rel)) {
    link = &segment_->At<DirectoryLogEntry>(next)->next;
    next = 0;
  }
  (*log)->last.store(*offset, std::memory_order_release);
  (*log)->count.fetch_add(1, std::memory_order_relaxed);
  return Status::Ok();
}

Status DirectoryLogs::MarkListed(std::string_view directory) {
  auto log = FindOrCreate(directory);
  if (!log.ok()) return log.status();
  (*log)->listed.store(1, std::memory_order_seq_cst);
  return Status::Ok();
}

DirectoryLogEntry* DirectoryLogs::Next(const DirectoryLog* log, const DirectoryLogEntry* after) {
  const std::atomic<uint64_t>& link = after == nullptr ? log->first : after->next;
  return segment_->At<DirectoryLogEntry>(link.load(std::memory_order_acquire));
}

}  // namespace capio
