#include "rules/checks.h"

#include <algorithm>
#include <deque>
#include <set>
#include <unordered_map>
#include <utility>

#include "rules/text.h"

namespace capio {
namespace {

bool IsOnFile(const Entry& entry) {
  return entry.streaming && entry.streaming->commit == CommitRule::kOnFile;
}

bool Ignored(const std::vector<bool>& ignored, size_t index) {
  return index < ignored.size() && ignored[index];
}

// The on_file entries that something matching this dependency may be subject to.
std::vector<size_t> Governing(const std::string& dependency, const RuleSet& rules,
                              const std::vector<std::string>& names,
                              const std::unordered_map<std::string_view, size_t>& globs) {
  const std::vector<Entry>& entries = rules.workflow().entries;
  std::vector<size_t> found;
  const auto add = [&](std::optional<size_t> index) {
    if (index && IsOnFile(entries[*index])) found.push_back(*index);
  };
  if (!IsGlob(dependency)) {
    add(rules.StreamingEntry(UnescapeGlob(dependency)));
    return found;
  }
  // Of what a pattern matches only the names in the file are known; the pattern's own text stands
  // for the rest.
  auto same = globs.find(dependency);
  if (same != globs.end() && entries[same->second].streaming) {
    add(same->second);
  } else {
    add(rules.StreamingEntry(dependency));
  }
  for (const std::string& name : names) {
    if (GlobMatch(dependency, name)) add(rules.StreamingEntry(name));
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

bool SameStreaming(const Entry& a, const Entry& b) {
  return a.streaming == b.streaming && a.is_directory == b.is_directory;
}

// The elements of a pattern: "*", "?", "[a-z]", "\\*" or one character. What a set that is told
// apart wrongly would lead to is caught by CommonPath's last look.
std::vector<std::string_view> ElementsOf(std::string_view pattern) {
  std::vector<std::string_view> elements;
  for (size_t at = 0; at < pattern.size();) {
    size_t end = at + 1;
    if (pattern[at] == '\\' && end < pattern.size()) ++end;
    if (pattern[at] == '[') {
      size_t close = at + 1;
      if (close < pattern.size() && (pattern[close] == '!' || pattern[close] == '^')) ++close;
      for (bool first = true; close < pattern.size(); first = false) {
        if (pattern[close] == ']' && !first) break;
        if (pattern.substr(close, 2) == "[:") {
          const size_t named = pattern.find(":]", close + 2);
          if (named != std::string_view::npos) close = named + 1;
        } else if (pattern[close] == '\\') {
          ++close;
        }
        ++close;
      }
      if (close < pattern.size()) end = close + 1;
    }
    while (end < pattern.size() && (static_cast<unsigned char>(pattern[end]) & 0xC0u) == 0x80) {
      ++end;
    }
    elements.push_back(pattern.substr(at, end - at));
    at = end;
  }
  return elements;
}

// A character that both elements match, neither being "*"; "" if none is found.
std::string CommonCharacter(std::string_view a, std::string_view b) {
  for (auto [literal, other] : {std::pair{a, b}, std::pair{b, a}}) {
    if (IsGlob(literal)) continue;
    std::string character = UnescapeGlob(literal);
    return GlobMatch(other, character) ? character : "";
  }
  constexpr std::string_view kCandidates =
      "xabcdefghijklmnopqrstuvwyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_-.+,=@%~#:;!'\"$&()<>^`{|} "
      "*?[]"
      "\\/";
  for (char c : kCandidates) {
    const std::string_view character(&c, 1);
    if (GlobMatch(a, character) && GlobMatch(b, character)) return std::string(character);
  }
  return "";
}

}  // namespace

std::vector<std::string> NamesIn(const Workflow& workflow) {
  std::set<std::string> names;
  for (const Entry& entry : workflow.entries) {
    if (!entry.is_glob) names.insert(entry.pattern);
    if (!entry.streaming) continue;
    for (const std::string& dependency : entry.streaming->dependencies) {
      if (!IsGlob(dependency)) names.insert(UnescapeGlob(dependency));
    }
  }
  return {names.begin(), names.end()};
}

std::vector<std::vector<size_t>> DependencyCycles(const RuleSet& rules,
                                                  const std::vector<std::string>& names,
                                                  const std::vector<bool>& ignored) {
  const std::vector<Entry>& entries = rules.workflow().entries;
  std::vector<std::vector<size_t>> cycles;
  if (std::none_of(entries.begin(), entries.end(), IsOnFile)) return cycles;
  std::unordered_map<std::string_view, size_t> globs;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].is_glob) globs.emplace(entries[i].pattern, i);
  }
  std::unordered_map<std::string, std::vector<size_t>> governing;
  std::vector<std::vector<size_t>> next(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!IsOnFile(entries[i]) || Ignored(ignored, i)) continue;
    for (const std::string& dependency : entries[i].streaming->dependencies) {
      auto [known, is_new] = governing.try_emplace(dependency);
      if (is_new) known->second = Governing(dependency, rules, names, globs);
      next[i].insert(next[i].end(), known->second.begin(), known->second.end());
    }
  }
  // Depth first, with a stack of its own: a chain may be as long as the file.
  enum class Mark { kNew, kOnPath, kDone };
  std::vector<Mark> marks(entries.size(), Mark::kNew);
  for (size_t start = 0; start < entries.size(); ++start) {
    if (marks[start] != Mark::kNew) continue;
    std::vector<std::pair<size_t, size_t>> path = {{start, 0}};  // entry, next edge to follow
    marks[start] = Mark::kOnPath;
    while (!path.empty()) {
      auto& [at, edge] = path.back();
      if (edge == next[at].size()) {
        marks[at] = Mark::kDone;
        path.pop_back();
        continue;
      }
      const size_t to = next[at][edge++];
      if (marks[to] == Mark::kNew) {
        marks[to] = Mark::kOnPath;
        path.emplace_back(to, 0);
      } else if (marks[to] == Mark::kOnPath) {
        std::vector<size_t>& cycle = cycles.emplace_back();
        for (const auto& [entry, unused] : path) {
          if (entry == to || !cycle.empty()) cycle.push_back(entry);
        }
      }
    }
  }
  return cycles;
}

