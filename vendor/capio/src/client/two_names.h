// rename(2) and link(2): what their two names mean, and what is wrong with them, in the order in
// which the kernel finds it out.
#ifndef CAPIO_CLIENT_TWO_NAMES_H_
#define CAPIO_CLIENT_TWO_NAMES_H_

#include <string_view>

#include "client/session.h"

namespace capio {

// Paths are as the caller gave them. CAPIO_UNMANAGED: neither is CAPIO's, and both may be used so.
// A consumer's change of a declared output waits for it.
Status RenameNames(Session* session, std::string_view from, std::string_view to);
// follow: a first name that is a symbolic link is what the link leads to.
Status LinkNames(Session* session, std::string_view from, std::string_view to, bool follow);

}  // namespace capio

#endif  // CAPIO_CLIENT_TWO_NAMES_H_
