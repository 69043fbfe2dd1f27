#include "rules/rule_set.h"

#include <algorithm>
#include <array>

#include "rules/rule_image.h"

namespace capio {
namespace {

// Reads the character at *at and moves behind it. A byte that is not part of a UTF-8 sequence is a
// character of its own, kept apart from all code points.
char32_t NextCharacter(std::string_view text, size_t* at) {
  constexpr char32_t kLooseByte = 0x110000;
  const auto lead = static_cast<unsigned char>(text[*at]);
  ++*at;
  if (lead < 0x80) return lead;
  size_t more = 0;
  char32_t value = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    more = 1;
    value = lead & 0x1Fu;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    more = 2;
    value = lead & 0x0Fu;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    more = 3;
    value = lead & 0x07u;
  }
  if (more == 0 || text.size() - *at < more) return kLooseByte + lead;
  for (size_t i = 0; i < more; ++i) {
    const auto next = static_cast<unsigned char>(text[*at + i]);
    if ((next & 0xC0u) != 0x80) return kLooseByte + lead;
    value = (value << 6) | (next & 0x3Fu);
  }
  *at += more;
  return value;
}

bool InClass(std::string_view name, char32_t c) {
  const bool upper = c >= 'A' && c <= 'Z';
  const bool lower = c >= 'a' && c <= 'z';
  const bool digit = c >= '0' && c <= '9';
  const bool graph = c > 0x20 && c < 0x7F;
  if (name == "alpha") return upper || lower;
  if (name == "digit") return digit;
  if (name == "alnum") return upper || lower || digit;
  if (name == "upper") return upper;
  if (name == "lower") return lower;
  if (name == "xdigit") return digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  if (name == "space") return c == ' ' || (c >= '\t' && c <= '\r');
  if (name == "blank") return c == ' ' || c == '\t';
  if (name == "punct") return graph && !upper && !lower && !digit;
  if (name == "print") return graph || c == ' ';
  if (name == "graph") return graph;
  if (name == "cntrl") return c < 0x20 || c == 0x7F;
  return false;
}

enum class SetResult { kNotASet, kIn, kOut };

// pattern[*at] follows a '['. Moves *at behind the closing ']', unless there is none.
SetResult MatchSet(std::string_view pattern, size_t* at, char32_t c) {
  size_t i = *at;
  bool negated = false;
  if (i < pattern.size() && (pattern[i] == '!' || pattern[i] == '^')) {
    negated = true;
    ++i;
  }
  bool found = false;
  for (bool first = true;; first = false) {
    if (i >= pattern.size()) return SetResult::kNotASet;
    if (pattern[i] == ']' && !first) break;
    if (pattern[i] == '[' && i + 1 < pattern.size() && pattern[i + 1] == ':') {
      const size_t end = pattern.find(":]", i + 2);
      if (end != std::string_view::npos) {
        const std::string_view name = pattern.substr(i + 2, end - i - 2);
        if (std::all_of(name.begin(), name.end(), [](char x) { return x >= 'a' && x <= 'z'; })) {
          found = found || InClass(name, c);
          i = end + 2;
          continue;
        }
      }
    }
    if (pattern[i] == '\\' && ++i >= pattern.size()) return SetResult::kNotASet;
    const char32_t low = NextCharacter(pattern, &i);
    char32_t high = low;
    if (i + 1 < pattern.size() && pattern[i] == '-' && pattern[i + 1] != ']') {
      ++i;
      if (pattern[i] == '\\' && ++i >= pattern.size()) return SetResult::kNotASet;
      high = NextCharacter(pattern, &i);
    }
    found = found || (low <= c && c <= high);
  }
  *at = i + 1;
  return found != negated ? SetResult::kIn : SetResult::kOut;
}

// Matches one character of text against the pattern element at *p, which is not '*'; moves both on
// if it fits.
bool MatchOne(std::string_view pattern, size_t* p, std::string_view text, size_t* t) {
  size_t next_p = *p;
  size_t next_t = *t;
  const char32_t wanted = NextCharacter(pattern, &next_p);
  const char32_t c = NextCharacter(text, &next_t);
  bool fits = false;
  if (wanted == '?') {
    fits = true;
  } else if (wanted == '[') {
    const SetResult result = MatchSet(pattern, &next_p, c);
    fits = result == SetResult::kNotASet ? c == '[' : result == SetResult::kIn;
  } else if (wanted == '\\') {
    fits = next_p < pattern.size() && NextCharacter(pattern, &next_p) == c;
  } else {
    fits = wanted == c;
  }
  if (!fits) return false;
  *p = next_p;
  *t = next_t;
  return true;
}

bool SameStreaming(const Entry& a, const Entry& b) {
  return a.streaming == b.streaming && a.is_directory == b.is_directory;
}

void AddAll(const std::vector<uint16_t>& from, std::vector<uint16_t>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

void SortUnique(std::vector<uint16_t>* list) {
  std::sort(list->begin(), list->end());
  list->erase(std::unique(list->begin(), list->end()), list->end());
}

}  // namespace

bool GlobMatch(std::string_view pattern, std::string_view text) {
  // Only the last '*' needs a second try: whatever an earlier one could give up, the later one can
  // take.
  size_t p = 0;
  size_t t = 0;
  bool starred = false;
  size_t star_p = 0;
  size_t star_t = 0;
  while (true) {
    if (p < pattern.size() && pattern[p] == '*') {
      starred = true;
      star_p = ++p;
      star_t = t;
      continue;
    }
    if (t == text.size()) {
      if (p == pattern.size()) return true;
    } else if (p < pattern.size() && MatchOne(pattern, &p, text, &t)) {
      continue;
    }
    if (!starred || star_t == text.size()) return false;
    NextCharacter(text, &star_t);
    p = star_p;
    t = star_t;
  }
}

bool IsGlob(std::string_view pattern) {
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      ++i;
    } else if (pattern[i] == '*' || pattern[i] == '?' || pattern[i] == '[') {
      return true;
    }
  }
  return false;
}

