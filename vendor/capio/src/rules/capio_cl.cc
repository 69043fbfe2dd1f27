#include "rules/capio_cl.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "rules/checks.h"
#include "rules/json_tree.h"
#include "rules/rule_set.h"
#include "rules/text.h"

namespace capio {
namespace {

// ---- Paths

struct Component {
  std::string text;
  bool literal;  // part of CAPIO_DIR or of the prefix: no pattern
};

std::vector<std::string_view> SplitPath(std::string_view path) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; at < path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (end > at) parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

void AppendLiteral(std::string_view path, std::vector<Component>* to) {
  for (std::string_view part : SplitPath(path)) {
    if (part == ".") continue;
    if (part == "..") {
      if (!to->empty()) to->pop_back();
    } else {
      to->push_back({std::string(part), true});
    }
  }
}

bool EndsInLooseEscape(std::string_view pattern) {
  size_t escapes = 0;
  while (escapes < pattern.size() && pattern[pattern.size() - 1 - escapes] == '\\') ++escapes;
  return escapes % 2 == 1;
}

struct Pattern {
  std::string text;  // as in Entry::pattern
  bool is_glob = false;
};

// ---- The language

// A file named in a list, with the place to blame.
struct Listed {
  Pattern pattern;
  int line;
  std::string pointer;
};

class ClReader {
 public:
  ClReader(const Document& document, std::string_view file_name, const ClPlace& place,
           std::vector<ClDiagnostic>* errors)
      : document_(document), file_name_(file_name), capio_dir_(place.capio_dir), errors_(errors) {
    AppendLiteral(place.capio_dir, &root_);
    AppendLiteral(place.other_name, &other_root_);
    if (place.resolve_prefix.empty() || place.resolve_prefix.front() != '/') prefix_ = root_;
    AppendLiteral(place.resolve_prefix, &prefix_);
    prefix_inside_ = RootOf(prefix_).has_value();
  }

  Workflow Read() {
    CheckText(Root(), "");
    ReadRoot();
    const RuleSet rules(workflow_);
    CheckDependencies(rules);
    CheckTies(rules);
    CheckStorageTies(rules);
    WarnUnproduced();
    return Finish();
  }

  // Rules given one by one; see ReadRules.
  Workflow ReadList() {
    CheckText(Root(), "");
    if (Expect(Root(), Kind::kList, "", "a list of rules")) {
      for (size_t i = 0; i < Root().members.size(); ++i) {
        const Node& rule = At(Root().members[i]);
        const std::string pointer = "/" + std::to_string(i);
        if (Expect(rule, Kind::kObject, pointer, "a rule, {\"path\": ..., ...}")) {
          ReadRule(rule, pointer);
        }
      }
    }
    for (ClDiagnostic& error : *errors_) error.message = PlaceInList(error) + error.message;
    return Finish();
  }

  [[nodiscard]] int configuration_line() const { return configuration_line_; }

 private:
  // Nobody has seen the list as text: "rule "a.dat", fire: " for /0/fire.
  [[nodiscard]] std::string PlaceInList(const ClDiagnostic& error) const {
    const std::vector<std::string_view> parts = SplitPath(error.pointer);
    if (parts.empty()) return "rules: ";
    const Node& rule = At(Root().members[std::stoul(std::string(parts[0]))]);
    const Node* path = rule.kind == Kind::kObject ? Find(rule, "path") : nullptr;
    std::string text = path != nullptr && path->kind == Kind::kString
                           ? "rule " + Quoted(path->text)
                           : "rule " + std::string(parts[0]);
    if (parts.size() > 1 && parts[1] != "path") text += ", " + std::string(parts[1]);
    return text + ": ";
  }

  Workflow Finish() {
    SortByLine(errors_);
    SortByLine(&warnings_);
    for (const ClDiagnostic& warning : warnings_) {
      workflow_.warnings.push_back(FormatDiagnostic(warning, file_name_));
    }
    return std::move(workflow_);
  }

  using Kind = Node::Kind;
  using Words = std::vector<std::string_view>;

  struct EntryPlace {
    int streaming_line = 0;
    std::string streaming_pointer;
    bool doubtful = false;  // the clause holds an error: draw no conclusions from it
    int storage_line = 0;
    int home_line = 0;
  };

  struct Group {
    const Node* files = nullptr;
    std::string pointer;
    enum class State { kNew, kOpen, kDone } state = State::kNew;
    std::vector<Pattern> patterns;
  };

  // What one streaming object says, before it is given to its files.
  struct Clause {
    Streaming streaming;
    bool is_directory = false;
    bool doubtful = false;
  };

  [[nodiscard]] const Node& Root() const { return document_.nodes[0]; }
  [[nodiscard]] const Node& At(const Node::Member& member) const {
    return document_.nodes[member.node];
  }
  [[nodiscard]] const Node* Find(const Node& object, std::string_view key) const {
    for (const Node::Member& member : object.members) {
      if (member.key == key) return &At(member);
    }
    return nullptr;
  }

  static void SortByLine(std::vector<ClDiagnostic>* list) {
    std::stable_sort(list->begin(), list->end(),
                     [](const ClDiagnostic& a, const ClDiagnostic& b) { return a.line < b.line; });
  }
  void Error(int line, std::string pointer, std::string message) {
    errors_->push_back({line, 0, std::move(pointer), std::move(message)});
  }
  void Warn(int line, std::string pointer, std::string message) {
    warnings_.push_back({line, 0, std::move(pointer), std::move(message)});
  }

  // Duplicate keys and NUL characters, anywhere. The depth is bounded by kMaxDepth.
  void CheckText(const Node& node, const std::string& pointer) {
    if (node.kind == Kind::kString && node.text.find('\0') != std::string::npos) {
      Error(node.line, pointer, Quoted(node.text) + " holds a NUL character; leave it out");
    }
    std::unordered_map<std::string_view, int> seen;
    for (size_t i = 0; i < node.members.size(); ++i) {
      const Node::Member& member = node.members[i];
      std::string below = pointer + "/";
      if (node.kind == Kind::kObject) {
        below += EscapePointer(member.key);
        auto [first, is_new] = seen.emplace(member.key, member.line);
        if (!is_new) {
          Error(member.line, below,
                "the key " + Quoted(member.key) + " was already given at line " +
                    std::to_string(first->second) + "; give it once");
        }
      } else {
        below += std::to_string(i);
      }
      CheckText(At(member), below);
    }
  }

  bool Expect(const Node& node, Kind kind, const std::string& pointer, std::string_view wanted) {
    if (node.kind == kind) return true;
    Error(node.line, pointer, "found " + Describe(node) + "; write " + std::string(wanted));
    return false;
  }

