// What a capio_file* is: a number that names a place in a table, and which life of it.
//
// So one that has been closed is known for that, also while other threads still come with it. A
// file that is closed while they use it stays whole, its descriptor open, until the last of them
// leaves, who ends it. Using one takes no lock.
#ifndef CAPIO_CLIENT_HANDLES_H_
#define CAPIO_CLIENT_HANDLES_H_

#include <memory>

#include "client/file.h"

struct capio_file;

namespace capio {

struct HandlePlace;

// Makes a handle of the file. ENFILE if there are too many: the file is closed, and its descriptor
// meets the fate given.
Result<capio_file*> MakeHandle(std::unique_ptr<File> file, FdFate otherwise);

// The use of a file by one call.
class FileUse {
 public:
  explicit FileUse(capio_file* handle);
  ~FileUse();
  FileUse(const FileUse&) = delete;
  FileUse& operator=(const FileUse&) = delete;
  // False: the handle has been closed, or never was one.
  explicit operator bool() const { return place_ != nullptr; }
  File& operator*() const;

 private:
  HandlePlace* place_;
};

// Lets no call in any more, and returns when those that other threads are in have left, so that
// none of them comes to the descriptor's number when it is another file's. Waits of theirs end with
// EBADF. CloseHandle has to follow. EBADF: it has been ended before.
Status QuiesceHandle(capio_file* handle);

// Ends the handle. The file is closed by the last call that uses it: this one, or one that another
// thread is in, and then Ok says nothing of that. EBADF: it has been ended before.
Status CloseHandle(capio_file* handle, CloseKind kind, FdFate fate);

}  // namespace capio

#endif  // CAPIO_CLIENT_HANDLES_H_