std::string CycleText(const Workflow& workflow, const std::vector<size_t>& cycle) {
  std::string text;
  for (size_t index : cycle) text += Quoted(workflow.entries[index].pattern) + " -> ";
  return text + Quoted(workflow.entries[cycle.front()].pattern);
}

std::vector<Tie> Ties(const RuleSet& rules, const std::vector<std::string>& names,
                      const std::vector<bool>& ignored) {
  const std::vector<Entry>& entries = rules.workflow().entries;
  std::vector<Tie> ties;
  std::set<std::pair<size_t, size_t>> reported;
  const auto report = [&](const std::string& path, bool is_example) {
    const auto pair = rules.ConflictingEntries(path);
    if (!pair || rules.Match(path).excluded) return;
    const auto [a, b] = *pair;
    if (Ignored(ignored, a) || Ignored(ignored, b) || !reported.insert(*pair).second) return;
    ties.push_back({a, b, path, is_example});
  };
  for (const std::string& name : names) report(name, false);

  std::unordered_map<size_t, std::vector<size_t>> by_length;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].is_glob && entries[i].streaming && !entries[i].excluded) {
      by_length[entries[i].pattern.size()].push_back(i);
    }
  }
  std::vector<std::pair<size_t, size_t>> pairs;
  for (const auto& [length, group] : by_length) {
    for (size_t i = 0; i < group.size(); ++i) {
      for (size_t j = i + 1; j < group.size(); ++j) {
        if (!SameStreaming(entries[group[i]], entries[group[j]])) {
          pairs.emplace_back(group[i], group[j]);
        }
      }
    }
  }
  std::sort(pairs.begin(), pairs.end());
  for (const auto& pair : pairs) {
    if (reported.contains(pair)) continue;
    // Where names are written out for what both match, the author has thought of it.
    const auto both = [&](const std::string& name) {
      return GlobMatch(entries[pair.first].pattern, name) &&
             GlobMatch(entries[pair.second].pattern, name);
    };
    if (std::any_of(names.begin(), names.end(), both)) continue;
    auto path = CommonPath(entries[pair.first].pattern, entries[pair.second].pattern);
    if (path && rules.ConflictingEntries(*path) == pair) report(*path, true);
  }
  return ties;
}

