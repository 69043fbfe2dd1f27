#include "store/room.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>

#include "os/os.h"
#include "store/layers.h"
#include "store/waits.h"

namespace capio {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
// What walking the tree may cost: no more than this part of the time.
constexpr int64_t kCountingShare = 20;
constexpr int64_t kShortestPauseNs = 100'000'000;

// Kept back: for the control segment and for writers that do not ask. In a cgroup everything that
// its processes allocate comes out of it, too, and they are killed if it does not suffice.
uint64_t ReserveOf(RoomBound bound, uint64_t limit) {
  uint64_t part = limit / 20;
  if (bound == RoomBound::kCgroup) return std::max(part, std::min(32 * kMiB, limit / 4));
  return std::min(std::clamp(part, 2 * kMiB, 256 * kMiB), limit / 8);
}

bool OnMemory(int fd) {
  int64_t type = os().FsType(fd);
  return type == TMPFS_MAGIC || type == RAMFS_MAGIC;
}

// What the files below a directory take.
uint64_t BytesBelow(int dir, const char* path) {
  auto entries = ListDirectory(dir, path, Layer::kTree);
  if (!entries.ok()) return 0;
  Fd fd(os().OpenAt(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0));
  uint64_t bytes = 0;
  for (const DirEntry& entry : *entries) {
    struct stat st = {};
    if (entry.type == DT_DIR) {
      bytes += BytesBelow(fd.get(), entry.name.c_str());
    } else if (os().FstatAt(fd.get(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
      bytes += static_cast<uint64_t>(st.st_blocks) * 512;
    }
  }
  return bytes;
}

}  // namespace

void Room::Add(RoomBound by, uint64_t limit_bytes, uint64_t left_bytes) {
  uint64_t reserve = ReserveOf(by, limit_bytes);
  uint64_t short_mark = std::max(limit_bytes * 15 / 100, reserve + reserve / 2);
  uint64_t low_mark = reserve + (short_mark - reserve) / 2;
  uint64_t plenty = short_mark + (short_mark - reserve) / 4;
  RoomLevel here = left_bytes <= reserve     ? RoomLevel::kFull
                   : left_bytes < low_mark   ? RoomLevel::kLow
                   : left_bytes < short_mark ? RoomLevel::kShort
                                             : RoomLevel::kPlenty;
  level = std::max(level, here);
  if (here >= RoomLevel::kLow) wanted = std::max(wanted, plenty - left_bytes);
  uint64_t may = left_bytes - std::min(left_bytes, reserve);
  if (bound != RoomBound::kNone && may >= spare) return;
  spare = may;
  bound = by;
  limit = limit_bytes;
  left = left_bytes;
}

std::string Room::Describe() const {
  std::string text = FormatBytes(left) + " of " + FormatBytes(limit) + " left ";
  switch (bound) {
    case RoomBound::kFileSystem:
      return text + "on its file system";
    case RoomBound::kCgroup:
      return text + "by the memory cgroup " + cgroup;
    case RoomBound::kSetting:
      return text + "by CAPIO_MEMORY_LIMIT";
    default:
      return "no limit is known";
  }
}

Result<uint64_t> ParseBytes(std::string_view text) {
  std::string word(text);
  char* end = nullptr;
  errno = 0;
  uint64_t value = ::strtoull(word.c_str(), &end, 10);
  std::string_view rest = std::string_view(word).substr(static_cast<size_t>(end - word.c_str()));
  int shift = 0;
  if (!rest.empty()) {
    constexpr std::string_view kUnits = "KMGT";
    size_t unit = kUnits.find(static_cast<char>(::toupper(static_cast<unsigned char>(rest[0]))));
    if (unit != std::string_view::npos) {
      shift = static_cast<int>(unit + 1) * 10;
      rest.remove_prefix(1);
      if (rest == "iB" || rest == "B" || rest == "b") rest = {};
    }
  }
  bool digits = !word.empty() && word[0] >= '0' && word[0] <= '9';
  if (!digits || !rest.empty() || errno != 0 || value == 0 || value > UINT64_MAX >> (shift + 1)) {
    return Status::Error(EINVAL,
                         "'" + word + "' is no number of bytes: write it as 8000000, 512M or 2G");
  }
  return value << shift;
}

Result<uint64_t> MemoryLimitFromEnvironment() {
  const char* text = ::getenv("CAPIO_MEMORY_LIMIT");
  if (text == nullptr || *text == '\0') return uint64_t{0};
  auto bytes = ParseBytes(text);
  if (bytes.ok()) return bytes;
  return Status::Error(EINVAL, std::string("CAPIO_MEMORY_LIMIT: ") + bytes.status().text());
}

void LowerMemoryLimit(Header* header, uint64_t bytes) {
  if (bytes == 0) return;
  uint64_t limit = header->memory_limit.load();
  while ((limit == 0 || bytes < limit) &&
         !header->memory_limit.compare_exchange_weak(limit, bytes)) {
  }
}

void TellRoomNews(Header* header) {
  // Who waits says so before it looks for the last time.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if ((header->room_word.load(std::memory_order_relaxed) & 1) == 0) return;
  header->room_news.fetch_add(1, std::memory_order_seq_cst);
  WakeAll(&header->room_word);
}

std::string FormatBytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  char buf[32];
  snprintf(buf, sizeof buf, "%.1f %s", value, kUnits[unit]);
  return buf;
}

RoomReader::RoomReader(int tree, int real, Header* header)
    : tree_(tree), header_(header), in_memory_(OnMemory(tree)) {
  struct stat ours = {};
  struct stat theirs = {};
  own_device_ = os().Fstat(tree, &ours) == 0 && os().Fstat(real, &theirs) == 0 &&
                ours.st_dev != theirs.st_dev;
  can_move_ = own_device_ ? !OnMemory(real) : !in_memory_;
  if (in_memory_) cgroups_ = MemoryCgroups::OfThisProcess();
}

Room RoomReader::Read(bool exact) const {
  Room room;
  struct statfs fs = {};
  // A file system that CAPIO_DIR shares has no more room for what would be moved there.
  if (own_device_ && os().StatFs(tree_, &fs) == 0 && fs.f_blocks > 0) {
    auto size = static_cast<uint64_t>(fs.f_bsize);
    room.Add(RoomBound::kFileSystem, fs.f_blocks * size, fs.f_bavail * size);
  }
  for (const CgroupLimit& limit : cgroups_.Limits()) {
    uint64_t before = room.spare;
    room.Add(RoomBound::kCgroup, limit.limit, limit.left);
    if (room.spare < before) room.cgroup = limit.directory;
  }
  if (uint64_t limit = header_->memory_limit.load(std::memory_order_relaxed); limit != 0) {
    uint64_t taken = TreeBytes(limit, exact);
    room.Add(RoomBound::kSetting, limit, limit - std::min(limit, taken));
  }
  return room;
}

// What the store takes: counted at times, and in between what writers have been given since.
uint64_t RoomReader::TreeBytes(uint64_t limit, bool exact) const {
  int64_t now = os().MonotonicNs();
  int64_t cost = header_->counting_ns.load(std::memory_order_relaxed);
  int64_t pause = std::max(kShortestPauseNs, kCountingShare * cost);
  uint64_t taken = header_->tree_bytes.load(std::memory_order_relaxed);
  // Far from the limit, as far as is known, less care will do.
  if (taken < limit / 4) pause *= 10;
  int64_t counted_ns = header_->counted_ns.load(std::memory_order_relaxed);
  if (!exact && counted_ns != 0 && now - counted_ns < pause) return taken;
  uint64_t counted = BytesBelow(tree_, ".") + header_->grown.load(std::memory_order_relaxed);
  // Others go on writing while it is counted.
  uint64_t since = header_->tree_bytes.load(std::memory_order_relaxed);
  counted += since - std::min(since, taken);
  header_->tree_bytes.store(counted, std::memory_order_relaxed);
  int64_t end = os().MonotonicNs();
  header_->counting_ns.store(end - now, std::memory_order_relaxed);
  header_->counted_ns.store(end, std::memory_order_relaxed);
  return counted;
}

}  // namespace capio
