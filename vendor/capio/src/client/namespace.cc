#include "client/namespace.h"

#include <fcntl.h>
#include <limits.h>

#include <optional>

#include "capio/capio.h"
#include "client/file.h"
#include "os/paths.h"
#include "store/attributes.h"
#include "store/waits.h"

namespace capio {
namespace {

// The record of a path's regular file, or null: none yet, or not one of ours. id: what is known.
Result<FileRecord*> FindRecord(Session* session, const std::string& relative, Layer layer,
                               FileIdentity id, bool make) {
  Store& store = session->store();
  if (id.ino == 0) {
    Fd fd(os().OpenAt(store.layers->DirOf(layer), At(relative), O_PATH | O_NOFOLLOW, 0));
    if (!fd.valid()) return static_cast<FileRecord*>(nullptr);
    struct stat st = {};
    if (os().Fstat(fd.get(), &st) < 0 || !S_ISREG(st.st_mode) ||
        store.layers->identities().Of(fd.get(), st, &id) < 0) {
      return static_cast<FileRecord*>(nullptr);
    }
  }
  bool created = false;
  if (make && layer != Layer::kReal) return RecordOf(session, id, relative, &created);
  return store.records->Find(id);
}

// Waits until the server has moved the file of this name, if it is about that: any file, with a
// directory.
void AwaitMoves(Store& store, const std::string& name, bool directory) {
  Header& header = store.segment->header();
  auto moving = [&] {
    for (auto& entry : header.moving) {
      uint64_t hash = entry.load(std::memory_order_seq_cst);
      if (hash != 0 && (directory || hash == (HashString(name) | 1))) return true;
    }
    return false;
  };
  // A server that is no more moves nothing.
  while (moving() && store.Served()) {
    uint32_t prepared = PrepareWait(&header.room_word);
    if (!moving()) break;
    if (WaitOn(&header.room_word, prepared, 50'000'000) == -ECANCELED) break;
  }
}

// For as long as it lives, the server moves no file of this name, or, with a directory, none at
// all.
class Naming {
 public:
  Naming(Session* session, const std::string& name, bool directory)
      : session_(session), said_(std::in_place, session, directory ? kNamingTree : kNaming, name) {
    AwaitMoves(session->store(), name, directory);
  }

  // Who waits to move the file may do so.
  ~Naming() {
    said_.reset();
    WakeAll(&session_->store().segment->header().room_word);
  }
  Naming(const Naming&) = delete;
  Naming& operator=(const Naming&) = delete;

