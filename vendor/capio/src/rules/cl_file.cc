#include "rules/cl_file.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "rules/checks.h"
#include "rules/cl_reader.h"
#include "rules/rule_set.h"
#include "rules/text.h"

namespace capio {
namespace {

class FileReader final : public ClReader {
 public:
  using ClReader::ClReader;

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

  [[nodiscard]] int configuration_line() const { return configuration_line_; }

 private:
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
      workflow_.entries[EntryFor(file.path)].permanent = true;
    }
    for (const Listed& file : ReadFiles(root, "exclude", "")) {
      workflow_.entries[EntryFor(file.path)].excluded = true;
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
      for (const EntryPath& pattern : group.patterns) {
        if (!pattern.is_glob) known_names_.insert(pattern.text);
      }
    }
  }

  // The files of a group, other groups expanded. Depth is bounded: every level opens another group.
  void Expand(const std::string& name, Group* group, int depth) {
    group->state = Group::State::kOpen;
    std::unordered_set<std::string> seen;
    const auto add = [&](const EntryPath& pattern) {
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
      for (const EntryPath& pattern : inner->second.patterns) add(pattern);
    }
    group->state = Group::State::kDone;
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
        AddStep(app, &workflow_.entries[EntryFor(file.path)].consumers);
      }
      for (const Listed& file : ReadFiles(step, "output_stream", pointer)) {
        AddStep(app, &workflow_.entries[EntryFor(file.path)].producers);
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

  // ---- Streaming

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

  // ---- Homes and storage

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
      const size_t index = EntryFor(file.path);
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
      const size_t index = EntryFor(file.path);
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

  int configuration_line_ = 0;
};

}  // namespace

Workflow ReadClFile(const Document& document, std::string_view file_name, const ClPlace& place,
                    std::vector<ClDiagnostic>* errors, int* configuration_line) {
  FileReader reader(document, file_name, place, errors);
  Workflow workflow = reader.Read();
  *configuration_line = reader.configuration_line();
  return workflow;
}

}  // namespace capio
