#include "rules/cl_reader.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "rules/checks.h"
#include "rules/text.h"

namespace capio {
namespace {

void SortByLine(std::vector<ClDiagnostic>* list) {
  std::stable_sort(list->begin(), list->end(),
                   [](const ClDiagnostic& a, const ClDiagnostic& b) { return a.line < b.line; });
}

}  // namespace

Workflow ClReader::Finish() {
  SortByLine(errors_);
  SortByLine(&warnings_);
  for (const ClDiagnostic& warning : warnings_) {
    workflow_.warnings.push_back(FormatDiagnostic(warning, file_name_));
  }
  return std::move(workflow_);
}

const Node* ClReader::Find(const Node& object, std::string_view key) const {
  for (const Node::Member& member : object.members) {
    if (member.key == key) return &At(member);
  }
  return nullptr;
}

void ClReader::CheckText(const Node& node, const std::string& pointer) {
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

bool ClReader::Expect(const Node& node, Kind kind, const std::string& pointer,
                      std::string_view wanted) {
  if (node.kind == kind) return true;
  Error(node.line, pointer, "found " + Describe(node) + "; write " + std::string(wanted));
  return false;
}

void ClReader::CheckKeys(const Node& object, const std::string& pointer, const Words& allowed) {
  std::unordered_set<std::string_view> reported;
  for (const Node::Member& member : object.members) {
    if (std::find(allowed.begin(), allowed.end(), member.key) != allowed.end()) continue;
    if (!reported.insert(member.key).second) continue;
    Error(member.line, pointer + "/" + EscapePointer(member.key),
          "unknown key " + Quoted(member.key) + "; allowed here: " + Choice(allowed) +
              Suggestion(member.key, allowed));
  }
}

std::optional<std::string> ClReader::ReadName(const Node& object, std::string_view key,
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

std::optional<EntryPath> ClReader::Normalise(const std::string& entry, int line,
                                             const std::string& pointer) {
  EntryPaths::Outcome outcome = paths_.Normalise(entry);
  if (!outcome.error.empty()) Error(line, pointer, std::move(outcome.error));
  if (!outcome.warning.empty()) Warn(line, pointer, std::move(outcome.warning));
  return std::move(outcome.path);
}

void ClReader::AddListed(const Node& node, const std::string& pointer, std::vector<Listed>* out) {
  if (auto group = groups_.find(node.text); group != groups_.end()) {
    for (const EntryPath& pattern : group->second.patterns) {
      out->push_back({pattern, node.line, pointer});
    }
  } else if (auto pattern = Normalise(node.text, node.line, pointer)) {
    out->push_back({*pattern, node.line, pointer});
  }
}

ClReader::Words ClReader::GroupNames() const {
  Words names;
  for (const auto& [name, group] : groups_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<ClReader::Listed> ClReader::ReadFiles(const Node& node, const std::string& pointer) {
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

std::vector<ClReader::Listed> ClReader::ReadFiles(const Node& object, std::string_view key,
                                                  const std::string& pointer) {
  const Node* node = Find(object, key);
  if (node == nullptr) return {};
  return ReadFiles(*node, pointer + "/" + std::string(key));
}

size_t ClReader::EntryFor(const EntryPath& pattern) {
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

void ClReader::GiveClause(const std::vector<Listed>& files, const Clause& clause) {
  for (const Listed& file : files) {
    const size_t index = EntryFor(file.path);
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

void ClReader::TakeDependencies(const std::vector<Listed>& named, Streaming* streaming) {
  std::vector<std::string>& names = streaming->dependencies;
  for (const Listed& file : named) {
    const EntryPath& pattern = file.path;
    names.push_back(pattern.is_glob ? pattern.text : EscapeGlob(pattern.text));
    if (!pattern.is_glob) known_names_.insert(pattern.text);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
}

std::optional<uint32_t> ClReader::ReadCount(std::string_view digits, std::string_view rule,
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

std::string ClReader::AllowedCommits(bool is_directory) {
  std::string text = "\"on_close\", \"on_close:N\", \"on_termination\", ";
  if (is_directory) text += "\"on_n_files\" with \"n_files\", ";
  return text + "or \"on_file\" with \"file_deps\"";
}

}  // namespace capio
