#include "rules/cl_rule_list.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rules/cl_reader.h"
#include "rules/text.h"

namespace capio {
namespace {

class RuleListReader final : public ClReader {
 public:
  using ClReader::ClReader;

  Workflow Read() {
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
    std::optional<EntryPath> pattern;
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
};

}  // namespace

Workflow ReadClRuleList(const Document& document, std::string_view file_name, const ClPlace& place,
                        std::vector<ClDiagnostic>* errors) {
  return RuleListReader(document, file_name, place, errors).Read();
}

}  // namespace capio