std::string UnescapeGlob(std::string_view pattern) {
  std::string name;
  name.reserve(pattern.size());
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) ++i;
    name += pattern[i];
  }
  return name;
}

std::string EscapeGlob(std::string_view name) {
  std::string pattern;
  pattern.reserve(name.size());
  for (char c : name) {
    if (c == '*' || c == '?' || c == '[' || c == '\\') pattern += '\\';
    pattern += c;
  }
  return pattern;
}

RuleSet::RuleSet(Workflow workflow) : workflow_(std::move(workflow)) {
  const std::vector<Entry>& entries = workflow_.entries;
  for (size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    if (entry.is_glob) {
      globs_.push_back(i);
    } else {
      exact_.emplace(entry.pattern, i);
      root_streams_ = root_streams_ || (entry.pattern.empty() && entry.streaming.has_value());
      inherits_ = inherits_ || entry.permanent || entry.excluded || entry.storage.has_value();
    }
  }
  std::stable_sort(globs_.begin(), globs_.end(), [&](size_t a, size_t b) {
    return entries[a].pattern.size() > entries[b].pattern.size();
  });
  for (size_t i = 0; i < workflow_.apps.size(); ++i) {
    apps_.emplace(workflow_.apps[i], static_cast<uint16_t>(i));
  }
}

Result<RuleSet> RuleSet::FromImage(std::span<const std::byte> image) {
  Result<Workflow> workflow = ParseRuleImage(image);
  if (!workflow.ok()) return workflow.status();
  return RuleSet(workflow.take());
}

// "*" is all that is below CAPIO_DIR. CAPIO_DIR itself, whose listing would have to wait for
// everybody, is meant only where a clause names it.
bool RuleSet::Fits(const Entry& glob, std::string_view path) const {
  return (!path.empty() || root_streams_) && GlobMatch(glob.pattern, path);
}