 private:
  Session* session_;
  std::optional<Activity> said_;
};

std::string TemporaryBeside(const std::string& path) {
  return path.substr(0, path.rfind('/') + 1) + ".capio-" + std::to_string(os().Random());
}

// A symbolic link gets another place: it is made anew there.
Status MoveLink(int from_dir, const std::string& from, int to_dir, const std::string& to) {
  std::string target(PATH_MAX, '\0');
  ssize_t size = os().ReadlinkAt(from_dir, from.c_str(), target.data(), target.size());
  if (size < 0) return Status::Error(static_cast<int>(-size));
  target.resize(static_cast<size_t>(size));
  std::string temporary = TemporaryBeside(to);
  int error = os().SymlinkAt(target.c_str(), to_dir, temporary.c_str());
  if (error == 0) error = os().RenameAt(to_dir, temporary.c_str(), to_dir, to.c_str());
  if (error == 0) return Status::Ok();
  (void)os().UnlinkAt(to_dir, temporary.c_str(), 0);
  return Status::Error(-error);
}

Status CopyAcross(int from_dir, const std::string& from, int to_dir, const std::string& to) {
  Fd source(os().OpenAt(from_dir, At(from), O_RDONLY | O_NOFOLLOW, 0));
  if (!source.valid()) return Status::Error(-source.get());
  struct stat st = {};
  if (int error = os().Fstat(source.get(), &st); error < 0) return Status::Error(-error);
  if (!S_ISREG(st.st_mode)) {
    return Status::Error(EXDEV, "only regular files can be renamed across the border of CAPIO_DIR");
  }
  std::string temporary = TemporaryBeside(to);
  Fd copy(os().OpenAt(to_dir, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600));
  if (!copy.valid()) return Status::Error(-copy.get());
  Status status = CopyBytes(source.get(), copy.get());
  (void)CopyAttributes(source.get(), copy.get());
  (void)CopyTimes(st, copy.get());
  if (status.ok()) {
    int error = os().RenameAt(to_dir, temporary.c_str(), to_dir, to.c_str());
    if (error < 0) status = Status::Error(-error);
  }
  if (!status.ok()) (void)os().UnlinkAt(to_dir, temporary.c_str(), 0);
  return status;
}

}  // namespace

Status AwaitIfDeclared(Session* session, const std::string& relative) {
  auto rule = session->RuleOf(relative);
  if (!rule->declared() || session->DeclaredProducer(*rule)) return Status::Ok();
  struct stat st = {};
  return AwaitExistence(session, relative, false, &st).status();
}

Result<Layer> Locate(Session* session, const std::string& relative, const Question& question,
                     struct stat* st) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  Store& store = session->store();
  if (relative.empty()) {
    int error = os().FstatAt(store.real.get(), ".", st, 0);
    return error < 0 ? Result<Layer>(Status::Error(-error)) : Layer::kReal;
  }
  if (question.purpose == Purpose::kLookup) {
    if (session->RuleOf(relative)->excluded) return Status::Error(CAPIO_UNMANAGED);
    return store.layers->Find(relative, st, question.follow);
  }
  for (;;) {
    const uint64_t seals = store.segment->header().seals.load(std::memory_order_acquire);
    FileIdentity id;
    auto layer = AwaitExistence(session, relative, question.follow, st, question.patience, &id);
    if (!layer.ok() || question.purpose != Purpose::kContent || !S_ISREG(st->st_mode)) return layer;
    auto record = FindRecord(session, relative, *layer, id, true);
    if (!record.ok()) return record.status();
    struct stat now = {};
    if (*record == nullptr && *layer != Layer::kReal && !store.layers->In(*layer, relative, &now)) {
      continue;  // moved to another layer since
    }
    if (*record == nullptr || session->Produces(*session->RuleOf(relative), *record)) return layer;
    FileState state = StateOf((*record)->status.load(std::memory_order_acquire));
    // Complete before this look at it: the look shows its final size.
    if (state == kCommitted && (*record)->sealed_at.load(std::memory_order_acquire) <= seals) {
      return layer;
    }
    if (state != kCommitted) {
      if (question.patience == Patience::kNone && session->Evaluate(*record, -1) != kCommitted) {
        return Status::Error(EAGAIN);
      }
      CAPIO_RETURN_IF_ERROR(session->WaitForCommit(*record));
    }
  }
}

Result<std::string> Resolve(Session* session, const std::string& relative,
                            const Question& question) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  Store& store = session->store();
  if (session->RuleOf(relative)->excluded) {
    if (question.purpose == Purpose::kCreate) store.layers->MakeRealParents(relative);
    return Status::Error(CAPIO_UNMANAGED);
  }
  auto backing = [&](Layer layer) {
    std::string root = layer == Layer::kTree ? store.path + "/tree" : session->dir();
    if (layer == Layer::kFs) root += "/" + store.layers->fs().path();
    return relative.empty() ? root : root + "/" + relative;
  };
  struct stat st = {};
  if (relative.empty()) return backing(Layer::kReal);
  // Who tells others of the place has said before that it must stay.
  AwaitMoves(store, relative, false);
  if (question.purpose == Purpose::kCreate) {
    Layer there = Layer::kTree;
    if (store.layers->InStore(relative, &st, &there)) return backing(there);
    if (store.layers->InReal(relative, &st)) return backing(Layer::kReal);
    CAPIO_RETURN_IF_ERROR(store.layers->MakeParents(relative));
    return backing(Layer::kTree);
  }
  auto layer = Locate(session, relative, question, &st);
  if (!layer.ok()) return layer.status();
  struct stat below = {};
  if (question.purpose == Purpose::kEntry && *layer != Layer::kReal &&
      store.layers->InReal(relative, &below) && S_ISDIR(below.st_mode)) {
    return backing(Layer::kReal);
  }
  if (question.purpose == Purpose::kChange && *layer != Layer::kReal && S_ISREG(st.st_mode)) {
    // What has been written back has to be so once more.
    auto record = FindRecord(session, relative, *layer, {}, false);
    if (record.ok() && *record != nullptr) (*record)->flags.fetch_or(kFileDirty);
  }
  return backing(*layer);
}

