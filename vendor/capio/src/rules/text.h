// Words for people: quoting what a file holds, and guessing what was meant.
#ifndef CAPIO_RULES_TEXT_H_
#define CAPIO_RULES_TEXT_H_

#include <string>
#include <string_view>
#include <vector>

#include "rules/rule.h"

namespace capio {

// One line, valid UTF-8: control characters would break the one-line form of a diagnostic, loose
// bytes whoever decodes it.
std::string Printable(std::string_view text);
std::string Quoted(std::string_view text);
// "a", "b" or "c"
std::string Choice(const std::vector<std::string_view>& words);
// ' (did you mean "x"?)' for the word that may have been meant, or "".
std::string Suggestion(std::string_view found, const std::vector<std::string_view>& words);

// The commit rule as CAPIO-CL spells it: "on_close:2", "on_n_files:130", "on_file".
std::string CommitText(const Streaming& streaming);
// "update" or "no_update".
const char* FireText(const Streaming& streaming);
// The entry's streaming clause, for messages: "name, on_file a+b, no_update".
std::string DescribeStreaming(const Entry& entry);

}  // namespace capio

#endif  // CAPIO_RULES_TEXT_H_
