// What a CAPIO-CL file says, as data: one Entry per pattern, and the Rule that a path gets from all
// of them.
#ifndef CAPIO_RULES_RULE_H_
#define CAPIO_RULES_RULE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace capio {

enum class CommitRule : uint8_t { kOnTermination = 0, kOnClose = 1, kOnFile = 2, kOnNFiles = 3 };
enum class FireRule : uint8_t { kUpdate = 0, kNoUpdate = 1 };
enum class Storage : uint8_t { kMemory = 0, kFs = 1 };

// One streaming clause: when a file (or directory listing) is final, and who may read it earlier.
struct Streaming {
  CommitRule commit = CommitRule::kOnTermination;
  FireRule fire = FireRule::kUpdate;
  uint32_t close_count = 1;  // on_close:N
  uint32_t n_files = 0;      // on_n_files: entries expected; 0: not given
  std::vector<std::string>
      dependencies;  // on_file: normalised relative patterns, sorted (see IsGlob)
  bool operator==(const Streaming&) const = default;
};

// Everything the file says about one pattern. Patterns are relative to CAPIO_DIR, normalised,
// without a leading
// '/'; CAPIO_DIR itself is "".
struct Entry {
  std::string pattern;        // if is_glob, as written; else the name itself, without escapes
  bool is_glob = false;       // holds an unescaped *, ? or [
  bool is_directory = false;  // named in a dirname clause
  bool permanent = false;
  bool excluded = false;
  std::optional<Storage> storage;
  std::optional<Streaming> streaming;
  std::vector<uint16_t> producers;  // indices into Workflow::apps
  std::vector<uint16_t> consumers;
  std::string home;  // home_node_policy: "create", "hashing", "manual:<node>", or ""
  bool operator==(const Entry&) const = default;
};

// A parsed CAPIO-CL file.
struct Workflow {
  std::string name;
  double version = 1;
  std::vector<std::string> apps;  // in order of first mention
  std::vector<Entry> entries;     // in order of first mention; {pattern, is_glob} is unique
  std::string configuration;      // v1.1: path of the TOML file, or ""
  std::vector<std::string> warnings;
  bool operator==(const Workflow&) const = default;
};

// What holds for one path: the sum of all matching entries. Streaming comes from the exact name,
// else from the longest matching pattern; producers and consumers are the union; permanent and
// excluded are true if any says so.
struct Rule {
  Streaming streaming;
  bool is_directory = false;
  bool permanent = false;
  bool excluded = false;
  Storage storage = Storage::kMemory;
  std::vector<uint16_t> producers;
  std::vector<uint16_t> consumers;
  // True if some step is declared to write the path: consumers then wait for it to exist.
  [[nodiscard]] bool declared() const { return !producers.empty(); }
};

}  // namespace capio

#endif  // CAPIO_RULES_RULE_H_