Status MakeDirectory(Session* session, const std::string& relative, mode_t mode) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  if (session->RuleOf(relative)->excluded) {
    session->store().layers->MakeRealParents(relative);
    return Status::Error(CAPIO_UNMANAGED);
  }
  if (relative.empty()) return Status::Error(EEXIST);
  CAPIO_RETURN_IF_ERROR(session->store().layers->Mkdir(relative, mode));
  session->NoticePath(relative);
  return Status::Ok();
}

Status RemoveDirectory(Session* session, const std::string& relative) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  if (session->RuleOf(relative)->excluded) return Status::Error(CAPIO_UNMANAGED);
  if (relative.empty()) {
    return Status::Error(EBUSY,
                         "CAPIO_DIR itself cannot be removed while its workflow runs; for a step "
                         "that makes it anew, name the directory above it as CAPIO_DIR");
  }
  CAPIO_RETURN_IF_ERROR(AwaitIfDeclared(session, relative));
  Naming naming(session, relative, true);
  return session->store().layers->Rmdir(relative);
}

Status RemoveFile(Session* session, const std::string& relative) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  if (session->RuleOf(relative)->excluded) return Status::Error(CAPIO_UNMANAGED);
  CAPIO_RETURN_IF_ERROR(AwaitIfDeclared(session, relative));
  Naming naming(session, relative, false);
  CAPIO_RETURN_IF_ERROR(session->store().layers->Unlink(relative));
  TellRoomNews(&session->store().segment->header());
  return Status::Ok();
}

Status NoticeChange(Session* session, const std::string& relative) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  struct stat st = {};
  auto layer = session->store().layers->Find(relative, &st, true);
  if (!layer.ok()) return layer.status();
  auto record = FindRecord(session, relative, *layer, {}, false);
  if (!record.ok()) return record.status();
  if (*record != nullptr && StateOf((*record)->status.load()) == kCommitted) {
    (*record)->flags.fetch_or(kFileDirty);
    session->NoticeFile(*record);
  }
  return Status::Ok();
}

Status MakeSymlink(Session* session, const std::string& target, const std::string& relative) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  if (session->RuleOf(relative)->excluded) {
    session->store().layers->MakeRealParents(relative);
    return Status::Error(CAPIO_UNMANAGED);
  }
  if (relative.empty()) return Status::Error(EEXIST);
  CAPIO_RETURN_IF_ERROR(session->store().layers->Symlink(target, relative));
  session->NoticePath(relative);
  return Status::Ok();
}

