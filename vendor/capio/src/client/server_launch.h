// Starting a capio_server for a workflow and waiting for its word that it is ready.
#ifndef CAPIO_CLIENT_SERVER_LAUNCH_H_
#define CAPIO_CLIENT_SERVER_LAUNCH_H_

#include <string>

#include "os/status.h"

namespace capio {

struct ServerLaunch {
  std::string server_path;  // a path, or a name to look for beside the library and on PATH
  std::string workflow;
  std::string capio_dir;
  std::string config_path;
  std::string resolve_prefix;
  std::string store_root;  // CAPIO_STORE, absolute
  std::string take_over;   // control id of the caller's own store, whose server is gone
  uint32_t await_ms = 2000;
  bool silent = false;
  bool persist = false;
};

// Returns once a server serves the workflow: the one started, or another that was faster.
// ENOENT: not found; ETIMEDOUT; EINVAL: the server refused its configuration; the sentence holds
// its last lines.
Status LaunchServer(const ServerLaunch& launch);

// Where LaunchServer would look.
Result<std::string> FindServer(const std::string& name);

}  // namespace capio

#endif  // CAPIO_CLIENT_SERVER_LAUNCH_H_
