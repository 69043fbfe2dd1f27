#include "rules/configuration.h"

#include <cstddef>
#include <optional>

namespace capio {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
bool IsBare(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

class TomlReader {
 public:
  explicit TomlReader(std::string_view text) : text_(text) {
    if (text_.substr(0, 3) == "\xEF\xBB\xBF") text_.remove_prefix(3);
  }

  std::vector<TomlLine> Read() {
    std::vector<TomlLine> found;
    std::string table;
    while (SkipToStatement()) {
      const int line = line_;
      if (Peek() == '[') {
        const bool array = Peek(1) == '[';
        at_ += array ? 2 : 1;
        auto name = Key();
        const std::string_view close = array ? "]]" : "]";
        if (name && text_.substr(at_, close.size()) == close) {
          at_ += close.size();
          table = *name + ".";
          if (AtLineEnd()) continue;
        }
        found.push_back({line, ""});
        SkipLine();
        continue;
      }
      auto key = Key();
      if (key && Peek() == '=') {
        ++at_;
        if (SkipValue()) {
          found.push_back({line, table + *key});
          continue;
        }
      }
      found.push_back({line, ""});
      SkipLine();
    }
    return found;
  }

 private:
  [[nodiscard]] char Peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  [[nodiscard]] bool Done() const { return at_ >= text_.size(); }
  void Next() {
    if (text_[at_] == '\n') ++line_;
    ++at_;
  }
  void SkipBlanks() {
    while (!Done() && IsBlank(Peek())) ++at_;
  }
  void SkipLine() {
    while (!Done() && Peek() != '\n') ++at_;
  }
  bool SkipToStatement() {
    while (!Done()) {
      if (IsBlank(Peek()) || Peek() == '\n') {
        Next();
      } else if (Peek() == '#') {
        SkipLine();
      } else {
        return true;
      }
    }
    return false;
  }
  // Nothing but a comment is left on the line.
  bool AtLineEnd() {
    SkipBlanks();
    return Done() || Peek() == '\n' || Peek() == '#';
  }

  // A key with its dots: a.b."c d". Blanks around it are skipped.
  std::optional<std::string> Key() {
    std::string key;
    for (;;) {
      SkipBlanks();
      const size_t begin = at_;
      if (Peek() == '"' || Peek() == '\'') {
        if (!SkipString()) return std::nullopt;
        key += text_.substr(begin + 1, at_ - begin - 2);
      } else {
        while (!Done() && IsBare(Peek())) ++at_;
        if (at_ == begin) return std::nullopt;
        key += text_.substr(begin, at_ - begin);
      }
      SkipBlanks();
      if (Peek() != '.') return key;
      ++at_;
      key += '.';
    }
  }

  // A string of any of the four kinds.
  bool SkipString() {
    const char quote = Peek();
    const std::string three(3, quote);
    const bool many_lines = text_.substr(at_, 3) == three;
    at_ += many_lines ? 3 : 1;
    while (!Done()) {
      if (Peek() == '\\' && quote == '"') {
        ++at_;
        if (!Done()) Next();
      } else if (many_lines && text_.substr(at_, 3) == three) {
        at_ += 3;
        while (Peek() == quote) ++at_;  // up to two more belong to the string
        return true;
      } else if (!many_lines && Peek() == quote) {
        ++at_;
        return true;
      } else if (!many_lines && Peek() == '\n') {
        return false;
      } else {
        Next();
      }
    }
    return false;
  }

  // A value up to the end of its line; brackets may go over several.
  bool SkipValue() {
    SkipBlanks();
    size_t depth = 0;
    bool any = false;
    while (!Done()) {
      const char c = Peek();
      if (c == '\n' && depth == 0) break;
      if (c == '#') {
        SkipLine();
        continue;
      }
      any = any || (!IsBlank(c) && c != '\n');
      if (c == '"' || c == '\'') {
        if (!SkipString()) return false;
        continue;
      }
      if (c == '[' || c == '{') ++depth;
      if (c == ']' || c == '}') {
        if (depth == 0) return false;
        --depth;
      }
      Next();
    }
    return any && depth == 0;
  }

  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<TomlLine> TomlSettings(std::string_view text) { return TomlReader(text).Read(); }

}  // namespace capio
