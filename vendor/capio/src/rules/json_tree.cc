#include "rules/json_tree.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "rules/text.h"

namespace capio {
namespace {

struct Cursor {
  int line = 1;           // of the next character
  bool at_break = false;  // the last character read was a newline
};

// Feeds the JSON lexer and keeps track of lines, which its events do not tell.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, Cursor* cursor) : at_(at), cursor_(cursor) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    cursor_->at_break = *at_ == '\n';
    if (cursor_->at_break) ++cursor_->line;
    ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  Cursor* cursor_;
};

// Receives the events of nlohmann::json::sax_parse.
class TreeBuilder {
 public:
  TreeBuilder(std::string_view text, const Cursor* cursor, Document* out)
      : text_(text), cursor_(cursor), out_(out) {}

  bool null() { return Add(Node::Kind::kNull) != nullptr; }
  bool boolean(bool value) {
    Add(Node::Kind::kBool)->text = value ? "true" : "false";
    return true;
  }
  bool number_integer(int64_t value) {
    Node* node = Add(Node::Kind::kNumber);
    node->number = static_cast<double>(value);
    node->text = std::to_string(value);
    return true;
  }
  bool number_unsigned(uint64_t value) {
    Node* node = Add(Node::Kind::kNumber);
    node->number = static_cast<double>(value);
    node->text = std::to_string(value);
    node->whole = value;
    return true;
  }
  bool number_float(double value, const std::string& text) {
    Node* node = Add(Node::Kind::kNumber);
    node->number = value;
    node->text = text;
    return true;
  }
  bool string(std::string& value) {
    Add(Node::Kind::kString)->text = std::move(value);
    return true;
  }
  bool binary(nlohmann::json::binary_t& /*value*/) { return false; }  // never in text
  bool start_object(size_t /*size*/) { return Open(Node::Kind::kObject); }
  bool end_object() { return Close(); }
  bool start_array(size_t /*size*/) { return Open(Node::Kind::kList); }
  bool end_array() { return Close(); }
  bool key(std::string& value) {
    key_ = std::move(value);
    key_line_ = Line();
    return true;
  }
  // position counts the bytes read so far, the offending one included.
  bool parse_error(size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) {
    size_t at = std::min(position == 0 ? 0 : position - 1, text_.size());
    std::string message = error.what();
    // Cut "[json.exception...] parse error at line 1, column 2: ": the place is told in our own
    // form.
    const size_t place = message.find("column ");
    const size_t cut = message.find(place == std::string::npos ? "] " : ": ",
                                    place == std::string::npos ? 0 : place);
    if (cut != std::string::npos) message.erase(0, cut + 2);
    const std::string_view before = text_.substr(0, at);
    const size_t last = before.find_last_not_of(" \t\r\n");
    const char found = at < text_.size() ? text_[at] : '\0';
    if (found == '/' || found == '#') {
      message += "; JSON has no comments";
    } else if ((found == '}' || found == ']') && last != std::string_view::npos &&
               before[last] == ',') {
      message += "; remove the comma before it";
    }
    SyntaxError(at, std::move(message));
    return false;
  }

  void SyntaxError(size_t at, std::string message) {
    ClDiagnostic& found = out_->syntax_error.emplace();
    const std::string_view before = text_.substr(0, at);
    found.line = 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
    const size_t start = before.rfind('\n') + 1;  // npos + 1 is 0
    found.column = 1;
    for (char c : before.substr(start)) {
      if ((static_cast<unsigned char>(c) & 0xC0u) != 0x80) ++found.column;
    }
    found.message = std::move(message);
  }

 private:
  // The line of the token just read. A number is read one character too far.
  [[nodiscard]] int Line() const { return cursor_->line - (cursor_->at_break ? 1 : 0); }

  Node* Add(Node::Kind kind) {
    const size_t index = out_->nodes.size();
    Node& node = out_->nodes.emplace_back();
    node.kind = kind;
    node.line = Line();
    if (!open_.empty()) {
      Node& parent = out_->nodes[open_.back()];
      const bool named = parent.kind == Node::Kind::kObject;
      parent.members.push_back(
          {named ? std::move(key_) : std::string(), named ? key_line_ : node.line, index});
      key_.clear();
    }
    return &out_->nodes[index];
  }
  bool Open(Node::Kind kind) {
    if (open_.size() >= kMaxDepth) {
      ClDiagnostic& found = out_->syntax_error.emplace();
      found.line = Line();
      found.message = "lists and objects are nested more than " + std::to_string(kMaxDepth) +
                      " deep; no CAPIO-CL file needs that";
      return false;
    }
    Add(kind);
    open_.push_back(out_->nodes.size() - 1);
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  const Cursor* cursor_;
  Document* out_;
  std::vector<size_t> open_;
  std::string key_;
  int key_line_ = 1;
};

}  // namespace

Document ParseJson(std::string_view text) {
  Document document;
  Cursor cursor;
  TreeBuilder builder(text, &cursor, &document);
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    builder.SyntaxError(text.size(), "the file is empty; a CAPIO-CL file is a JSON object");
    return document;
  }
  const char* begin = text.data();
  nlohmann::json::sax_parse(CountingIterator(begin, &cursor),
                            CountingIterator(begin + text.size(), &cursor), &builder);
  return document;
}

std::string Describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "null";
    case Node::Kind::kBool:
      return node.text;
    case Node::Kind::kNumber:
      return "the number " + node.text;
    case Node::Kind::kString:
      return Quoted(node.text);
    case Node::Kind::kList:
      return "a list";
    case Node::Kind::kObject:
      return "an object";
  }
  return "";
}

std::string EscapePointer(std::string_view key) {
  std::string out;
  for (char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace capio