  void CheckKeys(const Node& object, const std::string& pointer, const Words& allowed) {
    std::unordered_set<std::string_view> reported;
    for (const Node::Member& member : object.members) {
      if (std::find(allowed.begin(), allowed.end(), member.key) != allowed.end()) continue;
      if (!reported.insert(member.key).second) continue;
      Error(member.line, pointer + "/" + EscapePointer(member.key),
            "unknown key " + Quoted(member.key) + "; allowed here: " + Choice(allowed) +
                Suggestion(member.key, allowed));
    }
  }

  std::optional<std::string> ReadName(const Node& object, std::string_view key,
                                      const std::string& pointer, const std::string& what) {
    const Node* node = Find(object, key);
    if (node == nullptr) {
      Error(object.line, pointer, Quoted(key) + " is missing; write " + what);
      return std::nullopt;
    }
    const std::string at = pointer + "/" + std::string(key);
    if (!Expect(*node, Kind::kString, at, what)) return std::nullopt;
    if (node->text.empty()) {
      Error(node->line, at, "found \"\"; write " + what);
      return std::nullopt;
    }
    return node->text;
  }

  // ---- Lists of files

  static bool IsBelow(const std::vector<Component>& root, const std::vector<Component>& path) {
    if (path.size() < root.size()) return false;
    for (size_t i = 0; i < root.size(); ++i) {
      const Component& part = path[i];
      if (part.text == root[i].text) continue;
      if (part.literal || IsGlob(part.text) || UnescapeGlob(part.text) != root[i].text) {
        return false;
      }
    }
    return true;
  }

  // How many components of the path name CAPIO_DIR; nothing if the path is outside.
  [[nodiscard]] std::optional<size_t> RootOf(const std::vector<Component>& path) const {
    if (IsBelow(root_, path)) return root_.size();
    if (!other_root_.empty() && IsBelow(other_root_, path)) return other_root_.size();
    return std::nullopt;
  }

  // The entry relative to CAPIO_DIR; nothing if it is an error or to be ignored, which is then
  // reported.
  std::optional<Pattern> Normalise(const std::string& entry, int line, const std::string& pointer) {
    const auto fail = [&](const std::string& message) {
      Error(line, pointer, Quoted(entry) + " " + message);
      return std::nullopt;
    };
    if (entry.empty()) {
      return fail("is no file name; write a name or a pattern, or \".\" for CAPIO_DIR itself");
    }
    if (entry.find('\0') != std::string::npos) return std::nullopt;  // reported by CheckText
    if (EndsInLooseEscape(entry)) {
      return fail("ends in a backslash that escapes nothing; write two for a backslash in a name");
    }
    const bool absolute = entry.front() == '/';
    std::vector<Component> path;
    if (!absolute) path = prefix_;
    for (std::string_view part : SplitPath(entry)) {
      if (part == ".") continue;
      if (part != "..") {
        path.push_back({std::string(part), false});
        continue;
      }
      if (path.empty()) continue;
      if (!path.back().literal && IsGlob(path.back().text)) {
        return fail(
            "has \"..\" behind a pattern, so that it names no place; write the path without "
            "\"..\"");
      }
      path.pop_back();
    }
    const std::optional<size_t> root = RootOf(path);
    if (!root) {
      if (!absolute && prefix_inside_) {
        return fail("leaves CAPIO_DIR (" + Printable(capio_dir_) + "); name files inside it");
      }
      std::string message = Quoted(entry);
      if (!absolute) message += ", taken from the resolve prefix,";
      message += " is not inside CAPIO_DIR (" + Printable(capio_dir_) +
                 ") and is ignored; CAPIO handles only what is inside";
      const bool has_glob = std::any_of(path.begin(), path.end(), [](const Component& part) {
        return !part.literal && IsGlob(part.text);
      });
      if (has_glob) message += ", and patterns may only stand for what is below CAPIO_DIR";
      Warn(line, pointer, message);
      return std::nullopt;
    }
    Pattern result;
    for (size_t i = *root; i < path.size(); ++i) {
      if (i > *root) result.text += '/';
      result.text += path[i].literal ? EscapeGlob(path[i].text) : path[i].text;
    }
    result.is_glob = IsGlob(result.text);
    if (!result.is_glob) result.text = UnescapeGlob(result.text);
    return result;
  }

  // The files of a group, other groups expanded. Depth is bounded: every level opens another group.
  void Expand(const std::string& name, Group* group, int depth) {
    group->state = Group::State::kOpen;
    std::unordered_set<std::string> seen;
    const auto add = [&](const Pattern& pattern) {
      if (seen.insert((pattern.is_glob ? '*' : '=') + pattern.text).second) {
        group->patterns.push_back(pattern);
      }
    };
    for (size_t i = 0; i < group->files->members.size(); ++i) {
      const Node& node = At(group->files->members[i]);
      const std::string pointer = group->pointer + "/" + std::to_string(i);
      if (!Expect(node, Kind::kString, pointer, "a file name, a pattern or a group name")) continue;
      auto inner = groups_.find(node.text);
      if (inner == groups_.end()) {
        if (auto pattern = Normalise(node.text, node.line, pointer)) add(*pattern);
        continue;
      }
      if (inner->second.state == Group::State::kOpen) {
        Error(node.line, pointer,
              "the group " + Quoted(name) + " contains itself through " + Quoted(node.text) +
                  "; a group name inside a group stands for that group's files");
        continue;
      }
      if (inner->second.state == Group::State::kNew && depth >= kMaxDepth) {
        Error(node.line, pointer,
              "groups are nested more than " + std::to_string(kMaxDepth) +
                  " deep; list the files directly");
        continue;
      }
      if (inner->second.state == Group::State::kNew) {
        Expand(inner->first, &inner->second, depth + 1);
      }
      for (const Pattern& pattern : inner->second.patterns) add(pattern);
    }
    group->state = Group::State::kDone;
  }

  void AddListed(const Node& node, const std::string& pointer, std::vector<Listed>* out) {
    if (auto group = groups_.find(node.text); group != groups_.end()) {
      for (const Pattern& pattern : group->second.patterns) {
        out->push_back({pattern, node.line, pointer});
      }
    } else if (auto pattern = Normalise(node.text, node.line, pointer)) {
      out->push_back({*pattern, node.line, pointer});
    }
  }

  [[nodiscard]] Words GroupNames() const {
    Words names;
    for (const auto& [name, group] : groups_) names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }

