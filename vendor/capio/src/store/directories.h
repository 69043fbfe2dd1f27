// What has come to be in the declared directories, in the order in which it did: the kernel keeps
// no such order, and listing a directory again for every new entry would cost the more the larger
// it is.
//
// The logs are hints. A process that dies between making a file and noting it, and a tool that
// knows nothing of CAPIO, leave entries that only a listing finds.
#ifndef CAPIO_STORE_DIRECTORIES_H_
#define CAPIO_STORE_DIRECTORIES_H_

#include <string>
#include <string_view>

#include "store/segment.h"

namespace capio {

class DirectoryLogs {
 public:
  explicit DirectoryLogs(Segment* segment) : segment_(segment) {}

  DirectoryLog* Find(std::string_view directory);
  // Notes that `name` has come to be in the directory. ENOSPC.
  Status Append(std::string_view directory, std::string_view name);
  // Notes that a consumer lists the directory: its rule has been acted upon. ENOSPC.
  Status MarkListed(std::string_view directory);
  // Calls visit with the name of every directory that was listed so.
  template <typename Visit>
  void ForEachListed(Visit visit) {
    for (auto& bucket : segment_->header().directory_logs) {
      for (auto* log = segment_->At<DirectoryLog>(bucket.load(std::memory_order_acquire));
           log != nullptr;
           log = segment_->At<DirectoryLog>(log->next.load(std::memory_order_acquire))) {
        if (log->listed.load(std::memory_order_acquire) != 0) {
          visit(std::string(segment_->Name(log->name)));
        }
      }
    }
  }
  // The entry behind `after`; the first one if that is null. Null: none yet.
  DirectoryLogEntry* Next(const DirectoryLog* log, const DirectoryLogEntry* after);
  static std::string_view NameOf(const DirectoryLogEntry* entry) {
    return {reinterpret_cast<const char*>(entry + 1), entry->size};
  }

 private:
  Result<DirectoryLog*> FindOrCreate(std::string_view directory);
  std::atomic<uint64_t>* Bucket(std::string_view directory);

  Segment* segment_;
};

}  // namespace capio

#endif  // CAPIO_STORE_DIRECTORIES_H_
