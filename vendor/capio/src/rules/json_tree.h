// A JSON text as a tree that knows the line of everything in it.
#ifndef CAPIO_RULES_JSON_TREE_H_
#define CAPIO_RULES_JSON_TREE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/capio_cl.h"

namespace capio {

constexpr int kMaxDepth = 64;  // of lists and objects; the language itself needs five levels

struct Node {
  enum class Kind { kNull, kBool, kNumber, kString, kList, kObject };
  struct Member {
    std::string key;  // "" in lists
    int line;         // of the key
    size_t node;      // index into Document::nodes
  };
  Kind kind = Kind::kNull;
  int line = 1;
  std::string text;  // of a string; of a number as written
  double number = 0;
  std::optional<uint64_t> whole;  // the number, if it is a whole one and not negative
  std::vector<Member> members;
};

struct Document {
  std::vector<Node> nodes;  // [0] is the root
  std::optional<ClDiagnostic> syntax_error;
};

// Never fails: what is wrong is in syntax_error, and then the tree is not to be used.
Document ParseJson(std::string_view text);
// "null", "the number 3", "a list": what was found, for messages.
std::string Describe(const Node& node);
// A key as a part of a JSON pointer (RFC 6901).
std::string EscapePointer(std::string_view key);

}  // namespace capio

#endif  // CAPIO_RULES_JSON_TREE_H_
