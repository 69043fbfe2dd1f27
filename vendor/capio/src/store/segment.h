// The mapped control segment: creating, opening, growing, and turning offsets into pointers.
#ifndef CAPIO_STORE_SEGMENT_H_
#define CAPIO_STORE_SEGMENT_H_

#include <memory>
#include <string_view>

#include "os/os.h"
#include "os/status.h"
#include "store/layout.h"

namespace capio {

struct SegmentSpec {
  std::string capio_dir;
  std::string workflow;
  std::string run_id;
  std::string rules;  // image, or ""
  uint64_t config_hash = 0;
  uint32_t flags = 0;
};

class Segment {
 public:
  // Fills a new, empty file.
  static Result<std::unique_ptr<Segment>> Create(Fd fd, const SegmentSpec& spec);
  // Maps an existing one. -EPROTO: not a segment, or of another layout version.
  static Result<std::unique_ptr<Segment>> Open(Fd fd);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  Header& header() { return *header_; }
  const Header& header() const { return *header_; }

  template <typename T>
  T* At(uint64_t offset) {
    return offset == 0 ? nullptr : reinterpret_cast<T*>(base_ + offset);
  }
  template <typename T>
  const T* At(uint64_t offset) const {
    return offset == 0 ? nullptr : reinterpret_cast<const T*>(base_ + offset);
  }
  uint64_t OffsetOf(const void* pointer) const {
    return static_cast<uint64_t>(static_cast<const char*>(pointer) - base_);
  }
  bool Contains(uint64_t offset, uint64_t size) const;

  // Zeroed memory, never given back. ENOSPC, with a sentence naming CAPIO_STORE, when there is no
  // room.
  Result<uint64_t> Allocate(uint64_t size);
  Result<uint64_t> AllocateName(std::string_view name);
  std::string_view Name(uint64_t offset) const;

  int fd() const { return fd_.get(); }

 private:
  Segment(Fd fd, char* base, uint64_t mapped);
  static Result<std::unique_ptr<Segment>> Map(Fd fd);
  Status GrowTo(uint64_t end);

  Fd fd_;
  char* base_;
  uint64_t mapped_;
  Header* header_;
};

}  // namespace capio

#endif  // CAPIO_STORE_SEGMENT_H_
