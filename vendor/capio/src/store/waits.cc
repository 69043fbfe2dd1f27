#include "store/waits.h"

#include <array>
#include <atomic>

#include "os/fork.h"
#include "os/os.h"

namespace capio {
namespace {

std::atomic<bool> cancelled{false};

// The words on which threads of this process sleep, so that cancelling can wake them. A thread that
// finds no free entry sleeps unregistered and notices at the end of its slice.
std::array<std::atomic<WaitWord*>, 256> sleeping = {};

std::atomic<WaitWord*>* Register(WaitWord* word) {
  for (auto& entry : sleeping) {
    WaitWord* none = nullptr;
    if (entry.load(std::memory_order_relaxed) == nullptr &&
        entry.compare_exchange_strong(none, word)) {
      return &entry;
    }
  }
  return nullptr;
}

}  // namespace

uint32_t PrepareWait(WaitWord* word) { return word->fetch_or(1, std::memory_order_seq_cst) | 1; }

int WaitOn(WaitWord* word, uint32_t prepared, int64_t timeout_ns) {
  if (timeout_ns <= 0) return -ETIMEDOUT;
  std::atomic<WaitWord*>* entry = Register(word);
  // Registered first, so that CancelWaits either is seen here or wakes the word.
  int result = cancelled.load() ? -ECANCELED : os().FutexWait(word, prepared, timeout_ns);
  if (entry != nullptr) entry->store(nullptr);
  if (cancelled.load()) return -ECANCELED;
  return result == -EAGAIN ? 0 : result;
}

void WakeAll(WaitWord* word) {
  // Orders the caller's change (perhaps made by a system call) before the look at the waiter bit;
  // pairs with the seq_cst fetch_or of PrepareWait.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  uint32_t value = word->load(std::memory_order_relaxed);
  while ((value & 1) != 0) {
    if (word->compare_exchange_weak(value, (value & ~1u) + 2, std::memory_order_seq_cst)) {
      (void)os().FutexWake(word);
      return;
    }
  }
}

void CancelWaits(bool on) {
  cancelled.store(on);
  if (!on) return;
  for (auto& entry : sleeping) {
    if (WaitWord* word = entry.load(); word != nullptr) WakeAll(word);
  }
}

// The parent's sleepers are not ours.
const bool fork_hook = [] {
  CallAfterForkInChild([] {
    for (auto& entry : sleeping) entry.store(nullptr);
  });
  return true;
}();

bool WaitsCancelled() { return cancelled.load(std::memory_order_relaxed); }

}  // namespace capio
