#include "store/probe.h"

#include <fcntl.h>
#include <signal.h>

#include "os/os.h"

namespace capio {

Writers ProbeWriters(int fd) {
  int result = os().ProbeNoWriters(fd);
  if (result == 0) return Writers::kNone;
  return result == -EBUSY ? Writers::kSome : Writers::kUnknown;
}

Writers ProbeWritersAt(int dir, const char* path) {
  // O_NONBLOCK: an open that would break somebody's lease must not wait for it.
  Fd fd(os().OpenAt(dir, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0));
  return fd.valid() ? ProbeWriters(fd.get()) : Writers::kUnknown;
}

bool Lease::Take(Kind kind) {
  int type = kind == kAgainstAll ? F_WRLCK : F_RDLCK;
  // Who wants the file makes the kernel signal us: with the default SIGIO that would be our death.
  if (type_ < 0 && os().Fcntl(fd_, F_SETSIG, SIGURG) < 0) return false;
  if (os().Fcntl(fd_, F_SETLEASE, type) < 0) return false;
  type_ = type;
  return true;
}

bool Lease::Held() const { return type_ >= 0 && os().Fcntl(fd_, F_GETLEASE, 0) == type_; }

Lease::~Lease() {
  if (type_ >= 0) (void)os().Fcntl(fd_, F_SETLEASE, F_UNLCK);
}

}  // namespace capio
