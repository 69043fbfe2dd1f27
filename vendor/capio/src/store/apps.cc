#include "store/apps.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <unordered_set>

#include "os/paths.h"

namespace capio {
namespace {

constexpr uint32_t kMostProcesses = 1u << 24;

const char* Variable(const char* name) {
  const char* text = ::getenv(name);
  return text != nullptr && *text != '\0' ? text : nullptr;
}

// 0 if it is not a number above 0.
uint32_t Number(const char* text) {
  if (text == nullptr || strspn(text, "0123456789") != strlen(text)) return 0;
  unsigned long long value = ::strtoull(text, nullptr, 10);
  return value <= kMostProcesses ? static_cast<uint32_t>(value) : 0;
}

struct Launcher {
  const char* size;
  const char* rank;
};

// The one that started this process directly comes first: Open MPI's ranks inherit what SLURM says
// of its daemons.
AppSize FromLauncher() {
  constexpr Launcher kLaunchers[] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                                     {"PMI_SIZE", "PMI_RANK"},
                                     {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},
                                     {"SLURM_NTASKS", "SLURM_PROCID"}};
  // A batch script has SLURM_NTASKS, too, but what it runs without srun are single processes.
  bool in_step = Variable("SLURM_STEP_ID") != nullptr || Variable("SLURM_STEPID") != nullptr ||
                 Variable("SLURM_JOB_ID") == nullptr;
  for (const Launcher& launcher : kLaunchers) {
    if (strncmp(launcher.size, "SLURM", 5) == 0 && !in_step) continue;
    uint32_t expected = Number(Variable(launcher.size));
    if (expected == 0) continue;
    AppSize size = {expected, launcher.size, 0};
    if (const char* rank = Variable(launcher.rank); rank != nullptr) {
      size.key = HashString(std::string(launcher.rank) + "=" + rank) | 1;
    }
    return size;
  }
  return {};
}

}  // namespace

Result<AppSize> AppSizeFromEnvironment() {
  AppSize launched = FromLauncher();
  const char* text = Variable("CAPIO_APP_PROCS");
  if (text == nullptr) return launched;
  uint32_t expected = Number(text);
  if (expected == 0) {
    return Status::Error(EINVAL, std::string("CAPIO_APP_PROCS='") + text +
                                     "' is no number of processes; set it to how many processes "
                                     "this step has, or unset it");
  }
  // A rank tells these processes apart only if it counts these processes.
  return AppSize{expected, "CAPIO_APP_PROCS", launched.expected == expected ? launched.key : 0};
}

AppCount CountProcesses(Segment* segment, uint32_t app) {
  const App& entry = segment->header().apps[app];
  AppCount count;
  uint32_t expected = entry.expected.load(std::memory_order_acquire);
  if (expected <= 1) return count;
  uint32_t round = entry.round.load(std::memory_order_acquire);
  count.expected = expected;
  // Newest first: how a process that came again ended last time no longer matters.
  std::unordered_set<uint64_t> keys;
  for (const auto* member = segment->At<AppMember>(entry.members.load(std::memory_order_acquire));
       member != nullptr && member->round == round && keys.size() < expected;
       member = segment->At<AppMember>(member->next.load(std::memory_order_acquire))) {
    if (!keys.insert(member->key).second) continue;
    uint32_t outcome = member->outcome.load(std::memory_order_acquire);
    if (outcome == kCellBad || outcome == kCellDied) count.failed_pid = member->pid;
    if (count.source.empty()) count.source = segment->Name(member->source);
  }
  count.came = static_cast<uint32_t>(keys.size());
  return count;
}

Status JoinApp(Segment* segment, Client* client, uint32_t app, const AppSize& size, uint64_t key,
               bool running) {
  App& entry = segment->header().apps[app];
  client->member.store(0);
  if (size.expected <= 1 && entry.expected.load(std::memory_order_acquire) <= 1) {
    return Status::Ok();
  }
  uint32_t round = entry.round.load(std::memory_order_acquire);
  if (!running && !CountProcesses(segment, app).incomplete() &&
      entry.round.compare_exchange_strong(round, round + 1)) {
    ++round;
    entry.expected.store(0);
  }
  uint32_t expected = entry.expected.load();
  while (expected < size.expected &&
         !entry.expected.compare_exchange_weak(expected, size.expected)) {
  }
  auto source = segment->AllocateName(size.source);
  if (!source.ok()) return source.status();
  auto offset = segment->Allocate(sizeof(AppMember));
  if (!offset.ok()) return offset.status();
  auto* member = segment->At<AppMember>(*offset);
  member->key = size.key != 0 ? size.key : key;
  member->source = *source;
  member->round = round;
  member->pid = client->pid.load();
  client->member.store(*offset);
  uint64_t first = entry.members.load(std::memory_order_acquire);
  do {
    member->next.store(first, std::memory_order_relaxed);
  } while (!entry.members.compare_exchange_weak(first, *offset, std::memory_order_acq_rel));
  return Status::Ok();
}

void LeaveApp(Segment* segment, const Client& client, CellOutcome outcome) {
  auto* member = segment->At<AppMember>(client.member.load(std::memory_order_acquire));
  if (member != nullptr) member->outcome.store(outcome, std::memory_order_release);
}

}  // namespace capio
