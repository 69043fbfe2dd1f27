// The hidden tree CAPIO_DIR/.capio/<workflow>/tree: files of the store that are kept on disk, so
// that publishing one in CAPIO_DIR is a rename.
//
// While nothing has ever been put into it, nobody looks there: the header says so in one word,
// which is raised before the first directory is made.
#ifndef CAPIO_STORE_FS_TREE_H_
#define CAPIO_STORE_FS_TREE_H_

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "os/os.h"
#include "os/status.h"

namespace capio {

class FsTree {
 public:
  // real: CAPIO_DIR, the caller's. in_use: the word of the header.
  FsTree(int real, std::string_view workflow, std::atomic<uint32_t>* in_use);
  ~FsTree();
  FsTree(const FsTree&) = delete;
  FsTree& operator=(const FsTree&) = delete;

  // Descriptors of the tree and of a place for files not yet named; -1 while there is none.
  int dir() const;
  int scratch() const;
  // Makes both if they are not there.
  Status Make();
  // "<relative>/tree" below CAPIO_DIR.
  [[nodiscard]] std::string path() const { return base_ + "/" + tree_; }
  // Something of an earlier run lies there.
  [[nodiscard]] bool Leftover() const;
  // Moves that to CAPIO_DIR/.capio/salvage, since nobody knows whether it is complete. Sets *to,
  // below CAPIO_DIR, if there was a file in it.
  Status SetAside(std::string* to);
  // Removes it with everything in it, and the directories above it that are empty then.
  void Remove();

  // For a store of an earlier run that is set aside: puts its tree beside the place of the next
  // one's. id: of that store, whose records alone know what is in it.
  Status SetApart(uint64_t id);
  // Where SetApart of another process has put it.
  void LookApart(uint64_t id);
  // Trees that were put apart, but for those of these ids: nobody knows their files any more. Moves
  // them as SetAside does.
  std::vector<std::string> SetAsideOrphans(const std::vector<uint64_t>& known);

 private:
  bool Open() const;
  // Moves a tree below base_ to the salvage directory, if there is a file in it.
  Status Keep(const std::string& tree, std::string* to);
  void RemoveEmptyParents();

  int real_;
  std::string base_;  // ".capio/<workflow>"
  std::string tree_ = "tree";
  std::atomic<uint32_t>* in_use_;
  mutable std::atomic<int> dir_{-1};
  mutable std::atomic<int> scratch_{-1};
};

}  // namespace capio

#endif  // CAPIO_STORE_FS_TREE_H_
