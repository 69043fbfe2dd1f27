#include "os/host.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "os/os.h"

namespace capio {

std::string HostName() {
  char buf[256] = {};
  return ::gethostname(buf, sizeof buf - 1) == 0 ? buf : "?";
}

std::string BootId() {
  Fd fd(os().OpenAt(AT_FDCWD, "/proc/sys/kernel/random/boot_id", O_RDONLY, 0));
  if (!fd.valid()) return "";
  char buf[64];
  ssize_t n = os().Read(fd.get(), buf, sizeof buf);
  while (n > 0 && buf[n - 1] == '\n') --n;
  return n > 0 ? std::string(buf, static_cast<size_t>(n)) : "";
}

int Processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // A set too small for the machine is an error: then there are many.
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : CPU_SETSIZE;
}

}  // namespace capio
