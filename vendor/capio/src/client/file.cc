#include "client/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "capio/capio.h"
#include "client/spin.h"
#include "store/attributes.h"
#include "store/probe.h"
#include "store/waits.h"

namespace capio {
namespace {

ForkMutex& own_mutex = *new ForkMutex(ForkMutex::kAttaching);

bool Missing(int code) { return code == ENOENT || code == ENOTDIR; }

// Another open file description of the same file, for the probe and for those who must not share a
// position.
Fd Reopen(int fd, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return Fd(os().OpenAt(AT_FDCWD, path, flags, 0));
}

}  // namespace

Result<Layer> AwaitExistence(Session* session, const std::string& relative, bool follow,
                             struct stat* st, Patience patience, FileIdentity* id) {
  Store& store = session->store();
  for (;;) {
    // Looked up every time: a rule may come while we wait.
    const uint64_t version = store.rules->version();
    auto rule = session->RuleOf(relative);
    bool consumer = rule->declared() && !session->DeclaredProducer(*rule);
    bool waits = consumer && patience == Patience::kWait;
    uint32_t prepared = waits ? PrepareWait(store.records->PathWord(relative)) : 0;
    if (waits && store.rules->version() != version) continue;
    if (rule->excluded) return Status::Error(CAPIO_UNMANAGED);
    auto layer = store.layers->Find(relative, st, follow, id);
    if (layer.ok() && (!consumer || *layer != Layer::kReal || session->RealCounts(*st, relative))) {
      return layer;
    }
    if (!consumer) return layer;
    if (!layer.ok() && !Missing(layer.code())) return layer;
    if (!waits) return Status::Error(EAGAIN);
    CAPIO_RETURN_IF_ERROR(session->SleepForPath(relative, *rule, prepared));
  }
}

Result<FileRecord*> RecordOf(Session* session, int fd, const std::string& relative, bool* created) {
  *created = false;
  struct stat st = {};
  FileIdentity id;
  int error = session->store().layers->identities().Look(fd, &st, &id);
  if (error < 0) return Status::Error(-error);
  if (!S_ISREG(st.st_mode)) return static_cast<FileRecord*>(nullptr);
  return RecordOf(session, id, relative, created);
}

Result<FileRecord*> RecordOf(Session* session, const FileIdentity& id, const std::string& relative,
                             bool* created) {
  *created = false;
  Store& store = session->store();
  if (FileRecord* record = store.records->Find(id)) return record;
  const uint64_t version = store.rules->version();
  auto record = store.records->FindOrCreate(
      id, relative, session->RuleForNew(*session->RuleOf(relative)), created);
  if (*created) session->KeepUp(*record, relative, version);
  return record;
}

File::File(std::shared_ptr<Session> session, FileRecord* record, Fd fd, int flags, Layer layer)
    : session_(std::move(session)),
      record_(record),
      fd_(std::move(fd)),
      flags_(flags),
      writer_((flags & O_ACCMODE) != O_RDONLY),
      append_((flags & O_APPEND) != 0),
      layer_(layer),
      generation_(GenerationOf(record->status.load(std::memory_order_acquire))),
      fork_epoch_(ForkEpoch()),
      forks_(ForksDone()) {}

std::unique_ptr<File> File::Adopt(const std::shared_ptr<Session>& session, FileRecord* record,
                                  Cell* cell, int fd, int flags, bool duplicate) {
  struct stat st = {};
  Layer layer = Layer::kTree;
  if (!session->store().layers->InStore(session->store().records->NameOf(record), &st, &layer)) {
    layer = Layer::kReal;
  }
  std::unique_ptr<File> file(new File(session, record, Fd(fd), flags, layer));
  file->cell_.store(cell);
  file->duplicate_ = duplicate;
  file->MarkExposed();
  return file;
}

Result<int> File::Open(const std::shared_ptr<Session>& session, const std::string& relative,
                       int flags, mode_t mode, std::unique_ptr<File>* out, Patience patience,
                       off_t* size) {
  out->reset();
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  if (session->RuleOf(relative)->excluded) {
    if ((flags & O_CREAT) != 0) session->store().layers->MakeRealParents(relative);
    return Status::Error(CAPIO_UNMANAGED);
  }
  bool writing = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_TRUNC | O_CREAT)) != 0;
  if ((flags & O_PATH) != 0 || (flags & O_TMPFILE) == O_TMPFILE) writing = false;
  return writing ? OpenForWriting(session, relative, flags, mode, out)
                 : OpenForReading(session, relative, flags, mode, patience, out, size);
}

