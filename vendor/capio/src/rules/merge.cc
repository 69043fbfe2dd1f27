#include "rules/merge.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "rules/checks.h"
#include "rules/rule_set.h"
#include "rules/text.h"

namespace capio {
namespace {

std::string KeyOf(const Entry& entry) { return (entry.is_glob ? '*' : '=') + entry.pattern; }

// Adds `from`, renumbered by `to_index`; true if something is new.
bool AddApps(const std::vector<uint16_t>& from, const std::vector<uint16_t>& to_index,
             std::vector<uint16_t>* to) {
  const size_t before = to->size();
  for (uint16_t app : from) {
    if (std::find(to->begin(), to->end(), to_index[app]) == to->end()) {
      to->push_back(to_index[app]);
    }
  }
  std::sort(to->begin(), to->end());
  return to->size() != before;
}

bool Set(bool from, bool* to) {
  const bool news = from && !*to;
  *to = *to || from;
  return news;
}

}  // namespace

Status MergeRules(const Workflow& added, Workflow* into, bool* changed) {
  *changed = false;
  std::vector<uint16_t> to_index;
  for (const std::string& app : added.apps) {
    auto known = std::find(into->apps.begin(), into->apps.end(), app);
    to_index.push_back(static_cast<uint16_t>(known - into->apps.begin()));
    if (known == into->apps.end()) into->apps.push_back(app);
  }
  std::unordered_map<std::string, size_t> index;
  for (size_t i = 0; i < into->entries.size(); ++i) index.emplace(KeyOf(into->entries[i]), i);
  for (const Entry& entry : added.entries) {
    auto [found, is_new] = index.emplace(KeyOf(entry), into->entries.size());
    if (is_new) {
      Entry& fresh = into->entries.emplace_back();
      fresh.pattern = entry.pattern;
      fresh.is_glob = entry.is_glob;
    }
    Entry& known = into->entries[found->second];
    if (entry.streaming && !known.streaming) {
      known.streaming = entry.streaming;
      known.is_directory = entry.is_directory;
      *changed = true;
    } else if (entry.streaming &&
               (*entry.streaming != *known.streaming || entry.is_directory != known.is_directory)) {
      return Status::Error(EBUSY, "the rule for " + Quoted(entry.pattern) + " (" +
                                      DescribeStreaming(entry) +
                                      ") contradicts the one that holds in this workflow (" +
                                      DescribeStreaming(known) + "); make them the same");
    }
    *changed = Set(entry.permanent, &known.permanent) || *changed;
    *changed = Set(entry.excluded, &known.excluded) || *changed;
    *changed = AddApps(entry.producers, to_index, &known.producers) || *changed;
    *changed = AddApps(entry.consumers, to_index, &known.consumers) || *changed;
  }
  return Status::Ok();
}

Status CheckRules(const Workflow& workflow) {
  const RuleSet rules(workflow);
  const std::vector<std::string> names = NamesIn(workflow);
  std::string lines;
  const auto add = [&](const std::string& line) { lines += (lines.empty() ? "" : "\n") + line; };
  for (const std::vector<size_t>& cycle : DependencyCycles(rules, names, {})) {
    add("on_file dependencies form a cycle, so that none of these is ever committed: " +
        CycleText(workflow, cycle) + "; remove one of the dependencies");
  }
  for (const Tie& tie : Ties(rules, names, {})) {
    const Entry& first = workflow.entries[tie.first];
    const Entry& second = workflow.entries[tie.second];
    add(Quoted(tie.path) + " matches the equally long patterns " + Quoted(first.pattern) + " (" +
        DescribeStreaming(first) + ") and " + Quoted(second.pattern) + " (" +
        DescribeStreaming(second) +
        "); make one of them longer or give the file a rule of its own");
  }
  return lines.empty() ? Status::Ok() : Status::Error(EINVAL, lines);
}

}  // namespace capio
