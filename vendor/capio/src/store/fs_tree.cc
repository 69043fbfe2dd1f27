#include "store/fs_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include <algorithm>

#include "os/paths.h"
#include "store/layers.h"

namespace capio {
namespace {

constexpr std::string_view kTree = "tree";
constexpr std::string_view kApart = "old-";

// Several threads may open it at once: the first descriptor stays.
int Store(std::atomic<int>* slot, Fd fd) {
  int none = -1;
  if (fd.valid() && slot->compare_exchange_strong(none, fd.get())) return fd.release();
  return none;
}

bool HoldsFiles(int dir, const char* path) {
  auto entries = ListDirectory(dir, path, Layer::kFs);
  if (!entries.ok()) return false;
  Fd fd(os().OpenAt(dir, path, O_RDONLY | O_DIRECTORY, 0));
  for (const DirEntry& entry : *entries) {
    if (entry.type != DT_DIR || HoldsFiles(fd.get(), entry.name.c_str())) return true;
  }
  return false;
}

Status MakeDirectory(int dir, const std::string& path, mode_t mode) {
  int error = os().MkdirAt(dir, path.c_str(), mode);
  return error < 0 && error != -EEXIST ? Status::Error(-error) : Status::Ok();
}

}  // namespace

FsTree::FsTree(int real, std::string_view workflow, std::atomic<uint32_t>* in_use)
    : real_(real), base_(".capio/" + EncodeName(workflow)), in_use_(in_use) {}

FsTree::~FsTree() {
  for (auto* fd : {&dir_, &scratch_}) {
    if (fd->load() >= 0) (void)os().Close(fd->load());
  }
}

bool FsTree::Open() const {
  if (in_use_->load(std::memory_order_acquire) == 0) return false;
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  // The tree last: who finds it open finds the other, too.
  if (tree_ == kTree && scratch_.load(std::memory_order_acquire) < 0) {
    Fd fd(os().OpenAt(real_, (base_ + "/scratch").c_str(), kFlags, 0));
    if (Store(&scratch_, std::move(fd)) < 0) return false;
  }
  Fd fd(os().OpenAt(real_, path().c_str(), kFlags, 0));
  return Store(&dir_, std::move(fd)) >= 0;
}

int FsTree::dir() const {
  if (int fd = dir_.load(std::memory_order_acquire); fd >= 0) return fd;
  return Open() ? dir_.load(std::memory_order_acquire) : -1;
}

int FsTree::scratch() const { return dir() >= 0 ? scratch_.load(std::memory_order_acquire) : -1; }

Status FsTree::Make() {
  if (dir() >= 0) return Status::Ok();
  // The word first: a tree that nobody was told to look into would be a leftover.
  in_use_->store(1, std::memory_order_seq_cst);
  auto make = [&]() -> Status {
    CAPIO_RETURN_IF_ERROR(MakeDirectory(real_, ".capio", 0777));
    CAPIO_RETURN_IF_ERROR(MakeDirectory(real_, base_, 0700));
    CAPIO_RETURN_IF_ERROR(MakeDirectory(real_, base_ + "/scratch", 0700));
    return MakeDirectory(real_, path(), 0700);
  };
  Status made = make();
  // The server of another workflow may have taken the empty common directory away in between.
  if (made.code() == ENOENT) made = make();
  if (made.ok() && dir() < 0) made = Status::Error(ENOENT);
  if (made.ok()) return made;
  return Status::Error(made.code(),
                       "cannot make the directory " + path() +
                           " in CAPIO_DIR for files kept on disk: " + strerror(made.code()));
}

bool FsTree::Leftover() const {
  struct stat st = {};
  return os().FstatAt(real_, path().c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 ||
         os().FstatAt(real_, (base_ + "/scratch").c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

Status FsTree::Keep(const std::string& tree, std::string* to) {
  const std::string from = base_ + "/" + tree;
  if (!HoldsFiles(real_, from.c_str())) return Status::Ok();
  std::string salvage = ".capio/salvage";
  CAPIO_RETURN_IF_ERROR(MakeDirectory(real_, salvage, 0777));
  std::string kept =
      salvage + base_.substr(base_.rfind('/')) + "." + std::to_string(os().Random() % 1'000'000);
  int error = os().RenameAt(real_, from.c_str(), real_, kept.c_str());
  if (error < 0 && error != -ENOENT) return Status::Error(-error);
  if (error == 0) *to = kept;
  return Status::Ok();
}

Status FsTree::SetAside(std::string* to) {
  CAPIO_RETURN_IF_ERROR(Keep(tree_, to));
  Remove();
  return Status::Ok();
}

void FsTree::Remove() {
  // At once out of sight: who is killed over it must not leave what looks like an earlier run's.
  if (tree_ == kTree) {
    (void)os().RenameAt(real_, path().c_str(), real_, (base_ + "/scratch/removed").c_str());
  }
  (void)RemoveTree(real_, path().c_str());
  if (tree_ == kTree) (void)RemoveTree(real_, (base_ + "/scratch").c_str());
  RemoveEmptyParents();
}

void FsTree::RemoveEmptyParents() {
  // Other things of this workflow, and of others, may lie there: then these fail.
  (void)os().UnlinkAt(real_, base_.c_str(), AT_REMOVEDIR);
  (void)os().UnlinkAt(real_, ".capio", AT_REMOVEDIR);
}

Status FsTree::SetApart(uint64_t id) {
  // Opened under the name that it still has.
  (void)dir();
  const std::string apart = std::string(kApart) + std::to_string(id);
  int error = os().RenameAt(real_, path().c_str(), real_, (base_ + "/" + apart).c_str());
  if (error < 0 && error != -ENOENT) return Status::Error(-error);
  (void)RemoveTree(real_, (base_ + "/scratch").c_str());
  tree_ = apart;
  return Status::Ok();
}

void FsTree::LookApart(uint64_t id) { tree_ = std::string(kApart) + std::to_string(id); }

std::vector<std::string> FsTree::SetAsideOrphans(const std::vector<uint64_t>& known) {
  std::vector<std::string> kept;
  auto entries = ListDirectory(real_, base_.c_str(), Layer::kFs);
  if (!entries.ok()) return kept;
  for (const DirEntry& entry : *entries) {
    if (entry.name.rfind(kApart, 0) != 0) continue;
    auto is = [&](uint64_t id) { return entry.name == std::string(kApart) + std::to_string(id); };
    if (std::any_of(known.begin(), known.end(), is)) continue;
    std::string to;
    if (!Keep(entry.name, &to).ok()) continue;
    if (!to.empty()) kept.push_back(std::move(to));
    (void)RemoveTree(real_, (base_ + "/" + entry.name).c_str());
  }
  return kept;
}

}  // namespace capio
