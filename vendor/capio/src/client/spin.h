// Looking for a short while before sleeping: a sleep and its end cost more than what two steps that
// keep pace with each other have to wait.
#ifndef CAPIO_CLIENT_SPIN_H_
#define CAPIO_CLIENT_SPIN_H_

#include <cstdint>

#include "os/os.h"
#include "store/layout.h"
#include "store/waits.h"

namespace capio {

// Tells the processor that this is a waiting loop.
inline void RelaxProcessor() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// How the looks of one kind of wait have ended lately, for one thread. A look in vain costs the
// processor, which perhaps the one that is waited for needs: after each, twice as many waits as
// before sleep at once.
class SpinHistory {
 public:
  // Whether to look this time.
  bool Look() {
    if (skip_ == 0) return true;
    --skip_;
    return false;
  }
  void InTime() { penalty_ /= 4; }
  void InVain() {
    penalty_ = penalty_ < kMostSkipped ? penalty_ * 2 + 1 : penalty_;
    skip_ = penalty_;
  }

 private:
  static constexpr uint32_t kMostSkipped = 63;
  uint32_t penalty_ = 0;
  uint32_t skip_ = 0;
};

// The calling thread's history of the waits of that kind.
SpinHistory& SpinHistoryOf(ThreadActivity activity);

// Whether looking can help at all: somebody else must be able to run meanwhile.
bool SpinningPays();

// Looks until changed(), for as long as a sleep and its end would take; false if it has not
// changed.
template <typename Changed>
bool SpinUntil(ThreadActivity activity, const Changed& changed) {
  constexpr int64_t kLookNs = 30'000;
  constexpr int kLooksPerClock = 32;
  SpinHistory& history = SpinHistoryOf(activity);
  if (!SpinningPays() || !history.Look()) return false;
  int64_t start = os().MonotonicNs();
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (changed()) {
        history.InTime();
        return true;
      }
      RelaxProcessor();
    }
  } while (os().MonotonicNs() - start < kLookNs && !WaitsCancelled());
  history.InVain();
  return false;
}

}  // namespace capio

#endif  // CAPIO_CLIENT_SPIN_H_
