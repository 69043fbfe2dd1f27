#include "store/layers.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

#include <algorithm>
#include <unordered_set>

#include "os/paths.h"

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

bool Layers::InTree(const std::string& path, struct stat* st) const {
  return os().FstatAt(tree_, At(path), st, AT_SYMLINK_NOFOLLOW) == 0;
}
bool Layers::InReal(const std::string& path, struct stat* st) const {
  return os().FstatAt(real_, At(path), st, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<Layer> Layers::Find(const std::string& path, struct stat* st, bool follow) const {
  int flags = follow ? 0 : AT_SYMLINK_NOFOLLOW;
  // A dangling link in the tree is looked up in the real directory like a name that is not there.
  int error = os().FstatAt(tree_, At(path), st, flags);
  if (error == 0) return Layer::kTree;
  int below = os().FstatAt(real_, At(path), st, flags);
  if (below == 0) return Layer::kReal;
  // The error that says more: ENOTDIR, ELOOP or EACCES rather than ENOENT.
  return Status::Error(below != -ENOENT ? -below : -error);
}

Status Layers::MakeParents(const std::string& path) {
  std::string parent(ParentOf(path));
  if (parent.empty()) return Status::Ok();
  struct stat st = {};
  if (os().FstatAt(tree_, parent.c_str(), &st, 0) == 0) {
    return S_ISDIR(st.st_mode) ? Status::Ok() : Status::Error(ENOTDIR);
  }
  int error = os().FstatAt(real_, parent.c_str(), &st, 0);
  if (error < 0) return Status::Error(-error);
  if (!S_ISDIR(st.st_mode)) return Status::Error(ENOTDIR);
  CAPIO_RETURN_IF_ERROR(MakeParents(parent));
  error = os().MkdirAt(tree_, parent.c_str(), 0700);
  if (error < 0) return error == -EEXIST ? Status::Ok() : Status::Error(-error);
  // The mode of the real one, which the umask must not narrow.
  Fd made(os().OpenAt(tree_, parent.c_str(), O_RDONLY | O_DIRECTORY, 0));
  if (made.valid()) (void)os().Fchmod(made.get(), st.st_mode & 07777);
  return Status::Ok();
}

Result<Fd> Layers::ScratchCopy(int from_dir, const std::string& from, int flags, bool content,
                               std::string* name) {
  Fd source(os().OpenAt(from_dir, from.c_str(), content ? O_RDONLY : O_PATH, 0));
  if (!source.valid()) return Status::Error(-source.get());
  struct stat st = {};
  if (int error = os().Fstat(source.get(), &st); error < 0) return Status::Error(-error);
  *name = RandomName();
  // Readable and writable for the copy; the caller's access mode is got by opening it again.
  Fd copy(os().OpenAt(scratch_, name->c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
  if (!copy.valid()) return Status::Error(-copy.get());
  Status status = content ? CopyBytes(source.get(), copy.get()) : Status::Ok();
  if (status.ok() && content) {
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    (void)os().Futimens(copy.get(), times);
  }
  Fd opened;
  if (status.ok()) {
    opened.reset(os().OpenAt(scratch_, name->c_str(), flags & ~(O_CREAT | O_EXCL | O_TRUNC), 0));
    if (opened.get() < 0) status = Status::Error(-opened.get());
    (void)os().Fchmod(copy.get(), st.st_mode & 07777);
  }
  if (!status.ok()) {
    (void)os().UnlinkAt(scratch_, name->c_str(), 0);
    return status;
  }
  return opened;
}

Status Layers::CopyUp(const std::string& path) {
  CAPIO_RETURN_IF_ERROR(MakeParents(path));
  std::string name;
  auto copy = ScratchCopy(real_, path, O_RDONLY, true, &name);
  if (!copy.ok()) return copy.status();
  // link(2), not rename: of two who copy up at once the second must use the first one's file.
  int error = os().LinkAt(scratch_, name.c_str(), tree_, path.c_str(), 0);
  (void)os().UnlinkAt(scratch_, name.c_str(), 0);
  return error == 0 || error == -EEXIST ? Status::Ok() : Status::Error(-error);
}

Result<Fd> Layers::ReplaceInTree(const std::string& path, int flags, bool content) {
  std::string name;
  auto copy = ScratchCopy(tree_, path, flags, content, &name);
  if (!copy.ok()) return copy.status();
  int error = os().RenameAt(scratch_, name.c_str(), tree_, path.c_str());
  if (error < 0) {
    (void)os().UnlinkAt(scratch_, name.c_str(), 0);
    return Status::Error(-error);
  }
  return copy;
}

Status Layers::Mkdir(const std::string& path, mode_t mode) {
  struct stat st = {};
  if (InReal(path, &st)) return Status::Error(EEXIST);
  int error = os().MkdirAt(tree_, At(path), mode);
  if (error == -ENOENT) {
    CAPIO_RETURN_IF_ERROR(MakeParents(path));
    error = os().MkdirAt(tree_, At(path), mode);
  }
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

Status Layers::Rmdir(const std::string& path) {
  // A tree directory with entries must not lose its real twin first.
  auto entries = ListDirectory(tree_, At(path), Layer::kTree);
  if (entries.ok() && !entries->empty()) return Status::Error(ENOTEMPTY);
  int below = os().UnlinkAt(real_, At(path), AT_REMOVEDIR);
  if (below < 0 && below != -ENOENT) return Status::Error(-below);
  int top = os().UnlinkAt(tree_, At(path), AT_REMOVEDIR);
  if (top == -ENOENT && below == 0) return Status::Ok();
  return top < 0 ? Status::Error(-top) : Status::Ok();
}

Status Layers::Unlink(const std::string& path) {
  int below = os().UnlinkAt(real_, At(path), 0);
  struct stat st = {};
  // A file system that may not be written to says so even of what is not there.
  if (below < 0 && below != -ENOENT && below != -ENOTDIR && InReal(path, &st)) {
    return Status::Error(-below);
  }
  int top = os().UnlinkAt(tree_, At(path), 0);
  if ((top == -ENOENT || top == -ENOTDIR) && below == 0) return Status::Ok();
  return top < 0 ? Status::Error(-top) : Status::Ok();
}

Status Layers::Rename(const std::string& from, const std::string& to) {
  struct stat tree_from = {};
  struct stat real_from = {};
  struct stat real_to = {};
  struct stat tree_to = {};
  bool in_tree = InTree(from, &tree_from);
  bool in_real = InReal(from, &real_from);
  if (!in_tree && !in_real) return Status::Error(ENOENT);
  if (in_tree && in_real && S_ISDIR(tree_from.st_mode)) {
    return Status::Error(EXDEV,
                         "the directory exists both in the store and in CAPIO_DIR: rename its "
                         "files one by one");
  }
  bool over_real = InReal(to, &real_to);
  if (in_tree && over_real) {
    // What the kernel would check if both were in one layer.
    if (S_ISDIR(tree_from.st_mode) && !S_ISDIR(real_to.st_mode)) return Status::Error(ENOTDIR);
    if (!S_ISDIR(tree_from.st_mode) && S_ISDIR(real_to.st_mode)) return Status::Error(EISDIR);
    if (S_ISDIR(tree_from.st_mode)) {
      auto entries = ListDirectory(real_, to.c_str(), Layer::kReal);
      if (entries.ok() && !entries->empty()) return Status::Error(ENOTEMPTY);
    }
  }
  if (in_real) {
    int error = os().RenameAt(real_, from.c_str(), real_, to.c_str());
    if (error == -ENOENT && !in_tree) {
      // The new parent exists only in the tree.
      if (S_ISDIR(real_from.st_mode)) return Status::Error(EXDEV);
      CAPIO_RETURN_IF_ERROR(CopyUp(from));
      in_tree = true;
    }
    // The tree's file takes the new name; the one below must not come to light under the old one.
    if (error == -ENOENT && in_tree) error = os().UnlinkAt(real_, from.c_str(), 0);
    if (error < 0 && !(in_tree && error == -ENOENT)) return Status::Error(-error);
  }
  if (!in_tree) {
    // The real file has the new name now; one of that name in the tree would hide it.
    if (InTree(to, &tree_to)) {
      int error = os().UnlinkAt(tree_, to.c_str(), S_ISDIR(tree_to.st_mode) ? AT_REMOVEDIR : 0);
      if (error < 0 && error != -ENOENT) return Status::Error(-error);
    }
    return Status::Ok();
  }
  CAPIO_RETURN_IF_ERROR(MakeParents(to));
  int error = os().RenameAt(tree_, from.c_str(), tree_, to.c_str());
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

namespace {

// The name of a copy that is being made, by write-back or by a rename into CAPIO_DIR or out of it.
bool IsTemporary(const DirEntry& entry) {
  constexpr std::string_view kPrefix = ".capio-";
  std::string_view name = entry.name;
  if (!name.starts_with(kPrefix)) return false;
  name.remove_prefix(kPrefix.size());
  if (name.ends_with(".tmp")) name.remove_suffix(4);
  return !name.empty() && name.find_first_not_of("0123456789-") == std::string_view::npos;
}

}  // namespace

Result<std::vector<DirEntry>> Layers::List(const std::string& path) const {
  auto real = ListDirectory(real_, At(path), Layer::kReal);
  auto tree = ListDirectory(tree_, At(path), Layer::kTree);
  if (!real.ok() && !tree.ok()) {
    return real.code() != ENOENT ? real.status() : tree.status();
  }
  std::vector<DirEntry> all;
  if (tree.ok()) {
    all = tree.take();
    std::erase_if(all, IsTemporary);
    struct statfs fs = {};
    // tmpfs lists the newest first.
    if (::fstatfs(tree_, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
      std::reverse(all.begin(), all.end());
  }
  if (real.ok()) {
    std::unordered_set<std::string_view> seen;
    for (const DirEntry& entry : all) seen.insert(entry.name);
    std::vector<DirEntry> merged;
    for (DirEntry& entry : *real) {
      if ((path.empty() && entry.name == ".capio") || IsTemporary(entry)) continue;
      if (seen.count(entry.name) == 0) merged.push_back(std::move(entry));
    }
    merged.insert(merged.end(), std::make_move_iterator(all.begin()),
                  std::make_move_iterator(all.end()));
    return merged;
  }
  return all;
}

}  // namespace capio