const Entry* RuleSet::Exact(std::string_view path) const {
  auto found = exact_.find(path);
  return found == exact_.end() ? nullptr : &workflow_.entries[found->second];
}

Rule RuleSet::Match(std::string_view path) const {
  Rule rule;
  const Entry* streaming = nullptr;
  const Entry* storage = nullptr;
  if (const Entry* entry = Exact(path); entry != nullptr) {
    if (entry->streaming) streaming = entry;
    if (entry->storage) storage = entry;
    rule.permanent = entry->permanent;
    rule.excluded = entry->excluded;
    AddAll(entry->producers, &rule.producers);
    AddAll(entry->consumers, &rule.consumers);
  }
  for (size_t i : globs_) {
    const Entry& entry = workflow_.entries[i];
    if (!Fits(entry, path)) continue;
    if (streaming == nullptr && entry.streaming) streaming = &entry;
    if (storage == nullptr && entry.storage) storage = &entry;
    rule.permanent = rule.permanent || entry.permanent;
    rule.excluded = rule.excluded || entry.excluded;
    AddAll(entry.producers, &rule.producers);
    AddAll(entry.consumers, &rule.consumers);
  }
  for (std::string_view at = path; inherits_ && !at.empty();) {
    const size_t cut = at.rfind('/');
    at = cut == std::string_view::npos ? std::string_view() : at.substr(0, cut);
    const Entry* entry = Exact(at);
    if (entry == nullptr) continue;
    rule.permanent = rule.permanent || entry->permanent;
    rule.excluded = rule.excluded || entry->excluded;
    if (!entry->storage) continue;
    // Never longer than the exact name. Entries of one array: the lower address is the earlier one.
    if (storage == nullptr || entry->pattern.size() > storage->pattern.size() ||
        (entry->pattern.size() == storage->pattern.size() && entry < storage)) {
      storage = entry;
    }
  }
  if (streaming != nullptr) {
    rule.streaming = *streaming->streaming;
    rule.is_directory = streaming->is_directory;
  }
  if (storage != nullptr) rule.storage = *storage->storage;
  SortUnique(&rule.producers);
  SortUnique(&rule.consumers);
  return rule;
}

std::optional<uint16_t> RuleSet::AppIndex(std::string_view app) const {
  auto found = apps_.find(app);
  if (found == apps_.end()) return std::nullopt;
  return found->second;
}

std::optional<size_t> RuleSet::StreamingEntry(std::string_view path) const {
  if (auto found = exact_.find(path);
      found != exact_.end() && workflow_.entries[found->second].streaming) {
    return found->second;
  }
  for (size_t i : globs_) {
    if (workflow_.entries[i].streaming && Fits(workflow_.entries[i], path)) return i;
  }
  return std::nullopt;
}

std::optional<std::pair<size_t, size_t>> RuleSet::ConflictingEntries(std::string_view path) const {
  if (const Entry* entry = Exact(path); entry != nullptr && entry->streaming) return std::nullopt;
  std::optional<size_t> winner;
  for (size_t i : globs_) {
    const Entry& entry = workflow_.entries[i];
    if (winner && entry.pattern.size() < workflow_.entries[*winner].pattern.size()) break;
    if (!entry.streaming || !Fits(entry, path)) continue;
    if (!winner) {
      winner = i;
    } else if (!SameStreaming(workflow_.entries[*winner], entry)) {
      return std::pair(*winner, i);
    }
  }
  return std::nullopt;
}

std::optional<std::string> RuleSet::Conflicts(std::string_view path) const {
  auto pair = ConflictingEntries(path);
  if (!pair) return std::nullopt;
  const std::string& obeyed = workflow_.entries[pair->first].pattern;
  const std::string& other = workflow_.entries[pair->second].pattern;
  std::string text = "\"";
  text += path;
  text += "\" matches the equally long patterns \"" + obeyed;
  text += "\" and \"" + other + "\", which ask for different streaming; \"" + obeyed;
  text += "\", the first in the CAPIO-CL file, is obeyed; name the file in a clause of its own";
  return text;
}

}  // namespace capio
