#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "os/os.h"

namespace capio {
namespace {

template <typename Call>
auto Retry(Call call) -> decltype(call()) {
  for (;;) {
    auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

int Check(int result) { return result < 0 ? -errno : result; }

uint64_t HashBytes(const unsigned char* data, size_t size) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (size_t i = 0; i < size; ++i) hash = (hash ^ data[i]) * 0x100000001b3u;
  return hash;
}

struct timespec TimeOf(const struct statx_timestamp& time) {
  return {static_cast<time_t>(time.tv_sec), static_cast<long>(time.tv_nsec)};
}

Os kernel;
std::atomic<Os*> current{&kernel};

}  // namespace

Os& os() { return *current.load(std::memory_order_acquire); }

Os* SetOs(Os* replacement) {
  return current.exchange(replacement != nullptr ? replacement : &kernel);
}

int Os::OpenAt(int dir, const char* path, int flags, mode_t mode) {
  return Retry([&] { return ::openat(dir, path, flags | O_CLOEXEC | O_LARGEFILE, mode); });
}

// Linux frees the descriptor even when close is interrupted: retrying would close somebody else's.
int Os::Close(int fd) { return ::close(fd) < 0 && errno != EINTR ? -errno : 0; }

ssize_t Os::Read(int fd, void* buf, size_t n) {
  return Retry([&] { return ::read(fd, buf, n); });
}
ssize_t Os::Pread(int fd, void* buf, size_t n, off_t offset) {
  return Retry([&] { return ::pread(fd, buf, n, offset); });
}
ssize_t Os::Write(int fd, const void* buf, size_t n) {
  return Retry([&] { return ::write(fd, buf, n); });
}
ssize_t Os::Pwrite(int fd, const void* buf, size_t n, off_t offset) {
  return Retry([&] { return ::pwrite(fd, buf, n, offset); });
}
off_t Os::Lseek(int fd, off_t offset, int whence) {
  off_t at = ::lseek(fd, offset, whence);
  return at < 0 ? -errno : at;
}
int Os::Ftruncate(int fd, off_t size) {
  return Retry([&] { return ::ftruncate(fd, size); });
}
int Os::Fallocate(int fd, off_t offset, off_t size) {
  for (;;) {
    int error = ::posix_fallocate(fd, offset, size);
    if (error != EINTR) return -error;
  }
}
int Os::Fstat(int fd, struct stat* st) { return Check(::fstat(fd, st)); }
int Os::FstatAt(int dir, const char* path, struct stat* st, int flags) {
  return Check(::fstatat(dir, path, st, flags));
}
int Os::MkdirAt(int dir, const char* path, mode_t mode) {
  return Check(::mkdirat(dir, path, mode));
}
int Os::UnlinkAt(int dir, const char* path, int flags) {
  return Check(::unlinkat(dir, path, flags));
}
int Os::RenameAt(int from_dir, const char* from, int to_dir, const char* to) {
  return Check(::renameat(from_dir, from, to_dir, to));
}
int Os::LinkAt(int from_dir, const char* from, int to_dir, const char* to, int flags) {
  return Check(::linkat(from_dir, from, to_dir, to, flags));
}
int Os::SymlinkAt(const char* target, int dir, const char* path) {
  return Check(::symlinkat(target, dir, path));
}
int Os::Getcwd(char* buf, size_t cap) { return ::getcwd(buf, cap) == nullptr ? -errno : 0; }
ssize_t Os::ReadlinkAt(int dir, const char* path, char* buf, size_t cap) {
  ssize_t n = ::readlinkat(dir, path, buf, cap);
  return n < 0 ? -errno : n;
}
int Os::Fchmod(int fd, mode_t mode) { return Check(::fchmod(fd, mode)); }
int Os::Dup3(int from, int to, int flags) {
  return Retry([&] { return ::dup3(from, to, flags); });
}
int Os::Fchown(int fd, uid_t uid, gid_t gid) { return Check(::fchown(fd, uid, gid)); }
ssize_t Os::Flistxattr(int fd, char* names, size_t cap) {
  ssize_t n = ::flistxattr(fd, names, cap);
  return n < 0 ? -errno : n;
}
ssize_t Os::Fgetxattr(int fd, const char* name, void* value, size_t cap) {
  ssize_t n = ::fgetxattr(fd, name, value, cap);
  return n < 0 ? -errno : n;
}
int Os::Fsetxattr(int fd, const char* name, const void* value, size_t n) {
  return Check(::fsetxattr(fd, name, value, n, 0));
}
int Os::Futimens(int fd, const struct timespec times[2]) { return Check(::futimens(fd, times)); }
int Os::Fsync(int fd) {
  return Retry([&] { return ::fsync(fd); });
}
int Os::DropCache(int fd) { return -::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); }
int Os::Flock(int fd, int operation) { return Check(::flock(fd, operation)); }
int Os::Syncfs(int fd) { return Check(::syncfs(fd)); }

ssize_t Os::CopyRange(int from, int to, off_t offset, size_t n) {
  off_t in = offset;
  off_t out = offset;
  ssize_t done = Retry([&] { return ::copy_file_range(from, &in, to, &out, n, 0); });
  if (done >= 0) return done;
  if (done != -EXDEV && done != -EINVAL && done != -ENOSYS && done != -EOPNOTSUPP &&
      done != -EBADF && done != -EPERM) {
    return done;
  }
  char buf[1 << 16];
  done = Pread(from, buf, n < sizeof buf ? n : sizeof buf, offset);
  if (done <= 0) return done;
  for (ssize_t at = 0; at < done;) {
    ssize_t put = Pwrite(to, buf + at, static_cast<size_t>(done - at), offset + at);
    if (put < 0) return put;
    at += put;
  }
  return done;
}

ssize_t Os::Getdents(int fd, void* buf, size_t n) {
  long got = ::syscall(SYS_getdents64, fd, buf, n);
  return got < 0 ? -errno : got;
}
int Os::StatFs(int fd, struct statfs* st) { return Check(::fstatfs(fd, st)); }

int Os::StatBirth(int dir, const char* path, int flags, struct stat* st, int64_t* birth_ns) {
  *birth_ns = 0;
  struct statx more = {};
  if (::statx(dir, path, flags, STATX_BASIC_STATS | STATX_BTIME, &more) < 0) {
    // Not there before Linux 4.11, and hidden by some sandboxes.
    return errno == ENOSYS || errno == EPERM ? FstatAt(dir, path, st, flags) : -errno;
  }
  *st = {};
  st->st_dev = makedev(more.stx_dev_major, more.stx_dev_minor);
  st->st_ino = more.stx_ino;
  st->st_mode = more.stx_mode;
  st->st_nlink = more.stx_nlink;
  st->st_uid = more.stx_uid;
  st->st_gid = more.stx_gid;
  st->st_rdev = makedev(more.stx_rdev_major, more.stx_rdev_minor);
  st->st_size = static_cast<off_t>(more.stx_size);
  st->st_blksize = static_cast<blksize_t>(more.stx_blksize);
  st->st_blocks = static_cast<blkcnt_t>(more.stx_blocks);
  st->st_atim = TimeOf(more.stx_atime);
  st->st_mtim = TimeOf(more.stx_mtime);
  st->st_ctim = TimeOf(more.stx_ctime);
  if ((more.stx_mask & STATX_BTIME) != 0) {
    *birth_ns = more.stx_btime.tv_sec * INT64_C(1'000'000'000) + more.stx_btime.tv_nsec;
  }
  return 0;
}

int64_t Os::FsType(int fd) {
  struct statfs fs = {};
  return ::fstatfs(fd, &fs) < 0 ? 0 : static_cast<int64_t>(fs.f_type);
}

int Os::Identity(int fd, const struct stat& st, FileIdentity* id) {
  id->dev = st.st_dev;
  id->ino = st.st_ino;
  id->incarnation = 0;
  alignas(struct file_handle) unsigned char buf[sizeof(struct file_handle) + MAX_HANDLE_SZ] = {};
  auto* handle = reinterpret_cast<struct file_handle*>(buf);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount = 0;
  if (::name_to_handle_at(fd, "", handle, &mount, AT_EMPTY_PATH) == 0) {
    id->incarnation = HashBytes(handle->f_handle, handle->handle_bytes);
    return 0;
  }
  struct stat again = {};
  int64_t birth = 0;
  if (StatBirth(fd, "", AT_EMPTY_PATH, &again, &birth) == 0) {
    id->incarnation = static_cast<uint64_t>(birth);
  }
  return 0;
}

int Os::Fcntl(int fd, int command, intptr_t argument) {
  return Retry([&] { return ::fcntl(fd, command, argument); });
}

int Os::TryLock(int fd, off_t start, off_t length) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  int result = Retry([&] { return ::fcntl(fd, F_SETLK, &lock); });
  return result == -EACCES ? -EAGAIN : result;
}

int Os::Unlock(int fd, off_t start, off_t length) {
  struct flock lock = {};
  lock.l_type = F_UNLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return Retry([&] { return ::fcntl(fd, F_SETLK, &lock); });
}

int Os::LockHolder(int fd, off_t start, off_t length, pid_t* pid) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  int result = Retry([&] { return ::fcntl(fd, F_GETLK, &lock); });
  if (result < 0) return result;
  if (lock.l_type == F_UNLCK) return 0;
  if (pid != nullptr) *pid = lock.l_pid > 0 ? lock.l_pid : 0;
  return 1;
}

