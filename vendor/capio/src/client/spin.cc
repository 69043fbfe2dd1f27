#include "client/spin.h"

#include <array>
#include <atomic>

#include "os/host.h"

namespace capio {
namespace {

thread_local std::array<SpinHistory, kThreadActivities> histories;

std::atomic<int> processors{0};  // 0: not asked for yet

}  // namespace

SpinHistory& SpinHistoryOf(ThreadActivity activity) { return histories[activity]; }

bool SpinningPays() {
  int n = processors.load(std::memory_order_relaxed);
  if (n == 0) {
    n = Processors();
    processors.store(n, std::memory_order_relaxed);
  }
  return n > 1;
}

}  // namespace capio