  // A list of files, or the name of a group of them.
  std::vector<Listed> ReadFiles(const Node& node, const std::string& pointer) {
    std::vector<Listed> files;
    if (node.kind == Kind::kString) {
      if (groups_.contains(node.text)) {
        AddListed(node, pointer, &files);
      } else {
        Error(node.line, pointer,
              Quoted(node.text) + " is no group of \"aliases\"; write a list of files, [" +
                  Quoted(node.text) + "], or the name of a group" +
                  Suggestion(node.text, GroupNames()));
      }
      return files;
    }
    if (!Expect(node, Kind::kList, pointer, "a list of files or the name of a group")) return files;
    for (size_t i = 0; i < node.members.size(); ++i) {
      const Node& file = At(node.members[i]);
      const std::string at = pointer + "/" + std::to_string(i);
      if (Expect(file, Kind::kString, at, "a file name, a pattern or a group name")) {
        AddListed(file, at, &files);
      }
    }
    return files;
  }

  std::vector<Listed> ReadFiles(const Node& object, std::string_view key,
                                const std::string& pointer) {
    const Node* node = Find(object, key);
    if (node == nullptr) return {};
    return ReadFiles(*node, pointer + "/" + std::string(key));
  }

  size_t EntryFor(const Pattern& pattern) {
    std::string key = (pattern.is_glob ? '*' : '=') + pattern.text;
    auto [found, is_new] = index_.emplace(std::move(key), workflow_.entries.size());
    if (is_new) {
      Entry& entry = workflow_.entries.emplace_back();
      entry.pattern = pattern.text;
      entry.is_glob = pattern.is_glob;
      places_.emplace_back();
    }
    return found->second;
  }

  // ---- Sections

  void ReadRoot() {
    const Node& root = Root();
    if (!Expect(root, Kind::kObject, "", "a JSON object with \"name\" and \"IO_Graph\"")) return;
    CheckKeys(root, "",
              {"name", "version", "configuration", "aliases", "IO_Graph", "permanent", "exclude",
               "home_node_policy", "home_node_policies", "storage"});
    if (auto name = ReadName(root, "name", "", "the workflow's name, a string")) {
      workflow_.name = *name;
    }
    ReadVersion(root);
    ReadAliases(root);
    ReadGraph(root);
    for (const Listed& file : ReadFiles(root, "permanent", "")) {
      workflow_.entries[EntryFor(file.pattern)].permanent = true;
    }
    for (const Listed& file : ReadFiles(root, "exclude", "")) {
      workflow_.entries[EntryFor(file.pattern)].excluded = true;
    }
    ReadHomes(root, "home_node_policy");
    ReadHomes(root, "home_node_policies");
    ReadStorage(root);
  }

  void ReadVersion(const Node& root) {
    if (const Node* node = Find(root, "version"); node != nullptr) {
      if (node->kind == Kind::kNumber && (node->number == 1 || node->number == 1.1)) {
        workflow_.version = node->number;
      } else {
        const bool quoted = node->kind == Kind::kString &&
                            (node->text == "1" || node->text == "1.0" || node->text == "1.1");
        Error(node->line, "/version",
              "found " + Describe(*node) + "; write the number 1 or 1.1" +
                  (quoted ? ", without quotes" : ""));
        workflow_.version = 1.1;  // do not blame what may well be meant for it
      }
    }
    const Node* node = Find(root, "configuration");
    if (node == nullptr) return;
    if (!Expect(*node, Kind::kString, "/configuration", "the path of a TOML file")) return;
    if (workflow_.version < 1.1) {
      Error(node->line, "/configuration",
            "\"configuration\" is part of CAPIO-CL 1.1; add \"version\": 1.1 or remove it");
      return;
    }
    if (node->text.empty()) {
      Error(node->line, "/configuration", "found \"\"; write the path of a TOML file");
      return;
    }
    workflow_.configuration = node->text;
    configuration_line_ = node->line;
  }

  void ReadAliases(const Node& root) {
    const Node* list = Find(root, "aliases");
    if (list == nullptr) return;
    if (!Expect(*list, Kind::kList, "/aliases",
                "a list of {\"group_name\": ..., \"files\": [...]}")) {
      return;
    }
    std::unordered_map<std::string, int> lines;
    std::vector<std::string> order;
    for (size_t i = 0; i < list->members.size(); ++i) {
      const Node& node = At(list->members[i]);
      const std::string pointer = "/aliases/" + std::to_string(i);
      if (!Expect(node, Kind::kObject, pointer, "{\"group_name\": ..., \"files\": [...]}"))
        continue;
      CheckKeys(node, pointer, {"group_name", "files"});
      auto name = ReadName(node, "group_name", pointer, "the group's name, a string");
      const Node* files = Find(node, "files");
      if (files == nullptr) {
        Error(node.line, pointer, "\"files\" is missing; write the list of the group's files");
        continue;
      }
      if (!Expect(*files, Kind::kList, pointer + "/files", "a list of files") || !name) continue;
      auto [first, is_new] = lines.emplace(*name, node.line);
      if (!is_new) {
        Error(node.line, pointer + "/group_name",
              "the group " + Quoted(*name) + " is already defined at line " +
                  std::to_string(first->second) + "; choose another name or join the two");
        continue;
      }
      Group& group = groups_[*name];
      group.files = files;
      group.pointer = pointer + "/files";
      order.push_back(*name);
    }
    for (const std::string& name : order) {
      Group& group = groups_.at(name);
      if (group.state == Group::State::kNew) Expand(name, &group, 1);
      for (const Pattern& pattern : group.patterns) {
        if (!pattern.is_glob) known_names_.insert(pattern.text);
      }
    }
  }

  void ReadGraph(const Node& root) {
    const Node* list = Find(root, "IO_Graph");
    if (list == nullptr) {
      Error(root.line, "", "\"IO_Graph\" is missing; write the list of the workflow's steps");
      return;
    }
    if (!Expect(*list, Kind::kList, "/IO_Graph", "the list of the workflow's steps")) return;
    std::unordered_map<std::string, int> lines;
    for (size_t i = 0; i < list->members.size(); ++i) {
      const Node& step = At(list->members[i]);
      const std::string pointer = "/IO_Graph/" + std::to_string(i);
      if (!Expect(step, Kind::kObject, pointer, "a step, {\"name\": ..., ...}")) continue;
      CheckKeys(step, pointer, {"name", "input_stream", "output_stream", "streaming"});
      auto name = ReadName(step, "name", pointer, "the step's name, a string");
      std::optional<uint16_t> app;
      if (name) {
        auto [first, is_new] = lines.emplace(*name, step.line);
        if (!is_new) {
          Error(step.line, pointer + "/name",
                "the step " + Quoted(*name) + " is already defined at line " +
                    std::to_string(first->second) + "; join the two or choose another name");
        } else if (workflow_.apps.size() == std::numeric_limits<uint16_t>::max()) {
          Error(step.line, pointer, "more than 65535 steps; split the workflow");
          return;
        } else {
          app = static_cast<uint16_t>(workflow_.apps.size());
          workflow_.apps.push_back(*name);
        }
      }
      for (const Listed& file : ReadFiles(step, "input_stream", pointer)) {
        AddStep(app, &workflow_.entries[EntryFor(file.pattern)].consumers);
      }
      for (const Listed& file : ReadFiles(step, "output_stream", pointer)) {
        AddStep(app, &workflow_.entries[EntryFor(file.pattern)].producers);
      }
      ReadStreaming(step, pointer);
    }
  }

