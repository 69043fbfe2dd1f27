// The memory cgroups a process is in. tmpfs pages are charged to the cgroup of whoever writes them,
// and when that is full the kernel kills; it does not answer ENOSPC.
#ifndef CAPIO_STORE_MEMORY_CGROUP_H_
#define CAPIO_STORE_MEMORY_CGROUP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace capio {

// Where the cgroup of a process lies, from the text of /proc/PID/cgroup and /proc/PID/mountinfo.
struct CgroupPlace {
  bool v2 = false;
  std::string mount;      // of the hierarchy that has the memory controller
  std::string directory;  // the process's own, the mount or below it
};
std::optional<CgroupPlace> FindMemoryCgroup(std::string_view cgroup, std::string_view mountinfo);

// One limit of the chain, in bytes.
struct CgroupLimit {
  std::string directory;
  uint64_t limit = 0;
  uint64_t left = 0;  // of it, taking what the kernel can get back at once for free
};

class MemoryCgroups {
 public:
  // Of this process. Without cgroups, or without their files, there are no limits.
  static MemoryCgroups OfThisProcess();
  // What limits the process: its own cgroup and all above it, as far as they have a limit.
  [[nodiscard]] std::vector<CgroupLimit> Limits() const;

 private:
  std::optional<CgroupLimit> LimitOf(const std::string& directory) const;

  bool v2_ = false;
  std::vector<std::string> chain_;  // own first
};

}  // namespace capio

#endif  // CAPIO_STORE_MEMORY_CGROUP_H_
