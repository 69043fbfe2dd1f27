// The table of file records, and the cells in which clients note what they did with a file.
#ifndef CAPIO_STORE_RECORDS_H_
#define CAPIO_STORE_RECORDS_H_

#include <string>
#include <string_view>

#include "os/os.h"
#include "rules/rule.h"
#include "store/segment.h"

namespace capio {

// Packing of FileRecord::rule.
uint32_t PackRule(const Rule& rule);
inline CommitRule CommitOf(uint32_t packed) { return static_cast<CommitRule>(packed & 0xff); }
inline FireRule FireOf(uint32_t packed) { return static_cast<FireRule>(packed >> 8 & 0xff); }
inline bool DeclaredIn(uint32_t packed) { return (packed >> 16 & 1) != 0; }

class Records {
 public:
  explicit Records(Segment* segment) : segment_(segment) {}

  FileRecord* Find(const FileIdentity& id);
  // The record of an inode, made if there is none. *created tells whether this call made it.
  Result<FileRecord*> FindOrCreate(const FileIdentity& id, std::string_view name, const Rule& rule,
                                   bool* created);
  // Has an inode that a file is about to be moved to found under the file's record, too.
  Status AddIdentity(FileRecord* record, const FileIdentity& id);
  // Gives the record another name and the rule that holds there.
  Status Rename(FileRecord* record, std::string_view name, const Rule& rule);
  // Gives it another rule, but for the flag of permanent ones.
  static void SetRule(FileRecord* record, const Rule& rule);
  std::string NameOf(const FileRecord* record) const;
  uint64_t OffsetOf(const FileRecord* record) const { return segment_->OffsetOf(record); }
  FileRecord* At(uint64_t offset) { return segment_->At<FileRecord>(offset); }

  // The record at an offset that another process has sent; null if there is none.
  FileRecord* AtIfRecord(uint64_t offset);

  // A cell of (slot, epoch, app), linked to the file and to the client.
  Result<Cell*> AddCell(FileRecord* record, uint32_t slot, uint32_t epoch, uint32_t app);

  template <typename Visit>
  void ForEach(Visit visit) {
    for (auto& bucket : segment_->header().buckets) {
      for (auto* record = At(bucket.load(std::memory_order_acquire)); record != nullptr;
           record = At(record->next.load(std::memory_order_acquire))) {
        if (record->stands_for == 0) visit(record);
      }
    }
  }
  template <typename Visit>
  void ForEachCell(const FileRecord* record, Visit visit) {
    for (auto* cell = segment_->At<Cell>(record->cells.load(std::memory_order_acquire));
         cell != nullptr;
         cell = segment_->At<Cell>(cell->next_in_file.load(std::memory_order_acquire))) {
      visit(cell);
    }
  }
  template <typename Visit>
  void ForEachCellOf(const Client* client, Visit visit) {
    for (auto* cell = segment_->At<Cell>(client->cells.load(std::memory_order_acquire));
         cell != nullptr;
         cell = segment_->At<Cell>(cell->next_of_client.load(std::memory_order_acquire))) {
      visit(cell);
    }
  }

  WaitWord* PathWord(std::string_view relative);

 private:
  std::atomic<uint64_t>* Bucket(const FileIdentity& id);
  // Links a filled record of an inode, unless somebody was faster: then that one is returned.
  FileRecord* Link(FileRecord* record);
  FileRecord* Canonical(FileRecord* record) {
    return record->stands_for == 0 ? record : At(record->stands_for);
  }
  // Lists a record whose commit depends on others, so that those find it.
  Status NoteDependent(FileRecord* record);

  Segment* segment_;
};

// Notes that [start, end) is about to be written when the file has size bytes: a gap below start is
// a hole, from which readers are kept away. Call before the write (end = start for a truncation
// that extends).
void NoteGap(FileRecord* record, uint64_t size, uint64_t start);
// Notes that [start, end) has been written.
void NoteWritten(FileRecord* record, uint64_t start, uint64_t end);

}  // namespace capio

#endif  // CAPIO_STORE_RECORDS_H_
