// Every system call of the engine goes through one Os, so that a test can make any of them fail or
// count them.
//
// Convention: calls return a value >= 0, or a negated errno. They retry EINTR only where the call
// cannot be waiting for another process (waits must return it, so that Python can run its signal
// handlers).
#ifndef CAPIO_OS_OS_H_
#define CAPIO_OS_OS_H_

#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace capio {

// What tells one inode from every other that had or will have its number.
struct FileIdentity {
  uint64_t dev = 0;
  uint64_t ino = 0;
  uint64_t incarnation = 0;  // hash of the kernel's file handle, or the birth time, else 0
  bool operator==(const FileIdentity&) const = default;
};

class Os {
 public:
  virtual ~Os() = default;

  // Files and names.
  virtual int OpenAt(int dir, const char* path, int flags, mode_t mode);
  virtual int Close(int fd);
  virtual ssize_t Read(int fd, void* buf, size_t n);
  virtual ssize_t Pread(int fd, void* buf, size_t n, off_t offset);
  virtual ssize_t Write(int fd, const void* buf, size_t n);
  virtual ssize_t Pwrite(int fd, const void* buf, size_t n, off_t offset);
  virtual off_t Lseek(int fd, off_t offset, int whence);
  virtual int Ftruncate(int fd, off_t size);
  virtual int Fallocate(int fd, off_t offset, off_t size);
  virtual int Fstat(int fd, struct stat* st);
  virtual int FstatAt(int dir, const char* path, struct stat* st, int flags);
  virtual int MkdirAt(int dir, const char* path, mode_t mode);
  virtual int UnlinkAt(int dir, const char* path, int flags);
  virtual int RenameAt(int from_dir, const char* from, int to_dir, const char* to);
  virtual int LinkAt(int from_dir, const char* from, int to_dir, const char* to, int flags);
  virtual int SymlinkAt(const char* target, int dir, const char* path);
  virtual ssize_t ReadlinkAt(int dir, const char* path, char* buf, size_t cap);
  virtual int Getcwd(char* buf, size_t cap);  // NUL-terminated
  virtual int Fchmod(int fd, mode_t mode);
  virtual int Dup3(int from, int to, int flags);
  virtual int Fchown(int fd, uid_t uid, gid_t gid);
  virtual ssize_t Flistxattr(int fd, char* names, size_t cap);
  virtual ssize_t Fgetxattr(int fd, const char* name, void* value, size_t cap);
  virtual int Fsetxattr(int fd, const char* name, const void* value, size_t n);
  virtual int Futimens(int fd, const struct timespec times[2]);
  virtual int Fsync(int fd);
  virtual int Flock(int fd, int operation);
  virtual int Syncfs(int fd);
  virtual int DropCache(int fd);  // the pages of a file that is on the disk
  // Copies up to n bytes at the same offset of both files, by the fastest way both file systems
  // offer.
  virtual ssize_t CopyRange(int from, int to, off_t offset, size_t n);
  virtual ssize_t Getdents(int fd, void* buf, size_t n);
  virtual int StatFs(int fd, struct statfs* st);
  // fstatat(2), and when the file came into being: 0 where the file system does not tell.
  virtual int StatBirth(int dir, const char* path, int flags, struct stat* st, int64_t* birth_ns);
  // f_type of statfs(2); 0 if it cannot be had.
  virtual int64_t FsType(int fd);
  virtual int Identity(int fd, const struct stat& st, FileIdentity* id);
  virtual int Fcntl(int fd, int command, intptr_t argument);

  // M1: POSIX record locks of one byte range. TryLock gives -EAGAIN when somebody else holds part
  // of it.
  virtual int TryLock(int fd, off_t start, off_t length);
  virtual int Unlock(int fd, off_t start, off_t length);
  // 0 if nobody else holds any of the range; else 1 and the holder's pid in our namespace (0: not
  // visible).
  virtual int LockHolder(int fd, off_t start, off_t length, pid_t* pid);

  // 1 if this process holds the range's lock, which LockHolder does not show to itself; else 0.
  virtual int HoldsLock(int fd, off_t start, off_t length);
  // Whether exec(2) closes the descriptor.
  virtual int SetCloseOnExec(int fd, bool on);

  // M3: 0 if nobody has the file open for writing or mapped shared-writable; -EBUSY if somebody
  // has; another negated errno where leases are not to be had. fd must be open for reading only.
  virtual int ProbeNoWriters(int fd);

  // Shared memory and waiting.
  virtual void* Map(int fd, size_t size);  // MAP_FAILED with errno on failure
  virtual int Unmap(void* address, size_t size);
  // Advice: memory that nobody has written to is about to be filled.
  virtual void ExpectBytes(void* memory, size_t n);
  // 0 woken, -EAGAIN the word differed, -EINTR, -ETIMEDOUT.
  virtual int FutexWait(const std::atomic<uint32_t>* word, uint32_t expected, int64_t timeout_ns);
  virtual int FutexWake(const std::atomic<uint32_t>* word);

  // Sockets and events.
  virtual int Socket(int type);
  virtual int Bind(int fd, const struct sockaddr_un& address, socklen_t size);
  virtual int Listen(int fd, int backlog);
  virtual int Accept(int fd);
  virtual int Connect(int fd, const struct sockaddr_un& address, socklen_t size);
  virtual ssize_t Send(int fd, const void* buf, size_t n, int flags);
  virtual ssize_t Recv(int fd, void* buf, size_t n, int flags);
  virtual int PeerUid(int fd, uid_t* uid);
  virtual int Poll(int fd, short events, int64_t timeout_ms);  // revents, 0 on time-out
  virtual int EpollCreate();
  virtual int EpollControl(int epoll, int op, int fd, uint32_t events, uint64_t data);
  virtual int EpollWait(int epoll, struct epoll_event* events, int n, int timeout_ms);
  virtual int EventFd();
  virtual int Pipe(int fds[2]);
  virtual int PidfdOpen(pid_t pid);
  virtual int InotifyInit();
  virtual int InotifyAdd(int fd, const char* path, uint32_t mask);
  virtual int InotifyRemove(int fd, int watch);
  virtual int SignalFd(const sigset_t& signals);
  virtual int CloseRange(unsigned first, unsigned last);

  // This process's threads.
  virtual int32_t ThreadId();
  virtual int ThreadIds(std::vector<int32_t>* out);
  // Whether a thread of this process sleeps until another one of it wakes it: no signal, time or
  // event from outside ends that. False if it cannot be told.
  virtual bool WaitsForThread(int32_t thread);

  virtual int64_t MonotonicNs();
  virtual int64_t RealtimeNs();
  virtual uint64_t Random();
};

// The Os in use: the kernel's, unless a test has put another in its place.
Os& os();
// For tests. nullptr restores the kernel's. Returns the one that was in use.
Os* SetOs(Os* replacement);

// An owned descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  int release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset(int fd = -1) {
    if (fd_ >= 0) (void)os().Close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace capio

#endif  // CAPIO_OS_OS_H_