Result<int> File::OpenForReading(const std::shared_ptr<Session>& session,
                                 const std::string& relative, int flags, mode_t mode,
                                 Patience patience, std::unique_ptr<File>* out, off_t* size) {
  Store& store = session->store();
  // CAPIO_DIR itself is what stat(2) finds it to be.
  if (relative.empty() && (flags & O_TMPFILE) != O_TMPFILE) {
    int real = os().OpenAt(store.real.get(), ".", flags, mode);
    if (real < 0) return Status::Error(-real);
    return real;
  }
  for (;;) {
    // The common case first: it is in the store. O_TMPFILE is the one that uses the mode.
    Layer where = Layer::kTree;
    Fd fd = store.layers->OpenInStore(relative, flags, &where, mode);
    if (!fd.valid()) {
      if (!Missing(-fd.get())) return Status::Error(-fd.get());
      struct stat st = {};
      auto layer =
          AwaitExistence(session.get(), relative, (flags & O_NOFOLLOW) == 0, &st, patience);
      if (!layer.ok()) return layer.status();
      if (*layer != Layer::kReal) {
        if (fd.get() == -ENOTDIR) return Status::Error(ENOTDIR);  // O_DIRECTORY
        continue;
      }
      Fd real(os().OpenAt(store.real.get(), At(relative), flags, mode));
      if (!real.valid()) return Status::Error(-real.get());
      // A file renamed from outside while it was being written is watched; ordinary input is not.
      FileIdentity id;
      if (os().Fstat(real.get(), &st) == 0 && S_ISREG(st.st_mode) &&
          store.layers->identities().Of(real.get(), st, &id) == 0) {
        if (FileRecord* record = store.records->Find(id); record != nullptr) {
          fd = std::move(real);
          where = Layer::kReal;
        }
      }
      if (!fd.valid()) {
        if (size != nullptr && S_ISREG(st.st_mode)) *size = st.st_size;
        return real.release();
      }
    }
    // A file without a name is nobody else's.
    if ((flags & O_TMPFILE) == O_TMPFILE) return fd.release();
    struct stat st = {};
    FileIdentity id;
    if (int error = store.layers->identities().Look(fd.get(), &st, &id); error < 0) {
      return Status::Error(-error);
    }
    if (!S_ISREG(st.st_mode)) return fd.release();
    // Moved to another layer, or removed, while we opened it.
    if (st.st_nlink == 0) continue;
    if (size != nullptr) *size = st.st_size;
    bool created = false;
    auto record = RecordOf(session.get(), id, relative, &created);
    if (!record.ok()) return record.status();
    session->WarnOfUndeclaredInput(relative, *record);
    FileState state = StateOf((*record)->status.load(std::memory_order_acquire));
    if (state == kCommitted) return fd.release();
    if (session->Produces(*session->RuleOf(relative), *record)) return fd.release();
    if (state != kFailed) state = session->Evaluate(*record, fd.get());
    if (state == kCommitted) return fd.release();
    if (patience == Patience::kNone) return Status::Error(EAGAIN);
    if (state == kFailed) return session->Failure(*record);
    out->reset(new File(session, *record, std::move(fd), flags, where));
    (*out)->name_ = relative;
    return (*out)->fd();
  }
}