int Os::HoldsLock(int fd, off_t start, off_t length) {
  // An open file description's locks are nobody's own: it sees those of this process, too.
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  int result = Retry([&] { return ::fcntl(fd, F_OFD_GETLK, &lock); });
  if (result < 0) return result;
  return lock.l_type != F_UNLCK && lock.l_pid == ::getpid() ? 1 : 0;
}

int Os::SetCloseOnExec(int fd, bool on) {
  return Retry([&] { return ::fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0); });
}

int Os::ProbeNoWriters(int fd) {
  // A conflicting open while we hold the lease signals us: with the default SIGIO that would be our
  // death.
  (void)::fcntl(fd, F_SETSIG, SIGURG);
  if (::fcntl(fd, F_SETLEASE, F_RDLCK) < 0) return errno == EAGAIN ? -EBUSY : -errno;
  (void)::fcntl(fd, F_SETLEASE, F_UNLCK);
  return 0;
}

void* Os::Map(int fd, size_t size) {
  return ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
}
int Os::Unmap(void* address, size_t size) { return Check(::munmap(address, size)); }
void Os::ExpectBytes(void* memory, size_t n) {
  // Only pages that lie in it as a whole, so that no memory is given out that will not be filled.
  constexpr uintptr_t kHugePage = 2 << 20;
  auto begin = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) & ~(kHugePage - 1);
  auto end = (reinterpret_cast<uintptr_t>(memory) + n) & ~(kHugePage - 1);
  if (begin < end) (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

int Os::FutexWait(const std::atomic<uint32_t>* word, uint32_t expected, int64_t timeout_ns) {
  struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  return ::syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, nullptr, 0) < 0 ? -errno : 0;
}
int Os::FutexWake(const std::atomic<uint32_t>* word) {
  return ::syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0) < 0 ? -errno : 0;
}

