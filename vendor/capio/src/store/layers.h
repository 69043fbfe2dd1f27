// The overlay (S1): a path is looked up in the memory tree, then in the real directory. What
// changes names acts on the lower layer first and on the top last, so that no whiteouts are needed.
//
// Paths are relative to CAPIO_DIR and normalised; "" is CAPIO_DIR itself. Nothing here waits or
// keeps records.
#ifndef CAPIO_STORE_LAYERS_H_
#define CAPIO_STORE_LAYERS_H_

#include <string>
#include <string_view>
#include <vector>

#include "os/os.h"
#include "os/status.h"

namespace capio {

enum class Layer : uint8_t { kTree = 0, kFs = 1, kReal = 2 };

struct DirEntry {
  std::string name;
  uint64_t ino;
  uint8_t type;  // DT_*
  Layer layer;
};

class Layers {
 public:
  // Descriptors stay the caller's. scratch: a directory on the tree's file system for files not yet
  // named.
  Layers(int tree, int real, int scratch) : tree_(tree), real_(real), scratch_(scratch) {}

  // The top-most layer that has the path. -ENOENT as a Status if none.
  Result<Layer> Find(const std::string& path, struct stat* st, bool follow) const;
  bool InTree(const std::string& path, struct stat* st) const;
  bool InReal(const std::string& path, struct stat* st) const;
  int DirOf(Layer layer) const { return layer == Layer::kTree ? tree_ : real_; }

  // Makes the tree's directories above path where the real directory has them.
  Status MakeParents(const std::string& path);
  // Brings a real file into the tree, with its bytes, mode and times. Somebody else's copy counts
  // as success.
  Status CopyUp(const std::string& path);
  // A new file under the name, in place of the one that is there; descriptors of the old one keep
  // it. Returns a descriptor opened with flags. With content, the new one starts as a copy.
  Result<Fd> ReplaceInTree(const std::string& path, int flags, bool content);
  Status Mkdir(const std::string& path, mode_t mode);
  Status Rmdir(const std::string& path);
  // Removes the name from both layers.
  Status Unlink(const std::string& path);
  Status Rename(const std::string& from, const std::string& to);
  // The union, in creation order: what the real directory has first, then the tree's, oldest first.
  Result<std::vector<DirEntry>> List(const std::string& path) const;

  int tree() const { return tree_; }
  int real() const { return real_; }

 private:
  Result<Fd> ScratchCopy(int from_dir, const std::string& from, int flags, bool content,
                         std::string* name);

  int tree_;
  int real_;
  int scratch_;
};

// "" -> ".", for the *at calls.
inline const char* At(const std::string& path) { return path.empty() ? "." : path.c_str(); }

// Lists one directory: names in the order the kernel gives them. "." and ".." are left out.
Result<std::vector<DirEntry>> ListDirectory(int dir, const char* path, Layer layer);
// Removes everything below dir/path, and that itself. Goes on after errors and returns the first.
Status RemoveTree(int dir, const char* path);
// Copies all bytes of from to to.
Status CopyBytes(int from, int to);

}  // namespace capio

#endif  // CAPIO_STORE_LAYERS_H_
