// Room: how many bytes the memory tree may still take. It is the smallest of what the file system
// of the store has left, what the memory cgroups of this process leave, and what is left of
// CAPIO_MEMORY_LIMIT.
#ifndef CAPIO_STORE_ROOM_H_
#define CAPIO_STORE_ROOM_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "os/status.h"
#include "store/layout.h"
#include "store/memory_cgroup.h"

namespace capio {

// Marks on the way down. From kShort on new files go to the fs tree; from kLow on the server moves
// complete files there; what is left at kFull is the reserve, which writers that can be made to
// wait leave to those that cannot (mapped files, C code), and to the processes themselves.
enum class RoomLevel : uint32_t { kPlenty = 0, kShort = 1, kLow = 2, kFull = 3 };

enum class RoomBound : uint8_t { kNone, kFileSystem, kCgroup, kSetting };

struct Room {
  RoomLevel level = RoomLevel::kPlenty;
  uint64_t spare = UINT64_MAX;  // bytes that may be written before the reserve is touched
  uint64_t wanted = 0;          // bytes to free for there to be plenty again; 0 above kLow
  // The limit that leaves the least.
  RoomBound bound = RoomBound::kNone;
  uint64_t limit = 0;
  uint64_t left = 0;
  std::string cgroup;  // its directory, if it is one

  // Takes one more limit into account.
  void Add(RoomBound by, uint64_t limit_bytes, uint64_t left_bytes);
  // "3.0 MiB of 64.0 MiB left by ...", for messages.
  [[nodiscard]] std::string Describe() const;
};

// CAPIO_MEMORY_LIMIT in bytes, with an optional K, M, G or T; 0: not set. EINVAL with a sentence.
Result<uint64_t> MemoryLimitFromEnvironment();
Result<uint64_t> ParseBytes(std::string_view text);
// The limit of a store is the smallest that one of its processes has brought. 0: has brought none.
void LowerMemoryLimit(Header* header, uint64_t bytes);
// Tells those who wait for room that a file may be moved now, or has gone. Costs one load if there
// are none.
void TellRoomNews(Header* header);
// "3.0 MiB".
std::string FormatBytes(uint64_t bytes);

// Reads it, as the process that calls sees it.
class RoomReader {
 public:
  // Descriptors of the memory tree and of CAPIO_DIR stay the caller's.
  RoomReader(int tree, int real, Header* header);
  // exact: whatever it costs; else what was counted a while ago, and what writers have said since,
  // stands for what the tree takes.
  [[nodiscard]] Room Read(bool exact = false) const;
  // Moving files to CAPIO_DIR makes room: it does not lie in memory, too.
  [[nodiscard]] bool CanMove() const { return can_move_; }

 private:
  [[nodiscard]] uint64_t TreeBytes(uint64_t limit, bool exact) const;

  int tree_;
  Header* header_;
  bool in_memory_ = false;   // the store is on tmpfs, so that cgroups count it
  bool own_device_ = false;  // CAPIO_DIR is on another file system
  bool can_move_ = false;
  MemoryCgroups cgroups_;
};

}  // namespace capio

#endif  // CAPIO_STORE_ROOM_H_
