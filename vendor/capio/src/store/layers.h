// The overlay (S1): a path is looked up in the memory tree, then in the fs tree, then in the real
// directory. What changes names acts on the lowest layer first and on the top last, so that no
// whiteouts are needed. What moves a file down (eviction, publishing) puts it below first and takes
// it away above then, so that a name which exists is found at any moment.
//
// Paths are relative to CAPIO_DIR and normalised; "" is CAPIO_DIR itself. Nothing here waits or
// keeps records.
#ifndef CAPIO_STORE_LAYERS_H_
#define CAPIO_STORE_LAYERS_H_

#include <array>
#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "os/os.h"
#include "os/status.h"
#include "store/fs_tree.h"
#include "store/identity.h"

namespace capio {

// Not an errno: a symbolic link is in the way, which the kernel could only follow within one layer.
// The path has to be walked (store/walk.h).
constexpr int kLinkAhead = -4098;

enum class Layer : uint8_t { kTree = 0, kFs = 1, kReal = 2 };

struct DirEntry {
  std::string name;
  uint64_t ino;
  uint8_t type;  // DT_*
  Layer layer;
};

class Layers {
 public:
  // Descriptors and the fs tree stay the caller's. scratch: a directory on the tree's file system
  // for files not yet named. links: the word of the header.
  Layers(int tree, int real, int scratch, FsTree* fs, Identities identities,
         std::atomic<uint32_t>* links);

  // How to know in which order the files of the store were made: a number that is larger for a
  // younger one, 0 if not known. Listings that mix layers need it.
  void SetAge(std::function<uint64_t(const FileIdentity&)> age) { age_ = std::move(age); }

  // Whether there are symbolic links: then paths have to be walked before they are given to
  // anything here. The store's own are told of before they are made; of CAPIO_DIR's nobody knows
  // until they are met.
  [[nodiscard]] bool links() const { return links_->load(std::memory_order_acquire) != 0; }
  void NoteLink() const { links_->store(1, std::memory_order_seq_cst); }
  // Whether a directory above the path is a symbolic link of CAPIO_DIR. Directories that are there
  // are looked at once.
  bool LinkAbove(const std::string& path) const;

  // The top-most layer that has the path. -ENOENT as a Status if none; kLinkAhead if follow is
  // given and it is a symbolic link. id, if given, is set as Identities::Stat does.
  Result<Layer> Find(const std::string& path, struct stat* st, bool follow,
                     FileIdentity* id = nullptr) const;
  bool In(Layer layer, const std::string& path, struct stat* st) const;
  bool InTree(const std::string& path, struct stat* st) const { return In(Layer::kTree, path, st); }
  bool InReal(const std::string& path, struct stat* st) const {
    return !BelowMissing(path) && In(Layer::kReal, path, st);
  }
  // In the memory tree or the fs tree; *layer, if given, tells in which.
  bool InStore(const std::string& path, struct stat* st, Layer* layer = nullptr) const;
  // -1 for the fs tree while there is none.
  int DirOf(Layer layer) const;
  // The fs tree has something in it.
  bool FsInUse() const { return fs_->dir() >= 0; }
  // Opens the store's file of that name, wherever it is. -ENOENT if it is not there.
  Fd OpenInStore(const std::string& path, int flags, Layer* layer = nullptr, mode_t mode = 0) const;

  // Makes the directories above path in a layer of the store where another layer has them; for the
  // fs tree that tree itself, too.
  Status MakeParents(Layer layer, const std::string& path);
  Status MakeParents(const std::string& path) { return MakeParents(Layer::kTree, path); }
  // Makes a directory in the real directory, and those above it, with the store's modes.
  Status MakeInReal(const std::string& directory) const;
  // The other way round, for a path that is excluded: what goes there goes to the real directory.
  // Leaves errors to the call that follows.
  void MakeRealParents(const std::string& path);
  // Brings a real file into the store, with its bytes, mode and times. Somebody else's copy counts
  // as success.
  Status CopyUp(const std::string& path, Layer to = Layer::kTree);
  // A new file under the name, in place of the store's one in `from`; descriptors of the old one
  // keep it. Returns a descriptor opened with flags. With content, the new one starts as a copy.
  Result<Fd> Replace(Layer from, Layer to, const std::string& path, int flags, bool content);
  // Moving a file of the memory tree to the fs tree begins with a copy in the latter's scratch
  // directory, with mode and times; large ones are on the disk then, and not in memory. There is
  // one at a time. go_on is asked between pieces, each of which takes little time; false gives
  // ECANCELED.
  Result<Fd> CopyForMove(int from, const std::function<bool()>& go_on);
  // Gives the copy the file's name, and takes that from the memory tree.
  Status FinishMove(const std::string& path);
  void AbandonMove();
  Status Mkdir(const std::string& path, mode_t mode);
  Status Rmdir(const std::string& path);
  // The name must not exist. -EEXIST if it does.
  Status Symlink(const std::string& target, const std::string& path);
  // A further name of the file, in the layer that it is in.
  Status Link(const std::string& from, const std::string& to);
  // What a symbolic link holds.
  Result<std::string> ReadLink(Layer layer, const std::string& path) const;
  // Removes the name from all layers.
  Status Unlink(const std::string& path);
  Status Rename(const std::string& from, const std::string& to);
  // The union, in creation order: what the real directory has first, then the store's, oldest
  // first.
  Result<std::vector<DirEntry>> List(const std::string& path) const;

  int tree() const { return tree_; }
  int real() const { return real_; }
  const FsTree& fs() const { return *fs_; }
  const Identities& identities() const { return identities_; }

 private:
  Result<Fd> ScratchCopy(int from_dir, const std::string& from, Layer to, int flags, bool content,
                         std::string* name);
  // Makes a directory that another layer has; somebody else's making it counts as success.
  Status MakeAlike(Layer like, Layer layer, const std::string& directory) const;
  int ScratchOf(Layer layer) const { return layer == Layer::kFs ? fs_->scratch() : scratch_; }
  // Whether the path lies below a directory that is known not to be in CAPIO_DIR. False: look.
  bool BelowMissing(std::string_view path) const;
  Status CheckOver(const struct stat& from, const std::string& to, Layer layer) const;
  void SortByAge(const std::string& path, std::vector<DirEntry>* entries) const;

  int tree_;
  int real_;
  int scratch_;
  FsTree* fs_;
  Identities identities_;
  std::atomic<uint32_t>* links_;
  const bool real_forgets_;                        // see BelowMissing
  const uint64_t number_;                          // of this object, and of no other one
  mutable std::unordered_set<std::string> plain_;  // directories without a link above them
  std::function<uint64_t(const FileIdentity&)> age_;
};

// "" -> ".", for the *at calls.
inline const char* At(const std::string& path) { return path.empty() ? "." : path.c_str(); }

// Lists one directory: names in the order the kernel gives them. "." and ".." are left out.
Result<std::vector<DirEntry>> ListDirectory(int dir, const char* path, Layer layer);
// Puts the entries of dir/path into the order in which their files came into being.
void OrderByCreation(int dir, const std::string& path, std::vector<DirEntry>* entries);
// Removes everything below dir/path, and that itself. Goes on after errors and returns the first.
Status RemoveTree(int dir, const char* path);
// Copies all bytes of from to to.
Status CopyBytes(int from, int to);

}  // namespace capio

#endif  // CAPIO_STORE_LAYERS_H_
