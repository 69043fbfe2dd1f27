// Where a path that a caller gives leads to: below CAPIO_DIR, or out of it.
//
// The kernel's own names are understood, too. A process whose current directory exists only in the
// store sits in the shadow directory, and a descriptor of such a directory is one of that: what the
// kernel calls it (getcwd(2), /proc/self/fd) tells which directory of CAPIO_DIR is meant, also
// after it was renamed, duplicated or inherited.
#ifndef CAPIO_CLIENT_PLACE_H_
#define CAPIO_CLIENT_PLACE_H_

#include <string>
#include <string_view>

#include "client/session.h"

namespace capio {

struct Place {
  bool inside = true;  // CAPIO_DIR. Its rule may still exclude it
  std::string path;    // relative to it; else absolute
  // The path as given means the same to the kernel, if it should turn out not to be CAPIO's.
  bool literal = true;
};

// follow: a last component that is a symbolic link, too. A path outside that may be used as given
// is CAPIO_UNMANAGED.
Result<Place> PlaceOf(Session* session, std::string_view path, bool follow);

// The path below CAPIO_DIR of what the kernel calls by an absolute name in the store or in
// CAPIO_DIR. CAPIO_UNMANAGED for all else.
Result<std::string> FromKernelName(Session* session, std::string_view name);

// The absolute path of a place that is CAPIO's no longer: excluded.
std::string InRealDirectory(const Session& session, const std::string& relative);

}  // namespace capio

#endif  // CAPIO_CLIENT_PLACE_H_
