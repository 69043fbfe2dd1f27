#include "store/locks.h"

#include <unistd.h>

#include <unordered_set>

#include "os/fork.h"

namespace capio {
namespace {

// All of the process, so that a child by fork forgets what only its parent holds.
struct Known {
  ForkMutex mutex{ForkMutex::kLeaf};
  std::unordered_set<SlotLocks*> locks;
};
Known& AllLocks() {
  static auto* known = new Known;
  return *known;
}

}  // namespace

// When the library is loaded, since it must not happen while a ForkMutex is held.
const bool SlotLocks::fork_hook_ = [] {
  (void)AllLocks();
  CallAfterForkInChild(&SlotLocks::AfterFork);
  return true;
}();

SlotLocks::SlotLocks(Fd fd) : fd_(std::move(fd)) {
  ForkGuard guard(AllLocks().mutex);
  AllLocks().locks.insert(this);
}

SlotLocks::~SlotLocks() {
  ForkGuard guard(AllLocks().mutex);
  AllLocks().locks.erase(this);
}

void SlotLocks::AfterFork() {
  for (SlotLocks* locks : AllLocks().locks) locks->ForgetAll();
}

bool SlotLocks::Take(uint32_t slot) {
  bool expected = false;
  if (!here_[slot].compare_exchange_strong(expected, true)) return false;
  if (os().TryLock(fd_.get(), slot, 1) == 0) return true;
  here_[slot].store(false);
  return false;
}

void SlotLocks::Drop(uint32_t slot) {
  // The flag last: between the two, other threads of this process must still see the slot as taken.
  (void)os().Unlock(fd_.get(), slot, 1);
  here_[slot].store(false, std::memory_order_release);
}

bool SlotLocks::TakeAll() {
  for (uint32_t slot = 1; slot < kMaxClients; ++slot) {
    if (HeldHere(slot)) return false;
  }
  return os().TryLock(fd_.get(), 1, kMaxClients - 1) == 0;
}

void SlotLocks::DropAll() { (void)os().Unlock(fd_.get(), 1, kMaxClients - 1); }

bool SlotLocks::Held(uint32_t slot, pid_t* pid) const {
  if (HeldHere(slot)) {
    if (pid != nullptr) *pid = ::getpid();
    return true;
  }
  pid_t holder = 0;
  // An error (no locks on this file system) counts as alive: waiting is safer than declaring a
  // death.
  bool held = os().LockHolder(fd_.get(), slot, 1, &holder) != 0;
  if (pid != nullptr) *pid = holder;
  return held;
}

void SlotLocks::ForgetAll() {
  for (auto& slot : here_) slot.store(false, std::memory_order_release);
}

}  // namespace capio
