#include "store/layers.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <unordered_set>

#include "os/fork.h"
#include "os/paths.h"
#include "store/attributes.h"

namespace capio {
namespace {

struct LinuxDirent {
  uint64_t ino;
  int64_t offset;
  uint16_t reclen;
  uint8_t type;
};
constexpr size_t kNameOffset = 19;  // of d_name in linux_dirent64, getdents64(2)

std::string RandomName() { return "x" + std::to_string(os().Random()); }

// The name of a copy that is being made, by write-back or by a rename into CAPIO_DIR or out of it.
bool IsTemporary(const DirEntry& entry) {
  constexpr std::string_view kPrefix = ".capio-";
  std::string_view name = entry.name;
  if (!name.starts_with(kPrefix)) return false;
  name.remove_prefix(kPrefix.size());
  if (name.ends_with(".tmp")) name.remove_suffix(4);
  return !name.empty() && name.find_first_not_of("0123456789-") == std::string_view::npos;
}

bool HoldsOnlyTemporaries(const Result<std::vector<DirEntry>>& entries) {
  return entries.ok() && std::all_of(entries->begin(), entries->end(), IsTemporary);
}

// What asks for an empty directory, below CAPIO_DIR, where copies may be left of files that were
// removed while they were made. They are not listed, and nobody misses them.
int OnEmptyDirectory(int dir, const char* path, const std::function<int()>& operation) {
  constexpr int kMostTries = 100;
  int error = 0;
  for (int i = 0; i < kMostTries; ++i) {
    error = operation();
    if (error != -ENOTEMPTY) return error;
    auto entries = ListDirectory(dir, path, Layer::kReal);
    if (!HoldsOnlyTemporaries(entries)) return error;
    for (const DirEntry& entry : *entries) {
      (void)os().UnlinkAt(dir, Below(path, entry.name).c_str(), 0);
    }
  }
  return error;
}

int RemoveDirectoryOf(int dir, const char* path) {
  return OnEmptyDirectory(dir, path, [&] { return os().UnlinkAt(dir, path, AT_REMOVEDIR); });
}

ForkMutex& plain_mutex = *new ForkMutex(ForkMutex::kLeaf);
std::atomic<uint64_t> layers_made{0};

}  // namespace

Result<std::vector<DirEntry>> ListDirectory(int dir, const char* path, Layer layer) {
  Fd fd(os().OpenAt(dir, path, O_RDONLY | O_DIRECTORY, 0));
  if (!fd.valid()) return Status::Error(-fd.get());
  std::vector<DirEntry> entries;
  std::vector<char> buf(size_t{1} << 16);
  for (;;) {
    ssize_t got = os().Getdents(fd.get(), buf.data(), buf.size());
    if (got < 0) return Status::Error(static_cast<int>(-got));
    if (got == 0) return entries;
    for (ssize_t at = 0; at < got;) {
      LinuxDirent head = {};
      memcpy(&head, buf.data() + at, kNameOffset);
      const char* name = buf.data() + at + kNameOffset;
      at += head.reclen;
      if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
      entries.push_back({name, head.ino, head.type, layer});
    }
  }
}

Status RemoveTree(int dir, const char* path) {
  Status first;
  auto entries = ListDirectory(dir, path, Layer::kTree);
  if (entries.ok()) {
    Fd fd(os().OpenAt(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0));
    for (const DirEntry& entry : *entries) {
      Status s;
      if (entry.type == DT_DIR) {
        s = RemoveTree(fd.get(), entry.name.c_str());
      } else if (int error = os().UnlinkAt(fd.get(), entry.name.c_str(), 0); error < 0) {
        s = Status::Error(-error);
      }
      if (first.ok()) first = s;
    }
  }
  int error = os().UnlinkAt(dir, path, AT_REMOVEDIR);
  if (error == -ENOTDIR) error = os().UnlinkAt(dir, path, 0);
  if (error < 0 && error != -ENOENT && first.ok()) first = Status::Error(-error);
  return first;
}

Status CopyBytes(int from, int to) {
  constexpr size_t kStep = size_t{8} << 20;
  for (off_t at = 0;;) {
    ssize_t done = os().CopyRange(from, to, at, kStep);
    if (done < 0) return Status::Error(static_cast<int>(-done));
    if (done == 0) return Status::Ok();
    at += done;
  }
}

Layers::Layers(int tree, int real, int scratch, FsTree* fs, Identities identities,
               std::atomic<uint32_t>* links)
    : tree_(tree),
      real_(real),
      scratch_(scratch),
      fs_(fs),
      identities_(identities),
      links_(links),
      real_forgets_(os().FsType(real) == TMPFS_MAGIC),
      number_(layers_made.fetch_add(1) + 1) {}

int Layers::DirOf(Layer layer) const {
  switch (layer) {
    case Layer::kTree:
      return tree_;
    case Layer::kFs:
      return fs_->dir();
    default:
      return real_;
  }
}

bool Layers::In(Layer layer, const std::string& path, struct stat* st) const {
  int dir = DirOf(layer);
  return dir >= 0 && os().FstatAt(dir, At(path), st, AT_SYMLINK_NOFOLLOW) == 0;
}

// tmpfs keeps no note of names that are not there: to look for one takes it as long as to make it,
// six times as long as to ask for CAPIO_DIR's own times, which tell that nothing has come to it.
bool Layers::BelowMissing(std::string_view path) const {
  const size_t end = path.find('/');
  if (!real_forgets_ || end == std::string_view::npos) return false;
  const std::string_view top = path.substr(0, end);
  // Most calls of a thread are about one directory.
  thread_local struct {
    uint64_t layers;
    std::string top;
    bool missing;
    struct timespec changed;  // CAPIO_DIR, when it was not there
  } last = {};
  const bool same = last.layers == number_ && last.top == top;
  // It may go meanwhile: then they are looked for, as without all this.
  if (same && !last.missing) return false;
  struct stat st = {};
  if (os().Fstat(real_, &st) < 0) return false;
  if (same && last.changed.tv_sec == st.st_ctim.tv_sec &&
      last.changed.tv_nsec == st.st_ctim.tv_nsec) {
    return true;
  }
  last.layers = 0;
  // The kernel's clock for this stands still for up to a hundredth of a second.
  constexpr int64_t kSettledNs = 100'000'000;
  const struct timespec changed = st.st_ctim;
  const bool settled =
      os().RealtimeNs() - (changed.tv_sec * INT64_C(1'000'000'000) + changed.tv_nsec) > kSettledNs;
  std::string name(top);
  int error = os().FstatAt(real_, name.c_str(), &st, AT_SYMLINK_NOFOLLOW);
  if (error != 0 && (error != -ENOENT || !settled)) return false;
  last = {number_, std::move(name), error != 0, changed};
  return last.missing;
}

bool Layers::InStore(const std::string& path, struct stat* st, Layer* layer) const {
  for (Layer each : {Layer::kTree, Layer::kFs}) {
    if (!In(each, path, st)) continue;
    if (layer != nullptr) *layer = each;
    return true;
  }
  return false;
}

Fd Layers::OpenInStore(const std::string& path, int flags, Layer* layer, mode_t mode) const {
  Fd fd(os().OpenAt(tree_, At(path), flags, mode));
  if (layer != nullptr) *layer = Layer::kTree;
  if (fd.get() != -ENOENT && fd.get() != -ENOTDIR) return fd;
  int dir = fs_->dir();
  if (dir < 0) return fd;
  if (layer != nullptr) *layer = Layer::kFs;
  return Fd(os().OpenAt(dir, At(path), flags, mode));
}

Result<Layer> Layers::Find(const std::string& path, struct stat* st, bool follow,
                           FileIdentity* id) const {
  auto found = [&](Layer layer) -> Result<Layer> {
    if (!follow || !S_ISLNK(st->st_mode)) return layer;
    NoteLink();
    return Status::Error(kLinkAhead);
  };
  FileIdentity unused;
  if (id == nullptr) id = &unused;
  int error = identities_.Stat(tree_, At(path), AT_SYMLINK_NOFOLLOW, st, id);
  if (error == 0) return found(Layer::kTree);
  // A file of the store is above the path, whatever it hides below.
  if (error == -ENOTDIR) return Status::Error(ENOTDIR);
  if (int fs = fs_->dir(); fs >= 0) {
    int middle = os().FstatAt(fs, At(path), st, AT_SYMLINK_NOFOLLOW);
    if (middle == 0) return found(Layer::kFs);
    if (middle == -ENOTDIR) return Status::Error(ENOTDIR);
    if (error == -ENOENT) error = middle;
  }
  int below = -ENOENT;
  if (!BelowMissing(path)) below = os().FstatAt(real_, At(path), st, AT_SYMLINK_NOFOLLOW);
  if (below == 0) return found(Layer::kReal);
  // The error that says more: ENOTDIR, ELOOP or EACCES rather than ENOENT.
  return Status::Error(below != -ENOENT ? -below : -error);
}

bool Layers::LinkAbove(const std::string& path) const {
  std::string parent(ParentOf(path));
  if (parent.empty()) return false;
  // Most calls of a thread are about one directory.
  thread_local struct {
    uint64_t layers;
    std::string parent;
  } last = {};
  if (last.layers == number_ && last.parent == parent) return false;
  {
    ForkGuard guard(plain_mutex);
    if (plain_.count(parent) != 0) {
      last = {number_, parent};
      return false;
    }
  }
  struct stat st = {};
  bool whole = true;
  for (size_t end = 0; whole && end != parent.size();) {
    end = std::min(parent.find('/', end + 1), parent.size());
    whole = os().FstatAt(real_, parent.substr(0, end).c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (whole && S_ISLNK(st.st_mode)) return true;
  }
  // One that is not there may become a link; not so where the store has a directory.
  if (!whole && !InStore(parent, &st)) return false;
  constexpr size_t kMostKnown = 1 << 16;
  ForkGuard guard(plain_mutex);
  if (plain_.size() >= kMostKnown) plain_.clear();
  plain_.insert(parent);
  last = {number_, parent};
  return false;
}

Status Layers::MakeParents(Layer layer, const std::string& path) {
  if (layer == Layer::kFs) CAPIO_RETURN_IF_ERROR(fs_->Make());
  std::string parent(ParentOf(path));
  if (parent.empty()) return Status::Ok();
  int dir = DirOf(layer);
  struct stat st = {};
  if (os().FstatAt(dir, parent.c_str(), &st, 0) == 0) {
    return S_ISDIR(st.st_mode) ? Status::Ok() : Status::Error(ENOTDIR);
  }
  auto found = Find(parent, &st, true);
  if (!found.ok()) return found.status();
  if (!S_ISDIR(st.st_mode)) return Status::Error(ENOTDIR);
  CAPIO_RETURN_IF_ERROR(MakeParents(layer, parent));
  return MakeAlike(*found, layer, parent);
}

Status Layers::MakeAlike(Layer like, Layer layer, const std::string& directory) const {
  int dir = DirOf(layer);
  if (int error = os().MkdirAt(dir, directory.c_str(), 0700); error < 0) {
    return error == -EEXIST ? Status::Ok() : Status::Error(-error);
  }
  Fd twin(os().OpenAt(DirOf(like), directory.c_str(), O_RDONLY | O_DIRECTORY, 0));
  Fd made(os().OpenAt(dir, directory.c_str(), O_RDONLY | O_DIRECTORY, 0));
  if (twin.valid() && made.valid()) (void)CopyAttributes(twin.get(), made.get());
  return Status::Ok();
}

void Layers::MakeRealParents(const std::string& path) {
  std::string parent(ParentOf(path));
  struct stat st = {};
  if (parent.empty() || os().FstatAt(real_, parent.c_str(), &st, 0) == 0) return;
  Layer there = Layer::kTree;
  if (!InStore(parent, &st, &there) || !S_ISDIR(st.st_mode)) return;
  MakeRealParents(parent);
  (void)MakeAlike(there, Layer::kReal, parent);
}

Result<Fd> Layers::ScratchCopy(int from_dir, const std::string& from, Layer to, int flags,
                               bool content, std::string* name) {
  Fd source(os().OpenAt(from_dir, from.c_str(), O_RDONLY, 0));
  // One that may be written, but not read.
  if (!source.valid() && !content) source.reset(os().OpenAt(from_dir, from.c_str(), O_PATH, 0));
  if (!source.valid()) return Status::Error(-source.get());
  struct stat st = {};
  if (int error = os().Fstat(source.get(), &st); error < 0) return Status::Error(-error);
  *name = RandomName();
  int scratch = ScratchOf(to);
  // Readable and writable for the copy; the caller's access mode is got by opening it again.
  Fd copy(os().OpenAt(scratch, name->c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
  if (!copy.valid()) return Status::Error(-copy.get());
  Status status = content ? CopyBytes(source.get(), copy.get()) : Status::Ok();
  Fd opened;
  if (status.ok()) {
    // While the mode still lets us.
    opened.reset(os().OpenAt(scratch, name->c_str(), flags & ~(O_CREAT | O_EXCL | O_TRUNC), 0));
    if (opened.get() < 0) status = Status::Error(-opened.get());
    (void)CopyAttributes(source.get(), copy.get());
    if (content) (void)CopyTimes(st, copy.get());
  }
  if (!status.ok()) {
    (void)os().UnlinkAt(scratch, name->c_str(), 0);
    return status;
  }
  return opened;
}

Status Layers::MakeInReal(const std::string& directory) const {
  struct stat st = {};
  if (directory.empty() || os().FstatAt(real_, directory.c_str(), &st, 0) == 0) {
    return Status::Ok();
  }
  CAPIO_RETURN_IF_ERROR(MakeInReal(std::string(ParentOf(directory))));
  if (auto twin = Find(directory, &st, true); twin.ok()) {
    return MakeAlike(*twin, Layer::kReal, directory);
  }
  int error = os().MkdirAt(real_, directory.c_str(), 0777);
  return error < 0 && error != -EEXIST ? Status::Error(-error) : Status::Ok();
}

Status Layers::CopyUp(const std::string& path, Layer to) {
  CAPIO_RETURN_IF_ERROR(MakeParents(to, path));
  std::string name;
  auto copy = ScratchCopy(real_, path, to, O_RDONLY, true, &name);
  if (!copy.ok()) return copy.status();
  // link(2), not rename: of two who copy up at once the second must use the first one's file.
  int error = os().LinkAt(ScratchOf(to), name.c_str(), DirOf(to), path.c_str(), 0);
  (void)os().UnlinkAt(ScratchOf(to), name.c_str(), 0);
  return error == 0 || error == -EEXIST ? Status::Ok() : Status::Error(-error);
}

Result<Fd> Layers::Replace(Layer from, Layer to, const std::string& path, int flags, bool content) {
  CAPIO_RETURN_IF_ERROR(MakeParents(to, path));
  std::string name;
  auto copy = ScratchCopy(DirOf(from), path, to, flags, content, &name);
  if (!copy.ok()) return copy.status();
  int error = os().RenameAt(ScratchOf(to), name.c_str(), DirOf(to), path.c_str());
  if (error == 0 && from != to) {
    error = os().UnlinkAt(DirOf(from), path.c_str(), 0);
    if (error == -ENOENT) error = 0;
  }
  if (error < 0) {
    (void)os().UnlinkAt(ScratchOf(to), name.c_str(), 0);
    return Status::Error(-error);
  }
  return copy;
}

namespace {

constexpr char kMoving[] = "moving";  // in the fs tree's scratch directory

}  // namespace

Result<Fd> Layers::CopyForMove(int from, const std::function<bool()>& go_on) {
  CAPIO_RETURN_IF_ERROR(fs_->Make());
  struct stat st = {};
  if (int error = os().Fstat(from, &st); error < 0) return Status::Error(-error);
  AbandonMove();  // what a killed server left
  Fd copy(os().OpenAt(fs_->scratch(), kMoving, O_RDWR | O_CREAT | O_EXCL, 0600));
  if (!copy.valid()) return Status::Error(-copy.get());
  auto fill = [&]() -> Status {
    constexpr off_t kStep = off_t{8} << 20;
    // Of small ones the kernel writes many at once, in its own time.
    constexpr off_t kSmall = off_t{256} << 10;
    for (off_t at = 0;;) {
      // Holes stay holes: what takes little memory may be of any size.
      off_t data = os().Lseek(from, at, SEEK_DATA);
      if (data == -ENXIO) break;
      off_t hole = data < 0 ? st.st_size : os().Lseek(from, data, SEEK_HOLE);
      for (at = std::max(at, data); at < hole;) {
        if (!go_on()) return Status::Error(ECANCELED);
        auto step = static_cast<size_t>(std::min(kStep, hole - at));
        ssize_t done = os().CopyRange(from, copy.get(), at, step);
        if (done < 0) return Status::Error(static_cast<int>(-done));
        if (done == 0) return Status::Error(EIO);  // shorter than it was
        at += done;
        if (st.st_size < kSmall) continue;
        // What stays in the page cache is not room.
        if (int error = os().Fsync(copy.get()); error < 0) return Status::Error(-error);
        (void)os().DropCache(copy.get());
      }
      if (at >= st.st_size) break;
    }
    if (int error = os().Ftruncate(copy.get(), st.st_size); error < 0) {
      return Status::Error(-error);
    }
    CAPIO_RETURN_IF_ERROR(CopyAttributes(from, copy.get()));
    return CopyTimes(st, copy.get());
  };
  if (Status filled = fill(); !filled.ok()) {
    AbandonMove();
    return filled;
  }
  return copy;
}

Status Layers::FinishMove(const std::string& path) {
  int error = os().RenameAt(fs_->scratch(), kMoving, fs_->dir(), path.c_str());
  if (error == 0) error = os().UnlinkAt(tree_, path.c_str(), 0);
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

void Layers::AbandonMove() { (void)os().UnlinkAt(fs_->scratch(), kMoving, 0); }

Status Layers::Mkdir(const std::string& path, mode_t mode) {
  struct stat st = {};
  if (InReal(path, &st) || In(Layer::kFs, path, &st)) return Status::Error(EEXIST);
  int error = os().MkdirAt(tree_, At(path), mode);
  if (error == -ENOENT) {
    CAPIO_RETURN_IF_ERROR(MakeParents(path));
    error = os().MkdirAt(tree_, At(path), mode);
  }
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

Status Layers::Symlink(const std::string& target, const std::string& path) {
  struct stat st = {};
  if (InReal(path, &st) || In(Layer::kFs, path, &st)) return Status::Error(EEXIST);
  NoteLink();
  int error = os().SymlinkAt(target.c_str(), tree_, path.c_str());
  if (error == -ENOENT && !target.empty()) {
    CAPIO_RETURN_IF_ERROR(MakeParents(path));
    error = os().SymlinkAt(target.c_str(), tree_, path.c_str());
  }
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

Result<std::string> Layers::ReadLink(Layer layer, const std::string& path) const {
  std::string target(PATH_MAX, '\0');
  ssize_t size = os().ReadlinkAt(DirOf(layer), path.c_str(), target.data(), target.size());
  if (size < 0) return Status::Error(static_cast<int>(-size));
  target.resize(static_cast<size_t>(size));
  return target;
}

Status Layers::Link(const std::string& from, const std::string& to) {
  struct stat st = {};
  auto layer = Find(from, &st, false);
  if (!layer.ok()) return layer.status();
  struct stat there = {};
  for (Layer each : {Layer::kTree, Layer::kFs, Layer::kReal}) {
    if (In(each, to, &there)) return Status::Error(EEXIST);
  }
  if (S_ISDIR(st.st_mode)) return Status::Error(EPERM);
  if (S_ISLNK(st.st_mode)) NoteLink();
  int dir = DirOf(*layer);
  int error = os().LinkAt(dir, from.c_str(), dir, to.c_str(), 0);
  if (error == -ENOENT) {
    if (*layer == Layer::kReal) {
      std::string parent(ParentOf(to));
      auto found = Find(parent, &there, true);
      if (!found.ok()) return found.status();
      if (!S_ISDIR(there.st_mode)) return Status::Error(ENOTDIR);
      CAPIO_RETURN_IF_ERROR(MakeInReal(parent));
    } else {
      CAPIO_RETURN_IF_ERROR(MakeParents(*layer, to));
    }
    error = os().LinkAt(dir, from.c_str(), dir, to.c_str(), 0);
  }
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

Status Layers::Rmdir(const std::string& path) {
  struct stat st = {};
  if (Find(path, &st, false).ok() && !S_ISDIR(st.st_mode)) return Status::Error(ENOTDIR);
  int fs = fs_->dir();
  // A directory with entries must not lose its twin below first.
  for (int dir : {tree_, fs}) {
    if (dir < 0) continue;
    auto entries = ListDirectory(dir, At(path), Layer::kTree);
    if (entries.ok() && !entries->empty()) return Status::Error(ENOTEMPTY);
  }
  bool removed = false;
  for (int dir : {real_, fs}) {
    if (dir < 0) continue;
    int error = RemoveDirectoryOf(dir, At(path));
    if (error < 0 && error != -ENOENT) return Status::Error(-error);
    removed |= error == 0;
  }
  int top = os().UnlinkAt(tree_, At(path), AT_REMOVEDIR);
  if (top == -ENOENT && removed) return Status::Ok();
  return top < 0 ? Status::Error(-top) : Status::Ok();
}

Status Layers::Unlink(const std::string& path) {
  int below = os().UnlinkAt(real_, At(path), 0);
  struct stat st = {};
  // A file system that may not be written to says so even of what is not there.
  if (below < 0 && below != -ENOENT && below != -ENOTDIR && InReal(path, &st)) {
    return Status::Error(-below);
  }
  bool removed = below == 0;
  if (int fs = fs_->dir(); fs >= 0) {
    int middle = os().UnlinkAt(fs, At(path), 0);
    if (middle < 0 && middle != -ENOENT && middle != -ENOTDIR) return Status::Error(-middle);
    removed |= middle == 0;
  }
  int top = os().UnlinkAt(tree_, At(path), 0);
  if ((top == -ENOENT || top == -ENOTDIR) && removed) return Status::Ok();
  if (top == -ENOENT) {
    // What is in the way may be in any layer.
    auto missing = Find(path, &st, false);
    if (!missing.ok()) return missing.status();
  }
  return top < 0 ? Status::Error(-top) : Status::Ok();
}

// What the kernel would check if the file and the name it takes were in one layer.
Status Layers::CheckOver(const struct stat& from, const std::string& to, Layer layer) const {
  struct stat st = {};
  if (!In(layer, to, &st)) return Status::Ok();
  if (S_ISDIR(from.st_mode) && !S_ISDIR(st.st_mode)) return Status::Error(ENOTDIR);
  if (!S_ISDIR(from.st_mode) && S_ISDIR(st.st_mode)) return Status::Error(EISDIR);
  if (S_ISDIR(from.st_mode)) {
    auto entries = ListDirectory(DirOf(layer), to.c_str(), layer);
    if (entries.ok() && !HoldsOnlyTemporaries(entries)) return Status::Error(ENOTEMPTY);
  }
  return Status::Ok();
}

Status Layers::Rename(const std::string& from, const std::string& to) {
  struct stat st = {};
  bool in_tree = InTree(from, &st);
  struct stat top = st;
  bool in_fs = In(Layer::kFs, from, &st);
  if (in_fs && !in_tree) top = st;
  bool in_real = InReal(from, &st);
  if (in_real && !in_tree && !in_fs) top = st;
  if (!in_tree && !in_fs && !in_real) return Status::Error(ENOENT);
  if (from == to) return Status::Ok();
  if (to.starts_with(from + "/")) return Status::Error(EINVAL);
  if (from.starts_with(to + "/")) return Status::Error(ENOTEMPTY);
  bool directory = S_ISDIR(top.st_mode);
  if (in_real && (in_tree || in_fs) && directory) {
    return Status::Error(EXDEV,
                         "the directory exists both in the store and in CAPIO_DIR: rename its "
                         "files one by one");
  }
  // The kernel itself looks only in the layer of its rename.
  for (Layer layer : {Layer::kReal, Layer::kFs, Layer::kTree}) {
    CAPIO_RETURN_IF_ERROR(CheckOver(top, to, layer));
  }
  if (in_real) {
    int error = OnEmptyDirectory(
        real_, to.c_str(), [&] { return os().RenameAt(real_, from.c_str(), real_, to.c_str()); });
    if (error == -ENOENT && !in_tree && !in_fs) {
      // The new parent exists only in the store.
      if (S_ISREG(top.st_mode)) {
        CAPIO_RETURN_IF_ERROR(CopyUp(from));
        in_tree = true;
      } else {
        std::string parent(ParentOf(to));
        auto found = Find(parent, &st, true);
        if (!found.ok()) return found.status();
        CAPIO_RETURN_IF_ERROR(MakeInReal(parent));
        error = os().RenameAt(real_, from.c_str(), real_, to.c_str());
      }
    }
    // The store's file takes the new name; the one below must not come to light under the old one.
    if (error == -ENOENT && (in_tree || in_fs)) error = os().UnlinkAt(real_, from.c_str(), 0);
    if (error < 0 && !((in_tree || in_fs) && error == -ENOENT)) return Status::Error(-error);
  }
  if (in_fs) {
    CAPIO_RETURN_IF_ERROR(MakeParents(Layer::kFs, to));
    int error = 0;
    if (in_tree && !directory) {
      error = os().UnlinkAt(fs_->dir(), from.c_str(), 0);
    } else {
      error = os().RenameAt(fs_->dir(), from.c_str(), fs_->dir(), to.c_str());
    }
    if (error < 0 && !(in_tree && error == -ENOENT)) return Status::Error(-error);
  }
  if (in_tree) {
    CAPIO_RETURN_IF_ERROR(MakeParents(to));
    if (int error = os().RenameAt(tree_, from.c_str(), tree_, to.c_str()); error < 0) {
      return Status::Error(-error);
    }
  }
  // Hidden now; but a path through it would be followed.
  if ((in_tree || in_fs) && InReal(to, &st) && S_ISLNK(st.st_mode)) {
    (void)os().UnlinkAt(real_, to.c_str(), 0);
  }
  if (in_tree) return Status::Ok();
  // It has the new name now; one of that name above it would hide it.
  for (Layer above : {Layer::kFs, Layer::kTree}) {
    if (above == Layer::kFs && in_fs) continue;
    if (!In(above, to, &st)) continue;
    int error = os().UnlinkAt(DirOf(above), to.c_str(), S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
    if (error < 0 && error != -ENOENT) return Status::Error(-error);
  }
  return Status::Ok();
}

// Entries of two trees come in no common order. One whose age is not known (a directory) follows
// the one before it.
void Layers::SortByAge(const std::string& path, std::vector<DirEntry>* entries) const {
  if (!age_) return;
  std::vector<std::pair<uint64_t, size_t>> order;
  order.reserve(entries->size());
  uint64_t last = 0;
  for (size_t i = 0; i < entries->size(); ++i) {
    const DirEntry& entry = (*entries)[i];
    Fd fd;
    if (entry.type == DT_REG || entry.type == DT_UNKNOWN) {
      std::string name = path.empty() ? entry.name : path + "/" + entry.name;
      fd.reset(os().OpenAt(DirOf(entry.layer), name.c_str(), O_PATH | O_NOFOLLOW, 0));
    }
    struct stat st = {};
    FileIdentity id;
    if (fd.valid() && os().Fstat(fd.get(), &st) == 0 && identities_.Of(fd.get(), st, &id) == 0) {
      if (uint64_t age = age_(id); age != 0) last = age;
    }
    order.emplace_back(last, i);
  }
  std::stable_sort(order.begin(), order.end());
  std::vector<DirEntry> sorted;
  sorted.reserve(entries->size());
  for (auto& [age, index] : order) sorted.push_back(std::move((*entries)[index]));
  *entries = std::move(sorted);
}

void OrderByCreation(int dir, const std::string& path, std::vector<DirEntry>* entries) {
  if (os().FsType(dir) == TMPFS_MAGIC) {
    // It numbers its inodes in the order of their making, and mostly lists the newest first.
    auto older = [](const DirEntry& a, const DirEntry& b) { return a.ino < b.ino; };
    auto newer = [](const DirEntry& a, const DirEntry& b) { return a.ino > b.ino; };
    if (std::is_sorted(entries->begin(), entries->end(), newer)) {
      std::reverse(entries->begin(), entries->end());
    } else {
      std::sort(entries->begin(), entries->end(), older);
    }
    return;
  }
  Fd fd(os().OpenAt(dir, At(path), O_PATH | O_DIRECTORY, 0));
  std::vector<std::pair<int64_t, DirEntry*>> born;
  for (DirEntry& entry : *entries) {
    struct stat st = {};
    int64_t birth = 0;
    (void)os().StatBirth(fd.get(), entry.name.c_str(), AT_SYMLINK_NOFOLLOW, &st, &birth);
    born.emplace_back(birth, &entry);
  }
  std::sort(born.begin(), born.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second->ino) < std::pair(b.first, b.second->ino);
  });
  std::vector<DirEntry> ordered;
  ordered.reserve(born.size());
  for (auto& [when, entry] : born) ordered.push_back(std::move(*entry));
  *entries = std::move(ordered);
}

Result<std::vector<DirEntry>> Layers::List(const std::string& path) const {
  // The upper layer first: what moves down meanwhile is found below.
  auto tree = ListDirectory(tree_, At(path), Layer::kTree);
  Result<std::vector<DirEntry>> fs = Status::Error(ENOENT);
  if (int dir = fs_->dir(); dir >= 0) fs = ListDirectory(dir, At(path), Layer::kFs);
  auto real = ListDirectory(real_, At(path), Layer::kReal);
  if (!real.ok() && !tree.ok() && !fs.ok()) {
    return real.code() != ENOENT ? real.status() : tree.status();
  }
  std::vector<DirEntry> all;
  if (tree.ok()) {
    all = tree.take();
    std::erase_if(all, IsTemporary);
    OrderByCreation(tree_, path, &all);
  }
  if (real.ok()) {
    std::erase_if(*real, [&](const DirEntry& entry) {
      return (path.empty() && entry.name == ".capio") || IsTemporary(entry);
    });
  }
  // Mostly, there is nothing below.
  if ((!fs.ok() || fs->empty()) && (!real.ok() || real->empty())) return all;
  std::unordered_set<std::string> seen;
  for (const DirEntry& entry : all) seen.insert(entry.name);
  if (fs.ok() && !fs->empty()) {
    bool mixed = false;
    for (DirEntry& entry : *fs) {
      if (!seen.insert(entry.name).second) continue;
      all.push_back(std::move(entry));
      mixed = true;
    }
    if (mixed) SortByAge(path, &all);
  }
  if (!real.ok()) return all;
  std::vector<DirEntry> merged;
  for (DirEntry& entry : *real) {
    if (seen.count(entry.name) == 0) merged.push_back(std::move(entry));
  }
  merged.insert(merged.end(), std::make_move_iterator(all.begin()),
                std::make_move_iterator(all.end()));
  return merged;
}

}  // namespace capio
