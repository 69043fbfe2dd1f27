// Operations on names: translating a path, and making, removing and renaming entries.
#ifndef CAPIO_CLIENT_NAMESPACE_H_
#define CAPIO_CLIENT_NAMESPACE_H_

#include <memory>
#include <string>
#include <string_view>

#include "client/session.h"

namespace capio {

enum class Purpose { kLookup = 0, kExistence = 1, kContent = 2, kChange = 3, kCreate = 4 };

// The backing path of a managed one.
Result<std::string> Resolve(Session* session, const std::string& relative, Purpose purpose,
                            bool follow);
// stat(2) of a managed path; a consumer waits for the final size.
Status StatPath(Session* session, const std::string& relative, bool follow, struct stat* st);
Status MakeDirectory(Session* session, const std::string& relative, mode_t mode);
Status RemoveDirectory(Session* session, const std::string& relative);
Status RemoveFile(Session* session, const std::string& relative);
// Either path may be unmanaged (but not both): relative is then empty and the path as given is
// used.
struct RenameEnd {
  bool managed = false;
  std::string relative;
  std::string path;
};
Status RenamePath(Session* session, const RenameEnd& from, const RenameEnd& to);

}  // namespace capio

#endif  // CAPIO_CLIENT_NAMESPACE_H_
