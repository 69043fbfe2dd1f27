#include "rules/text.h"

#include <algorithm>
#include <cstdio>
#include <limits>

namespace capio {
namespace {

// Length of the UTF-8 sequence at the start of text, 0 if there is none.
size_t Utf8Length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead < 0x80                    ? 1
                        : lead >= 0xC2 && lead <= 0xDF ? 2
                        : lead >= 0xE0 && lead <= 0xEF ? 3
                        : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                       : 0;
  if (length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0u) != 0x80) return 0;
  }
  return length;
}

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Typing errors between two words: characters inserted, left out, changed or swapped with a
// neighbour.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(before_last, last);
    std::swap(last, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = Lower(a[i - 1]) == Lower(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && Lower(a[i - 1]) == Lower(b[j - 2]) &&
          Lower(a[i - 2]) == Lower(b[j - 1])) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

}  // namespace

std::string Printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    size_t length = Utf8Length(text);
    const auto c = static_cast<unsigned char>(text[0]);
    if (length == 0 || c < 0x20 || c == 0x7F) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02X", c);
      out += escape;
      length = 1;
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string Quoted(std::string_view text) { return "\"" + Printable(text) + "\""; }

std::string Choice(const std::vector<std::string_view>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += Quoted(words[i]);
  }
  return text;
}

std::string Suggestion(std::string_view found, const std::vector<std::string_view>& words) {
  constexpr size_t kLongestWord = 64;
  if (found.size() > kLongestWord) return "";
  std::string_view best;
  size_t best_distance = std::numeric_limits<size_t>::max();
  for (std::string_view word : words) {
    const size_t distance = EditDistance(found, word);
    if (distance < best_distance && distance <= (word.size() + 2) / 3) {
      best = word;
      best_distance = distance;
    }
  }
  return best.empty() ? "" : " (did you mean " + Quoted(best) + "?)";
}

std::string CommitText(const Streaming& streaming) {
  switch (streaming.commit) {
    case CommitRule::kOnTermination:
      return "on_termination";
    case CommitRule::kOnClose:
      return streaming.close_count == 1 ? "on_close"
                                        : "on_close:" + std::to_string(streaming.close_count);
    case CommitRule::kOnFile:
      return "on_file";
    case CommitRule::kOnNFiles:
      return "on_n_files:" + std::to_string(streaming.n_files);
  }
  return "";
}

const char* FireText(const Streaming& streaming) {
  return streaming.fire == FireRule::kUpdate ? "update" : "no_update";
}

std::string DescribeStreaming(const Entry& entry) {
  const Streaming& streaming = *entry.streaming;
  std::string text = entry.is_directory ? "dirname, " : "name, ";
  switch (streaming.commit) {
    case CommitRule::kOnTermination:
      text += "on_termination";
      break;
    case CommitRule::kOnClose:
      text += "on_close:" + std::to_string(streaming.close_count);
      break;
    case CommitRule::kOnFile:
      text += "on_file";
      for (size_t i = 0; i < streaming.dependencies.size(); ++i) {
        text += (i == 0 ? " " : "+") + Printable(streaming.dependencies[i]);
      }
      break;
    case CommitRule::kOnNFiles:
      text += "on_n_files";
      break;
  }
  if (streaming.n_files > 0) text += " n_files:" + std::to_string(streaming.n_files);
  return text + (streaming.fire == FireRule::kUpdate ? ", update" : ", no_update");
}

}  // namespace capio
