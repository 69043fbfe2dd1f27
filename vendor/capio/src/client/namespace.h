// Operations on names: translating a path, and making, removing and renaming entries.
#ifndef CAPIO_CLIENT_NAMESPACE_H_
#define CAPIO_CLIENT_NAMESPACE_H_

#include <memory>
#include <string>
#include <string_view>

#include "client/file.h"
#include "client/session.h"

namespace capio {

enum class Purpose {
  kLookup = 0,
  kExistence = 1,
  kContent = 2,
  kChange = 3,
  kCreate = 4,
  kEntry = 5
};

// What is asked about a path.
struct Question {
  Purpose purpose = Purpose::kLookup;
  bool follow = true;  // the last component, if it is a symbolic link
  Patience patience = Patience::kWait;
};

// Where a managed path is, and stat(2) of it, once that is what the purpose asks for: for the
// content of a consumer's file a stat of after its commit. Not for kCreate. "" is looked up as
// CAPIO_DIR itself.
Result<Layer> Locate(Session* session, const std::string& relative, const Question& question,
                     struct stat* st);
// The backing path of a managed one.
Result<std::string> Resolve(Session* session, const std::string& relative,
                            const Question& question);
// A consumer that changes a declared output waits until it is there.
Status AwaitIfDeclared(Session* session, const std::string& relative);
Status MakeDirectory(Session* session, const std::string& relative, mode_t mode);
Status RemoveDirectory(Session* session, const std::string& relative);
Status RemoveFile(Session* session, const std::string& relative);
// The bytes of a file were changed where nobody saw it: what had been written back is so once more.
Status NoticeChange(Session* session, const std::string& relative);
Status MakeSymlink(Session* session, const std::string& target, const std::string& relative);
// One of two names. Either may be unmanaged (but not both): relative is then empty and the path is
// used.
struct NameEnd {
  bool managed = false;
  std::string relative;
  std::string path;
};
Status RenamePath(Session* session, const NameEnd& from, const NameEnd& to);
// A further name of a file; from is not followed.
Status LinkPath(Session* session, const NameEnd& from, const NameEnd& to);

}  // namespace capio

#endif  // CAPIO_CLIENT_NAMESPACE_H_
