// What a wait that goes on tells the user (S12): what it is for, why that has not come yet, which
// app should provide it, and what that app's processes are doing.
#ifndef CAPIO_CLIENT_WAIT_REPORT_H_
#define CAPIO_CLIENT_WAIT_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "store/layout.h"

namespace capio {

class Session;

struct WaitGoal {
  ThreadActivity activity = kIdle;
  std::string name;                    // relative path
  std::vector<uint32_t> apps;          // who could end the wait; none: not known
  const FileRecord* record = nullptr;  // of a file
  uint64_t wanted = kAnyBytes;         // how many it is to have
  bool whole = false;                  // of a directory: all of it, not just more entries
  uint64_t stage =
      0;  // what has come so far: to wait for more is another wait, whose time begins anew

  [[nodiscard]] bool SameAs(const WaitGoal& other) const {
    return activity == other.activity && name == other.name && stage == other.stage;
  }
};

// "/data/f to be complete (on_close:2: 1 of 2 closes has come): app 'prep' is running as pid 7".
std::string DescribeWait(Session* session, const WaitGoal& goal);
// "app 'prep' is running as pid 7; app 'other' has not started".
std::string DescribeApps(Session* session, const std::vector<uint32_t>& apps,
                         const FileRecord* record = nullptr);

}  // namespace capio

#endif  // CAPIO_CLIENT_WAIT_REPORT_H_