Status LinkPath(Session* session, const NameEnd& from, const NameEnd& to) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  Store& store = session->store();
  if (!from.managed || !to.managed) {
    // Only what lies in CAPIO_DIR itself can have a name elsewhere, or is elsewhere and gets one.
    struct stat st = {};
    auto layer = store.layers->Find(from.managed ? from.relative : to.relative, &st, false);
    if (from.managed && !layer.ok()) return layer.status();
    int missing =
        from.managed ? 0 : os().FstatAt(AT_FDCWD, from.path.c_str(), &st, AT_SYMLINK_NOFOLLOW);
    if (missing < 0) return Status::Error(-missing);
    if (!from.managed && layer.ok()) return Status::Error(EEXIST);
    std::string parent(ParentOf(to.relative));
    if (to.managed && store.layers->Find(parent, &st, true).ok() && S_ISDIR(st.st_mode)) {
      CAPIO_RETURN_IF_ERROR(store.layers->MakeInReal(parent));
    }
    int error = os().LinkAt(from.managed ? store.layers->DirOf(*layer) : AT_FDCWD,
                            from.managed ? from.relative.c_str() : from.path.c_str(),
                            to.managed ? store.real.get() : AT_FDCWD,
                            to.managed ? to.relative.c_str() : to.path.c_str(), 0);
    if (error < 0) return Status::Error(-error);
    if (to.managed) session->NoticePath(to.relative);
    return Status::Ok();
  }
  Naming naming_from(session, from.relative, false);
  Naming naming_to(session, to.relative, false);
  CAPIO_RETURN_IF_ERROR(store.layers->Link(from.relative, to.relative));
  struct stat st = {};
  auto layer = store.layers->Find(to.relative, &st, false);
  if (layer.ok()) {
    auto record = FindRecord(session, to.relative, *layer, {}, true);
    auto rule = session->RuleOf(to.relative);
    // The names share one state; the rule is that of the name which has one.
    if (record.ok() && *record != nullptr && rule->declared()) {
      CAPIO_RETURN_IF_ERROR(
          store.records->Rename(*record, to.relative, session->RuleForNew(*rule)));
      (void)session->Evaluate(*record, -1);
    }
  }
  session->NoticePath(to.relative);
  return Status::Ok();
}

