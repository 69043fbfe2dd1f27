#include "client/say.h"

#include <unistd.h>

#include <string>

#include "os/os.h"

namespace capio {

void Say(std::string_view text) {
  std::string line = "pycapio: " + std::string(text) + "\n";
  (void)os().Write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace capio
