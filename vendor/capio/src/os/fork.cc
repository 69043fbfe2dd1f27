#include "os/fork.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <vector>

namespace capio {
namespace {

std::atomic<uint64_t> fork_epoch{0};
std::atomic<uint64_t> forks_done{0};

// Never destroyed: sessions may end after static objects have.
struct State {
  std::mutex mutex;
  std::vector<ForkMutex*> mutexes;  // lowest level first
  std::vector<void (*)()> calls;
};
State& Shared();

}  // namespace

struct ForkHandlers {
  static void Prepare() {
    Shared().mutex.lock();
    for (ForkMutex* mutex : Shared().mutexes) mutex->lock();
  }
  static void Release() {
    auto& mutexes = Shared().mutexes;
    for (auto it = mutexes.rbegin(); it != mutexes.rend(); ++it) (*it)->unlock();
    Shared().mutex.unlock();
  }
  static void InParent() {
    forks_done.fetch_add(1, std::memory_order_acq_rel);
    Release();
  }
  static void InChild() {
    fork_epoch.fetch_add(1, std::memory_order_acq_rel);
    for (auto call : Shared().calls) call();
    Release();
  }
  static ForkMutex::Level LevelOf(const ForkMutex* mutex) { return mutex->level_; }
};

namespace {

State& Shared() {
  static auto* state = [] {
    (void)::pthread_atfork(&ForkHandlers::Prepare, &ForkHandlers::InParent, &ForkHandlers::InChild);
    return new State;
  }();
  return *state;
}

}  // namespace

uint64_t ForkEpoch() { return fork_epoch.load(std::memory_order_acquire); }
uint64_t ForksDone() { return forks_done.load(std::memory_order_acquire); }

void CallAfterForkInChild(void (*call)()) {
  std::lock_guard<std::mutex> guard(Shared().mutex);
  Shared().calls.push_back(call);
}

ForkMutex::ForkMutex(Level level) : level_(level) {
  std::lock_guard<std::mutex> guard(Shared().mutex);
  auto& mutexes = Shared().mutexes;
  mutexes.insert(std::upper_bound(mutexes.begin(), mutexes.end(), this,
                                  [](const ForkMutex* a, const ForkMutex* b) {
                                    return ForkHandlers::LevelOf(a) < ForkHandlers::LevelOf(b);
                                  }),
                 this);
}

ForkMutex::~ForkMutex() {
  std::lock_guard<std::mutex> guard(Shared().mutex);
  std::erase(Shared().mutexes, this);
}

}  // namespace capio
