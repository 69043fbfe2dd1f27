#include "store/attributes.h"

#include <string.h>

#include <string>
#include <string_view>

#include "os/os.h"

namespace capio {
namespace {

// What the kernel keeps for itself (security.*, trusted.*) is not ours to copy.
bool IsCopied(std::string_view name) {
  return name.starts_with("user.") || name.starts_with("system.posix_acl_");
}

void CopyExtended(int from, int to) {
  std::string names(1024, '\0');
  ssize_t size = os().Flistxattr(from, names.data(), names.size());
  if (size == -ERANGE) {
    names.resize(size_t{64} << 10);  // the kernel's limit
    size = os().Flistxattr(from, names.data(), names.size());
  }
  if (size <= 0) return;
  names.resize(static_cast<size_t>(size));
  std::string value;
  for (size_t at = 0; at < names.size(); at += strlen(names.data() + at) + 1) {
    const char* name = names.data() + at;
    if (!IsCopied(name)) continue;
    value.resize(size_t{64} << 10);  // the kernel's limit
    ssize_t got = os().Fgetxattr(from, name, value.data(), value.size());
    if (got >= 0) (void)os().Fsetxattr(to, name, value.data(), static_cast<size_t>(got));
  }
}

}  // namespace

Status CopyAttributes(int from, int to) {
  struct stat original = {};
  struct stat copy = {};
  if (int error = os().Fstat(from, &original); error < 0) return Status::Error(-error);
  if (int error = os().Fstat(to, &copy); error < 0) return Status::Error(-error);
  // The owner first, since a change of it takes mode bits away.
  if (original.st_uid != copy.st_uid || original.st_gid != copy.st_gid) {
    if (os().Fchown(to, original.st_uid, original.st_gid) < 0) {
      (void)os().Fchown(to, static_cast<uid_t>(-1), original.st_gid);  // one of our groups, maybe
    }
  }
  CopyExtended(from, to);
  int error = os().Fchmod(to, original.st_mode & 07777);
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

Status CopyTimes(const struct stat& st, int to) {
  const struct timespec times[2] = {st.st_atim, st.st_mtim};
  int error = os().Futimens(to, times);
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

}  // namespace capio