Result<int> File::OpenForWriting(const std::shared_ptr<Session>& session,
                                 const std::string& relative, int flags, mode_t mode,
                                 std::unique_ptr<File>* out) {
  Store& store = session->store();
  Layers& layers = *store.layers;
  auto rule = session->RuleOf(relative);
  bool truncate = (flags & O_TRUNC) != 0 && (flags & O_ACCMODE) != O_RDONLY;
  bool exclusive = (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0;
  bool follow = (flags & O_NOFOLLOW) == 0 && !exclusive;
  int plain = flags & ~(O_CREAT | O_EXCL | O_TRUNC);
  if (rule->declared() && !session->DeclaredProducer(*rule)) {
    bool makes = truncate;
    if (!truncate) {
      // To change what somebody else makes, it must be there, and whole, first.
      struct stat st = {};
      auto layer = AwaitExistence(session.get(), relative, follow, &st);
      // Nobody makes it any more, so whoever comes with O_CREAT does.
      makes = layer.code() == ENOENT && (flags & O_CREAT) != 0;
      if (!layer.ok() && !makes) return layer.status();
      if (exclusive && !makes) return Status::Error(EEXIST);
      Fd watched;
      if (!makes) watched.reset(os().OpenAt(layers.DirOf(*layer), At(relative), O_RDONLY, 0));
      if (watched.valid() && *layer != Layer::kReal) {
        bool made = false;
        auto record = RecordOf(session.get(), watched.get(), relative, &made);
        if (!record.ok()) return record.status();
        if (*record != nullptr && !session->Produces(*rule, *record)) {
          CAPIO_RETURN_IF_ERROR(session->WaitForCommit(*record));
        }
      }
    }
    if (makes) {
      const std::string no_step = session->WhyNoStep();
      session->Warn("producer:" + relative,
                    "app '" + session->app_name() + "' writes " + session->dir() + "/" + relative +
                        ", which the CAPIO-CL file does not name among its outputs" +
                        (no_step.empty() ? "" : ": " + no_step));
    }
  }

  Activity opening(session.get(), kOpening, relative);
  if (!opening.shown()) return session->NoRoom(relative);
  Fd fd;
  bool created = false;
  bool refused = false;  // memory has no room even for an empty file
  Layer layer = Layer::kTree;
  for (int attempt = 0; !fd.valid(); ++attempt) {
    if (attempt > 64) return Status::Error(ELOOP);
    struct stat st = {};
    Fd allowed;  // the real file that is written anew
    int missing = ENOENT;
    bool in_real = layers.InReal(relative, &st);
    // What is made anew mostly is not there: then making it tells at once.
    bool likely_new =
        attempt == 0 && truncate && (flags & O_CREAT) != 0 && !in_real && !layers.FsInUse();
    if (exclusive) {
      if (in_real || layers.In(Layer::kFs, relative, &st)) return Status::Error(EEXIST);
    } else if (!likely_new) {
      fd = layers.OpenInStore(relative, plain, &layer);
      // Without a name: moved to another layer, or removed, while we opened it.
      if (fd.valid() && os().Fstat(fd.get(), &st) == 0 && st.st_nlink == 0) {
        fd.reset();
        continue;
      }
      if (fd.valid()) break;
      if (!Missing(-fd.get())) return Status::Error(-fd.get());
      missing = -fd.get();
    }
    if (in_real && S_ISLNK(st.st_mode) && follow) {
      layers.NoteLink();
      return Status::Error(kLinkAhead);
    }
    if (in_real) {
      if (S_ISDIR(st.st_mode)) return Status::Error(EISDIR);
      if (!S_ISREG(st.st_mode)) {  // a fifo or a device stays what it is
        Fd real(os().OpenAt(store.real.get(), relative.c_str(), flags, mode));
        if (!real.valid()) return Status::Error(-real.get());
        return real.release();
      }
      // What the kernel would refuse on the real file is refused.
      allowed.reset(os().OpenAt(store.real.get(), relative.c_str(), plain, 0));
      if (!allowed.valid()) return Status::Error(-allowed.get());
      if (!truncate) {
        Layer to = session->LayerForNew(*rule, static_cast<uint64_t>(st.st_size));
        Status copy = layers.CopyUp(relative, to);
        if (copy.code() == ENOSPC) return session->NoRoom(relative, to);
        CAPIO_RETURN_IF_ERROR(copy);
        Fd copied = layers.OpenInStore(relative, O_RDONLY);
        if (copied.valid()) {
          bool made = false;
          auto record = RecordOf(session.get(), copied.get(), relative, &made);
          if (!record.ok()) return record.status();
          if (*record == nullptr) continue;
          // It was ordinary input, and goes back to where it came from.
          (*record)->flags.fetch_or(kFilePermanent | kFileDirty);
          uint64_t growing = MakeStatus(1, kGrowing);
          if (made) {
            (void)(*record)->status.compare_exchange_strong(growing, MakeStatus(1, kCommitted));
          }
        }
        continue;
      }
      mode = st.st_mode & 07777;
    } else if ((flags & O_CREAT) == 0) {
      auto nowhere = layers.Find(relative, &st, true);
      return nowhere.ok() ? Status::Error(missing) : nowhere.status();
    }
    layer = refused ? Layer::kFs : session->LayerForNew(*rule);
    if (layer == Layer::kFs) {
      Status parents = layers.MakeParents(layer, relative);
      // Where nobody has asked for the disk, memory will do as long as there is some.
      if (!parents.ok() && rule->storage != Storage::kFs) layer = Layer::kTree;
      if (layer == Layer::kFs) CAPIO_RETURN_IF_ERROR(parents);
    }
    struct stat twin = {};
    if (layer == Layer::kFs && layers.InTree(relative, &twin)) layer = Layer::kTree;
    int made = os().OpenAt(layers.DirOf(layer), relative.c_str(), plain | O_CREAT | O_EXCL, mode);
    if (made == -ENOENT) {
      CAPIO_RETURN_IF_ERROR(layers.MakeParents(layer, relative));
      made = os().OpenAt(layers.DirOf(layer), relative.c_str(), plain | O_CREAT | O_EXCL, mode);
    }
    Layer other = layer == Layer::kFs ? Layer::kTree : Layer::kFs;
    if (made >= 0 && layers.In(other, relative, &twin)) {
      // Somebody has made it at the same time, in the other layer: who sees that gives way.
      (void)os().Close(made);
      (void)os().UnlinkAt(layers.DirOf(layer), relative.c_str(), 0);
      if (exclusive) return Status::Error(EEXIST);
      continue;
    }
    if (made == -EEXIST && !exclusive) {
      struct stat link = {};
      if (follow && layers.In(layer, relative, &link) && S_ISLNK(link.st_mode)) {
        return Status::Error(kLinkAhead);
      }
      continue;
    }
    if (made == -ENOSPC && layer == Layer::kTree && !refused && session->room().CanMove()) {
      refused = true;  // the kernel knows better how short it is
      continue;
    }
    if (made == -ENOSPC) return session->NoRoom(relative, layer);
    if (made < 0) return Status::Error(-made);
    fd.reset(made);
    created = true;
    if (allowed.valid()) (void)CopyAttributes(allowed.get(), made);
  }

  bool new_record = false;
  auto record = RecordOf(session.get(), fd.get(), relative, &new_record);
  if (!record.ok()) return record.status();
  if (*record == nullptr) {
    struct stat other = {};
    if ((flags & O_CREAT) != 0 && os().Fstat(fd.get(), &other) == 0 && S_ISDIR(other.st_mode)) {
      return Status::Error(EISDIR);
    }
    return fd.release();
  }
  uint64_t status = (*record)->status.load(std::memory_order_acquire);
  FileState state = StateOf(status);
  // A new production of a file that was final is another file: those who read the old one keep it.
  auto replace = [&]() -> Status {
    Layer to = truncate ? session->LayerForNew(*rule) : layer;
    auto fresh = layers.Replace(layer, to, relative, plain, !truncate);
    if (!fresh.ok()) {
      return fresh.code() == ENOSPC ? session->NoRoom(relative, to) : fresh.status();
    }
    fd = fresh.take();
    layer = to;
    record = RecordOf(session.get(), fd.get(), relative, &new_record);
    if (record.ok() && *record == nullptr) return Status::Error(EISDIR);
    return record.status();
  };
  bool restart = truncate && !created;
  // With further names it stays the file that those mean, and is written anew in place.
  struct stat named = {};
  const bool in_place = restart && state == kCommitted && layer != Layer::kReal &&
                        os().Fstat(fd.get(), &named) == 0 && named.st_nlink > 1;
  if (!created && ((truncate && state == kCommitted && !in_place) ||
                   (state == kFailed && (flags & O_ACCMODE) != O_RDONLY))) {
    Status replaced = replace();
    struct stat moved = {};
    if (replaced.code() == ENOENT && layers.Find(relative, &moved, true).ok()) {
      // The server has published it meanwhile: it lies elsewhere now.
      return OpenForWriting(session, relative, flags, mode, out);
    }
    CAPIO_RETURN_IF_ERROR(replaced);
    restart = false;
  }
  if ((flags & O_ACCMODE) == O_RDONLY) {  // O_RDONLY|O_CREAT
    session->NoticePath(relative);
    return fd.release();
  }
  std::unique_ptr<File> file(new File(session, *record, std::move(fd), plain, layer));
  CAPIO_RETURN_IF_ERROR(file->CountOpen());
  if (in_place) {
    if (Status cut = file->Truncate(0); !cut.ok()) {
      (void)file->Close(CloseKind::kCount, FdFate::kClose);
      return cut;
    }
  } else if (restart) {
    auto growing = file->Restart();
    if (!growing.ok() || !*growing) {
      file->cell_.load()->word.fetch_add(1, std::memory_order_seq_cst);
      if (!growing.ok()) return growing.status();
      // It became final between our look and our count.
      CAPIO_RETURN_IF_ERROR(replace());
      file.reset(new File(session, *record, std::move(fd), plain, layer));
      CAPIO_RETURN_IF_ERROR(file->CountOpen());
    }
  }
  session->NoticePath(relative);
  *out = std::move(file);
  return (*out)->fd();
}

Status File::CountOpen() {
  auto cell = session_->CellFor(record_);
  if (!cell.ok()) return cell.status();
  cell_.store(*cell);
  // Raised by this process only; its threads may do so at once.
  if (duplicate_) {
    (*cell)->duplicates.fetch_add(1, std::memory_order_seq_cst);
  } else {
    (*cell)->word.fetch_add(kOneOpen, std::memory_order_seq_cst);
  }
  return Status::Ok();
}

// The next generation of a file that is growing; false if it is final.
static bool NextGeneration(FileRecord* record, std::atomic<uint64_t>* generation) {
  uint64_t status = record->status.load(std::memory_order_acquire);
  for (;;) {
    FileState state = StateOf(status);
    if (state == kFailed || state == kCommitted) return false;
    uint64_t next = MakeStatus(GenerationOf(status) + 1, kGrowing);
    if (record->status.compare_exchange_weak(status, next, std::memory_order_acq_rel)) {
      generation->store(GenerationOf(next));
      return true;
    }
  }
}

// Truncation of a growing file by open: what readers have got no longer holds. False: it is final,
// so leave it.
Result<bool> File::Restart() {
  // Before, so that nobody takes the file for final meanwhile; and after, since a reader of the
  // generation between the two may have got bytes of the old one.
  if (!NextGeneration(record_, &generation_)) return false;
  record_->hole.store(kNoHole);
  record_->hole_end.store(0);
  int error = os().Ftruncate(fd_.get(), 0);
  (void)NextGeneration(record_, &generation_);
  WakeAll(&record_->word);
  if (error < 0) return Status::Error(-error);
  return true;
}

// The file was moved while this had it open, and has been changed since: what is read here is the
// file as it was, whole.
bool File::Detached(uint64_t status) {
  if (followed_.load(std::memory_order_acquire)) return true;
  if (GenerationOf(status) == generation_.load()) return false;
  if (detached_.load()) return true;
  if (writer_ || (record_->flags.load(std::memory_order_acquire) & kFileMoved) == 0) return false;
  struct stat st = {};
  if (os().Fstat(fd_.get(), &st) == 0 && st.st_nlink == 0) detached_.store(true);
  return detached_.load();
}

// A name may be given to another file while a reader waits for the first one (written beside it,
// then renamed over it). A reader that has got nothing yet gets the file that it would open now.
Status File::FollowName() {
  if (writer_ || delivered_.load() != 0 || name_checked_.load()) return Status::Ok();
  const Layers& layers = *session_->store().layers;
  for (;;) {
    struct stat st = {};
    auto layer = layers.Find(name_, &st, true);
    if (!layer.ok() || !S_ISREG(st.st_mode)) break;
    Fd fresh(os().OpenAt(layers.DirOf(*layer), name_.c_str(), flags_, 0));
    FileIdentity id;
    if (!fresh.valid() || layers.identities().Look(fresh.get(), &st, &id) < 0) break;
    FileRecord* record = session_->store().records->Find(id);
    if (record == nullptr || record == record_) break;
    if (StateOf(record->status.load(std::memory_order_acquire)) != kCommitted) {
      CAPIO_RETURN_IF_ERROR(session_->WaitForCommit(record));
      continue;  // it may be yet another one by now
    }
    // Two threads may come at once; this never waits for another process.
    ForkGuard guard(own_mutex);
    if (followed_.load()) break;
    off_t position = os().Lseek(fd_.get(), 0, SEEK_CUR);
    if (position > 0) (void)os().Lseek(fresh.get(), position, SEEK_SET);
    int error = os().Dup3(fresh.get(), fd_.get(), flags_ & O_CLOEXEC);
    if (error < 0) return Status::Error(-error);
    followed_.store(true, std::memory_order_release);
    break;
  }
  name_checked_.store(true);
  return Status::Ok();
}

Status File::CheckGeneration(uint64_t status) {
  if (GenerationOf(status) == generation_.load()) return Status::Ok();
  if (delivered_.load() == 0) {
    generation_.store(GenerationOf(status));
    return Status::Ok();
  }
  return Status::Error(ESTALE, "the file was started anew while it was being read; open it again");
}

Result<size_t> File::Read(void* buf, size_t n, off_t offset, bool full) {
  CAPIO_RETURN_IF_ERROR(session_->Ensure());
  if (n == 0) {  // the kernel says whether it may be read at all
    ssize_t got = offset < 0 ? os().Read(fd_.get(), buf, 0) : os().Pread(fd_.get(), buf, 0, offset);
    if (got < 0) return Status::Error(static_cast<int>(-got));
  }
  size_t done = 0;
  while (done < n) {
    if (closing_.load(std::memory_order_relaxed)) return Status::Error(EBADF);
    char* to = static_cast<char*>(buf) + done;
    off_t at = offset < 0 ? -1 : offset + static_cast<off_t>(done);
    auto get = [&](size_t size) {
      return at < 0 ? os().Read(fd_.get(), to, size) : os().Pread(fd_.get(), to, size, at);
    };
    uint64_t status = record_->status.load(std::memory_order_acquire);
    FileState state = StateOf(status);
    bool detached = Detached(status);
    if (!writer_ && !detached && state == kCommitted && !name_checked_.load() &&
        FireOf(record_->rule.load()) == FireRule::kUpdate) {
      CAPIO_RETURN_IF_ERROR(FollowName());
      detached = Detached(status);
    }
    if (writer_ || detached || state == kCommitted) {
      if (!writer_ && !detached) CAPIO_RETURN_IF_ERROR(CheckGeneration(status));
      ssize_t got = get(n - done);
      if (got < 0) return Status::Error(static_cast<int>(-got));
      delivered_.fetch_add(static_cast<uint64_t>(got), std::memory_order_relaxed);
      // Loaded as committed before the read: a 0 now is the end.
      done += static_cast<size_t>(got);
      if (got == 0 || !full) return done;
      continue;
    }
    Status trouble = CheckGeneration(status);
    if (trouble.ok() && state == kFailed) trouble = session_->Failure(record_);
    if (trouble.ok() && FireOf(record_->rule.load()) == FireRule::kUpdate) {
      trouble = session_->WaitForCommit(record_);
      if (trouble.ok()) continue;
    }
    ssize_t got = 0;
    off_t position = at;
    if (trouble.ok()) {
      uint32_t progress = record_->progress.load(std::memory_order_acquire);
      uint32_t gaps = record_->gaps.load(std::memory_order_acquire);
      uint64_t hole_before = record_->hole.load(std::memory_order_acquire);
      got = get(n - done);
      if (got < 0) return Status::Error(static_cast<int>(-got));
      uint64_t after = record_->status.load(std::memory_order_acquire);
      uint64_t hole = record_->hole.load(std::memory_order_acquire);
      if (GenerationOf(after) != GenerationOf(status) || record_->gaps.load() != gaps) {
        // Truncated under our hands, so that these bytes may be of both lives; or a gap came into
        // being, and may have been filled since we read it.
        if (at < 0) (void)os().Lseek(fd_.get(), -got, SEEK_CUR);
        continue;
      }
      hole = std::min(hole, hole_before);
      if (hole != kNoHole) {
        // What lies beyond the first gap is not there yet, whatever the kernel says.
        if (at < 0) position = os().Lseek(fd_.get(), 0, SEEK_CUR) - got;
        off_t limit = static_cast<off_t>(hole);
        ssize_t allowed = std::clamp<ssize_t>(limit - position, 0, got);
        if (at < 0 && allowed < got) (void)os().Lseek(fd_.get(), position + allowed, SEEK_SET);
        got = allowed;
      }
      delivered_.fetch_add(static_cast<uint64_t>(got), std::memory_order_relaxed);
      done += static_cast<size_t>(got);
      if (got > 0) {
        if (!full) return done;
        continue;
      }
      if (hole == kNoHole && SpinUntil(kWaitingBytes, [&] {
            return record_->progress.load(std::memory_order_acquire) != progress ||
                   record_->status.load(std::memory_order_acquire) != status;
          })) {
        continue;
      }
      // With a gap ahead only its end helps, and that is in no size.
      uint64_t size = kAnyBytes;
      if (full && n - done > 1) {
        if (at < 0) position = os().Lseek(fd_.get(), 0, SEEK_CUR);
        size = static_cast<uint64_t>(position) + n - done;
      }
      trouble = session_->SleepForBytes(record_, status, progress, size);
      if (trouble.ok()) continue;
    }
    // Only the end may make a full read short: who gets less takes it for the end. What it got
    // stays to be read.
    if (done > 0 && at < 0) (void)os().Lseek(fd_.get(), -static_cast<off_t>(done), SEEK_CUR);
    return trouble;
  }
  return done;
}

// A writing handle inherited by fork becomes this process's own when it is first used to write.
Status File::OwnAfterFork() {
  if (fork_epoch_.load(std::memory_order_acquire) == ForkEpoch()) [[likely]]
    return Status::Ok();
  CAPIO_RETURN_IF_ERROR(session_->Ensure());
  // Two threads of the child may come at once; this never waits for another process.
  ForkGuard guard(own_mutex);
  if (fork_epoch_.load() == ForkEpoch() || session_->ended()) return Status::Ok();
  record_->flags.fetch_or(kFileNeedsProbe);
  CAPIO_RETURN_IF_ERROR(CountOpen());
  fork_epoch_.store(ForkEpoch(), std::memory_order_release);
  return Status::Ok();
}

Status File::BeforeChange(off_t start, bool extends) {
  CAPIO_RETURN_IF_ERROR(OwnAfterFork());
  uint64_t status = record_->status.load(std::memory_order_acquire);
  if (StateOf(status) == kCommitted) [[unlikely]] {
    if (append_) {
      changed_committed_.store(true);
    } else {
      uint64_t next = MakeStatus(GenerationOf(status) + 1, kGrowing);
      if (record_->status.compare_exchange_strong(status, next)) WakeAll(&record_->word);
    }
    record_->flags.fetch_or(kFileDirty);
  }
  if (extends && !append_) {
    struct stat st = {};
    if (int error = os().Fstat(fd_.get(), &st); error < 0) return Status::Error(-error);
    NoteGap(record_, static_cast<uint64_t>(st.st_size), static_cast<uint64_t>(start));
  }
  return Status::Ok();
}

void File::WakeReaders() {
  record_->progress.fetch_add(1, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if ((record_->word.load(std::memory_order_relaxed) & 1) == 0) return;
  // Who sleeps without wanting bytes waits for the commit. Who wants some says so before its last
  // look at the size.
  uint64_t want = record_->want.load(std::memory_order_seq_cst);
  if (want == kNobodyWants) return;
  struct stat st = {};
  if (want != kAnyBytes && os().Fstat(fd_.get(), &st) == 0 &&
      static_cast<uint64_t>(st.st_size) < want) {
    return;
  }
  record_->want.store(kNobodyWants, std::memory_order_seq_cst);
  WakeAll(&record_->word);
}

void File::AfterWrite(off_t offset, size_t n) {
  // Again: while we wrote, the server may have taken a copy and the mark away.
  if (changed_committed_.load(std::memory_order_relaxed)) record_->flags.fetch_or(kFileDirty);
  if (record_->hole.load(std::memory_order_acquire) != kNoHole && !append_) {
    off_t end = offset >= 0 ? offset + static_cast<off_t>(n) : os().Lseek(fd_.get(), 0, SEEK_CUR);
    NoteWritten(record_, static_cast<uint64_t>(end) - n, static_cast<uint64_t>(end));
  }
  WakeReaders();
}

Result<size_t> File::AwaitRoom(size_t n) {
  if (layer_ != Layer::kTree) return n;
  for (;;) {
    // What is appended is not taken apart: others append to the same file.
    size_t may = session_->room().Take(n);
    if (may == n || (may > 0 && !append_)) [[likely]]
      return may;
    constexpr size_t kLeast = 65536;
    CAPIO_RETURN_IF_ERROR(session_->WaitForRoom(session_->store().records->NameOf(record_),
                                                append_ ? n : std::min(n, kLeast)));
  }
}

Result<size_t> File::Write(const void* buf, size_t n, off_t offset) {
  if (!writer_) return Status::Error(EBADF);
  size_t done = 0;
  int refused = 0;
  do {
    auto put = AwaitRoom(n - done);
    if (put.ok()) {
      off_t at = offset < 0 ? offset : offset + static_cast<off_t>(done);
      put = WritePiece(static_cast<const char*>(buf) + done, *put, at);
      // Others may have been faster; but where there is room and the kernel has none, there is
      // none.
      if (put.code() == ENOSPC && layer_ == Layer::kTree && refused++ == 0) {
        session_->room().Forget();
        continue;
      }
    }
    if (put.code() == ENOSPC && *put.status().text() == '\0') {
      put = session_->NoRoom(session_->store().records->NameOf(record_), layer_);
    }
    // The rest is for the next call.
    if (!put.ok()) return done > 0 ? Result<size_t>(done) : put;
    refused = 0;
    done += *put;
    if (*put == 0) break;
  } while (done < n);
  return done;
}

Result<size_t> File::WritePiece(const void* buf, size_t n, off_t offset) {
  // Only a position that was moved, or a write at an offset, can leave a gap.
  bool moved = offset >= 0 || seeked_.load(std::memory_order_relaxed) ||
               exposed_.load(std::memory_order_relaxed);
  off_t start = offset;
  if (moved && start < 0) start = os().Lseek(fd_.get(), 0, SEEK_CUR);
  CAPIO_RETURN_IF_ERROR(BeforeChange(start, moved && start >= 0 && n > 0));
  ssize_t put =
      offset >= 0 ? os().Pwrite(fd_.get(), buf, n, offset) : os().Write(fd_.get(), buf, n);
  if (put < 0) return Status::Error(static_cast<int>(-put));
  if (offset < 0) seeked_.store(false, std::memory_order_relaxed);
  AfterWrite(offset, static_cast<size_t>(put));
  return static_cast<size_t>(put);
}

Result<off_t> File::Seek(off_t offset, int whence) {
  if (!writer_ && whence != SEEK_SET && whence != SEEK_CUR) {
    CAPIO_RETURN_IF_ERROR(WaitCommit());
  }
  off_t at = os().Lseek(fd_.get(), offset, whence);
  if (at < 0) return Status::Error(static_cast<int>(-at));
  if (whence != SEEK_CUR || offset != 0) seeked_.store(true, std::memory_order_relaxed);
  return at;
}

Status File::WillWrite(off_t offset) {
  if (!writer_) return Status::Error(EBADF);
  MarkExposed();
  CAPIO_RETURN_IF_ERROR(AwaitRoomExposed());
  off_t start = offset >= 0 ? offset : os().Lseek(fd_.get(), 0, SEEK_CUR);
  return BeforeChange(start, start >= 0);
}

Status File::Wrote(off_t offset, ssize_t n) {
  if (!writer_) return Status::Error(EBADF);
  if (n == -ENOSPC) return session_->NoRoom(session_->store().records->NameOf(record_), layer_);
  if (n < 0) return Status::Error(static_cast<int>(-n));
  AfterWrite(offset, static_cast<size_t>(n));
  return Status::Ok();
}

Status File::Duplicate(int fd, std::unique_ptr<File>* out) {
  std::unique_ptr<File> copy(new File(session_, record_, Fd(fd), flags_, layer_));
  copy->duplicate_ = true;
  copy->generation_.store(generation_.load());
  copy->delivered_.store(delivered_.load());
  copy->fork_epoch_.store(fork_epoch_.load());
  // They share a position, which either may move.
  MarkExposed();
  copy->MarkExposed();
  if (writer_) {
    copy->changed_committed_.store(changed_committed_.load());
    record_->flags.fetch_or(kFileNeedsProbe);
    // Borrowed ones are counted when they are first used to write.
    if (fork_epoch_.load(std::memory_order_acquire) == ForkEpoch()) {
      if (Status s = copy->CountOpen(); !s.ok()) {
        (void)copy->fd_.release();
        return s;
      }
    }
  }
  *out = std::move(copy);
  return Status::Ok();
}

Status File::Truncate(off_t size) {
  if (size < 0) return Status::Error(EINVAL);
  CAPIO_RETURN_IF_ERROR(BeforeChange(size, true));
  // The position may lie beyond the end now.
  seeked_.store(true, std::memory_order_relaxed);
  struct stat before = {};
  (void)os().Fstat(fd_.get(), &before);
  int error = os().Ftruncate(fd_.get(), size);
  if (error == -ENOSPC) {
    return session_->NoRoom(session_->store().records->NameOf(record_), layer_);
  }
  if (error < 0) return Status::Error(-error);
  if (size < before.st_size) {
    TellRoomNews(&session_->store().segment->header());
    // Readers beyond the new end have bytes that are no longer the file's.
    uint64_t status = record_->status.load(std::memory_order_acquire);
    while (StateOf(status) == kGrowing || StateOf(status) == kClosing) {
      uint64_t next = MakeStatus(GenerationOf(status) + 1, StateOf(status));
      if (record_->status.compare_exchange_weak(status, next)) break;
    }
    WakeAll(&record_->word);
    if (uint64_t hole = record_->hole.load();
        hole != kNoHole && static_cast<uint64_t>(size) <= hole) {
      record_->hole.store(kNoHole);
      record_->hole_end.store(0);
    }
  }
  WakeReaders();
  return Status::Ok();
}

// Writers through the descriptor itself do not ask. What they have taken is found out here, and
// they are held up here, as far as they come by.
Status File::AwaitRoomExposed() {
  struct stat st = {};
  if (layer_ != Layer::kTree || os().Fstat(fd_.get(), &st) < 0) return Status::Ok();
  int64_t before = exposed_size_.exchange(st.st_size, std::memory_order_relaxed);
  uint64_t grown = st.st_size > before ? static_cast<uint64_t>(st.st_size - before) : 0;
  // It has been written: it counts, but needs no more room.
  (void)session_->room().Take(grown);
  if (session_->room().Level() != RoomLevel::kFull) return Status::Ok();
  Status room = session_->WaitForRoom(session_->store().records->NameOf(record_), 1);
  // The next write through the descriptor is the kernel's to refuse.
  return room.code() == ENOSPC ? Status::Ok() : room;
}

Status File::Publish() {
  if (!writer_) return Status::Ok();
  WakeReaders();
  return exposed_.load(std::memory_order_relaxed) ? AwaitRoomExposed() : Status::Ok();
}

void File::MarkExposed() {
  if (exposed_.exchange(true, std::memory_order_relaxed)) return;
  struct stat st = {};
  if (os().Fstat(fd_.get(), &st) == 0) exposed_size_.store(st.st_size);
}

Status File::Expose() {
  if (!writer_) return WaitCommit();
  MarkExposed();
  record_->flags.fetch_or(kFileNeedsProbe);
  return AwaitRoomExposed();
}

Status File::WaitCommit() {
  if (writer_ || Detached(record_->status.load())) return Status::Ok();
  CAPIO_RETURN_IF_ERROR(session_->Ensure());
  CAPIO_RETURN_IF_ERROR(session_->WaitForCommit(record_));
  return FollowName();
}

int File::status() const {
  int bits = writer_ ? static_cast<int>(CAPIO_FILE_WRITER) : static_cast<int>(CAPIO_FILE_CONSUMER);
  FileState state = StateOf(record_->status.load(std::memory_order_acquire));
  if (state == kCommitted) bits |= static_cast<int>(CAPIO_FILE_COMMITTED);
  if (state == kFailed) bits |= static_cast<int>(CAPIO_FILE_FAILED);
  if (fork_epoch_.load() != ForkEpoch()) bits |= static_cast<int>(CAPIO_FILE_BORROWED);
  if (FireOf(record_->rule.load()) == FireRule::kNoUpdate) {
    bits |= static_cast<int>(CAPIO_FILE_STREAMED);
  }
  return bits;
}

void File::Closing() {
  closing_.store(true);
  WakeAll(&record_->word);
}

Status File::Close(CloseKind kind, FdFate fate) {
  bool borrowed = fork_epoch_.load() != ForkEpoch();
  Status status;
  Fd probe;
  if (writer_ && !borrowed) {
    if (exposed_.load() || forks_ != ForksDone() || fate == FdFate::kKeep) {
      record_->flags.fetch_or(kFileNeedsProbe);
    }
    if ((record_->flags.load() & kFileNeedsProbe) != 0 && fate != FdFate::kClosed &&
        CommitOf(record_->rule.load()) == CommitRule::kOnClose) {
      probe = Reopen(fd_.get(), O_RDONLY | O_NONBLOCK);
    }
    if (kind == CloseKind::kFailed) {
      (void)session_->store().judge->Fail(record_, kFailureIo, session_->app(), ::getpid());
    }
    // The step has ended badly already: what is closed on the way out was left by that.
    if (kind == CloseKind::kCount && session_->EndsBadly()) kind = CloseKind::kAbandoned;
    // Before the close is counted: a death in between leaves an open cell, which fails the file.
    if (kind == CloseKind::kAbandoned && !duplicate_) cell_.load()->abandoned.fetch_add(1);
  }
  if (fate != FdFate::kClose) {
    (void)fd_.release();
  } else if (fd_.valid()) {
    int error = os().Close(fd_.release());
    if (error < 0) status = Status::Error(-error);
  }
  if (!writer_ || borrowed) return status;
  if (duplicate_) {
    cell_.load()->duplicates.fetch_sub(1, std::memory_order_seq_cst);
  } else {
    cell_.load()->word.fetch_add(1, std::memory_order_seq_cst);
  }
  if (session_->ended()) return status;
  // By termination nothing can be decided while we are alive.
  if (CommitOf(record_->rule.load()) == CommitRule::kOnClose) {
    (void)session_->Evaluate(record_, probe.get());
  }
  if (changed_committed_.load()) session_->NoticeFile(record_);
  WakeReaders();
  TellRoomNews(&session_->store().segment->header());
  return status;
}

}  // namespace capio
