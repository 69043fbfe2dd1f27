// Steps that wait for each other: a wait that nobody can end any more is an error, not a hang.
//
// A process is stuck when each of its threads waits in CAPIO, or for another thread of it. What it
// waits for cannot come when all processes of the apps that could provide it are stuck, too. Since
// the others' state is read while they run, it counts only when it is found twice, and every wait
// in it has looked in vain in between.
#ifndef CAPIO_CLIENT_DEADLOCK_H_
#define CAPIO_CLIENT_DEADLOCK_H_

#include <string>
#include <vector>

#include "store/store.h"

namespace capio {

// What one waiting thread knows of the others between two looks.
class DeadlockWatch {
 public:
  // To be called by a thread that has just looked in vain, as the client in `slot`. Ok, or EDEADLK
  // with a sentence that names the cycle. Where somebody in it waits for room, that wait fails and
  // no other.
  Status Check(Store* store, uint32_t slot, bool for_room);

 private:
  struct Wait {
    uint32_t slot;
    int32_t thread;
    int64_t since;
    uint32_t rounds;
  };
  std::vector<Wait> seen_;
  int64_t seen_ns_ = 0;
};

// Counts the threads of this process that neither wait in CAPIO nor for another thread, and shows
// the number in the client's entry.
void CountBusyThreads(Store* store, uint32_t slot);

}  // namespace capio

#endif  // CAPIO_CLIENT_DEADLOCK_H_