  // Steps come in ascending order, so the lists stay sorted.
  static void AddStep(std::optional<uint16_t> app, std::vector<uint16_t>* to) {
    if (app && (to->empty() || to->back() != *app)) to->push_back(*app);
  }

  void ReadStreaming(const Node& step, const std::string& step_pointer) {
    const Node* list = Find(step, "streaming");
    if (list == nullptr) return;
    const std::string list_pointer = step_pointer + "/streaming";
    if (!Expect(*list, Kind::kList, list_pointer, "a list of {\"name\": [...], ...}")) return;
    for (size_t i = 0; i < list->members.size(); ++i) {
      const Node& node = At(list->members[i]);
      const std::string pointer = list_pointer + "/" + std::to_string(i);
      if (!Expect(node, Kind::kObject, pointer,
                  "{\"name\": [...], ...} or {\"dirname\": [...], ...}")) {
        continue;
      }
      ReadClause(node, pointer);
    }
  }

  void ReadClause(const Node& node, const std::string& pointer) {
    CheckKeys(node, pointer, {"name", "dirname", "committed", "mode", "n_files", "file_deps"});
    const size_t errors_before = errors_->size();
    const Node* files = Find(node, "name");
    const Node* directories = Find(node, "dirname");
    if (files != nullptr && directories != nullptr) {
      Error(node.line, pointer,
            "both \"name\" and \"dirname\"; write one entry for the files and one for the "
            "directories");
    } else if (files == nullptr && directories == nullptr) {
      Error(node.line, pointer,
            "neither \"name\" nor \"dirname\"; say which files (name) or directories (dirname) are "
            "meant");
    }
    Clause clause;
    clause.is_directory = directories != nullptr;
    ReadCommit(node, pointer, &clause);
    ReadMode(node, pointer, &clause);
    clause.doubtful = errors_->size() > errors_before;
    if (files != nullptr) GiveClause(ReadFiles(*files, pointer + "/name"), clause);
    if (directories != nullptr && files == nullptr) {
      GiveClause(ReadFiles(*directories, pointer + "/dirname"), clause);
    }
  }

  void ReadMode(const Node& node, const std::string& pointer, Clause* clause) {
    const Node* mode = Find(node, "mode");
    if (mode == nullptr) return;
    if (mode->kind == Kind::kString && mode->text == "update") {
      clause->streaming.fire = FireRule::kUpdate;
    } else if (mode->kind == Kind::kString && mode->text == "no_update") {
      clause->streaming.fire = FireRule::kNoUpdate;
    } else {
      Error(
          mode->line, pointer + "/mode",
          "found " + Describe(*mode) +
              "; write \"update\" (read when committed) or \"no_update\" (read while it grows)" +
              (mode->kind == Kind::kString ? Suggestion(mode->text, {"update", "no_update"}) : ""));
    }
  }

  // The N of "on_close:N".
  std::optional<uint32_t> ReadCount(std::string_view digits, std::string_view rule,
                                    const Node& node, const std::string& pointer) {
    uint64_t value = 0;
    bool valid = !digits.empty();
    for (char c : digits) {
      valid = valid && c >= '0' && c <= '9';
      if (!valid) break;
      value = std::min<uint64_t>(value * 10 + static_cast<uint64_t>(c - '0'), uint64_t{1} << 32);
    }
    if (valid && value >= 1 && value <= std::numeric_limits<uint32_t>::max()) {
      return static_cast<uint32_t>(value);
    }
    Error(node.line, pointer,
          "found " + Quoted(node.text) + "; behind \"" + std::string(rule) +
              ":\" write a whole number from 1 to 4294967295");
    return std::nullopt;
  }

  void ReadCommit(const Node& node, const std::string& pointer, Clause* clause) {
    Streaming& streaming = clause->streaming;
    const Node* committed = Find(node, "committed");
    const std::string at = pointer + "/committed";
    std::vector<Listed> dependencies;
    bool on_file = false;
    bool dependency_failed = false;
    bool needs_n_files = false;
    if (committed != nullptr) {
      const std::string_view value = committed->text;
      const size_t colon = value.find(':');
      const std::string_view rule = value.substr(0, colon);
      const bool has_argument = colon != std::string_view::npos;
      const std::string_view argument = has_argument ? value.substr(colon + 1) : "";
      if (!Expect(*committed, Kind::kString, at, AllowedCommits(clause->is_directory))) {
        // Reported; on_termination stands in.
      } else if (rule == "on_termination" && !has_argument) {
        streaming.commit = CommitRule::kOnTermination;
      } else if (rule == "on_close") {
        streaming.commit = CommitRule::kOnClose;
        if (has_argument) {
          streaming.close_count = ReadCount(argument, rule, *committed, at).value_or(1);
        }
      } else if (rule == "on_file") {
        streaming.commit = CommitRule::kOnFile;
        on_file = true;
        const size_t errors_before = errors_->size();
        if (has_argument && argument.empty()) {
          Error(committed->line, at,
                "found \"on_file:\"; write a file name behind the colon, or \"on_file\" and "
                "\"file_deps\"");
        } else if (has_argument) {
          Node file;
          file.kind = Kind::kString;
          file.line = committed->line;
          file.text = argument;
          AddListed(file, at, &dependencies);
        }
        dependency_failed = errors_->size() > errors_before;
      } else if (rule == "on_n_files" || rule == "n_files") {
        streaming.commit = CommitRule::kOnNFiles;
        if (!clause->is_directory) {
          Error(committed->line, at,
                "found " + Quoted(value) +
                    "; only a directory is committed by its number of entries: use \"dirname\", or "
                    "write " +
                    AllowedCommits(false));
        } else if (has_argument) {
          streaming.n_files = ReadCount(argument, rule, *committed, at).value_or(1);
        } else {
          needs_n_files = true;
        }
      } else {
        Words words = {"on_close", "on_termination", "on_file"};
        if (clause->is_directory) words.push_back("on_n_files");
        Error(committed->line, at,
              "found " + Quoted(value) + "; write " + AllowedCommits(clause->is_directory) +
                  Suggestion(rule, words));
      }
    }
    ReadNFiles(node, pointer, needs_n_files ? committed : nullptr, committed == nullptr, clause);
    ReadDependencies(node, pointer, on_file, dependency_failed, std::move(dependencies), clause);

    if (clause->is_directory && streaming.commit == CommitRule::kOnClose) {
      if (streaming.n_files > 0) {
        streaming.commit = CommitRule::kOnNFiles;
      } else {
        streaming.commit = CommitRule::kOnTermination;
        Warn(committed->line, at,
             "nobody closes a directory, so " + Quoted(committed->text) +
                 " is taken as \"on_termination\"; write that, or \"on_n_files\" and \"n_files\"");
      }
      streaming.close_count = 1;
    }
  }

