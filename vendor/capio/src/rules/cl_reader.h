// What reading a CAPIO-CL file and reading single rules have in common: errors with their places,
// lists of files, and the entries that are made of them.
#ifndef CAPIO_RULES_CL_READER_H_
#define CAPIO_RULES_CL_READER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "rules/capio_cl.h"
#include "rules/entry_path.h"
#include "rules/json_tree.h"

namespace capio {

class ClReader {
 public:
  ClReader(const Document& document, std::string_view file_name, const ClPlace& place,
           std::vector<ClDiagnostic>* errors)
      : document_(document), file_name_(file_name), paths_(place), errors_(errors) {}
  ClReader(const ClReader&) = delete;
  ClReader& operator=(const ClReader&) = delete;

 protected:
  using Kind = Node::Kind;
  using Words = std::vector<std::string_view>;

  // A file named in a list, with the place to blame.
  struct Listed {
    EntryPath path;
    int line;
    std::string pointer;
  };

  // Where the things said of an entry stand.
  struct EntryPlace {
    int streaming_line = 0;
    std::string streaming_pointer;
    bool doubtful = false;  // the clause holds an error: draw no conclusions from it
    int storage_line = 0;
    int home_line = 0;
  };

  // A group of "aliases".
  struct Group {
    const Node* files = nullptr;
    std::string pointer;
    enum class State { kNew, kOpen, kDone } state = State::kNew;
    std::vector<EntryPath> patterns;
  };

  // What one streaming object says, before it is given to its files.
  struct Clause {
    Streaming streaming;
    bool is_directory = false;
    bool doubtful = false;
  };

  ~ClReader() = default;

  // What was read, with the warnings in the order of the text.
  Workflow Finish();

  [[nodiscard]] const Node& Root() const { return document_.nodes[0]; }
  [[nodiscard]] const Node& At(const Node::Member& member) const {
    return document_.nodes[member.node];
  }
  // Null if the object has no such key.
  [[nodiscard]] const Node* Find(const Node& object, std::string_view key) const;

  void Error(int line, std::string pointer, std::string message) {
    errors_->push_back({line, 0, std::move(pointer), std::move(message)});
  }

  void Warn(int line, std::string pointer, std::string message) {
    warnings_.push_back({line, 0, std::move(pointer), std::move(message)});
  }
  // Duplicate keys and NUL characters, anywhere. The depth is bounded by kMaxDepth.
  void CheckText(const Node& node, const std::string& pointer);
  // Reports a node of another kind.
  bool Expect(const Node& node, Kind kind, const std::string& pointer, std::string_view wanted);
  void CheckKeys(const Node& object, const std::string& pointer, const Words& allowed);
  // A string that is required.
  std::optional<std::string> ReadName(const Node& object, std::string_view key,
                                      const std::string& pointer, const std::string& what);

  // The entry relative to CAPIO_DIR; nothing if it is an error or to be ignored, which is then
  // reported.
  std::optional<EntryPath> Normalise(const std::string& entry, int line,
                                     const std::string& pointer);
  // Adds what one string of a list stands for.
  void AddListed(const Node& node, const std::string& pointer, std::vector<Listed>* out);
  // A list of files, or the name of a group of them.
  std::vector<Listed> ReadFiles(const Node& node, const std::string& pointer);
  // The list under a key, which may be absent.
  std::vector<Listed> ReadFiles(const Node& object, std::string_view key,
                                const std::string& pointer);

  // Index of the entry of a path, made if it is new.
  size_t EntryFor(const EntryPath& pattern);
  void GiveClause(const std::vector<Listed>& files, const Clause& clause);
  void TakeDependencies(const std::vector<Listed>& named, Streaming* streaming);
  // The N of "on_close:N".
  std::optional<uint32_t> ReadCount(std::string_view digits, std::string_view rule,
                                    const Node& node, const std::string& pointer);
  static std::string AllowedCommits(bool is_directory);

  const Document& document_;
  const std::string_view file_name_;
  const EntryPaths paths_;
  std::vector<ClDiagnostic>* errors_;
  std::vector<ClDiagnostic> warnings_;
  Workflow workflow_;
  std::vector<EntryPlace> places_;                 // one per entry
  std::unordered_map<std::string, size_t> index_;  // '*' or '=' and the pattern -> entry
  std::unordered_map<std::string, Group> groups_;
  std::unordered_set<std::string> known_names_;  // names in aliases and file_deps

 private:
  [[nodiscard]] Words GroupNames() const;
};

}  // namespace capio

#endif  // CAPIO_RULES_CL_READER_H_
