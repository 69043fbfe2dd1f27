#include "client/wait_report.h"

#include <algorithm>

#include "client/session.h"
#include "os/os.h"
#include "rules/rule_set.h"
#include "rules/text.h"
#include "store/apps.h"

namespace capio {
namespace {

constexpr size_t kMostProcesses = 8;

std::string PathOf(Session* session, std::string_view name) {
  return name.empty() ? session->dir() : session->dir() + "/" + std::string(name);
}

std::string OnNFiles(Session* session, const std::string& directory, const Rule& rule) {
  return "on_n_files: " + std::to_string(session->store().judge->CountEntries(directory)) + " of " +
         std::to_string(rule.streaming.n_files) + " entries";
}

// Why on_file has not come.
std::string OnFile(Session* session, const Rule& rule) {
  Store& store = session->store();
  Sealed sealed;
  const DependencyCount count =
      store.judge->CountDependencies(rule.streaming.dependencies, &sealed);
  session->NoticeSealed(sealed);
  const size_t all = rule.streaming.dependencies.size();
  std::string text = "on_file: ";
  if (all > 1) text += std::to_string(count.met) + " of " + std::to_string(all) + " complete, ";
  if (count.unmet.empty()) return text + "all it depends on is complete";
  if (IsGlob(count.unmet)) return text + "not all of " + Quoted(count.unmet);
  struct stat st = {};
  const std::string path = UnescapeGlob(count.unmet);
  return text + Quoted(path) +
         (store.layers->Find(path, &st, true).ok() ? " is not complete" : " is not there yet");
}

std::string CommitReason(Session* session, const std::string& name, const Rule& rule,
                         const FileRecord* record) {
  if (record != nullptr && StateOf(record->status.load(std::memory_order_acquire)) == kClosing) {
    return "it has been closed, but a process still has it open for writing: by an inherited "
           "descriptor, a mapping, or a program that CAPIO does not see";
  }
  switch (rule.streaming.commit) {
    case CommitRule::kOnClose: {
      if (record == nullptr) return "on_close";
      const uint32_t wanted = std::max(1u, record->close_count.load());
      const uint64_t have = session->store().judge->ProgressOf(record).closes;
      if (wanted == 1 && have == 0) return "on_close";
      // As many as are asked for, and one more opening.
      if (have >= wanted) return "on_close: it is open for writing again";
      return "on_close:" + std::to_string(wanted) + ": " + std::to_string(have) + " of " +
             std::to_string(wanted) + (have == 1 ? " closes has come" : " closes have come");
    }
    case CommitRule::kOnFile:
      return OnFile(session, rule);
    case CommitRule::kOnNFiles:
      return OnNFiles(session, name, rule);
    case CommitRule::kOnTermination:
      break;
  }
  if (record == nullptr && rule.streaming.n_files > 0) return OnNFiles(session, name, rule);
  return "on_termination: when all processes that write it have ended";
}

// Which clause of the rules makes a consumer wait for a path.
std::string ExistenceReason(Session* session, const std::string& name) {
  const auto rules = session->store().rules->Get();
  std::string patterns;
  bool exact = false;
  for (const Entry& entry : rules->workflow().entries) {
    if (entry.producers.empty()) continue;
    if (!entry.is_glob) {
      exact |= entry.pattern == name;
    } else if (GlobMatch(entry.pattern, name)) {
      patterns += (patterns.empty() ? "" : ", ") + Quoted(entry.pattern);
    }
  }
  std::string text = "declared as an output";
  if (!exact && !patterns.empty()) text += " by " + patterns;
  struct stat st = {};
  if (session->store().layers->InReal(name, &st)) {
    text += "; what lies there is an earlier run's, and counts only with --resume";
  }
  return text;
}

std::string BytesReason(Session* session, const WaitGoal& goal) {
  struct stat st = {};
  const uint64_t there = session->store().layers->Find(goal.name, &st, true).ok()
                             ? static_cast<uint64_t>(st.st_size)
                             : 0;
  if (const uint64_t hole = goal.record->hole.load(std::memory_order_acquire); hole < there) {
    return "nobody has written the gap behind the first " + std::to_string(hole) + " yet";
  }
  return std::to_string(there) + " are there" +
         (goal.wanted == kAnyBytes ? "" : ", " + std::to_string(goal.wanted) + " are needed");
}

std::string What(Session* session, const WaitGoal& goal) {
  const auto rule = session->RuleOf(goal.name);
  switch (goal.activity) {
    case kWaitingPath:
      return "to exist (" + ExistenceReason(session, goal.name) + ")";
    case kWaitingBytes:
      return "to have more bytes (" + BytesReason(session, goal) + ")";
    case kWaitingEntries:
      return (goal.whole ? "to be complete (" : "to have more entries, or be complete (") +
             CommitReason(session, goal.name, *rule, nullptr) + ")";
    case kWaitingRoom:
      return "to have room to grow in memory (" + session->DescribeRoom() + ")";
    default:
      return "to be complete (" + CommitReason(session, goal.name, *rule, goal.record) + ")";
  }
}

std::string_view Wanted(uint32_t activity) {
  switch (activity) {
    case kWaitingPath:
      return " to exist";
    case kWaitingBytes:
      return " to have more bytes";
    case kWaitingEntries:
      return " to have more entries";
    case kWaitingRoom:
      return " to have room to grow";
    default:
      return " to be complete";
  }
}

// What a process is about, as far as it shows: " (...)", or "".
std::string Doing(Session* session, uint32_t slot, const FileRecord* record) {
  Store& store = session->store();
  const Client& client = store.segment->header().clients[slot];
  if ((client.flags.load(std::memory_order_acquire) & kClientExec) != 0) {
    return " (another program by exec)";
  }
  for (auto* thread = store.segment->At<ThreadSlot>(client.threads.load()); thread != nullptr;
       thread = store.segment->At<ThreadSlot>(thread->next.load())) {
    const uint32_t activity = thread->activity.load(std::memory_order_acquire);
    if (!IsWait(activity)) continue;
    const int64_t seconds = (os().MonotonicNs() - thread->since_ns.load()) / 1'000'000'000;
    const size_t size = std::min<size_t>(thread->name_size.load(), kThreadNameMax);
    return " (itself waiting " + std::to_string(seconds) + " s for " +
           PathOf(session, {thread->name, size}) + std::string(Wanted(activity)) + ")";
  }
  bool open = false;
  if (record != nullptr) {
    const uint32_t epoch = client.epoch.load(std::memory_order_acquire);
    store.records->ForEachCell(record, [&](const Cell* cell) {
      const uint64_t word = cell->word.load(std::memory_order_acquire);
      open |= cell->slot == slot && cell->epoch == epoch && OpensOf(word) > ClosesOf(word);
    });
  }
  return open ? " (has it open for writing)" : "";
}

std::string Census(const AppCount& count) {
  return " " + std::to_string(count.came) + " of its " + std::to_string(count.expected) +
         " processes (" + count.source +
         ") have come; if there are no more, set CAPIO_APP_PROCS to their number";
}

std::string Processes(Session* session, uint32_t app, const FileRecord* record) {
  Store& store = session->store();
  const Header& header = store.segment->header();
  std::string text;
  size_t count = 0;
  const uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    const Client& client = header.clients[slot];
    if (client.state.load(std::memory_order_acquire) != kSlotAttached || client.app.load() != app ||
        !store.locks->Held(slot) || ++count > kMostProcesses) {
      continue;
    }
    text += (count == 1 ? " pid " : ", pid ") + std::to_string(client.pid.load()) +
            Doing(session, slot, record);
  }
  if (count > kMostProcesses) text += " and " + std::to_string(count - kMostProcesses) + " more";
  return text;
}

std::string DescribeApp(Session* session, uint32_t app, const FileRecord* record) {
  Store& store = session->store();
  const AppCount count = CountProcesses(store.segment.get(), app);
  std::string text = "app '" + store.AppName(app) + "' ";
  int32_t failed = 0;
  switch (store.judge->StandingOf(app, &failed)) {
    case Standing::kNotStarted:
      return text + "has not started";
    case Standing::kEnded:
      return text + "has ended";
    case Standing::kFailed:
      return text + "has failed" + (failed != 0 ? " (pid " + std::to_string(failed) + ")" : "");
    case Standing::kIncomplete:
      return text + "is not complete:" + Census(count);
    case Standing::kRunning:
      break;
  }
  text += "is running as" + Processes(session, app, record);
  if (count.incomplete()) text += " and is not complete:" + Census(count);
  return text;
}

}  // namespace

std::string DescribeApps(Session* session, const std::vector<uint32_t>& apps,
                         const FileRecord* record) {
  std::string text;
  for (uint32_t app : apps) {
    text += (text.empty() ? "" : "; ") + DescribeApp(session, app, record);
  }
  return text.empty() ? "no app is known to provide it" : text;
}

std::string DescribeWait(Session* session, const WaitGoal& goal) {
  return PathOf(session, goal.name) + " " + What(session, goal) + ": " +
         DescribeApps(session, goal.apps, goal.record);
}

}  // namespace capio
