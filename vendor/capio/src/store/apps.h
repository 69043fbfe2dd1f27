// How many processes an app (a step of the workflow) is made of, and how many of them have come.
//
// A step may be a bag of processes that start and end at different times (MPI ranks, array tasks):
// it has ended when as many as are expected have come and all of them have ended. Processes below
// another one of the same app (workers of a pool) are not counted.
#ifndef CAPIO_STORE_APPS_H_
#define CAPIO_STORE_APPS_H_

#include <cstdint>
#include <string>

#include "store/locks.h"
#include "store/segment.h"

namespace capio {

// What the environment of a process says of its app.
struct AppSize {
  uint32_t expected = 0;  // 0: not said
  std::string source;     // the variable that says so
  uint64_t key = 0;       // of the rank, which is the same if it is run again; 0: not known
};
// CAPIO_APP_PROCS, else OMPI_COMM_WORLD_SIZE, PMI_SIZE or the SLURM step's number of tasks. EINVAL:
// CAPIO_APP_PROCS is no number.
Result<AppSize> AppSizeFromEnvironment();

struct AppCount {
  uint32_t expected = 0;
  uint32_t came = 0;       // never more than expected
  int32_t failed_pid = 0;  // of a process that ended badly; 0: none
  std::string source;
  [[nodiscard]] bool incomplete() const { return came < expected; }
};
// Of apps that are not known to have several processes, all zero.
AppCount CountProcesses(Segment* segment, uint32_t app);

// A process joins its app; to be called when it holds its slot and is not yet attached. running: a
// process of the app is alive. Once all have come and gone, the next one starts the app anew.
Status JoinApp(Segment* segment, Client* client, uint32_t app, const AppSize& size, uint64_t key,
               bool running);
// Writes down how the process of a client has ended; may be repeated.
void LeaveApp(Segment* segment, const Client& client, CellOutcome outcome);

}  // namespace capio

#endif  // CAPIO_STORE_APPS_H_