int Os::Socket(int type) { return Check(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0)); }
int Os::Bind(int fd, const struct sockaddr_un& address, socklen_t size) {
  return Check(::bind(fd, reinterpret_cast<const struct sockaddr*>(&address), size));
}
int Os::Listen(int fd, int backlog) { return Check(::listen(fd, backlog)); }
int Os::Accept(int fd) {
  return Retry([&] { return ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK); });
}
int Os::Connect(int fd, const struct sockaddr_un& address, socklen_t size) {
  return Check(::connect(fd, reinterpret_cast<const struct sockaddr*>(&address), size));
}
ssize_t Os::Send(int fd, const void* buf, size_t n, int flags) {
  return Retry([&] { return ::send(fd, buf, n, flags | MSG_NOSIGNAL); });
}
ssize_t Os::Recv(int fd, void* buf, size_t n, int flags) {
  ssize_t got = ::recv(fd, buf, n, flags);
  return got < 0 ? -errno : got;
}
int Os::PeerUid(int fd, uid_t* uid) {
  struct ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return -errno;
  *uid = peer.uid;
  return 0;
}
int Os::Poll(int fd, short events, int64_t timeout_ms) {
  struct pollfd poll = {fd, events, 0};
  int timeout = timeout_ms > INT_MAX ? INT_MAX : static_cast<int>(timeout_ms);
  int n = ::poll(&poll, 1, timeout);
  return n < 0 ? -errno : n == 0 ? 0 : poll.revents;
}
int Os::EpollCreate() { return Check(::epoll_create1(EPOLL_CLOEXEC)); }
int Os::EpollControl(int epoll, int op, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {};
  event.events = events;
  event.data.u64 = data;
  return Check(::epoll_ctl(epoll, op, fd, &event));
}
int Os::EpollWait(int epoll, struct epoll_event* events, int n, int timeout_ms) {
  return Check(::epoll_wait(epoll, events, n, timeout_ms));
}
int Os::EventFd() { return Check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
int Os::Pipe(int fds[2]) { return Check(::pipe2(fds, O_CLOEXEC)); }
int Os::PidfdOpen(pid_t pid) {
#ifdef SYS_pidfd_open
  return Check(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
#else
  (void)pid;
  return -ENOSYS;
#endif
}
int Os::InotifyInit() { return Check(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)); }
int Os::InotifyAdd(int fd, const char* path, uint32_t mask) {
  return Check(::inotify_add_watch(fd, path, mask));
}
int Os::InotifyRemove(int fd, int watch) { return Check(::inotify_rm_watch(fd, watch)); }
int Os::SignalFd(const sigset_t& signals) {
  return Check(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}
int Os::CloseRange(unsigned first, unsigned last) {
#ifdef SYS_close_range
  return Check(static_cast<int>(::syscall(SYS_close_range, first, last, 0)));
#else
  (void)first;
  (void)last;
  return -ENOSYS;
#endif
}

int32_t Os::ThreadId() { return static_cast<int32_t>(::syscall(SYS_gettid)); }

int Os::ThreadIds(std::vector<int32_t>* out) {
  DIR* directory = ::opendir("/proc/self/task");
  if (directory == nullptr) return -errno;
  while (const struct dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] != '.') out->push_back(static_cast<int32_t>(::atoi(entry->d_name)));
  }
  ::closedir(directory);
  return 0;
}

