#include "store/rule_chain.h"

#include <string.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "os/fork.h"
#include "rules/merge.h"
#include "rules/rule_image.h"

namespace capio {
namespace {

// One for all chains: stores are opened and closed with other mutexes held.
ForkMutex& RulesMutex() {
  static auto* mutex = new ForkMutex(ForkMutex::kLeaf);
  return *mutex;
}
[[maybe_unused]] const ForkMutex& made_at_load = RulesMutex();

Status Corrupt() {
  return Status::Error(
      EPROTO,
      "the rules added to this workflow are corrupt in its store; end the workflow "
      "and start again");
}

}  // namespace

Status RuleChain::Open() {
  const Header& header = segment_->header();
  if (header.rules != 0) {
    if (!segment_->Contains(header.rules, header.rules_size)) return Status::Error(EPROTO);
    auto parsed =
        ParseRuleImage(std::span(segment_->At<std::byte>(header.rules), header.rules_size));
    if (!parsed.ok()) return parsed.status();
    base_ = parsed.take();
  }
  const uint64_t now = version();
  auto workflow = WorkflowAt(now);
  if (!workflow.ok()) return workflow.status();
  auto rules = Localised(workflow.take(), now != 0);
  if (!rules.ok()) return rules.status();
  rules_ = std::make_shared<const RuleSet>(rules.take());
  seen_ = now;
  return Status::Ok();
}

Result<Workflow> RuleChain::WorkflowAt(uint64_t version) const {
  std::vector<uint64_t> links;
  uint64_t expected = 0;
  for (uint64_t at = version; at != 0;) {
    if (at % 16 != 0 || !segment_->Contains(at, sizeof(AddedRules))) return Corrupt();
    const auto* link = segment_->At<AddedRules>(at);
    if (expected != 0 && link->number != expected) return Corrupt();
    if (link->number == 0 || !segment_->Contains(at + sizeof(AddedRules), link->size)) {
      return Corrupt();
    }
    links.push_back(at);
    expected = link->number - 1;
    at = link->earlier;
    if ((expected == 0) != (at == 0)) return Corrupt();
  }
  Workflow workflow = base_;
  for (auto at = links.rbegin(); at != links.rend(); ++at) {
    const auto* link = segment_->At<AddedRules>(*at);
    auto added = ParseRuleImage(
        std::span(reinterpret_cast<const std::byte*>(link + 1), static_cast<size_t>(link->size)));
    if (!added.ok()) return added.status();
    bool changed = false;
    CAPIO_RETURN_IF_ERROR(MergeRules(*added, &workflow, &changed));
  }
  return workflow;
}

Result<RuleSet> RuleChain::Localised(Workflow workflow, bool declare) const {
  std::vector<uint16_t> index;
  std::vector<std::string> apps;
  for (std::string& app : workflow.apps) {
    auto found = app_index_(app);
    if (!found.ok()) return found.status();
    index.push_back(static_cast<uint16_t>(*found));
    if (apps.size() <= *found) apps.resize(*found + 1);
    apps[*found] = std::move(app);
    if (declare) segment_->header().apps[*found].declared.store(1, std::memory_order_release);
  }
  workflow.apps = std::move(apps);
  for (Entry& entry : workflow.entries) {
    for (uint16_t& app : entry.producers) app = index[app];
    for (uint16_t& app : entry.consumers) app = index[app];
  }
  return RuleSet(std::move(workflow));
}

std::shared_ptr<const RuleSet> RuleChain::Get() {
  const uint64_t now = version();
  {
    ForkGuard guard(RulesMutex());
    if (seen_ == now) return rules_;
  }
  auto workflow = WorkflowAt(now);
  Result<RuleSet> rules = workflow.ok() ? Localised(workflow.take(), true) : workflow.status();
  std::shared_ptr<const RuleSet> fresh;
  // What was checked before it was linked can only fail to be read if the segment is destroyed:
  // then what is known holds on.
  if (rules.ok()) fresh = std::make_shared<const RuleSet>(rules.take());
  ForkGuard guard(RulesMutex());
  const auto number = [this](uint64_t at) {
    return at == 0 ? 0 : segment_->At<AddedRules>(at)->number;
  };
  // Another thread may have been faster with a newer version.
  if (fresh != nullptr && number(now) > number(seen_)) {
    rules_ = std::move(fresh);
    seen_ = now;
  }
  return rules_;
}

Status RuleChain::Add(const Workflow& added, const Accept& accept, bool* changed) {
  std::atomic<uint64_t>& newest = segment_->header().added_rules;
  uint64_t offset = 0;
  std::string image;
  for (;;) {
    uint64_t now = version();
    auto merged = WorkflowAt(now);
    if (!merged.ok()) return merged.status();
    auto before = Localised(*merged, false);
    if (!before.ok()) return before.status();
    CAPIO_RETURN_IF_ERROR(MergeRules(added, &*merged, changed));
    if (!*changed) return Status::Ok();
    CAPIO_RETURN_IF_ERROR(CheckRules(*merged));
    auto after = Localised(merged.take(), false);
    if (!after.ok()) return after.status();
    CAPIO_RETURN_IF_ERROR(accept(*before, *after));
    if (offset == 0) {
      image = SerialiseRules(added);
      auto block = segment_->Allocate(sizeof(AddedRules) + image.size());
      if (!block.ok()) return block.status();
      offset = *block;
    }
    auto* link = segment_->At<AddedRules>(offset);
    link->earlier = now;
    link->number = now == 0 ? 1 : segment_->At<AddedRules>(now)->number + 1;
    link->size = image.size();
    memcpy(link + 1, image.data(), image.size());
    // Whoever was faster may have said something else: then all is looked at again.
    if (newest.compare_exchange_strong(now, offset, std::memory_order_seq_cst)) break;
  }
  (void)Get();
  return Status::Ok();
}

}  // namespace capio
