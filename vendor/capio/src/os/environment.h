// Settings that come as environment variables.
#ifndef CAPIO_OS_ENVIRONMENT_H_
#define CAPIO_OS_ENVIRONMENT_H_

#include <cstdint>

#include "os/status.h"

namespace capio {

// A number of seconds, in nanoseconds; the fallback if the variable is not set, empty, negative or
// no number.
int64_t SecondsVariable(const char* name, int64_t fallback_ns);

// EINVAL with a sentence if the variable is set to what SecondsVariable does not take.
Status CheckSecondsVariable(const char* name);

}  // namespace capio

#endif  // CAPIO_OS_ENVIRONMENT_H_
