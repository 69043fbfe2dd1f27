// The rules in force: those of the CAPIO-CL file, which never change, and those that clients have
// added since. They lie in the control segment, so they outlive every process, the server included.
#ifndef CAPIO_STORE_RULE_CHAIN_H_
#define CAPIO_STORE_RULE_CHAIN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "os/status.h"
#include "rules/rule_set.h"
#include "store/segment.h"

namespace capio {

class RuleChain {
 public:
  // Indices of apps in rules are those of the store's table, which app_index knows (and extends).
  using AppIndex = std::function<Result<uint32_t>(std::string_view)>;
  RuleChain(Segment* segment, AppIndex app_index)
      : segment_(segment), app_index_(std::move(app_index)) {}

  // Reads what the segment holds. EPROTO if it is corrupt.
  Status Open();

  // Changes with every addition; one atomic load. 0: nothing was added.
  [[nodiscard]] uint64_t version() const {
    return segment_->header().added_rules.load(std::memory_order_seq_cst);
  }
  // Somebody has said something about files, in the CAPIO-CL file or since.
  [[nodiscard]] bool any() const { return segment_->header().rules != 0 || version() != 0; }

  // The rules in force, those of version() or newer. Never null. Cheap unless rules were added
  // since the last call in this process.
  std::shared_ptr<const RuleSet> Get();

  // What `accept` says of the rules as they are and as they would be decides, besides MergeRules
  // and CheckRules. *changed is false if all of it was known already.
  using Accept = std::function<Status(const RuleSet& before, const RuleSet& after)>;
  Status Add(const Workflow& added, const Accept& accept, bool* changed);

 private:
  // The workflow as of a version, with its own app indices.
  Result<Workflow> WorkflowAt(uint64_t version) const;
  // With the indices of the store's table. `declare` marks the apps as declared ones.
  Result<RuleSet> Localised(Workflow workflow, bool declare) const;

  Segment* segment_;
  AppIndex app_index_;
  Workflow base_;  // of the CAPIO-CL file
  // Both guarded by one mutex of the process, never held while anything is computed.
  std::shared_ptr<const RuleSet> rules_;
  uint64_t seen_ = 0;  // the version of rules_
};

}  // namespace capio

#endif  // CAPIO_STORE_RULE_CHAIN_H_