  static std::string AllowedCommits(bool is_directory) {
    std::string text = "\"on_close\", \"on_close:N\", \"on_termination\", ";
    if (is_directory) text += "\"on_n_files\" with \"n_files\", ";
    return text + "or \"on_file\" with \"file_deps\"";
  }

  // needed_by: the rule that cannot do without, or null.
  void ReadNFiles(const Node& node, const std::string& pointer, const Node* needed_by, bool no_rule,
                  Clause* clause) {
    Streaming& streaming = clause->streaming;
    const Node* count = Find(node, "n_files");
    const std::string at = pointer + "/n_files";
    if (count == nullptr) {
      if (needed_by != nullptr) {
        Error(node.line, pointer,
              "\"committed\": " + Quoted(needed_by->text) +
                  " without \"n_files\"; add the number of entries expected, "
                  "\"n_files\": N");
      }
      return;
    }
    if (!count->whole || *count->whole < 1 ||
        *count->whole > std::numeric_limits<uint32_t>::max()) {
      Error(count->line, at,
            "found " + Describe(*count) + "; write a whole number from 1 to 4294967295");
      return;
    }
    if (!clause->is_directory) {
      Error(
          count->line, at,
          "\"n_files\" is the number of entries of a directory, and this entry has no \"dirname\"; "
          "remove it or use \"dirname\"");
      return;
    }
    const auto value = static_cast<uint32_t>(*count->whole);
    if (streaming.n_files > 0 && streaming.n_files != value) {
      Error(count->line, at,
            "found " + Describe(*count) + ", but \"committed\" says " +
                std::to_string(streaming.n_files) + "; give the number once");
      return;
    }
    streaming.n_files = value;
    if (no_rule) streaming.commit = CommitRule::kOnNFiles;
  }

  // named: what stands behind "on_file:". failed: it was there, but was an error.
  void ReadDependencies(const Node& node, const std::string& pointer, bool on_file, bool failed,
                        std::vector<Listed> named, Clause* clause) {
    const Node* list = Find(node, "file_deps");
    const std::string at = pointer + "/file_deps";
    if (!on_file) {
      if (list != nullptr) {
        Error(list->line, at,
              "\"file_deps\" without \"committed\": \"on_file\"; add that or remove the list");
      }
      return;
    }
    const Node& committed = *Find(node, "committed");
    const size_t errors_before = errors_->size();
    if (list != nullptr) {
      std::vector<Listed> listed = ReadFiles(*list, at);
      named.insert(named.end(), listed.begin(), listed.end());
    } else if (committed.text == "on_file") {
      Error(node.line, pointer,
            "\"on_file\" without \"file_deps\"; add the files to wait for, \"file_deps\": [...]");
    }
    if (failed || errors_->size() > errors_before) return;
    if (named.empty()) {
      Error(list != nullptr ? list->line : committed.line,
            list != nullptr ? at : pointer + "/committed",
            "no file inside CAPIO_DIR to wait for; name at least one, or use another rule");
      return;
    }
    TakeDependencies(named, &clause->streaming);
  }

  void GiveClause(const std::vector<Listed>& files, const Clause& clause) {
    for (const Listed& file : files) {
      const size_t index = EntryFor(file.pattern);
      Entry& entry = workflow_.entries[index];
      EntryPlace& place = places_[index];
      if (!entry.streaming) {
        entry.streaming = clause.streaming;
        entry.is_directory = clause.is_directory;
        place.streaming_line = file.line;
        place.streaming_pointer = file.pointer;
        place.doubtful = clause.doubtful;
        continue;
      }
      if (place.doubtful || clause.doubtful) continue;
      Entry asked;
      asked.streaming = clause.streaming;
      asked.is_directory = clause.is_directory;
      if (asked.streaming == entry.streaming && asked.is_directory == entry.is_directory) continue;
      Error(file.line, file.pointer,
            Quoted(entry.pattern) + " has two different streaming clauses: (" +
                DescribeStreaming(asked) + ") here, (" + DescribeStreaming(entry) + ") at line " +
                std::to_string(place.streaming_line) + "; keep one of them");
    }
  }

  // ---- Rules given one by one

  std::optional<bool> ReadBool(const Node& object, std::string_view key,
                               const std::string& pointer) {
    const Node* node = Find(object, key);
    if (node == nullptr || node->kind == Kind::kNull) return std::nullopt;
    if (!Expect(*node, Kind::kBool, pointer + "/" + std::string(key), "true or false")) {
      return std::nullopt;
    }
    return node->text == "true";
  }

  // 0 is "not given", as it is for those who fill in every argument.
  uint32_t ReadWhole(const Node& object, std::string_view key, const std::string& pointer) {
    const Node* node = Find(object, key);
    if (node == nullptr || node->kind == Kind::kNull) return 0;
    if (node->whole && *node->whole <= std::numeric_limits<uint32_t>::max()) {
      return static_cast<uint32_t>(*node->whole);
    }
    Error(node->line, pointer + "/" + std::string(key),
          "found " + Describe(*node) + "; write a whole number from 1 to 4294967295");
    return 0;
  }

  void ReadSteps(const Node& object, std::string_view key, const std::string& pointer,
                 std::vector<uint16_t>* to) {
    const Node* list = Find(object, key);
    if (list == nullptr || list->kind == Kind::kNull) return;
    const std::string at = pointer + "/" + std::string(key);
    if (!Expect(*list, Kind::kList, at, "a list of app names")) return;
    for (size_t i = 0; i < list->members.size(); ++i) {
      const Node& node = At(list->members[i]);
      const std::string here = at + "/" + std::to_string(i);
      if (!Expect(node, Kind::kString, here, "the name of an app")) continue;
      if (node.text.empty()) {
        Error(node.line, here, "found \"\"; write the name of an app");
        continue;
      }
      std::vector<std::string>& apps = workflow_.apps;
      const auto known = std::find(apps.begin(), apps.end(), node.text);
      if (known == apps.end() && apps.size() == std::numeric_limits<uint16_t>::max()) {
        Error(node.line, here, "more than 65535 apps; split the workflow");
        return;
      }
      to->push_back(static_cast<uint16_t>(known - apps.begin()));
      if (known == apps.end()) apps.push_back(node.text);
    }
    std::sort(to->begin(), to->end());
    to->erase(std::unique(to->begin(), to->end()), to->end());
  }

