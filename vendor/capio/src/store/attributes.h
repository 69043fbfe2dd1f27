// What a file or directory has besides its bytes and entries, for a copy of it in another layer.
#ifndef CAPIO_STORE_ATTRIBUTES_H_
#define CAPIO_STORE_ATTRIBUTES_H_

#include <sys/stat.h>

#include "os/status.h"

namespace capio {

// Gives `to` the mode of `from`, and its owner, extended attributes (the user's) and access control
// lists as far as this process may set them and the file system holds them.
Status CopyAttributes(int from, int to);
// The times that st tells of. After whatever else is done to the copy.
Status CopyTimes(const struct stat& st, int to);

}  // namespace capio

#endif  // CAPIO_STORE_ATTRIBUTES_H_
