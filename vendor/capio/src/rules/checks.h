// What only all the clauses of a workflow together show: dependencies that go in a circle, and
// patterns that contradict each other. Used for CAPIO-CL files and for rules added to them.
#ifndef CAPIO_RULES_CHECKS_H_
#define CAPIO_RULES_CHECKS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/rule_set.h"

namespace capio {

// The names (not patterns) that the entries and their dependencies write out, sorted.
std::vector<std::string> NamesIn(const Workflow& workflow);

// Circles of on_file clauses, each as indices into Workflow::entries: every one waits for the next,
// the last one for the first. An entry marked in `ignored` (empty, or one per entry) depends on
// nothing. A pattern among the dependencies stands for every known name it matches, and for itself.
std::vector<std::vector<size_t>> DependencyCycles(const RuleSet& rules,
                                                  const std::vector<std::string>& names,
                                                  const std::vector<bool>& ignored);
// "a" -> "b" -> "a"
std::string CycleText(const Workflow& workflow, const std::vector<size_t>& cycle);

// Two equally long patterns that ask for different streaming of `path`, where nothing decides.
struct Tie {
  size_t first = 0;  // the one that Match obeys
  size_t second = 0;
  std::string path;
  bool is_example = false;  // the path is written nowhere, it shows what both patterns match
};
// One for any two patterns, however many paths they share; pairs with an ignored entry are left
// out, and so are paths that are excluded. Two patterns that have known names in common, all of
// them decided by a longer pattern or a clause of their own, are taken as meant so.
std::vector<Tie> Ties(const RuleSet& rules, const std::vector<std::string>& names,
                      const std::vector<bool>& ignored);

// The same for patterns that ask for different storage.
std::vector<Tie> StorageTies(const RuleSet& rules, const std::vector<std::string>& names);

// A relative path that both patterns match, if there is one and it can be found; where there is a
// choice it is one that looks natural.
std::optional<std::string> CommonPath(std::string_view a, std::string_view b);

}  // namespace capio

#endif  // CAPIO_RULES_CHECKS_H_
