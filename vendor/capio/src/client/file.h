// An open file that CAPIO has to watch: every writing handle, and a consumer's handle of a file
// still growing.
#ifndef CAPIO_CLIENT_FILE_H_
#define CAPIO_CLIENT_FILE_H_

#include <atomic>
#include <memory>
#include <string>

#include "client/session.h"

namespace capio {

enum class CloseKind { kCount, kAbandoned, kFailed };
enum class FdFate { kClose, kKeep, kClosed };
// kNone: EAGAIN stands for a wait.
enum class Patience { kWait, kNone };

class File {
 public:
  // open(2). *out is null where the descriptor needs no watching. Returns the descriptor, the
  // caller's with null, else the File's. Patience concerns opens for reading: without it EAGAIN
  // stands for a handle that would wait, too. size, if given, is set to what a regular file held
  // that was opened for reading.
  static Result<int> Open(const std::shared_ptr<Session>& session, const std::string& relative,
                          int flags, mode_t mode, std::unique_ptr<File>* out,
                          Patience patience = Patience::kWait, off_t* size = nullptr);

  // The handle of a descriptor that this process has had since before exec(2), counted in its cell
  // already.
  static std::unique_ptr<File> Adopt(const std::shared_ptr<Session>& session, FileRecord* record,
                                     Cell* cell, int fd, int flags, bool duplicate);

  Result<size_t> Read(void* buf, size_t n, off_t offset, bool full);
  // Less than n only if it had to wait for room in between and that wait was interrupted or failed:
  // the next call goes on with it.
  Result<size_t> Write(const void* buf, size_t n, off_t offset);
  Result<off_t> Seek(off_t offset, int whence);
  Status Truncate(off_t size);
  // Before and after another call writes through the descriptor; offset -1: at its position.
  Status WillWrite(off_t offset);
  Status Wrote(off_t offset, ssize_t n);  // n < 0: a negated errno
  // The handle of another descriptor of the same open file.
  Status Duplicate(int fd, std::unique_ptr<File>* out);
  Status Publish();
  Status Expose();
  Status WaitCommit();
  [[nodiscard]] int status() const;
  [[nodiscard]] int fd() const { return fd_.get(); }
  // It will be closed once the calls that other threads are in have returned: no more waiting. A
  // writer that waits for room notices within a second.
  void Closing();
  // Ends it; the object is of no use afterwards.
  Status Close(CloseKind kind, FdFate fate);

 private:
  File(std::shared_ptr<Session> session, FileRecord* record, Fd fd, int flags, Layer layer);

  static Result<int> OpenForReading(const std::shared_ptr<Session>& session,
                                    const std::string& relative, int flags, mode_t mode,
                                    Patience patience, std::unique_ptr<File>* out, off_t* size);
  static Result<int> OpenForWriting(const std::shared_ptr<Session>& session,
                                    const std::string& relative, int flags, mode_t mode,
                                    std::unique_ptr<File>* out);
  Result<size_t> WritePiece(const void* buf, size_t n, off_t offset);
  // In the memory tree: waits until some of n bytes may be written, and tells how many.
  Result<size_t> AwaitRoom(size_t n);
  // What a descriptor that others write through has taken since the last look.
  Status AwaitRoomExposed();
  bool Detached(uint64_t status);
  Status FollowName();
  Status BeforeChange(off_t start, bool extends);
  void AfterWrite(off_t offset, size_t n);
  void WakeReaders();
  Status CheckGeneration(uint64_t status);
  Status CountOpen();
  void MarkExposed();
  Status OwnAfterFork();
  Result<bool> Restart();

  std::shared_ptr<Session> session_;
  FileRecord* record_;
  std::string name_;                  // that a reader has opened
  std::atomic<Cell*> cell_{nullptr};  // of a writer
  Fd fd_;
  int flags_;
  bool writer_;
  bool append_;
  bool duplicate_ = false;  // its close is not counted
  Layer layer_;             // where its bytes are
  std::atomic<uint64_t> generation_;
  std::atomic<uint64_t> fork_epoch_;
  uint64_t forks_;
  std::atomic<uint64_t> delivered_{0};
  std::atomic<bool> seeked_{false};
  std::atomic<bool> exposed_{false};
  std::atomic<bool> changed_committed_{false};
  std::atomic<bool> detached_{false};
  std::atomic<bool> name_checked_{false};
  std::atomic<bool> closing_{false};
  std::atomic<bool> followed_{false};  // the descriptor is another file's, which is committed
  std::atomic<int64_t> exposed_size_{0};
};

// Waits until a path that somebody else is declared to make exists (S3), and tells where it is.
// A path that nobody, or the session itself, is declared to make gives ENOENT at once.
// id, if given, is set as Identities::Stat does.
Result<Layer> AwaitExistence(Session* session, const std::string& relative, bool follow,
                             struct stat* st, Patience patience = Patience::kWait,
                             FileIdentity* id = nullptr);

// The record of a file that lies under this name, made if there is none.
Result<FileRecord*> RecordOf(Session* session, const FileIdentity& id, const std::string& relative,
                             bool* created);
// The same of an open descriptor; null if that is no regular file's.
Result<FileRecord*> RecordOf(Session* session, int fd, const std::string& relative, bool* created);

}  // namespace capio

#endif  // CAPIO_CLIENT_FILE_H_