  void ReadRule(const Node& rule, const std::string& pointer) {
    CheckKeys(
        rule, pointer,
        {"path", "committed", "fire", "close_count", "directory_n_file_expected", "is_directory",
         "is_permanent", "is_excluded", "producers", "consumers", "file_dependencies"});
    const size_t errors_before = errors_->size();
    const auto path = ReadName(rule, "path", pointer, "a file name or a pattern");
    std::optional<Pattern> pattern;
    if (path) pattern = Normalise(*path, rule.line, pointer + "/path");
    std::optional<Clause> clause = ReadRuleClause(rule, pointer);
    std::vector<uint16_t> producers;
    std::vector<uint16_t> consumers;
    ReadSteps(rule, "producers", pointer, &producers);
    ReadSteps(rule, "consumers", pointer, &consumers);
    const bool permanent = ReadBool(rule, "is_permanent", pointer).value_or(false);
    const bool excluded = ReadBool(rule, "is_excluded", pointer).value_or(false);
    if (!pattern || errors_->size() > errors_before) return;
    if (clause) GiveClause({{*pattern, rule.line, pointer}}, *clause);
    Entry& entry = workflow_.entries[EntryFor(*pattern)];
    entry.permanent = entry.permanent || permanent;
    entry.excluded = entry.excluded || excluded;
    AddSteps(producers, &entry.producers);
    AddSteps(consumers, &entry.consumers);
  }

  static void AddSteps(const std::vector<uint16_t>& from, std::vector<uint16_t>* to) {
    to->insert(to->end(), from.begin(), from.end());
    std::sort(to->begin(), to->end());
    to->erase(std::unique(to->begin(), to->end()), to->end());
  }

  // What the rule says of commit and fire; nothing if it does not speak of them.
  std::optional<Clause> ReadRuleClause(const Node& rule, const std::string& pointer) {
    const auto given = [&](std::string_view key) -> const Node* {
      const Node* node = Find(rule, key);
      return node == nullptr || node->kind == Kind::kNull ? nullptr : node;
    };
    const Node* committed = given("committed");
    const Node* fire = given("fire");
    const Node* dependencies = given("file_dependencies");
    const uint32_t close_count = ReadWhole(rule, "close_count", pointer);
    const uint32_t n_files = ReadWhole(rule, "directory_n_file_expected", pointer);
    const std::optional<bool> directory = ReadBool(rule, "is_directory", pointer);

    Clause clause;
    Streaming& streaming = clause.streaming;
    const std::string at = pointer + "/committed";
    std::string_view word;
    std::string_view argument;
    bool has_argument = false;
    if (committed != nullptr && Expect(*committed, Kind::kString, at, AllowedCommits(true))) {
      word = committed->text;
      if (const size_t colon = word.find(':'); colon != std::string_view::npos) {
        argument = word.substr(colon + 1);
        word = word.substr(0, colon);
        has_argument = true;
      }
    }
    const bool by_count = word == "on_n_files" || word == "n_files";
    clause.is_directory = directory.value_or(by_count || n_files > 0);
    if (!clause.is_directory && (by_count || n_files > 0)) {
      Error(rule.line, by_count ? at : pointer + "/directory_n_file_expected",
            "only a directory has a number of entries; leave out \"is_directory\" or make it true");
    }
    streaming.n_files = n_files;
    if (committed == nullptr) {
      if (n_files > 0) streaming.commit = CommitRule::kOnNFiles;
    } else if (by_count) {
      streaming.commit = CommitRule::kOnNFiles;
      const uint32_t count =
          has_argument ? ReadCount(argument, word, *committed, at).value_or(1) : n_files;
      if (count == 0) {
        Error(committed->line, at,
              Quoted(word) + " without the number of entries; add \"directory_n_file_expected\"");
      } else if (n_files > 0 && n_files != count) {
        Error(committed->line, at,
              "found " + Quoted(committed->text) + ", but \"directory_n_file_expected\" is " +
                  std::to_string(n_files) + "; give the number once");
      }
      streaming.n_files = count;
    } else if (word == "on_close") {
      streaming.commit = CommitRule::kOnClose;
      if (has_argument) {
        streaming.close_count = ReadCount(argument, word, *committed, at).value_or(1);
      }
      if (has_argument && close_count > 0 && close_count != streaming.close_count) {
        Error(committed->line, at,
              "found " + Quoted(committed->text) + ", but \"close_count\" is " +
                  std::to_string(close_count) + "; give the number once");
      }
      if (close_count > 0) streaming.close_count = close_count;
    } else if (word == "on_file") {
      streaming.commit = CommitRule::kOnFile;
    } else if (committed->kind == Kind::kString && (word != "on_termination" || has_argument)) {
      Error(committed->line, at,
            "found " + Quoted(committed->text) +
                "; write \"on_close\", \"on_close:N\", \"on_termination\", \"on_n_files\" with "
                "\"directory_n_file_expected\", or \"on_file\" with \"file_dependencies\"" +
                Suggestion(word, {"on_close", "on_termination", "on_file", "on_n_files"}));
    }
    if (close_count > 1 && streaming.commit != CommitRule::kOnClose) {
      Error(rule.line, pointer + "/close_count",
            "\"close_count\" counts for \"committed\": \"on_close\" only; add that or remove it");
    }
    ReadRuleDependencies(rule, pointer, committed, has_argument ? &argument : nullptr, dependencies,
                         &streaming);
    if (fire != nullptr) {
      const std::string here = pointer + "/fire";
      if (fire->kind == Kind::kString && fire->text == "no_update") {
        streaming.fire = FireRule::kNoUpdate;
      } else if (fire->kind != Kind::kString || fire->text != "update") {
        Error(fire->line, here,
              "found " + Describe(*fire) +
                  "; write \"update\" (read when committed) or \"no_update\" (read while it "
                  "grows)" +
                  (fire->kind == Kind::kString ? Suggestion(fire->text, {"update", "no_update"})
                                               : ""));
      }
    }
    if (clause.is_directory && streaming.commit == CommitRule::kOnClose) {
      if (streaming.n_files == 0) {
        Error(rule.line, at,
              "nobody closes a directory; write \"on_termination\", or \"on_n_files\" and "
              "\"directory_n_file_expected\"");
      }
      streaming.commit = CommitRule::kOnNFiles;
      streaming.close_count = 1;
    }
    if (committed == nullptr && fire == nullptr && dependencies == nullptr && n_files == 0 &&
        !directory.value_or(false)) {
      return std::nullopt;
    }
    return clause;
  }

