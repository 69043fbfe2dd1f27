#include "rules/entry_path.h"

#include <algorithm>

#include "rules/rule_set.h"
#include "rules/text.h"

namespace capio {

std::vector<std::string_view> SplitPath(std::string_view path) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; at < path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (end > at) parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

namespace {

void AppendLiteral(std::string_view path, std::vector<PathComponent>* to) {
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

bool IsBelow(const std::vector<PathComponent>& root, const std::vector<PathComponent>& path) {
  if (path.size() < root.size()) return false;
  for (size_t i = 0; i < root.size(); ++i) {
    const PathComponent& part = path[i];
    if (part.text == root[i].text) continue;
    if (part.literal || IsGlob(part.text) || UnescapeGlob(part.text) != root[i].text) {
      return false;
    }
  }
  return true;
}

}  // namespace

EntryPaths::EntryPaths(const ClPlace& place) : capio_dir_(place.capio_dir) {
  AppendLiteral(place.capio_dir, &root_);
  AppendLiteral(place.other_name, &other_root_);
  if (place.resolve_prefix.empty() || place.resolve_prefix.front() != '/') prefix_ = root_;
  AppendLiteral(place.resolve_prefix, &prefix_);
  prefix_inside_ = RootOf(prefix_).has_value();
}

std::optional<size_t> EntryPaths::RootOf(const std::vector<PathComponent>& path) const {
  if (IsBelow(root_, path)) return root_.size();
  if (!other_root_.empty() && IsBelow(other_root_, path)) return other_root_.size();
  return std::nullopt;
}

EntryPaths::Outcome EntryPaths::Normalise(const std::string& entry) const {
  const auto fail = [&](const std::string& message) {
    return Outcome{std::nullopt, Quoted(entry) + " " + message, ""};
  };
  if (entry.empty()) {
    return fail("is no file name; write a name or a pattern, or \".\" for CAPIO_DIR itself");
  }
  if (entry.find('\0') != std::string::npos) return {};  // reported by CheckText
  if (EndsInLooseEscape(entry)) {
    return fail("ends in a backslash that escapes nothing; write two for a backslash in a name");
  }
  const bool absolute = entry.front() == '/';
  std::vector<PathComponent> path;
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
    const bool has_glob = std::any_of(path.begin(), path.end(), [](const PathComponent& part) {
      return !part.literal && IsGlob(part.text);
    });
    if (has_glob) message += ", and patterns may only stand for what is below CAPIO_DIR";
    return {std::nullopt, "", message};
  }
  EntryPath result;
  for (size_t i = *root; i < path.size(); ++i) {
    if (i > *root) result.text += '/';
    result.text += path[i].literal ? EscapeGlob(path[i].text) : path[i].text;
  }
  result.is_glob = IsGlob(result.text);
  if (!result.is_glob) result.text = UnescapeGlob(result.text);
  return {result, "", ""};
}

}  // namespace capio
