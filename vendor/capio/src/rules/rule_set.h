// The rules of a workflow, made ready to be asked about one path after the other.
#ifndef CAPIO_RULES_RULE_SET_H_
#define CAPIO_RULES_RULE_SET_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "os/status.h"
#include "rules/rule.h"

namespace capio {

// Patterns are those of fnmatch(3) with no flags: '*' is any run of characters, '/' included, '?'
// one character, [a-z], [!a-z], [^a-z] and [[:digit:]] one of a set, '\' takes the next character
// as it is. A leading dot is nothing special, and a '[' that is never closed is an ordinary
// character. A character is a UTF-8 sequence; a byte that belongs to none counts as one. Time is at
// most proportional to the product of the lengths.
bool GlobMatch(std::string_view pattern, std::string_view text);
// True if the pattern holds an unescaped *, ? or [.
bool IsGlob(std::string_view pattern);
// The name a pattern without wildcards stands for, and the pattern that stands for exactly that
// name.
std::string UnescapeGlob(std::string_view pattern);
std::string EscapeGlob(std::string_view name);

// Immutable after construction: any number of threads may ask. Paths are relative to CAPIO_DIR,
// normalised, without a leading '/'; CAPIO_DIR itself is "".
class RuleSet {
 public:
  RuleSet() = default;
  explicit RuleSet(Workflow workflow);
  // From the image the server put into shared memory (rule_image.h). EPROTO if it is corrupt.
  static Result<RuleSet> FromImage(std::span<const std::byte> image);

  // What holds for the path.
  //  - Streaming and is_directory: the entry with exactly this name, else the longest pattern that
  //  matches, among
  //    entries that have a streaming clause. Of equally long ones the first of Workflow::entries
  //    (see Conflicts).
  //  - Producers and consumers: all entries that match the path itself, ascending.
  //  - No pattern matches "", unless a streaming clause names it.
  //  - Permanent, excluded and storage hold for the path itself and, if the entry is a name and not
  //  a pattern, for
  //    everything below it: "dir" covers "dir/a/b", "" covers all. Storage comes from the exact
  //    name, else from the longest of these entries, of equally long ones the first.
  [[nodiscard]] Rule Match(std::string_view path) const;

  // The step's index in Workflow::apps.
  [[nodiscard]] std::optional<uint16_t> AppIndex(std::string_view app) const;

  // True if there is no entry at all.
  [[nodiscard]] bool empty() const { return workflow_.entries.empty(); }
  [[nodiscard]] const Workflow& workflow() const { return workflow_; }

  // The entry that Match takes the streaming from: an index into Workflow::entries.
  [[nodiscard]] std::optional<size_t> StreamingEntry(std::string_view path) const;
  // Two equally long patterns that match the path and ask for different streaming, where no longer
  // pattern and no exact name decides; the first of the pair is the one Match obeys.
  [[nodiscard]] std::optional<std::pair<size_t, size_t>> ConflictingEntries(
      std::string_view path) const;
  // The same as a sentence for the user.
  [[nodiscard]] std::optional<std::string> Conflicts(std::string_view path) const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  template <typename T>
  using Map = std::unordered_map<std::string, T, Hash, std::equal_to<>>;

  [[nodiscard]] const Entry* Exact(std::string_view path) const;
  [[nodiscard]] bool Fits(const Entry& glob, std::string_view path) const;

  Workflow workflow_;
  Map<size_t> exact_;          // name -> entry
  std::vector<size_t> globs_;  // entries that are patterns, the longest first, then in file order
  Map<uint16_t> apps_;
  bool inherits_ = false;      // some name may hold for what is below it
  bool root_streams_ = false;  // a streaming clause names CAPIO_DIR itself
};

}  // namespace capio

#endif  // CAPIO_RULES_RULE_SET_H_
