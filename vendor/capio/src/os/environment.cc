#include "os/environment.h"

#include <errno.h>
#include <stdlib.h>

#include <optional>
#include <string>

namespace capio {

namespace {

std::optional<double> Seconds(const char* text) {
  char* end = nullptr;
  double seconds = ::strtod(text, &end);
  if (end == text || *end != '\0' || !(seconds >= 0)) return std::nullopt;
  return seconds;
}

}  // namespace

int64_t SecondsVariable(const char* name, int64_t fallback_ns) {
  const char* text = ::getenv(name);
  if (text == nullptr || *text == '\0') return fallback_ns;
  auto seconds = Seconds(text);
  if (!seconds) return fallback_ns;
  constexpr double kLongest = 1e9;
  return static_cast<int64_t>((*seconds < kLongest ? *seconds : kLongest) * 1e9);
}

Status CheckSecondsVariable(const char* name) {
  const char* text = ::getenv(name);
  if (text == nullptr || *text == '\0' || Seconds(text)) return Status::Ok();
  return Status::Error(EINVAL, std::string(name) + "='" + text +
                                   "' is no number of seconds; set it to one such as 30 or 0.5, or "
                                   "unset it");
}

}  // namespace capio
