#include "client/handles.h"

#include <errno.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <new>
#include <vector>

#include "os/fork.h"
#include "os/os.h"

namespace capio {

// One word says how many calls use the file, whether it is there, and in which life of the place.
constexpr uint64_t kOneUse = 1;
constexpr uint64_t kUseMask = (uint64_t{1} << 20) - 1;
constexpr uint64_t kFileThere = uint64_t{1} << 20;
constexpr uint64_t kFileClosing = uint64_t{1} << 21;
constexpr uint64_t kFileQuiet = uint64_t{1} << 22;  // nobody comes in; who leaves says so
constexpr uint64_t kOneLife = uint64_t{1} << 24;

struct HandlePlace {
  std::atomic<uint64_t> word{0};
  std::atomic<uint32_t> left{0};  // raised by who leaves while it is quiet
  std::unique_ptr<File> file;
  CloseKind kind = CloseKind::kCount;
  FdFate fate = FdFate::kClosed;
  uint32_t index = 0;
};

namespace {

static_assert(sizeof(capio_file*) == sizeof(uint64_t), "a handle holds a life and an index");

// In a handle the life stands where it does in the word, above the index and 1.
constexpr uint64_t kIndexMask = kOneLife - 1;
// Nobody fails to tell who leaves: this only is what FutexWait takes.
constexpr int64_t kLookAgainNs = 3'600'000'000'000;
constexpr uint32_t kChunkSize = 1 << 10;
constexpr uint32_t kChunks = 1 << 13;

class Table {
 public:
  Table() : mutex_(ForkMutex::kLeaf) {}

  HandlePlace* At(uint64_t index) {
    if (index >= uint64_t{kChunkSize} * kChunks) return nullptr;
    HandlePlace* chunk = chunks_[index / kChunkSize].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : &chunk[index % kChunkSize];
  }

  HandlePlace* Take() {
    ForkGuard guard(mutex_);
    if (free_.empty() && !Grow()) return nullptr;
    HandlePlace* place = free_.back();
    free_.pop_back();
    return place;
  }

  void GiveBack(HandlePlace* place) {
    ForkGuard guard(mutex_);
    free_.push_back(place);  // as much room as places was made by Grow
  }

  // In a child by fork the threads that were using files are not there.
  void ForgetUses() {
    for (uint64_t index = 0; index < uint64_t{made_} * kChunkSize; ++index) {
      At(index)->word.fetch_and(~(kUseMask | kFileClosing | kFileQuiet));
    }
  }

 private:
  bool Grow() {
    if (made_ == kChunks) return false;
    free_.reserve(size_t{made_ + 1} * kChunkSize);
    auto* chunk = new HandlePlace[kChunkSize];
    for (uint32_t i = kChunkSize; i-- > 0;) {
      chunk[i].index = made_ * kChunkSize + i;
      free_.push_back(&chunk[i]);
    }
    chunks_[made_++].store(chunk, std::memory_order_release);
    return true;
  }

  std::array<std::atomic<HandlePlace*>, kChunks> chunks_{};
  ForkMutex mutex_;
  std::vector<HandlePlace*> free_;
  uint32_t made_ = 0;
};

// Never destroyed: files may be closed after static objects have been.
Table& Handles() {
  static Table* table = [] {
    auto* made = new Table;
    CallAfterForkInChild([] { Handles().ForgetUses(); });
    return made;
  }();
  return *table;
}
// When the library is loaded: a fork in the middle of making it would leave its guard taken in the
// child.
[[maybe_unused]] const Table& made_at_load = Handles();

// One use less. The last one of a place that is closing ends the file.
Status Leave(HandlePlace* place) {
  uint64_t word = place->word.fetch_sub(kOneUse, std::memory_order_acq_rel) - kOneUse;
  if ((word & kFileQuiet) != 0) [[unlikely]] {
    place->left.fetch_add(1);
    (void)os().FutexWake(&place->left);
  }
  // Whoever comes in between with an old handle, and leaves again, finds the same and tries, too:
  // one of them gets it.
  while ((word & kUseMask) == 0 && (word & kFileClosing) != 0) {
    if (!place->word.compare_exchange_weak(word, word & ~(kFileClosing | kFileThere | kFileQuiet),
                                           std::memory_order_acq_rel)) {
      continue;
    }
    Status status;
    try {
      status = place->file->Close(place->kind, place->fate);
      place->file.reset();
    } catch (const std::bad_alloc&) {
      status = Status::Error(ENOMEM);
    }
    place->word.fetch_add(kOneLife, std::memory_order_acq_rel);
    Handles().GiveBack(place);
    return status;
  }
  return Status::Ok();
}

// The place with one more use; null if the handle is of another life, or any of `refused` is set.
HandlePlace* Enter(capio_file* handle, uint64_t refused) {
  auto number = reinterpret_cast<uint64_t>(handle);
  HandlePlace* place = Handles().At((number & kIndexMask) - 1);
  if (place == nullptr) return nullptr;
  uint64_t word = place->word.fetch_add(kOneUse, std::memory_order_acq_rel);
  if ((word & ~kIndexMask) == (number & ~kIndexMask) &&
      (word & (kFileThere | refused)) == kFileThere) {
    return place;
  }
  (void)Leave(place);
  return nullptr;
}

}  // namespace

Result<capio_file*> MakeHandle(std::unique_ptr<File> file, FdFate otherwise) {
  HandlePlace* place = Handles().Take();
  if (place == nullptr) {
    (void)file->Close(CloseKind::kAbandoned, otherwise);
    return Status::Error(ENFILE);
  }
  place->file = std::move(file);
  uint64_t word = place->word.fetch_or(kFileThere, std::memory_order_acq_rel);
  return reinterpret_cast<capio_file*>((word & ~kIndexMask) | (uint64_t{place->index} + 1));
}

FileUse::FileUse(capio_file* handle) : place_(Enter(handle, kFileClosing | kFileQuiet)) {}

FileUse::~FileUse() {
  if (place_ != nullptr) (void)Leave(place_);
}

File& FileUse::operator*() const { return *place_->file; }

Status QuiesceHandle(capio_file* handle) {
  HandlePlace* place = Enter(handle, kFileClosing);
  if (place == nullptr) return Status::Error(EBADF);
  place->word.fetch_or(kFileQuiet, std::memory_order_acq_rel);
  (*place->file).Closing();
  Status status = Leave(place);
  // Without a use of its own: whoever else wants it quiet waits here, too. Once it is of another
  // life, or not quiet, somebody has ended it.
  const uint64_t life = reinterpret_cast<uint64_t>(handle) & ~kIndexMask;
  for (;;) {
    uint32_t left = place->left.load();
    uint64_t word = place->word.load(std::memory_order_acquire);
    if ((word & kUseMask) == 0 || (word & kFileQuiet) == 0 || (word & ~kIndexMask) != life) break;
    (void)os().FutexWait(&place->left, left, kLookAgainNs);
  }
  return status;
}

Status CloseHandle(capio_file* handle, CloseKind kind, FdFate fate) {
  HandlePlace* place = Enter(handle, kFileClosing);
  if (place == nullptr) return Status::Error(EBADF);
  if ((place->word.fetch_or(kFileClosing, std::memory_order_acq_rel) & kFileClosing) != 0) {
    (void)Leave(place);
    return Status::Error(EBADF);
  }
  // Nobody ends it before this use does.
  place->kind = kind;
  place->fate = fate;
  if ((place->word.load(std::memory_order_acquire) & kUseMask) > kOneUse) {
    (*place->file).Closing();
  }
  return Leave(place);
}

}  // namespace capio
