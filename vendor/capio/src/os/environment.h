// Settings that come as environment variables.
#ifndef CAPIO_OS_ENVIRONMENT_H_
#define CAPIO_OS_ENVIRONMENT_H_

#include <cstdint>

namespace capio {

// A number of seconds, in nanoseconds; the fallback if the variable is not set, empty, negative or
// no number.
int64_t SecondsVariable(const char* name, int64_t fallback_ns);

}  // namespace capio

#endif  // CAPIO_OS_ENVIRONMENT_H_
