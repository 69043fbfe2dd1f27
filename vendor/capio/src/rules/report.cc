#include "rules/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "rules/rule_set.h"
#include "rules/text.h"

namespace capio {
namespace {

using Json = nlohmann::ordered_json;

Json NamesOf(const Workflow& workflow, const std::vector<uint16_t>& apps) {
  Json names = Json::array();
  for (uint16_t app : apps) names.push_back(workflow.apps[app]);
  return names;
}

void AddTo(const std::vector<uint16_t>& from, std::vector<uint16_t>* to) {
  to->insert(to->end(), from.begin(), from.end());
  std::sort(to->begin(), to->end());
  to->erase(std::unique(to->begin(), to->end()), to->end());
}

// A name is a directory, too, if something else lies below it.
bool HoldsOthers(const Workflow& workflow, const Entry& entry) {
  if (entry.is_glob) return false;
  const std::string below = entry.pattern.empty() ? "" : entry.pattern + "/";
  for (const Entry& other : workflow.entries) {
    if (&other == &entry) continue;
    const std::string path = other.is_glob ? other.pattern : EscapeGlob(other.pattern);
    if (path.starts_with(EscapeGlob(below))) return true;
  }
  return false;
}

Json EntryAsJson(const RuleSet& rules, const Entry& entry) {
  const Workflow& workflow = rules.workflow();
  // For a pattern what holds for every path it matches: its own clause and those of patterns that
  // cover it, which match its text.
  Rule rule = rules.Match(entry.pattern);
  if (entry.is_glob) {
    if (entry.streaming) {
      rule.streaming = *entry.streaming;
      rule.is_directory = entry.is_directory;
    }
    if (entry.storage) rule.storage = *entry.storage;
    rule.permanent = rule.permanent || entry.permanent;
    rule.excluded = rule.excluded || entry.excluded;
    AddTo(entry.producers, &rule.producers);
    AddTo(entry.consumers, &rule.consumers);
  }
  Json json;
  json["path"] = entry.pattern;
  json["pattern"] = entry.is_glob;
  json["directory"] = rule.is_directory || HoldsOthers(workflow, entry);
  json["producers"] = NamesOf(workflow, rule.producers);
  json["consumers"] = NamesOf(workflow, rule.consumers);
  json["committed"] = CommitText(rule.streaming);
  json["fire"] = FireText(rule.streaming);
  json["n_files"] = rule.streaming.n_files;
  json["file_deps"] = rule.streaming.dependencies;
  json["permanent"] = rule.permanent;
  json["excluded"] = rule.excluded;
  json["storage"] = rule.storage == Storage::kFs ? "fs" : "memory";
  json["home"] = entry.home;
  return json;
}

}  // namespace

std::string ReportAsJson(const LoadedCapioCl& loaded, const std::string& file_name) {
  const Workflow& workflow = loaded.workflow;
  Json json;
  json["file"] = file_name;
  json["errors"] = Json::array();
  for (const ClDiagnostic& error : loaded.errors) {
    json["errors"].push_back({{"line", error.line},
                              {"column", error.column},
                              {"pointer", error.pointer},
                              {"message", Printable(error.message)},
                              {"text", FormatDiagnostic(error, file_name)}});
  }
  json["warnings"] = workflow.warnings;
  json["name"] = workflow.name;
  json["version"] = workflow.version;
  json["configuration"] = workflow.configuration;
  json["apps"] = workflow.apps;
  json["entries"] = Json::array();
  if (loaded.errors.empty()) {
    const RuleSet rules(workflow);
    for (const Entry& entry : workflow.entries) {
      json["entries"].push_back(EntryAsJson(rules, entry));
    }
  }
  // Bytes that are no UTF-8 (of a path on the command line) must not make it fail.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace capio
