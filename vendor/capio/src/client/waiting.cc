// How a client waits: what its threads are about, as others see it, and the sleeps that files,
// directories and names are waited for in.
#include <string.h>

#include <algorithm>

#include "client/deadlock.h"
#include "client/say.h"
#include "client/session.h"
#include "client/spin.h"
#include "client/wait_report.h"
#include "os/environment.h"
#include "os/paths.h"
#include "store/waits.h"

namespace capio {
namespace {

constexpr int64_t kFirstSleepNs = 50'000'000;
constexpr int64_t kLongestSleepNs = 1'000'000'000;

// One wait of the calling thread, over all the slices it is cut into.
struct WaitClock {
  WaitGoal goal;
  int64_t since = 0;
  int64_t last = 0;
  int64_t sleep = kFirstSleepNs;
  int64_t slice = 0;
  int64_t next_warning = 0;
  std::string ended;  // the path whose producers were seen to have ended
  std::string needs;
  uint32_t rounds = 0;  // looks in vain
  DeadlockWatch deadlock;
};
thread_local WaitClock wait_clock;

}  // namespace

const std::string& LastWaitNeeds() { return wait_clock.needs; }

int64_t WaitedFor(const std::string& relative) {
  return wait_clock.goal.name == relative ? os().MonotonicNs() - wait_clock.since : 0;
}

void EndWait() { wait_clock.goal = {}; }

// ---- thread slots
// -----------------------------------------------------------------------------------

// The calling thread's kernel id, asked for once.
static int32_t ThisThread() {
  thread_local int32_t id = 0;
  thread_local uint64_t epoch = 0;
  if (id == 0 || epoch != ForkEpoch()) {
    id = os().ThreadId();
    epoch = ForkEpoch();
  }
  return id;
}

ThreadSlot* Session::TakeThreadSlot() {
  {
    ForkGuard guard(mutex_);
    if (!idle_threads_.empty()) {
      ThreadSlot* slot = idle_threads_.back();
      idle_threads_.pop_back();
      return slot;
    }
  }
  auto offset = store_->segment->Allocate(sizeof(ThreadSlot));
  if (!offset.ok()) return nullptr;
  auto* slot = store_->segment->At<ThreadSlot>(*offset);
  std::atomic<uint64_t>& head = store_->segment->header().clients[slot_].threads;
  uint64_t first = head.load(std::memory_order_acquire);
  do {
    slot->next.store(first, std::memory_order_relaxed);
  } while (!head.compare_exchange_weak(first, *offset, std::memory_order_acq_rel));
  return slot;
}

void Session::ReturnThreadSlot(ThreadSlot* slot) {
  ForkGuard guard(mutex_);
  idle_threads_.push_back(slot);
}

Activity::Activity(Session* session, ThreadActivity activity, std::string_view name,
                   const std::vector<uint32_t>& needed, int64_t since_ns, uint32_t rounds)
    : session_(session), slot_(session->TakeThreadSlot()) {
  if (slot_ == nullptr) return;
  size_t kept = std::min<size_t>(name.size(), kThreadNameMax);
  memcpy(slot_->name, name.data(), kept);
  slot_->name_size.store(static_cast<uint32_t>(name.size()), std::memory_order_relaxed);
  slot_->name_hash.store(HashString(name), std::memory_order_relaxed);
  bool known = needed.size() <= kNeededMax;
  for (size_t i = 0; known && i < needed.size(); ++i) {
    slot_->needed[i].store(static_cast<uint16_t>(needed[i]), std::memory_order_relaxed);
  }
  slot_->needed_size.store(known ? static_cast<uint32_t>(needed.size()) : 0u,
                           std::memory_order_relaxed);
  slot_->thread.store(ThisThread(), std::memory_order_relaxed);
  slot_->since_ns.store(since_ns, std::memory_order_relaxed);
  slot_->rounds.store(rounds, std::memory_order_relaxed);
  slot_->activity.store(activity, std::memory_order_seq_cst);
}

Activity::~Activity() {
  if (slot_ == nullptr) return;
  slot_->activity.store(kIdle, std::memory_order_release);
  session_->ReturnThreadSlot(slot_);
}

// ---- waiting
// ----------------------------------------------------------------------------------------

void Session::AddProvidersOf(const std::vector<std::string>& dependencies,
                             std::vector<uint32_t>* apps) {
  Sealed sealed;
  const std::string unmet = store_->judge->CountDependencies(dependencies, &sealed).unmet;
  NoticeSealed(sealed);
  if (unmet.empty()) return;
  for (uint32_t app : RuleOf(IsGlob(unmet) ? unmet : UnescapeGlob(unmet))->producers) {
    if (std::find(apps->begin(), apps->end(), app) == apps->end()) apps->push_back(app);
  }
}

std::vector<uint32_t> Session::ProvidersOf(const FileRecord* record) {
  std::vector<uint32_t> writers;
  store_->records->ForEachCell(record, [&](const Cell* cell) {
    if (std::find(writers.begin(), writers.end(), cell->app) == writers.end()) {
      writers.push_back(cell->app);
    }
  });
  auto rule = RuleOf(store_->records->NameOf(record));
  if (rule->streaming.commit == CommitRule::kOnFile) {
    std::vector<uint32_t> apps;
    if (store_->judge->ProgressOf(record).open) apps = writers;
    AddProvidersOf(rule->streaming.dependencies, &apps);
    if (!apps.empty()) return apps;
  }
  if (writers.empty()) writers.assign(rule->producers.begin(), rule->producers.end());
  return writers;
}

Status Session::Sleep(WaitWord* word, uint32_t prepared, const WaitGoal& goal, bool* timed_out) {
  const std::string& name = goal.name;
  const std::vector<uint32_t>& apps = goal.apps;
  WaitClock& clock = wait_clock;
  int64_t now = os().MonotonicNs();
  // The same wait goes on if the caller came straight back after a slice. Where something has come,
  // however little, another one begins.
  if (!clock.goal.SameAs(goal) || now - clock.last > 500'000'000) {
    clock = WaitClock();
    clock.goal = goal;
    clock.since = now;
    clock.next_warning = now + SecondsVariable("CAPIO_WAIT_WARN", 10'000'000'000);
  }
  int64_t limit = SecondsVariable("CAPIO_WAIT_TIMEOUT", 0);
  if (limit > 0 && now - clock.since >= limit) {
    clock.goal = {};
    return Status::Error(ETIMEDOUT, "waited " + std::to_string(limit / 1'000'000'000) +
                                        " s (CAPIO_WAIT_TIMEOUT) for " + DescribeWait(this, goal));
  }
  if (now >= clock.next_warning) {
    Say("waiting " + std::to_string((now - clock.since) / 1'000'000'000) + " s for " +
        DescribeWait(this, goal));
    clock.next_warning = now + 2 * std::max<int64_t>(now - clock.since, 1'000'000'000);
  }
  // For bytes, the reader has looked already.
  if (goal.activity != kWaitingBytes && clock.rounds == 0 &&
      SpinUntil(goal.activity, [&] { return word->load(std::memory_order_acquire) != prepared; })) {
    *timed_out = false;
    return Status::Ok();
  }
  int64_t sleep = std::min({clock.sleep, clock.next_warning - now, kLongestSleepNs - clock.slice});
  if (limit > 0) sleep = std::min(sleep, limit - (now - clock.since));
  int result = 0;
  {
    Activity shown(this, goal.activity, name, apps, clock.since, clock.rounds);
    if (clock.rounds > 0) CountBusyThreads(store_.get(), slot_);
    result = WaitOn(word, prepared, std::max<int64_t>(sleep, 1'000'000));
    // While this wait is still shown, as part of what is looked at.
    if (result == -ETIMEDOUT && clock.sleep >= kLongestSleepNs) {
      Status stuck = clock.deadlock.Check(store_.get(), slot_, goal.activity == kWaitingRoom);
      if (!stuck.ok()) {
        clock.goal = {};
        return stuck;
      }
    }
  }
  clock.last = os().MonotonicNs();
  clock.slice += clock.last - now;
  *timed_out = result == -ETIMEDOUT;
  if (result == -ECANCELED) {
    clock.goal = {};
    return Status::Error(ECANCELED, "the wait was cancelled: the process is ending");
  }
  if (result == -ETIMEDOUT) {
    clock.sleep = std::min(clock.sleep * 2, kLongestSleepNs);
    ++clock.rounds;
    ReviveServer();
  } else if (result == 0 && goal.activity != kWaitingRoom) {
    // For room everybody is woken by every file that is moved or removed.
    clock.sleep = kFirstSleepNs;
  }
  if (result == -EINTR || clock.slice >= kLongestSleepNs) {
    clock.slice = 0;
    clock.needs.clear();
    const Header& header = store_->segment->header();
    const uint64_t me = header.clients[slot_].process.load();
    uint32_t used = header.slots_used.load();
    bool elsewhere = false;
    for (uint32_t slot = 1; slot < used; ++slot) {
      const Client& client = header.clients[slot];
      if (client.state.load() == kSlotAttached && client.process.load() != me &&
          std::find(apps.begin(), apps.end(), client.app.load()) != apps.end() &&
          store_->locks->Held(slot)) {
        elsewhere = true;
      }
    }
    // Those who are still to come are not this process.
    elsewhere |= std::any_of(apps.begin(), apps.end(),
                             [this](uint32_t app) { return store_->judge->Awaited(app); });
    if (!elsewhere) {
      for (uint32_t app : apps) {
        if (store_->judge->Running(app)) clock.needs += store_->AppName(app) + "\n";
      }
    }
    return Status::Error(EINTR);
  }
  return Status::Ok();
}

Status Session::SleepForPath(const std::string& relative, const Rule& rule, uint32_t prepared) {
  std::vector<uint32_t> apps(rule.producers.begin(), rule.producers.end());
  bool any_left = false;
  uint32_t failed = kNoApp;
  int32_t failed_pid = 0;
  for (uint32_t app : apps) {
    Standing standing = store_->judge->StandingOf(app, &failed_pid);
    if (standing != Standing::kEnded && standing != Standing::kFailed) any_left = true;
    if (standing == Standing::kFailed) failed = app;
  }
  if (!any_left) {
    // One more look: the last producer may have made it just before it ended.
    if (wait_clock.ended != relative) {
      wait_clock.ended = relative;
      return Status::Ok();
    }
    wait_clock.ended.clear();
    if (failed != kNoApp) {
      return Status::Error(EOWNERDEAD, "app '" + store_->AppName(failed) + "' (pid " +
                                           std::to_string(failed_pid) +
                                           ") failed before it made this file");
    }
    struct stat st = {};
    const char* old = store_->layers->InReal(relative, &st)
                          ? "; what lies there is an earlier run's, and counts only with --resume"
                          : "";
    return Status::Error(ENOENT, "declared as an output, but " + DescribeApps(this, apps) +
                                     " without making it" + old);
  }
  wait_clock.ended.clear();
  bool timed_out = false;
  return Sleep(store_->records->PathWord(relative), prepared,
               {.activity = kWaitingPath, .name = relative, .apps = apps}, &timed_out);
}

Status Session::SleepForEntries(const std::string& relative, const Rule& rule,
                                std::optional<uint64_t> delivered, uint32_t prepared) {
  bool timed_out = false;
  WaitGoal goal;
  goal.activity = kWaitingEntries;
  goal.name = relative;
  goal.whole = !delivered.has_value();
  goal.stage = delivered.value_or(0);
  goal.apps.assign(rule.producers.begin(), rule.producers.end());
  if (rule.streaming.commit == CommitRule::kOnFile) {
    AddProvidersOf(rule.streaming.dependencies, &goal.apps);
  }
  return Sleep(store_->records->PathWord(relative), prepared, goal, &timed_out);
}

Status Session::Failure(const FileRecord* record) const {
  uint64_t why = record->failure.load(std::memory_order_acquire);
  auto app = static_cast<uint32_t>(why >> 32 & 0xffff);
  auto pid = static_cast<int32_t>(why & 0xffffffff);
  std::string who = app == kNoApp ? "its producer" : "app '" + store_->AppName(app) + "'";
  if (pid != 0) who += " (pid " + std::to_string(pid) + ")";
  const char* what = (why >> 48) == kFailureBadEnd
                         ? " ended with an error before the file was complete"
                     : (why >> 48) == kFailureIo ? " lost bytes while writing the file"
                                                 : " died before the file was complete";
  return Status::Error(EOWNERDEAD, who + what);
}

Status Session::WaitForCommit(FileRecord* record) {
  FileState state = Evaluate(record, -1);
  for (;;) {
    if (state == kCommitted) return Status::Ok();
    if (state == kFailed) return Failure(record);
    uint32_t prepared = PrepareWait(&record->word);
    state = StateOf(record->status.load(std::memory_order_seq_cst));
    if (state == kCommitted || state == kFailed) continue;
    // Who waits for all that a streamed file will have gets bytes meanwhile.
    const bool streamed = FireOf(record->rule.load()) == FireRule::kNoUpdate;
    bool timed_out = false;
    CAPIO_RETURN_IF_ERROR(Sleep(&record->word, prepared,
                                {.activity = kWaitingCommit,
                                 .name = store_->records->NameOf(record),
                                 .apps = ProvidersOf(record),
                                 .record = record,
                                 .stage = streamed ? record->progress.load() : 0},
                                &timed_out));
    // Woken: look. Not woken: whoever should have sealed it may be dead.
    state =
        timed_out ? Evaluate(record, -1) : StateOf(record->status.load(std::memory_order_acquire));
  }
}

Status Session::SleepForBytes(FileRecord* record, uint64_t status, uint32_t progress,
                              uint64_t size) {
  uint32_t prepared = PrepareWait(&record->word);
  uint64_t want = record->want.load();
  while (size < want && !record->want.compare_exchange_weak(want, size)) {
  }
  // Pairs with the writer's fence between its progress and its look at the waiter bit.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (record->progress.load(std::memory_order_seq_cst) != progress) return Status::Ok();
  if (record->status.load(std::memory_order_seq_cst) != status) return Status::Ok();
  bool timed_out = false;
  CAPIO_RETURN_IF_ERROR(Sleep(&record->word, prepared,
                              {.activity = kWaitingBytes,
                               .name = store_->records->NameOf(record),
                               .apps = ProvidersOf(record),
                               .record = record,
                               .wanted = size,
                               .stage = progress},
                              &timed_out));
  if (timed_out) (void)Evaluate(record, -1);
  return Status::Ok();
}

}  // namespace capio
