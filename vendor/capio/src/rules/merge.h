// Rules added to those that are there.
#ifndef CAPIO_RULES_MERGE_H_
#define CAPIO_RULES_MERGE_H_

#include "os/status.h"
#include "rules/rule.h"

namespace capio {

// Adds the entries of `added` to `*into`. *changed tells whether that said anything new. A clause
// that differs from the one `*into` has for the same pattern is EBUSY, naming both; `*into` is then
// not to be used.
Status MergeRules(const Workflow& added, Workflow* into, bool* changed);

// What a CAPIO-CL file would be refused for: circles of dependencies and equally long patterns that
// disagree. EINVAL, one line for each.
Status CheckRules(const Workflow& workflow);

}  // namespace capio

#endif  // CAPIO_RULES_MERGE_H_
