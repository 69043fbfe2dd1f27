// The command line of capio_server.
#ifndef CAPIO_SERVER_OPTIONS_H_
#define CAPIO_SERVER_OPTIONS_H_

#include <string>
#include <vector>

#include "os/status.h"

namespace capio {

struct ServerOptions {
  std::string workflow = "workflow";
  std::string capio_dir = ".";
  std::string config_path;
  std::string resolve_prefix;
  std::string backend = "none";
  bool no_config = false;
  bool mem_only = false;
  bool silent = false;
  bool persist = false;  // keep everything when there is no CAPIO-CL file
  bool resume = false;
  bool daemon = false;
  bool help = false;
  bool version = false;
  std::string take_over;  // control id of a store that a client of it wants served again
  int ready_fd = -1;      // where to write "ready", "busy" or "error ERRNO SENTENCE"
};

// EINVAL with one sentence for a bad command line.
Result<ServerOptions> ParseServerOptions(const std::vector<std::string>& words);
const char* ServerUsage();

}  // namespace capio

#endif  // CAPIO_SERVER_OPTIONS_H_
