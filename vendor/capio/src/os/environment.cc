#include "os/environment.h"

#include <stdlib.h>

namespace capio {

int64_t SecondsVariable(const char* name, int64_t fallback_ns) {
  const char* text = ::getenv(name);
  if (text == nullptr || *text == '\0') return fallback_ns;
  char* end = nullptr;
  double seconds = ::strtod(text, &end);
  if (*end != '\0' || !(seconds >= 0)) return fallback_ns;
  constexpr double kLongest = 1e9;
  return static_cast<int64_t>((seconds < kLongest ? seconds : kLongest) * 1e9);
}

}  // namespace capio
