#include "store/probe.h"

#include <fcntl.h>

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

}  // namespace capio
