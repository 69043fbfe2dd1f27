// Listing a directory: the union of the layers (S1), by the rules of S7.
#ifndef CAPIO_CLIENT_DIRECTORY_H_
#define CAPIO_CLIENT_DIRECTORY_H_

#include <memory>
#include <string>
#include <vector>

#include "client/session.h"

namespace capio {

class Directory {
 public:
  static Result<std::unique_ptr<Directory>> Open(const std::shared_ptr<Session>& session,
                                                 const std::string& relative);
  // Packs as many capio_dirent records into buf as fit. 0: the end.
  Result<size_t> Read(void* buf, size_t cap);

 private:
  explicit Directory(std::vector<DirEntry> entries) : entries_(std::move(entries)) {}

  std::vector<DirEntry> entries_;
  size_t next_ = 0;
};

}  // namespace capio

#endif  // CAPIO_CLIENT_DIRECTORY_H_
