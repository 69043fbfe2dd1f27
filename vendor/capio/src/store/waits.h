// Waiting on a word of the control segment. Every wait is bounded, so a lost wake-up or a dead
// server costs latency, never a hang; what is waited for is always re-evaluated by the waiter.
#ifndef CAPIO_STORE_WAITS_H_
#define CAPIO_STORE_WAITS_H_

#include <cstdint>

#include "store/layout.h"

namespace capio {

// Registers as a waiter and returns the value to wait for. The condition must be checked after this
// and before WaitOn: a change after this call makes WaitOn return at once.
uint32_t PrepareWait(WaitWord* word);
// 0 woken (perhaps for nothing), -ETIMEDOUT, -EINTR, -ECANCELED.
int WaitOn(WaitWord* word, uint32_t prepared, int64_t timeout_ns);
// Wakes every waiter; without any it costs one load.
void WakeAll(WaitWord* word);

// While on, every wait of this process ends with -ECANCELED.
void CancelWaits(bool on);
bool WaitsCancelled();

}  // namespace capio

#endif  // CAPIO_STORE_WAITS_H_
