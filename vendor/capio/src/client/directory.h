// Listing a directory: the union of the layers (S1), by the rules of S7.
#ifndef CAPIO_CLIENT_DIRECTORY_H_
#define CAPIO_CLIENT_DIRECTORY_H_

#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "client/session.h"
#include "store/directories.h"

namespace capio {

class Directory {
 public:
  static Result<std::unique_ptr<Directory>> Open(const std::shared_ptr<Session>& session,
                                                 const std::string& relative);
  // A directory outside CAPIO_DIR, as it stands.
  static Result<std::unique_ptr<Directory>> OpenElsewhere(const std::shared_ptr<Session>& session,
                                                          const std::string& path);
  // Packs as many capio_dirent records into buf as fit. 0: the end. Under no_update this waits for
  // more entries until the directory is committed.
  Result<size_t> Read(void* buf, size_t cap);
  // The same as names, each with a NUL, and types and inode numbers of at most max entries; either
  // may be null. Returns the bytes of the names.
  Result<size_t> ReadColumns(char* names, size_t cap, uint8_t* types, uint64_t* inos, size_t max);

 private:
  Directory(std::shared_ptr<Session> session, std::string relative,
            std::shared_ptr<const Rule> rule)
      : session_(std::move(session)), relative_(std::move(relative)), rule_(std::move(rule)) {}

  // Takes what the log has; false if that is nothing.
  bool TakeLogged();
  // Lists the directory and takes what was not delivered yet. final: it is committed, so what is
  // there now is all there is.
  Status Scan(bool final);
  Status AwaitMore();
  // Waits for an entry to deliver, if there is none and one may come.
  Status AwaitAny();
  [[nodiscard]] bool drained() const { return delivered_ == entries_.size(); }
  [[nodiscard]] bool Hidden(const DirEntry& entry) const;

  std::shared_ptr<Session> session_;
  std::string relative_;
  std::shared_ptr<const Rule> rule_;
  bool live_ = false;  // listed as it grows
  bool done_ = false;
  std::vector<DirEntry> entries_;
  size_t delivered_ = 0;  // of those, from the first
  std::unordered_set<std::string> taken_;
  const DirectoryLogEntry* last_ = nullptr;
  int64_t scanned_ns_ = 0;
  int64_t scan_cost_ns_ = 0;
};

}  // namespace capio

#endif  // CAPIO_CLIENT_DIRECTORY_H_