  // argument: what stands behind "on_file:", or null.
  void ReadRuleDependencies(const Node& rule, const std::string& pointer, const Node* committed,
                            const std::string_view* argument, const Node* list,
                            Streaming* streaming) {
    const std::string at = pointer + "/file_dependencies";
    if (streaming->commit != CommitRule::kOnFile) {
      // An empty list is what those write who fill in every argument.
      if (list != nullptr && (list->kind != Kind::kList || !list->members.empty())) {
        Error(list->line, at,
              "\"file_dependencies\" without \"committed\": \"on_file\"; add that or remove the "
              "list");
      }
      return;
    }
    const size_t errors_before = errors_->size();
    std::vector<Listed> named;
    if (list != nullptr) named = ReadFiles(*list, at);
    if (argument != nullptr) {
      if (auto pattern =
              Normalise(std::string(*argument), committed->line, pointer + "/committed")) {
        named.push_back({*pattern, committed->line, pointer + "/committed"});
      }
    }
    if (named.empty() && errors_->size() == errors_before) {
      Error(rule.line, at,
            "\"on_file\" without a file inside CAPIO_DIR to wait for; add "
            "\"file_dependencies\": [...]");
    }
    TakeDependencies(named, streaming);
  }

  void TakeDependencies(const std::vector<Listed>& named, Streaming* streaming) {
    std::vector<std::string>& names = streaming->dependencies;
    for (const Listed& file : named) {
      const Pattern& pattern = file.pattern;
      names.push_back(pattern.is_glob ? pattern.text : EscapeGlob(pattern.text));
      if (!pattern.is_glob) known_names_.insert(pattern.text);
    }
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
  }

  void ReadHomes(const Node& root, std::string_view key) {
    const Node* policies = Find(root, key);
    if (policies == nullptr) return;
    const std::string pointer = "/" + std::string(key);
    if (!Expect(*policies, Kind::kObject, pointer,
                "an object with \"create\", \"hashing\" or \"manual\"")) {
      return;
    }
    CheckKeys(*policies, pointer, {"create", "hashing", "manual"});
    for (std::string_view policy : {"create", "hashing"}) {
      GiveHome(ReadFiles(*policies, policy, pointer), std::string(policy));
    }
    const Node* manual = Find(*policies, "manual");
    if (manual == nullptr) return;
    const std::string list_pointer = pointer + "/manual";
    constexpr std::string_view kShape = "{\"name\": [...], \"app_node\": ...}";
    if (!Expect(*manual, Kind::kList, list_pointer, "a list of " + std::string(kShape))) return;
    for (size_t i = 0; i < manual->members.size(); ++i) {
      const Node& node = At(manual->members[i]);
      const std::string at = list_pointer + "/" + std::to_string(i);
      if (!Expect(node, Kind::kObject, at, kShape)) continue;
      CheckKeys(node, at, {"name", "app_node"});
      const auto app_node = ReadName(node, "app_node", at, "the node's logical name, a string");
      if (Find(node, "name") == nullptr) {
        Error(node.line, at, "\"name\" is missing; write the list of files");
      }
      std::vector<Listed> files = ReadFiles(node, "name", at);
      if (app_node) GiveHome(files, "manual:" + *app_node);
    }
  }

  void GiveHome(const std::vector<Listed>& files, const std::string& home) {
    for (const Listed& file : files) {
      const size_t index = EntryFor(file.pattern);
      Entry& entry = workflow_.entries[index];
      if (entry.home.empty()) {
        entry.home = home;
        places_[index].home_line = file.line;
      } else if (entry.home != home) {
        Error(file.line, file.pointer,
              Quoted(entry.pattern) + " has two home node policies: " + Quoted(home) + " here, " +
                  Quoted(entry.home) + " at line " + std::to_string(places_[index].home_line) +
                  "; keep one of them");
      }
    }
  }

  void ReadStorage(const Node& root) {
    const Node* storage = Find(root, "storage");
    if (storage == nullptr) return;
    if (!Expect(*storage, Kind::kObject, "/storage", "an object with \"memory\" or \"fs\"")) return;
    CheckKeys(*storage, "/storage", {"memory", "fs"});
    GiveStorage(ReadFiles(*storage, "memory", "/storage"), Storage::kMemory);
    GiveStorage(ReadFiles(*storage, "fs", "/storage"), Storage::kFs);
  }

  void GiveStorage(const std::vector<Listed>& files, Storage storage) {
    for (const Listed& file : files) {
      const size_t index = EntryFor(file.pattern);
      Entry& entry = workflow_.entries[index];
      if (!entry.storage) {
        entry.storage = storage;
        places_[index].storage_line = file.line;
      } else if (*entry.storage != storage) {
        Error(file.line, file.pointer,
              Quoted(entry.pattern) + " is in \"fs\" and, at line " +
                  std::to_string(places_[index].storage_line) +
                  ", in \"memory\"; keep one of them");
      }
    }
  }

  // ---- What only the whole file shows

  // Names written out anywhere in the file.
  [[nodiscard]] std::vector<std::string> ConcreteNames() const {
    std::unordered_set<std::string> all = known_names_;
    for (const Entry& entry : workflow_.entries) {
      if (!entry.is_glob) all.insert(entry.pattern);
    }
    std::vector<std::string> names(all.begin(), all.end());
    std::sort(names.begin(), names.end());
    return names;
  }

  [[nodiscard]] std::vector<bool> Doubtful() const {
    std::vector<bool> doubtful;
    for (const EntryPlace& place : places_) doubtful.push_back(place.doubtful);
    return doubtful;
  }

  void CheckDependencies(const RuleSet& rules) {
    for (const std::vector<size_t>& cycle : DependencyCycles(rules, ConcreteNames(), Doubtful())) {
      const EntryPlace& place = places_[cycle.front()];
      Error(place.streaming_line, place.streaming_pointer,
            "on_file dependencies form a cycle, so that none of these is ever committed: " +
                CycleText(workflow_, cycle) + "; remove one of the dependencies");
    }
  }

