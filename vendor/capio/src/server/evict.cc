#include "server/evict.h"

#include <fcntl.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "server/links.h"
#include "server/persist.h"
#include "store/probe.h"
#include "store/room.h"
#include "store/waits.h"

namespace capio {
namespace {

constexpr uint64_t kSmallFile = uint64_t{256} << 10;

bool IsFinal(const FileRecord* record) {
  FileState state = StateOf(record->status.load(std::memory_order_acquire));
  return state == kCommitted || state == kFailed;
}

// CAPIO_DIR has the file as it is now, for all that we know.
bool WrittenBack(const FileRecord* record) {
  uint64_t status = record->status.load(std::memory_order_acquire);
  return StateOf(status) == kCommitted &&
         record->persisted.load(std::memory_order_acquire) == GenerationOf(status) + 1 &&
         (record->flags.load() & kFileDirty) == 0;
}

// Errors that the next file would meet, too.
bool Hopeless(int error) {
  return error == ENOSPC || error == EDQUOT || error == EROFS || error == EIO;
}

}  // namespace

Evictor::Evictor(Store* store, int done_event)
    : store_(store),
      done_event_(done_event),
      can_move_(
          RoomReader(store->tree.get(), store->real.get(), &store->segment->header()).CanMove() &&
          (store->segment->header().flags.load() & kMemoryOnly) == 0),
      thread_([this] { Work(); }) {}

Evictor::~Evictor() {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    stop_.store(true);
  }
  more_.notify_all();
  thread_.join();
}

void Evictor::Ask() {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    asked_ = true;
  }
  more_.notify_all();
}

Evictor::Report Evictor::TakeReport() {
  std::lock_guard<std::mutex> guard(mutex_);
  return std::exchange(report_, {});
}

void Evictor::Work() {
  for (;;) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      more_.wait(lock, [this] { return stop_.load() || asked_; });
      if (stop_.load()) return;
      asked_ = false;
    }
    Round();
    uint64_t one = 1;
    (void)os().Write(done_event_, &one, sizeof one);
  }
}

void Evictor::Round() {
  Header& header = store_->segment->header();
  uint64_t request = header.room_asked.load(std::memory_order_acquire);
  uint64_t wanted = header.room_wanted.exchange(0, std::memory_order_acq_rel);
  uint64_t freed = 0;
  error_ = 0;
  small_bytes_ = 0;
  if (can_move_ && wanted > 0) {
    std::vector<Candidate> candidates = Candidates();
    // The memory of one that is open goes only when it is closed.
    for (bool in_use : {false, true}) {
      for (const Candidate& candidate : candidates) {
        if (freed >= wanted || stop_.load() || Hopeless(error_)) break;
        freed += Move(candidate, in_use);
      }
    }
    if (small_bytes_ > 0) (void)os().Syncfs(store_->fs->dir());
  }
  // What has been taken away is not known to the byte: the next look counts.
  if (freed > 0) header.counted_ns.store(0, std::memory_order_relaxed);
  // Given up: the next server answers.
  if (stop_.load()) return;
  header.evict_error.store(error_, std::memory_order_relaxed);
  if (freed < wanted) header.room_futile.store(request, std::memory_order_release);
  header.room_done.store(request, std::memory_order_release);
  WakeAll(&header.room_word);
  if (error_ == 0) return;
  std::lock_guard<std::mutex> guard(mutex_);
  report_.trouble = std::string("cannot move files from memory to ") + header.capio_dir + "/" +
                    store_->fs->path() + " to make room: " + strerror(error_);
}

std::vector<Evictor::Candidate> Evictor::Candidates() {
  std::vector<std::pair<uint64_t, Candidate>> found;
  std::map<uint32_t, bool> to_come;  // app -> may still read
  auto still_read = [&](const Rule& rule) {
    return std::any_of(rule.consumers.begin(), rule.consumers.end(), [&](uint32_t app) {
      auto known = to_come.find(app);
      if (known != to_come.end()) return known->second;
      int32_t pid = 0;
      return to_come[app] = store_->judge->StandingOf(app, &pid) != Standing::kEnded;
    });
  };
  store_->records->ForEach([&](FileRecord* record) {
    if (!IsFinal(record) && !store_->judge->Closed(record)) return;
    std::string name = store_->records->NameOf(record);
    struct stat st = {};
    if (name.empty() || !store_->layers->InTree(name, &st) || !S_ISREG(st.st_mode) ||
        st.st_blocks == 0 || st.st_nlink != 1) {
      return;
    }
    Harm harm = !IsFinal(record)                   ? Harm::kClosed
                : WrittenBack(record)              ? Harm::kWrittenBack
                : still_read(store_->RuleOf(name)) ? Harm::kComplete
                                                   : Harm::kReadByAll;
    found.emplace_back(
        record->age.load(std::memory_order_relaxed),
        Candidate{record, std::move(name), static_cast<uint64_t>(st.st_blocks) * 512, harm});
  });
  // The least harm first; of those the largest, so that few are moved; then the oldest.
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.second.harm, b.second.bytes, a.first) <
           std::tuple(b.second.harm, a.second.bytes, b.first);
  });
  std::vector<Candidate> candidates;
  candidates.reserve(found.size());
  for (auto& [age, candidate] : found) candidates.push_back(std::move(candidate));
  return candidates;
}

