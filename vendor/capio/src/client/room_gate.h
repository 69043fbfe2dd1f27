// How a process that writes keeps to the room there is. It is given an allowance, small against
// what is left, and looks again when that is used up: a write costs one subtraction.
#ifndef CAPIO_CLIENT_ROOM_GATE_H_
#define CAPIO_CLIENT_ROOM_GATE_H_

#include <atomic>
#include <cstdint>

#include "store/room.h"
#include "store/store.h"

namespace capio {

class RoomGate {
 public:
  explicit RoomGate(Store* store);

  // How many of n bytes may be written to the memory tree now. Less than n only if there is no
  // more room before the reserve; 0 if there is less than a page.
  uint64_t Take(uint64_t n);
  // Looks how much there is, whatever the allowance. exact: see RoomReader::Read.
  Room Look(bool exact = false) { return Look(exact, 0); }
  // The level as it was seen less than a second ago.
  RoomLevel Level();
  // The kernel has refused a write: what the allowance says does not hold.
  void Forget() { allowance_.store(0, std::memory_order_relaxed); }
  [[nodiscard]] bool CanMove() const { return reader_.CanMove(); }

 private:
  // taking: what the caller is about to write without an allowance.
  Room Look(bool exact, uint64_t taking);
  // Notes in the estimate of what the tree takes what is about to be written.
  void Charge(int64_t bytes);

  Header* header_;
  RoomReader reader_;
  std::atomic<int64_t> allowance_{0};
  std::atomic<uint32_t> epoch_{0};  // of the header, when the allowance was given
  std::atomic<RoomLevel> level_{RoomLevel::kPlenty};
  std::atomic<int64_t> looked_ns_{0};
};

}  // namespace capio

#endif  // CAPIO_CLIENT_ROOM_GATE_H_