  void CheckTies(const RuleSet& rules) {
    for (const Tie& tie : Ties(rules, ConcreteNames(), Doubtful())) {
      const Entry& first = workflow_.entries[tie.first];
      const Entry& second = workflow_.entries[tie.second];
      const EntryPlace& place = places_[tie.second];
      const std::string patterns = "the equally long patterns " + Quoted(first.pattern) + " (" +
                                   DescribeStreaming(first) + ", line " +
                                   std::to_string(places_[tie.first].streaming_line) + ") and " +
                                   Quoted(second.pattern) + " (" + DescribeStreaming(second) + ")";
      Error(place.streaming_line, place.streaming_pointer,
            tie.is_example
                ? patterns + " disagree on every path that matches both, such as " +
                      Quoted(tie.path) +
                      "; make one of them longer, or give such paths a longer pattern of their own"
                : Quoted(tie.path) + " matches " + patterns +
                      "; make one of them longer or name the file in a clause of its own");
    }
  }

  void CheckStorageTies(const RuleSet& rules) {
    for (const Tie& tie : StorageTies(rules, ConcreteNames())) {
      const EntryPlace& first = places_[tie.first];
      const EntryPlace& second = places_[tie.second];
      const bool first_in_fs = workflow_.entries[tie.first].storage == Storage::kFs;
      Error(std::max(first.storage_line, second.storage_line), "/storage",
            Quoted(tie.path) + (tie.is_example ? ", for example," : "") +
                " matches the equally long patterns " +
                Quoted(workflow_.entries[tie.first].pattern) + " (" +
                (first_in_fs ? "fs" : "memory") + ") and " +
                Quoted(workflow_.entries[tie.second].pattern) + " (" +
                (first_in_fs ? "memory" : "fs") + "); make one of them longer");
    }
  }

  // A clause for something nobody is declared to write is most often a forgotten output_stream.
  void WarnUnproduced() {
    const std::vector<Entry>& entries = workflow_.entries;
    std::vector<const Entry*> glob_outputs;
    std::vector<const Entry*> named_outputs;
    for (const Entry& entry : entries) {
      if (!entry.producers.empty())
        (entry.is_glob ? glob_outputs : named_outputs).push_back(&entry);
    }
    for (size_t i = 0; i < entries.size(); ++i) {
      const Entry& entry = entries[i];
      if (!entry.streaming || !entry.producers.empty() || places_[i].doubtful) continue;
      const auto covers = [&](const Entry* output) {
        return GlobMatch(output->pattern, entry.pattern) ||
               (entry.is_glob && GlobMatch(entry.pattern, output->pattern));
      };
      if (std::any_of(glob_outputs.begin(), glob_outputs.end(), covers)) continue;
      if (entry.is_glob && std::any_of(named_outputs.begin(), named_outputs.end(), covers))
        continue;
      Warn(places_[i].streaming_line, places_[i].streaming_pointer,
           Quoted(entry.pattern) +
               " has a streaming clause but is in no \"output_stream\": nobody waits for it to be "
               "created; add it to the step that writes it");
    }
  }

  const Document& document_;
  const std::string_view file_name_;
  const std::string_view capio_dir_;
  std::vector<ClDiagnostic>* errors_;
  std::vector<ClDiagnostic> warnings_;
  std::vector<Component> root_;        // CAPIO_DIR
  std::vector<Component> other_root_;  // its other name, or empty
  std::vector<Component> prefix_;      // what relative entries are taken from
  bool prefix_inside_ = false;         // prefix_ is below CAPIO_DIR
  int configuration_line_ = 0;
  Workflow workflow_;
  std::vector<EntryPlace> places_;                 // one per entry
  std::unordered_map<std::string, size_t> index_;  // '*' or '=' and the pattern -> entry
  std::unordered_map<std::string, Group> groups_;
  std::unordered_set<std::string> known_names_;  // names in aliases and file_deps
};

}  // namespace

std::string FormatDiagnostic(const ClDiagnostic& diagnostic, std::string_view file_name) {
  std::string text = Printable(file_name) + ": line " + std::to_string(diagnostic.line);
  if (diagnostic.column > 0) text += ", column " + std::to_string(diagnostic.column);
  if (!diagnostic.pointer.empty()) text += ", " + Printable(diagnostic.pointer);
  return text + ": " + Printable(diagnostic.message);
}

namespace {

// Runs read(document), which finds errors, unless the text is no JSON.
template <typename Read>
Result<Workflow> ReadJson(std::string_view text, std::string_view file_name, const ClPlace& place,
                          std::vector<ClDiagnostic>* errors, Read read) {
  errors->clear();
  if (place.capio_dir.empty() || place.capio_dir.front() != '/') {
    return Status::Error(EINVAL,
                         "CAPIO_DIR must be an absolute path to read a CAPIO-CL file for it");
  }
  try {
    const Document document = ParseJson(text);
    if (document.syntax_error) {
      errors->push_back(*document.syntax_error);
      return Workflow();
    }
    ClReader reader(document, file_name, place, errors);
    return read(&reader);
  } catch (const std::bad_alloc&) {
    return Status::Error(ENOMEM);
  } catch (const std::exception& error) {
    return Status::Error(EINVAL, Printable(file_name) + ": " + error.what());
  }
}

}  // namespace

Result<Workflow> ReadCapioCl(std::string_view text, std::string_view file_name,
                             const ClPlace& place, std::vector<ClDiagnostic>* errors,
                             int* configuration_line) {
  return ReadJson(text, file_name, place, errors, [&](ClReader* reader) {
    Workflow workflow = reader->Read();
    if (configuration_line != nullptr) *configuration_line = reader->configuration_line();
    return workflow;
  });
}

std::string FormatDiagnostics(const std::vector<ClDiagnostic>& diagnostics,
                              std::string_view file_name) {
  std::string lines;
  for (const ClDiagnostic& diagnostic : diagnostics) {
    if (!lines.empty()) lines += '\n';
    lines += FormatDiagnostic(diagnostic, file_name);
  }
  return lines;
}

Result<Workflow> ParseCapioCl(std::string_view text, std::string_view file_name,
                              const ClPlace& place) {
  std::vector<ClDiagnostic> errors;
  Result<Workflow> workflow = ReadCapioCl(text, file_name, place, &errors);
  if (!workflow.ok() || errors.empty()) return workflow;
  return Status::Error(EINVAL, FormatDiagnostics(errors, file_name));
}

Result<Workflow> ParseRules(std::string_view json, const ClPlace& place) {
  std::vector<ClDiagnostic> errors;
  Result<Workflow> workflow =
      ReadJson(json, "rules", place, &errors, [](ClReader* reader) { return reader->ReadList(); });
  if (!workflow.ok() || errors.empty()) return workflow;
  std::string lines;
  for (const ClDiagnostic& error : errors) {
    if (!lines.empty()) lines += '\n';
    lines += error.column > 0 ? FormatDiagnostic(error, "rules") : Printable(error.message);
  }
  return Status::Error(EINVAL, std::move(lines));
}

}  // namespace capio
