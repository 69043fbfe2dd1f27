// Following symbolic links over the union of the layers.
//
// The kernel follows a link within the file system that holds it. A link of the memory tree may
// lead to a file of CAPIO_DIR, and one of CAPIO_DIR to a file of the store; and either may lead out
// of both. So a path that may hold one is walked here, component by component, as
// path_resolution(7) says. Whoever walks a path does not lock it: a link that is changed meanwhile
// is followed as it was, or as it is.
#ifndef CAPIO_STORE_WALK_H_
#define CAPIO_STORE_WALK_H_

#include <string>
#include <string_view>

#include "store/layers.h"

namespace capio {

// The names of CAPIO_DIR: as given, resolved, and the memory tree's, where a link of ours may lead.
struct WalkRoots {
  std::string_view dir;
  std::string_view real_dir;
  std::string_view tree;
};

struct Walked {
  bool inside = false;   // CAPIO_DIR
  bool through = false;  // it has been there on the way
  std::string path;      // below it, or absolute; without links but for a last one not followed
};

// path: absolute, need not be normalised. follow: the last component, too. What does not exist is
// no error unless ".." leads out of it. ELOOP, ENOENT and ENOTDIR.
Result<Walked> Walk(const Layers& layers, const WalkRoots& roots, std::string_view path,
                    bool follow);

}  // namespace capio

#endif  // CAPIO_STORE_WALK_H_
