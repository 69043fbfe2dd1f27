// An Os whose call number N goes wrong: with an errno, or by the process being no more.
#ifndef CAPIO_TESTS_FAULTY_OS_H_
#define CAPIO_TESTS_FAULTY_OS_H_

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "os/os.h"

namespace capio::test {

class FaultyOs : public Os {
 public:
  // error 0: the process ends there, as by kill -9.
  FaultyOs(int call, int error) : call_(call), error_(error) {}
  [[nodiscard]] bool hit() const { return hit_.load(); }
  [[nodiscard]] const char* where() const { return where_.load(); }

#define CAPIO_FAULT(name)                     \
  do {                                        \
    if (int e = Hit(name); e != 0) return -e; \
  } while (0)

  int OpenAt(int dir, const char* path, int flags, mode_t mode) override {
    CAPIO_FAULT("openat");
    return Os::OpenAt(dir, path, flags, mode);
  }
  int Close(int fd) override {
    // What fails to close is closed all the same.
    int result = Os::Close(fd);
    CAPIO_FAULT("close");
    return result;
  }
  ssize_t Read(int fd, void* buf, size_t n) override {
    CAPIO_FAULT("read");
    return Os::Read(fd, buf, n);
  }
  ssize_t Pread(int fd, void* buf, size_t n, off_t offset) override {
    CAPIO_FAULT("pread");
    return Os::Pread(fd, buf, n, offset);
  }
  ssize_t Write(int fd, const void* buf, size_t n) override {
    CAPIO_FAULT("write");
    return Os::Write(fd, buf, n);
  }
  ssize_t Pwrite(int fd, const void* buf, size_t n, off_t offset) override {
    CAPIO_FAULT("pwrite");
    return Os::Pwrite(fd, buf, n, offset);
  }
  off_t Lseek(int fd, off_t offset, int whence) override {
    CAPIO_FAULT("lseek");
    return Os::Lseek(fd, offset, whence);
  }
  int Ftruncate(int fd, off_t size) override {
    CAPIO_FAULT("ftruncate");
    return Os::Ftruncate(fd, size);
  }
  int Fallocate(int fd, off_t offset, off_t size) override {
    CAPIO_FAULT("fallocate");
    return Os::Fallocate(fd, offset, size);
  }
  int Fstat(int fd, struct stat* st) override {
    CAPIO_FAULT("fstat");
    return Os::Fstat(fd, st);
  }
  int FstatAt(int dir, const char* path, struct stat* st, int flags) override {
    CAPIO_FAULT("fstatat");
    return Os::FstatAt(dir, path, st, flags);
  }
  int MkdirAt(int dir, const char* path, mode_t mode) override {
    CAPIO_FAULT("mkdirat");
    return Os::MkdirAt(dir, path, mode);
  }
  int UnlinkAt(int dir, const char* path, int flags) override {
    CAPIO_FAULT("unlinkat");
    return Os::UnlinkAt(dir, path, flags);
  }
  int RenameAt(int from_dir, const char* from, int to_dir, const char* to) override {
    CAPIO_FAULT("renameat");
    return Os::RenameAt(from_dir, from, to_dir, to);
  }
  int LinkAt(int from_dir, const char* from, int to_dir, const char* to, int flags) override {
    CAPIO_FAULT("linkat");
    return Os::LinkAt(from_dir, from, to_dir, to, flags);
  }
  int SymlinkAt(const char* target, int dir, const char* path) override {
    CAPIO_FAULT("symlinkat");
    return Os::SymlinkAt(target, dir, path);
  }
  int Getcwd(char* buf, size_t cap) override {
    CAPIO_FAULT("getcwd");
    return Os::Getcwd(buf, cap);
  }
  ssize_t ReadlinkAt(int dir, const char* path, char* buf, size_t cap) override {
    CAPIO_FAULT("readlinkat");
    return Os::ReadlinkAt(dir, path, buf, cap);
  }
  int Fchmod(int fd, mode_t mode) override {
    CAPIO_FAULT("fchmod");
    return Os::Fchmod(fd, mode);
  }
  int Futimens(int fd, const struct timespec times[2]) override {
    CAPIO_FAULT("futimens");
    return Os::Futimens(fd, times);
  }
  int Fsync(int fd) override {
    CAPIO_FAULT("fsync");
    return Os::Fsync(fd);
  }
  int Flock(int fd, int operation) override {
    CAPIO_FAULT("flock");
    return Os::Flock(fd, operation);
  }
  int Syncfs(int fd) override {
    CAPIO_FAULT("syncfs");
    return Os::Syncfs(fd);
  }
  int DropCache(int fd) override {
    CAPIO_FAULT("fadvise64");
    return Os::DropCache(fd);
  }
  ssize_t CopyRange(int from, int to, off_t offset, size_t n) override {
    CAPIO_FAULT("copy_file_range");
    return Os::CopyRange(from, to, offset, n);
  }
  ssize_t Getdents(int fd, void* buf, size_t n) override {
    CAPIO_FAULT("getdents64");
    return Os::Getdents(fd, buf, n);
  }
  int StatFs(int fd, struct statfs* st) override {
    CAPIO_FAULT("fstatfs");
    return Os::StatFs(fd, st);
  }
  int StatBirth(int dir, const char* path, int flags, struct stat* st, int64_t* birth_ns) override {
    CAPIO_FAULT("statx");
    return Os::StatBirth(dir, path, flags, st, birth_ns);
  }
  int64_t FsType(int fd) override {
    if (Hit("fstatfs") != 0) return 0;
    return Os::FsType(fd);
  }
  int Identity(int fd, const struct stat& st, FileIdentity* id) override {
    CAPIO_FAULT("name_to_handle_at");
    return Os::Identity(fd, st, id);
  }
  int Fcntl(int fd, int command, intptr_t argument) override {
    CAPIO_FAULT("fcntl");
    return Os::Fcntl(fd, command, argument);
  }
  int TryLock(int fd, off_t start, off_t length) override {
    CAPIO_FAULT("F_SETLK");
    return Os::TryLock(fd, start, length);
  }
  int LockHolder(int fd, off_t start, off_t length, pid_t* pid) override {
    CAPIO_FAULT("F_GETLK");
    return Os::LockHolder(fd, start, length, pid);
  }
  int ProbeNoWriters(int fd) override {
    CAPIO_FAULT("F_SETLEASE");
    return Os::ProbeNoWriters(fd);
  }
  void* Map(int fd, size_t size) override {
    if (int e = Hit("mmap"); e != 0) {
      errno = e;
      return MAP_FAILED;
    }
    return Os::Map(fd, size);
  }
  int FutexWait(const std::atomic<uint32_t>* word, uint32_t expected, int64_t timeout_ns) override {
    CAPIO_FAULT("FUTEX_WAIT");
    return Os::FutexWait(word, expected, timeout_ns);
  }
  int FutexWake(const std::atomic<uint32_t>* word) override {
    CAPIO_FAULT("FUTEX_WAKE");
    return Os::FutexWake(word);
  }
  int Socket(int type) override {
    CAPIO_FAULT("socket");
    return Os::Socket(type);
  }
  int Bind(int fd, const struct sockaddr_un& address, socklen_t size) override {
    CAPIO_FAULT("bind");
    return Os::Bind(fd, address, size);
  }
  int Listen(int fd, int backlog) override {
    CAPIO_FAULT("listen");
    return Os::Listen(fd, backlog);
  }
  int Accept(int fd) override {
    CAPIO_FAULT("accept4");
    return Os::Accept(fd);
  }
  int Connect(int fd, const struct sockaddr_un& address, socklen_t size) override {
    CAPIO_FAULT("connect");
    return Os::Connect(fd, address, size);
  }
  ssize_t Send(int fd, const void* buf, size_t n, int flags) override {
    CAPIO_FAULT("send");
    return Os::Send(fd, buf, n, flags);
  }
  ssize_t Recv(int fd, void* buf, size_t n, int flags) override {
    CAPIO_FAULT("recv");
    return Os::Recv(fd, buf, n, flags);
  }
  int PeerUid(int fd, uid_t* uid) override {
    CAPIO_FAULT("SO_PEERCRED");
    return Os::PeerUid(fd, uid);
  }
  int Poll(int fd, short events, int64_t timeout_ms) override {
    CAPIO_FAULT("poll");
    return Os::Poll(fd, events, timeout_ms);
  }
  int EpollCreate() override {
    CAPIO_FAULT("epoll_create1");
    return Os::EpollCreate();
  }
  int EpollControl(int epoll, int op, int fd, uint32_t events, uint64_t data) override {
    CAPIO_FAULT("epoll_ctl");
    return Os::EpollControl(epoll, op, fd, events, data);
  }
  int EpollWait(int epoll, struct epoll_event* events, int n, int timeout_ms) override {
    CAPIO_FAULT("epoll_wait");
    return Os::EpollWait(epoll, events, n, timeout_ms);
  }
  int EventFd() override {
    CAPIO_FAULT("eventfd2");
    return Os::EventFd();
  }
  int Pipe(int fds[2]) override {
    CAPIO_FAULT("pipe2");
    return Os::Pipe(fds);
  }
  int PidfdOpen(pid_t pid) override {
    CAPIO_FAULT("pidfd_open");
    return Os::PidfdOpen(pid);
  }
  int InotifyInit() override {
    CAPIO_FAULT("inotify_init1");
    return Os::InotifyInit();
  }
  int InotifyAdd(int fd, const char* path, uint32_t mask) override {
    CAPIO_FAULT("inotify_add_watch");
    return Os::InotifyAdd(fd, path, mask);
  }
#undef CAPIO_FAULT

 private:
  int Hit(const char* name) {
    if (calls_.fetch_add(1) + 1 != call_) return 0;
    hit_.store(true);
    where_.store(name);
    if (error_ == 0) ::_exit(77);
    return error_;
  }

  const int call_;
  const int error_;
  std::atomic<int> calls_{0};
  std::atomic<bool> hit_{false};
  std::atomic<const char*> where_{"nothing"};
};

// In place for as long as it lives.
class ScopedFault {
 public:
  ScopedFault(int call, int error) : os_(call, error), before_(SetOs(&os_)) {}
  ~ScopedFault() { (void)SetOs(before_); }
  ScopedFault(const ScopedFault&) = delete;
  ScopedFault& operator=(const ScopedFault&) = delete;
  FaultyOs* operator->() { return &os_; }

 private:
  FaultyOs os_;
  Os* before_;
};

}  // namespace capio::test

#endif  // CAPIO_TESTS_FAULTY_OS_H_
