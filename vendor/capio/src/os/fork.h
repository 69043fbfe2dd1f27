// What the process must know of its own fork(2)s, and mutexes that a fork cannot leave locked in
// the child.
#ifndef CAPIO_OS_FORK_H_
#define CAPIO_OS_FORK_H_

#include <cstdint>
#include <mutex>

namespace capio {

// Raised in every child by fork: what was made under another number belongs to the parent.
uint64_t ForkEpoch();
// Times this process has forked: a descriptor older than the last fork may live on in a child.
uint64_t ForksDone();

// Runs in every child, before fork returns there, while all ForkMutexes are held. For initialisers
// of static objects.
void CallAfterForkInChild(void (*call)());

// A mutex that fork waits for, so that the child finds it free and what it guards whole. Nothing
// that waits for another process may happen while it is held.
class ForkMutex {
 public:
  // Who holds one may only lock others of a higher level.
  enum Level { kAttaching, kSessions, kStores, kLeaf };
  // Neither made nor destroyed while another one is held.
  explicit ForkMutex(Level level);
  ~ForkMutex();
  ForkMutex(const ForkMutex&) = delete;
  ForkMutex& operator=(const ForkMutex&) = delete;

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  friend struct ForkHandlers;
  const Level level_;
  std::mutex mutex_;
};

using ForkGuard = std::lock_guard<ForkMutex>;

}  // namespace capio

#endif  // CAPIO_OS_FORK_H_