bool Evictor::StillNamed(const Candidate& candidate, int source) const {
  struct stat ours = {};
  struct stat named = {};
  return store_->records->NameOf(candidate.record) == candidate.name &&
         os().Fstat(source, &ours) == 0 && store_->layers->InTree(candidate.name, &named) &&
         ours.st_ino == named.st_ino && ours.st_nlink == 1;
}

uint64_t Evictor::Move(const Candidate& candidate, bool in_use) {
  // O_NONBLOCK: an open that would break somebody's lease must not wait for it.
  Fd source(os().OpenAt(store_->tree.get(), candidate.name.c_str(),
                        O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0));
  struct stat st = {};
  FileIdentity id;
  if (!source.valid() || os().Fstat(source.get(), &st) < 0 || !S_ISREG(st.st_mode) ||
      store_->layers->identities().Of(source.get(), st, &id) < 0 ||
      store_->records->Find(id) != candidate.record) {
    return 0;
  }
  Lease lease(source.get());
  bool unused = lease.Take(Lease::kAgainstAll);
  bool final = IsFinal(candidate.record);
  if (!unused && (!in_use || !final)) return 0;
  // While it is copied others may read it.
  if (!lease.Take(Lease::kAgainstWriters)) return 0;
  if (!WrittenBack(candidate.record) || !TakeAway(candidate, source.get())) {
    Status moved = MoveToDisk(candidate, source.get(), final, &lease);
    if (!moved.ok()) {
      if (moved.code() != ECANCELED) error_ = moved.code();
      return 0;
    }
    if (candidate.bytes < kSmallFile) small_bytes_ += candidate.bytes;
  }
  Header& header = store_->segment->header();
  uint64_t taken = header.tree_bytes.load(std::memory_order_relaxed);
  while (!header.tree_bytes.compare_exchange_weak(taken, taken - std::min(taken, candidate.bytes),
                                                  std::memory_order_relaxed)) {
  }
  {
    std::lock_guard<std::mutex> guard(mutex_);
    ++report_.files;
    report_.bytes += candidate.bytes;
  }
  // Who has come to read it in the meantime keeps it in memory for a while.
  return unused ? candidate.bytes : 0;
}

// ECANCELED: it is not to be moved now.
Status Evictor::MoveToDisk(const Candidate& candidate, int source, bool final, Lease* lease) {
  Layers& layers = *store_->layers;
  const Status not_now = Status::Error(ECANCELED);
  auto copy = layers.CopyForMove(source, [&] { return lease->Held() && !stop_.load(); });
  if (!copy.ok()) return copy.status();
  auto finish = [&]() -> Status {
    struct stat st = {};
    FileIdentity id;
    if (int error = os().Fstat(copy->get(), &st); error < 0) return Status::Error(-error);
    if (int error = layers.identities().Of(copy->get(), st, &id); error < 0)
      return Status::Error(-error);
    MoveWindow window(store_, candidate.name);
    if (!window.open()) return not_now;
    // It may be appended to later: nobody must be left with the old inode.
    if (!final && !lease->Take(Lease::kAgainstAll)) return not_now;
    if (!lease->Held() || !StillNamed(candidate, source) ||
        IsLinked(store_->real.get(), store_->workflow, candidate.name)) {
      return not_now;
    }
    // As long as the window is open nobody removes or renames a directory.
    CAPIO_RETURN_IF_ERROR(layers.MakeParents(Layer::kFs, candidate.name));
    CAPIO_RETURN_IF_ERROR(store_->records->AddIdentity(candidate.record, id));
    candidate.record->flags.fetch_or(kFileMoved);
    return layers.FinishMove(candidate.name);
  };
  Status finished = finish();
  if (!finished.ok()) layers.AbandonMove();
  return finished;
}

// A file that CAPIO_DIR has, too, under the same name. False: it has not, or has another one.
bool Evictor::TakeAway(const Candidate& candidate, int source) {
  Layers& layers = *store_->layers;
  struct stat ours = {};
  struct stat real = {};
  FileIdentity id;
  Fd fd(os().OpenAt(store_->real.get(), candidate.name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
                    0));
  if (!fd.valid() || os().Fstat(fd.get(), &real) < 0 || !S_ISREG(real.st_mode) ||
      os().Fstat(source, &ours) < 0 || layers.identities().Of(fd.get(), real, &id) < 0) {
    return false;
  }
  if (real.st_size != ours.st_size || real.st_mtim.tv_sec != ours.st_mtim.tv_sec ||
      real.st_mtim.tv_nsec != ours.st_mtim.tv_nsec || ProbeWriters(fd.get()) == Writers::kSome) {
    return false;
  }
  // From here on real files are asked for their records: this one counts, whatever its times.
  if (!store_->fs->Make().ok()) return false;
  MoveWindow window(store_, candidate.name);
  if (!window.open() || !StillNamed(candidate, source) ||
      IsLinked(store_->real.get(), store_->workflow, candidate.name) ||
      !store_->records->AddIdentity(candidate.record, id).ok()) {
    return false;
  }
  candidate.record->flags.fetch_or(kFileMoved);
  // A twin that a server killed over moving it left below must not come to light.
  (void)os().UnlinkAt(store_->fs->dir(), candidate.name.c_str(), 0);
  return os().UnlinkAt(layers.tree(), candidate.name.c_str(), 0) == 0;
}

}  // namespace capio
