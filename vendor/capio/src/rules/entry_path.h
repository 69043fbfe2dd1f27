// The names in a CAPIO-CL file, and what they mean inside CAPIO_DIR.
#ifndef CAPIO_RULES_ENTRY_PATH_H_
#define CAPIO_RULES_ENTRY_PATH_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/capio_cl.h"

namespace capio {

// A file or a pattern, relative to CAPIO_DIR.
struct EntryPath {
  std::string text;  // as in Entry::pattern
  bool is_glob = false;
};

struct PathComponent {
  std::string text;
  bool literal;  // part of CAPIO_DIR or of the prefix: no pattern
};

// The components of a path, without empty ones.
std::vector<std::string_view> SplitPath(std::string_view path);

// Takes names as a file or a program writes them to paths relative to CAPIO_DIR.
class EntryPaths {
 public:
  explicit EntryPaths(const ClPlace& place);

  // No path: an error, or an entry to be ignored, with a warning.
  struct Outcome {
    std::optional<EntryPath> path;
    std::string error;
    std::string warning;
  };
  [[nodiscard]] Outcome Normalise(const std::string& entry) const;

 private:
  // How many components of the path name CAPIO_DIR; nothing if the path is outside.
  [[nodiscard]] std::optional<size_t> RootOf(const std::vector<PathComponent>& path) const;

  std::string_view capio_dir_;
  std::vector<PathComponent> root_;        // CAPIO_DIR
  std::vector<PathComponent> other_root_;  // its other name, or empty
  std::vector<PathComponent> prefix_;      // what relative entries are taken from
  bool prefix_inside_ = false;             // prefix_ is below CAPIO_DIR
};

}  // namespace capio

#endif  // CAPIO_RULES_ENTRY_PATH_H_