std::vector<Tie> StorageTies(const RuleSet& rules, const std::vector<std::string>& names) {
  const std::vector<Entry>& entries = rules.workflow().entries;
  std::vector<Tie> ties;
  // A name counts for what is below it, too.
  const auto decided = [&](const Entry& tied, const std::string& path) {
    return std::any_of(entries.begin(), entries.end(), [&](const Entry& entry) {
      if (!entry.storage) return false;
      if (entry.is_glob) {
        return entry.pattern.size() > tied.pattern.size() && GlobMatch(entry.pattern, path);
      }
      return path == entry.pattern ||
             (entry.pattern.size() > tied.pattern.size() && path.starts_with(entry.pattern + "/"));
    });
  };
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!entries[i].is_glob || !entries[i].storage || entries[i].excluded) continue;
    for (size_t j = i + 1; j < entries.size(); ++j) {
      const Entry& a = entries[i];
      const Entry& b = entries[j];
      if (!b.is_glob || !b.storage || b.excluded || a.pattern.size() != b.pattern.size() ||
          *a.storage == *b.storage) {
        continue;
      }
      bool written = false;
      std::optional<std::string> open;
      for (const std::string& name : names) {
        if (!GlobMatch(a.pattern, name) || !GlobMatch(b.pattern, name)) continue;
        written = true;
        if (decided(a, name) || rules.Match(name).excluded) continue;
        open = name;
        break;
      }
      if (!written) {
        open = CommonPath(a.pattern, b.pattern);
        if (open && (decided(a, *open) || rules.Match(*open).excluded)) open.reset();
      }
      if (open) ties.push_back({i, j, *open, !written});
    }
  }
  return ties;
}

std::optional<std::string> CommonPath(std::string_view a, std::string_view b) {
  // Most patterns that have nothing in common differ before their first wildcard.
  const size_t plain =
      std::min({a.find_first_of("*?[\\"), b.find_first_of("*?[\\"), a.size(), b.size()});
  if (a.substr(0, plain) != b.substr(0, plain)) return std::nullopt;
  const std::vector<std::string_view> left = ElementsOf(a);
  const std::vector<std::string_view> right = ElementsOf(b);
  // Breadth first over pairs of positions: the path found is a shortest one.
  const size_t width = right.size() + 1;
  struct Step {
    size_t from;
    std::string character;
  };
  std::unordered_map<size_t, Step> reached;
  std::deque<size_t> open = {0};
  reached.emplace(0, Step{0, ""});
  const auto is_star = [](const std::vector<std::string_view>& elements, size_t at) {
    return at < elements.size() && elements[at] == "*";
  };
  const size_t goal = left.size() * width + right.size();
  while (!open.empty() && !reached.contains(goal)) {
    const size_t at = open.front();
    open.pop_front();
    const size_t i = at / width;
    const size_t j = at % width;
    const auto go = [&](size_t to_i, size_t to_j, std::string character) {
      const size_t to = to_i * width + to_j;
      if (reached.emplace(to, Step{at, std::move(character)}).second) open.push_back(to);
    };
    const bool left_star = is_star(left, i);
    const bool right_star = is_star(right, j);
    if (left_star) go(i + 1, j, "");
    if (right_star) go(i, j + 1, "");
    if (left_star && !right_star && j < right.size()) {
      if (std::string c = CommonCharacter("?", right[j]); !c.empty()) go(i, j + 1, c);
    } else if (right_star && !left_star && i < left.size()) {
      if (std::string c = CommonCharacter("?", left[i]); !c.empty()) go(i + 1, j, c);
    } else if (!left_star && !right_star && i < left.size() && j < right.size()) {
      if (std::string c = CommonCharacter(left[i], right[j]); !c.empty()) go(i + 1, j + 1, c);
    }
  }
  if (!reached.contains(goal)) return std::nullopt;
  std::vector<std::string> parts;
  bool filled = false;
  for (size_t at = goal; at != 0;) {
    const Step& step = reached.at(at);
    parts.push_back(step.character);
    const bool both = is_star(left, step.from / width) && is_star(right, step.from % width);
    // "out/x.dat" rather than "out/.dat" for out/* and *.dat.
    if (both && !filled) parts.emplace_back("x");
    filled = filled || both;
    at = step.from;
  }
  std::string path;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) path += *part;
  if (path.empty() || path.front() == '/' || path.back() == '/' ||
      path.find("//") != std::string::npos || !GlobMatch(a, path) || !GlobMatch(b, path)) {
    return std::nullopt;
  }
  return path;
}

}  // namespace capio
