#include "server/persist.h"

#include <fcntl.h>
#include <string.h>

#include "os/paths.h"
#include "store/attributes.h"
#include "store/probe.h"
#include "store/waits.h"

namespace capio {
namespace {

Status CopyTo(Store* store, int source, const struct stat& st, const std::string& temporary) {
  Fd copy(os().OpenAt(store->real.get(), temporary.c_str(),
                      O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  if (!copy.valid()) return Status::Error(-copy.get());
  CAPIO_RETURN_IF_ERROR(CopyBytes(source, copy.get()));
  CAPIO_RETURN_IF_ERROR(CopyAttributes(source, copy.get()));
  (void)CopyTimes(st, copy.get());
  if (int error = os().Fsync(copy.get()); error < 0) return Status::Error(-error);
  return Status::Ok();
}

bool StillNamed(Store* store, const FileRecord* record, const std::string& name) {
  struct stat st = {};
  return store->records->NameOf(record) == name && store->layers->InStore(name, &st);
}

}  // namespace

namespace {

// Puts a file of the fs tree under its name in CAPIO_DIR: the inode stays, so those who have it
// open, and its record, need not know. EXDEV: another file system is mounted there.
Status Publish(Store* store, const PersistTask& t, int source, bool* superseded) {
  if (int error = os().Fsync(source); error < 0) return Status::Error(-error);
  MoveWindow window(store, t.name);
  struct stat st = {};
  struct stat named = {};
  if (os().Fstat(source, &st) < 0 || !window.open() ||
      !store->layers->In(Layer::kFs, t.name, &named) || named.st_ino != st.st_ino) {
    *superseded = true;
    return Status::Ok();
  }
  int error = os().RenameAt(store->layers->DirOf(Layer::kFs), t.name.c_str(), store->real.get(),
                            t.to.c_str());
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

}  // namespace

std::string TemporaryOf(Store* store, const FileRecord* record, const std::string& to) {
  const std::string parent(ParentOf(to));
  return (parent.empty() ? "" : parent + "/") + ".capio-" +
         std::to_string(store->segment->header().control_id) + "-" +
         std::to_string(store->records->OffsetOf(record)) + ".tmp";
}

MoveWindow::MoveWindow(Store* store, const std::string& name) : store_(store), name_(name) {
  Try();
}

void MoveWindow::Try() {
  for (auto& entry : store_->segment->header().moving) {
    uint64_t free = 0;
    if (!entry.compare_exchange_strong(free, HashString(name_) | 1)) continue;
    entry_ = &entry;
    // Said first, then asked: of this and whoever changes the name, one sees the other.
    open_ = !store_->judge->BeingNamed(name_);
    return;
  }
}

void MoveWindow::TakeBack() {
  if (entry_ == nullptr) return;
  entry_->store(0, std::memory_order_seq_cst);
  entry_ = nullptr;
  WakeAll(&store_->segment->header().room_word);
}

bool MoveWindow::Await() {
  constexpr int64_t kSliceNs = 50'000'000;
  constexpr int kSlices = 20;
  WaitWord* word = &store_->segment->header().room_word;
  for (int slice = 0; !open_ && slice < kSlices; ++slice) {
    // Who changes the name waits for windows to close, too.
    TakeBack();
    uint32_t prepared = PrepareWait(word);
    if (store_->judge->BeingNamed(name_)) (void)WaitOn(word, prepared, kSliceNs);
    Try();
  }
  return open_;
}

MoveWindow::~MoveWindow() { TakeBack(); }

PersistOutcome PersistFile(Store* store, PersistTask task) {
  PersistOutcome outcome;
  outcome.task = std::move(task);
  const PersistTask& t = outcome.task;
  FileRecord* record = t.record;
  uint64_t status = record->status.load(std::memory_order_acquire);
  record->flags.fetch_and(~uint32_t{kFileDirty});
  Layer layer = Layer::kTree;
  Fd source = store->layers->OpenInStore(t.name, O_RDONLY | O_NOFOLLOW, &layer);
  struct stat st = {};
  FileIdentity id;
  if (!source.valid() || os().Fstat(source.get(), &st) < 0 ||
      store->layers->identities().Of(source.get(), st, &id) < 0 ||
      store->records->Find(id) != record) {
    // Renamed or removed since: who did that looks after it, and so does the last pass over the
    // tree.
    outcome.superseded = true;
    return outcome;
  }
  {
    // A directory that goes at this moment must not come back.
    MoveWindow window(store, t.name);
    if (!t.salvage && (!window.Await() || !StillNamed(store, record, t.name))) {
      outcome.superseded = true;
      return outcome;
    }
    outcome.status = store->layers->MakeInReal(std::string(ParentOf(t.to)));
  }
  if (!outcome.status.ok()) return outcome;
  auto same = [&] {
    return record->status.load(std::memory_order_acquire) == status &&
           (record->flags.load() & kFileDirty) == 0 && store->records->NameOf(record) == t.name;
  };
  // What somebody has open for writing is not given away: a copy of it is.
  bool rename = layer == Layer::kFs && (t.salvage || ProbeWriters(source.get()) != Writers::kSome);
  if (rename) {
    if (!t.salvage && !same()) outcome.superseded = true;
    if (!outcome.superseded) {
      outcome.status = Publish(store, t, source.get(), &outcome.superseded);
    }
    if (outcome.superseded || outcome.status.code() != EXDEV) {
      if (outcome.status.ok() && !outcome.superseded) {
        record->persisted.store(GenerationOf(status) + 1, std::memory_order_release);
      }
      return outcome;
    }
  }
  const std::string temporary = TemporaryOf(store, record, t.to);
  outcome.status = CopyTo(store, source.get(), st, temporary);
  if (!t.salvage && !same()) outcome.superseded = true;
  // Removing or renaming a file begins with the real directory: it must not find nothing there, and
  // we put the file there behind its back.
  MoveWindow window(store, t.name);
  if (!t.salvage && !window.Await()) outcome.superseded = true;
  // Where it was removed with its directory, and the copy with that, nothing has failed.
  if (!t.salvage && !StillNamed(store, record, t.name)) outcome.superseded = true;
  if (outcome.status.ok() && !outcome.superseded) {
    int error =
        os().RenameAt(store->real.get(), temporary.c_str(), store->real.get(), t.to.c_str());
    if (error < 0) {
      outcome.status = Status::Error(-error);
    } else if (t.salvage || StillNamed(store, record, t.name)) {
      record->persisted.store(GenerationOf(status) + 1, std::memory_order_release);
      return outcome;
    } else {
      // Renamed or removed at the last moment: what we have just put there is nobody's.
      (void)os().UnlinkAt(store->real.get(), t.to.c_str(), 0);
      outcome.superseded = true;
      return outcome;
    }
  }
  (void)os().UnlinkAt(store->real.get(), temporary.c_str(), 0);
  if (outcome.superseded) outcome.status = Status::Ok();
  return outcome;
}

PersistPool::PersistPool(Store* store, int done_event, int threads)
    : store_(store), done_event_(done_event) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

PersistPool::~PersistPool() {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    stop_ = true;
  }
  more_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void PersistPool::Submit(PersistTask task) {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    queue_.push_back(std::move(task));
    ++pending_;
  }
  more_.notify_one();
}

std::vector<PersistOutcome> PersistPool::TakeOutcomes() {
  std::lock_guard<std::mutex> guard(mutex_);
  pending_ -= outcomes_.size();
  return std::exchange(outcomes_, {});
}

size_t PersistPool::pending() {
  std::lock_guard<std::mutex> guard(mutex_);
  return pending_;
}

void PersistPool::Work() {
  for (;;) {
    PersistTask task;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      more_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    PersistOutcome outcome = PersistFile(store_, std::move(task));
    {
      std::lock_guard<std::mutex> guard(mutex_);
      outcomes_.push_back(std::move(outcome));
    }
    uint64_t one = 1;
    (void)os().Write(done_event_, &one, sizeof one);
  }
}

}  // namespace capio
