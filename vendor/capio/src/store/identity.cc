#include "store/identity.h"

#include <fcntl.h>
#include <linux/magic.h>

namespace capio {

bool Identities::ByBirth(int dir) {
  struct stat st = {};
  int64_t birth = 0;
  return os().FsType(dir) == TMPFS_MAGIC &&
         os().StatBirth(dir, "", AT_EMPTY_PATH, &st, &birth) == 0 && birth != 0;
}

int Identities::Of(int fd, const struct stat& st, FileIdentity* id) const {
  if (birth_dev_ == 0 || st.st_dev != birth_dev_) return os().Identity(fd, st, id);
  struct stat again = {};
  return Stat(fd, "", AT_EMPTY_PATH, &again, id);
}

int Identities::Look(int fd, struct stat* st, FileIdentity* id) const {
  int error = Stat(fd, "", AT_EMPTY_PATH, st, id);
  return error < 0 || id->ino != 0 || !S_ISREG(st->st_mode) ? error : Of(fd, *st, id);
}

int Identities::Stat(int dir, const char* path, int flags, struct stat* st,
                     FileIdentity* id) const {
  *id = {};
  if (birth_dev_ == 0) return os().FstatAt(dir, path, st, flags);
  int64_t birth = 0;
  int error = os().StatBirth(dir, path, flags, st, &birth);
  if (error < 0 || st->st_dev != birth_dev_) return error;
  // Another process would look for another record: rather none than two.
  if (birth == 0) return -ENOSYS;
  *id = {st->st_dev, st->st_ino, static_cast<uint64_t>(birth)};
  return 0;
}

}  // namespace capio