Status RenamePath(Session* session, const NameEnd& from, const NameEnd& to) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  Store& store = session->store();
  if (from.managed && to.managed) {
    struct stat st = {};
    auto layer = store.layers->Find(from.relative, &st, false);
    if (!layer.ok()) return layer.status();
    Naming naming_from(session, from.relative, S_ISDIR(st.st_mode));
    Naming naming_to(session, to.relative, S_ISDIR(st.st_mode));
    // Only now it stays where it is.
    layer = store.layers->Find(from.relative, &st, false);
    if (!layer.ok()) return layer.status();
    auto record = FindRecord(session, from.relative, *layer, {}, true);
    if (!record.ok()) return record.status();
    // Record first: who opens the new name must find the rule that holds there.
    if (*record != nullptr) {
      CAPIO_RETURN_IF_ERROR(store.records->Rename(
          *record, to.relative, session->RuleForNew(*session->RuleOf(to.relative))));
    }
    Status renamed = store.layers->Rename(from.relative, to.relative);
    if (!renamed.ok()) {
      if (*record != nullptr) {
        (void)store.records->Rename(*record, from.relative, *session->RuleOf(from.relative));
      }
      return renamed;
    }
    if (S_ISDIR(st.st_mode)) {
      for (WaitWord& word : store.segment->header().path_words) WakeAll(&word);
    }
    session->NoticePath(from.relative);
    session->NoticePath(to.relative);
    if (*record != nullptr) {
      FileState state = session->Evaluate(*record, -1);
      // It may belong to another layer now.
      constexpr uint32_t kServersPart = kFileOnDisk | kFilePermanent;
      if (state == kCommitted && ((*record)->flags.load() & kServersPart) != 0) {
        session->NoticeFile(*record);
      }
    }
    return Status::Ok();
  }
  Naming naming(session, from.managed ? from.relative : to.relative, false);
  if (from.managed) {
    struct stat st = {};
    auto layer = store.layers->Find(from.relative, &st, false);
    if (!layer.ok()) return layer.status();
    if (*layer == Layer::kReal) {
      int error = os().RenameAt(store.real.get(), from.relative.c_str(), AT_FDCWD, to.path.c_str());
      return error < 0 ? Status::Error(-error) : Status::Ok();
    }
    auto move = S_ISLNK(st.st_mode) ? MoveLink : CopyAcross;
    CAPIO_RETURN_IF_ERROR(move(store.layers->DirOf(*layer), from.relative, AT_FDCWD, to.path));
    return store.layers->Unlink(from.relative);
  }
  // From outside: the file lies beside its new name already (x.tmp -> x), or comes from elsewhere.
  struct stat st = {};
  if (int error = os().FstatAt(AT_FDCWD, from.path.c_str(), &st, AT_SYMLINK_NOFOLLOW); error < 0) {
    return Status::Error(-error);
  }
  struct stat over = {};
  if (auto layer = store.layers->Find(to.relative, &over, false);
      layer.ok() && S_ISDIR(over.st_mode) != S_ISDIR(st.st_mode)) {
    return Status::Error(S_ISDIR(over.st_mode) ? EISDIR : ENOTDIR);
  }
  if (S_ISREG(st.st_mode)) {
    Fd fd(os().OpenAt(AT_FDCWD, from.path.c_str(), O_PATH | O_NOFOLLOW, 0));
    bool created = false;
    FileIdentity id;
    if (fd.valid() && store.layers->identities().Of(fd.get(), st, &id) == 0) {
      auto record = store.records->FindOrCreate(
          id, to.relative, session->RuleForNew(*session->RuleOf(to.relative)), &created);
      if (!record.ok()) return record.status();
      uint64_t growing = MakeStatus(1, kGrowing);
      // It was written where nobody watches; under its new name it is whole.
      if (created) {
        (void)(*record)->status.compare_exchange_strong(growing, MakeStatus(1, kCommitted));
      }
    }
  }
  int error = os().RenameAt(AT_FDCWD, from.path.c_str(), store.real.get(), to.relative.c_str());
  if (error == -ENOENT || error == -EXDEV) {
    // Its directory exists only in the store, or it lies on another file system.
    if (S_ISDIR(st.st_mode)) return Status::Error(EXDEV);
    CAPIO_RETURN_IF_ERROR(store.layers->MakeParents(to.relative));
    if (S_ISLNK(st.st_mode)) {
      store.layers->NoteLink();
      CAPIO_RETURN_IF_ERROR(MoveLink(AT_FDCWD, from.path, store.tree.get(), to.relative));
      (void)os().UnlinkAt(AT_FDCWD, from.path.c_str(), 0);
      session->NoticePath(to.relative);
      return Status::Ok();
    }
    std::string scratch = "x" + std::to_string(os().Random());
    CAPIO_RETURN_IF_ERROR(CopyAcross(AT_FDCWD, from.path, store.scratch.get(), scratch));
    Fd copy(os().OpenAt(store.scratch.get(), scratch.c_str(), O_RDONLY, 0));
    if (copy.valid()) {
      bool created = false;
      auto record = RecordOf(session, copy.get(), to.relative, &created);
      if (!record.ok()) return record.status();
      if (*record == nullptr) return Status::Error(EXDEV);
      uint64_t growing = MakeStatus(1, kGrowing);
      (void)(*record)->status.compare_exchange_strong(growing, MakeStatus(1, kCommitted));
      error = os().RenameAt(store.scratch.get(), scratch.c_str(), store.tree.get(),
                            to.relative.c_str());
      if (error == 0) {
        (void)os().UnlinkAt(AT_FDCWD, from.path.c_str(), 0);
        if (((*record)->flags.load() & kFilePermanent) != 0) session->NoticeFile(*record);
      }
    }
  } else {
    // A file of that name in the store would hide it.
    for (Layer above : {Layer::kFs, Layer::kTree}) {
      if (error == 0 && store.layers->In(above, to.relative, &st)) {
        (void)os().UnlinkAt(store.layers->DirOf(above), to.relative.c_str(), 0);
      }
    }
  }
  session->NoticePath(to.relative);
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

}  // namespace capio