bool Os::WaitsForThread(int32_t thread) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
  Fd fd(OpenAt(AT_FDCWD, path, O_RDONLY, 0));
  char text[256];
  ssize_t n = fd.valid() ? Read(fd.get(), text, sizeof text - 1) : -1;
  if (n <= 0) return false;
  text[n] = '\0';
  // The number and the arguments of the call it sleeps in: a private futex without a time limit.
  long number = -1;
  unsigned long long word = 0;
  unsigned long long operation = 0;
  unsigned long long value = 0;
  unsigned long long timeout = 1;
  if (sscanf(text, "%ld %llx %llx %llx %llx", &number, &word, &operation, &value, &timeout) != 5) {
    return false;
  }
  unsigned long long command = operation & FUTEX_CMD_MASK & 0xffffffffu;
  return number == SYS_futex && (operation & FUTEX_PRIVATE_FLAG) != 0 && timeout == 0 &&
         (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET);
}

int64_t Os::MonotonicNs() {
  struct timespec now = {};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
int64_t Os::RealtimeNs() {
  struct timespec now = {};
  (void)::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
uint64_t Os::Random() {
  uint64_t value = 0;
  if (::getrandom(&value, sizeof value, 0) != sizeof value) {
    value = static_cast<uint64_t>(MonotonicNs()) * 0x9e3779b97f4a7c15u ^
            static_cast<uint64_t>(::getpid());
  }
  return value;
}

}  // namespace capio
