#include "client/room_gate.h"

#include <algorithm>

namespace capio {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLargestAllowance = uint64_t{16} << 20;
// Many processes may be given one at the same time: together they get half of what there is.
constexpr uint64_t kSmallestShare = 16;
constexpr int64_t kLevelHoldsNs = 1'000'000'000;

}  // namespace

RoomGate::RoomGate(Store* store)
    : header_(&store->segment->header()), reader_(store->tree.get(), store->real.get(), header_) {}

uint64_t RoomGate::Take(uint64_t n) {
  int64_t have = allowance_.load(std::memory_order_relaxed);
  while (static_cast<int64_t>(n) <= have &&
         epoch_.load(std::memory_order_relaxed) ==
             header_->room_epoch.load(std::memory_order_relaxed)) {
    if (allowance_.compare_exchange_weak(have, have - static_cast<int64_t>(n),
                                         std::memory_order_relaxed)) {
      return n;
    }
  }
  Room room = Look(false, n);
  uint64_t may = room.spare < kPage ? 0 : std::min(n, room.spare);
  Charge(static_cast<int64_t>(may));
  return may;
}

void RoomGate::Charge(int64_t bytes) {
  if (header_->memory_limit.load(std::memory_order_relaxed) == 0) return;
  uint64_t taken = header_->tree_bytes.load(std::memory_order_relaxed);
  uint64_t then = 0;
  do {
    then = bytes >= 0 ? taken + static_cast<uint64_t>(bytes)
                      : taken - std::min(taken, static_cast<uint64_t>(-bytes));
  } while (!header_->tree_bytes.compare_exchange_weak(taken, then, std::memory_order_relaxed));
}

Room RoomGate::Look(bool exact, uint64_t taking) {
  // Before the look: what others find out after it makes us look again.
  epoch_.store(header_->room_epoch.load(std::memory_order_acquire), std::memory_order_relaxed);
  Room room = reader_.Read(exact);
  uint64_t others = header_->slots_used.load(std::memory_order_relaxed);
  uint64_t then = room.spare - std::min(room.spare, taking);
  uint64_t allowance = std::min(then / std::max(kSmallestShare, 2 * others), kLargestAllowance);
  int64_t unused = allowance_.exchange(static_cast<int64_t>(allowance), std::memory_order_relaxed);
  Charge(static_cast<int64_t>(allowance) - unused);
  RoomLevel before = level_.exchange(room.level, std::memory_order_relaxed);
  looked_ns_.store(os().MonotonicNs(), std::memory_order_relaxed);
  // Others may still go by what there was.
  if (room.level > before) header_->room_epoch.fetch_add(1, std::memory_order_release);
  return room;
}

RoomLevel RoomGate::Level() {
  bool stale = epoch_.load(std::memory_order_relaxed) !=
                   header_->room_epoch.load(std::memory_order_relaxed) ||
               os().MonotonicNs() - looked_ns_.load(std::memory_order_relaxed) > kLevelHoldsNs;
  return stale ? Look().level : level_.load(std::memory_order_relaxed);
}

}  // namespace capio
