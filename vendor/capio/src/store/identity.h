// What tells a file of the store from every other that had or will have its number.
//
// The number alone does not: a file system gives that of a removed file away again, ext4 at once.
// The kernel's file handle does. It costs a call of its own, and one that needs a descriptor where
// there is only a name. tmpfs gives numbers in sequence, so that one comes again after 2^32 files
// at the earliest, hours later. There number and time of birth are enough, and both come with a
// stat. Whether they are used is settled once, when the store is made, since all its processes have
// to find the same records.
#ifndef CAPIO_STORE_IDENTITY_H_
#define CAPIO_STORE_IDENTITY_H_

#include <sys/types.h>

#include "os/os.h"

namespace capio {

class Identities {
 public:
  // All files by their handles.
  Identities() = default;
  // Those on birth_dev by number and time of birth.
  explicit Identities(dev_t birth_dev) : birth_dev_(birth_dev) {}

  // Whether the files beside this directory can be told apart by number and time of birth.
  static bool ByBirth(int dir);

  // Of an open file, of which st is known. Returns 0 or a negated errno.
  int Of(int fd, const struct stat& st, FileIdentity* id) const;
  // fstatat(2), and the identity if it comes with that; else id->ino is 0, and Of has to be asked.
  int Stat(int dir, const char* path, int flags, struct stat* st, FileIdentity* id) const;
  // fstat(2), and the identity of a regular file.
  int Look(int fd, struct stat* st, FileIdentity* id) const;

 private:
  dev_t birth_dev_ = 0;
};

}  // namespace capio

#endif  // CAPIO_STORE_IDENTITY_H_
