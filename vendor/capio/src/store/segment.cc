#include "store/segment.h"

#include <string.h>
#include <sys/mman.h>

#include <algorithm>

#include "os/host.h"

namespace capio {
namespace {

constexpr uint64_t kGrowStep = uint64_t{1} << 20;
// Address space only: pages exist once they have been allocated. Halved where the limit is tight.
constexpr uint64_t kMapSize = uint64_t{4} << 30;
constexpr uint64_t kMinMapSize = uint64_t{64} << 20;

uint64_t RoundUp(uint64_t value, uint64_t step) { return (value + step - 1) / step * step; }

void CopyText(char* to, size_t cap, const std::string& from) {
  size_t n = std::min(cap - 1, from.size());
  memcpy(to, from.data(), n);
  to[n] = '\0';
}

Status NoRoom(int error) {
  if (error != ENOSPC && error != ENOMEM) return Status::Error(error);
  return Status::Error(ENOSPC,
                       "the store has no room left for its records; set CAPIO_STORE to a directory "
                       "on a larger file system");
}

}  // namespace

Segment::Segment(Fd fd, char* base, uint64_t mapped)
    : fd_(std::move(fd)), base_(base), mapped_(mapped), header_(reinterpret_cast<Header*>(base)) {}

Segment::~Segment() { (void)os().Unmap(base_, mapped_); }

Result<std::unique_ptr<Segment>> Segment::Map(Fd fd) {
  for (uint64_t size = kMapSize;; size /= 2) {
    void* base = os().Map(fd.get(), size);
    if (base != MAP_FAILED) {
      return std::unique_ptr<Segment>(new Segment(std::move(fd), static_cast<char*>(base), size));
    }
    if (errno != ENOMEM || size <= kMinMapSize) {
      return Status::Error(errno, "cannot map the store's control segment: check ulimit -v");
    }
  }
}

Result<std::unique_ptr<Segment>> Segment::Create(Fd fd, const SegmentSpec& spec) {
  if (spec.capio_dir.size() >= sizeof(Header::capio_dir)) return Status::Error(ENAMETOOLONG);
  uint64_t first = RoundUp(sizeof(Header), 64);
  uint64_t size = RoundUp(first + spec.rules.size() + kGrowStep / 4, 4096);
  int error = os().Fallocate(fd.get(), 0, static_cast<off_t>(size));
  if (error < 0) return NoRoom(-error);
  auto segment = Map(std::move(fd));
  if (!segment.ok()) return segment.status();
  Header& header = (*segment)->header();
  header.layout = kLayoutVersion;
  header.header_size = sizeof(Header);
  header.control_id = os().Random() | 1;
  header.stamp_ns = os().RealtimeNs();
  header.phase.store(kPhaseRunning);
  header.flags.store(spec.flags);
  header.slots_used.store(1);
  header.grown.store(size);
  header.config_hash = spec.config_hash;
  header.alive_ns.store(header.stamp_ns);
  CopyText(header.boot_id, sizeof header.boot_id, BootId());
  CopyText(header.run_id, sizeof header.run_id, spec.run_id);
  CopyText(header.capio_dir, sizeof header.capio_dir, spec.capio_dir);
  CopyText(header.workflow, sizeof header.workflow, spec.workflow);
  header.allocated.store(first + RoundUp(spec.rules.size(), 16));
  if (!spec.rules.empty()) {
    memcpy((*segment)->At<char>(first), spec.rules.data(), spec.rules.size());
    header.rules = first;
    header.rules_size = spec.rules.size();
  }
  header.magic = kSegmentMagic;
  return segment;
}

Result<std::unique_ptr<Segment>> Segment::Open(Fd fd) {
  struct stat st = {};
  int error = os().Fstat(fd.get(), &st);
  if (error < 0) return Status::Error(-error);
  if (static_cast<uint64_t>(st.st_size) < sizeof(Header)) {
    return Status::Error(EPROTO, "the store's control segment is too short to be one");
  }
  auto segment = Map(std::move(fd));
  if (!segment.ok()) return segment.status();
  const Header& header = (*segment)->header();
  if (header.magic != kSegmentMagic || header.layout != kLayoutVersion ||
      header.header_size != sizeof(Header)) {
    return Status::Error(EPROTO,
                         "the store belongs to another version of CAPIO: end that workflow, or "
                         "remove its store");
  }
  return segment;
}

bool Segment::Contains(uint64_t offset, uint64_t size) const {
  uint64_t end = header_->grown.load(std::memory_order_acquire);
  return offset >= sizeof(Header) && offset <= end && size <= end - offset;
}

Status Segment::GrowTo(uint64_t end) {
  uint64_t grown = header_->grown.load(std::memory_order_acquire);
  if (end <= grown) return Status::Ok();
  uint64_t target = std::min(RoundUp(end, kGrowStep), mapped_);
  if (end > target) return NoRoom(ENOSPC);
  // Several processes may do this at once: allocating what is allocated changes nothing.
  int error =
      os().Fallocate(fd_.get(), static_cast<off_t>(grown), static_cast<off_t>(target - grown));
  if (error < 0) return NoRoom(-error);
  while (grown < target &&
         !header_->grown.compare_exchange_weak(grown, target, std::memory_order_acq_rel)) {
  }
  return Status::Ok();
}

Result<uint64_t> Segment::Allocate(uint64_t size) {
  size = RoundUp(size, 16);
  uint64_t at = header_->allocated.load(std::memory_order_relaxed);
  for (;;) {
    // Backed before it is handed out: a page that cannot be had is an error here, not a SIGBUS
    // later.
    CAPIO_RETURN_IF_ERROR(GrowTo(at + size));
    if (header_->allocated.compare_exchange_weak(at, at + size, std::memory_order_acq_rel)) {
      return at;
    }
  }
}

Result<uint64_t> Segment::AllocateName(std::string_view name) {
  auto block = Allocate(sizeof(NameBlock) + name.size());
  if (!block.ok()) return block;
  auto* to = At<NameBlock>(*block);
  to->size = static_cast<uint32_t>(name.size());
  memcpy(to + 1, name.data(), name.size());
  return block;
}

std::string_view Segment::Name(uint64_t offset) const {
  const auto* block = At<NameBlock>(offset);
  if (block == nullptr) return {};
  return {reinterpret_cast<const char*>(block + 1), block->size};
}

}  // namespace capio
