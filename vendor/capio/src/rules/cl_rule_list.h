// Rules given one by one, by a program.
#ifndef CAPIO_RULES_CL_RULE_LIST_H_
#define CAPIO_RULES_CL_RULE_LIST_H_

#include <string_view>
#include <vector>

#include "rules/capio_cl.h"
#include "rules/json_tree.h"

namespace capio {

// See ParseRules; the document is without syntax errors.
Workflow ReadClRuleList(const Document& document, std::string_view file_name, const ClPlace& place,
                        std::vector<ClDiagnostic>* errors);

}  // namespace capio

#endif  // CAPIO_RULES_CL_RULE_LIST_H_
