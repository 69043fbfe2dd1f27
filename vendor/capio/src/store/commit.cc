#include "store/commit.h"

#include <fcntl.h>

#include <algorithm>
#include <vector>

#include "os/paths.h"
#include "rules/rule_set.h"
#include "store/apps.h"
#include "store/probe.h"
#include "store/waits.h"
#include "store/walk.h"

namespace capio {
namespace {

// Files that depend on files that depend on files; the rules hold no cycle, but a rename may make
// one.
constexpr int kMaxDepth = 32;

// Written before the slot's epoch is raised, so it is there once FateOf says kSettled.
Fate OutcomeOf(const Cell* cell) {
  switch (cell->outcome.load(std::memory_order_acquire)) {
    case kCellClean:
      return Fate::kClean;
    case kCellBad:
      return Fate::kBad;
    default:
      return Fate::kDied;
  }
}

}  // namespace

Fate Judge::FateOf(uint32_t slot, uint32_t epoch) const {
  const Client& client = segment_->header().clients[slot];
  if (client.epoch.load(std::memory_order_acquire) != epoch) return Fate::kSettled;
  if (locks_->Held(slot)) return Fate::kAlive;
  // The announcement was made before the lock was let go: read it again now that it is free.
  uint32_t flags = client.flags.load(std::memory_order_acquire);
  // Settled meanwhile, the flags may be the next tenant's.
  if (client.epoch.load(std::memory_order_acquire) != epoch) return Fate::kSettled;
  if ((flags & kClientBad) != 0) return Fate::kBad;
  return EndsWell(flags) ? Fate::kClean : Fate::kDied;
}

bool Judge::Replaced(uint32_t slot) const {
  uint32_t flags = segment_->header().clients[slot].flags.load(std::memory_order_acquire);
  return IsReplaced(flags) && EndsWell(flags);
}

bool Judge::Running(uint32_t app) const {
  const Header& header = segment_->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    const Client& client = header.clients[slot];
    if (client.state.load(std::memory_order_acquire) == kSlotAttached &&
        client.app.load(std::memory_order_relaxed) == app && locks_->Held(slot)) {
      return true;
    }
  }
  return false;
}

bool Judge::Awaited(uint32_t app) const {
  return (segment_->header().flags.load(std::memory_order_acquire) & kNoneToCome) == 0 &&
         CountProcesses(segment_, app).incomplete();
}

uint32_t Judge::BadEnd(uint32_t app, bool anew) const {
  const Header& header = segment_->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    const Client& client = header.clients[slot];
    const uint32_t counts = kClientRoot | (anew ? uint32_t{kClientRestart} : 0);
    if (client.state.load(std::memory_order_acquire) != kSlotAttached ||
        client.app.load(std::memory_order_relaxed) != app ||
        (client.flags.load(std::memory_order_relaxed) & counts) != counts) {
      continue;
    }
    Fate fate = FateOf(slot, client.epoch.load(std::memory_order_acquire));
    if (fate == Fate::kBad || fate == Fate::kDied) return slot;
  }
  return 0;
}

bool Judge::IsRestart(uint32_t slot, uint32_t epoch) const {
  const Client& client = segment_->header().clients[slot];
  return (client.flags.load(std::memory_order_acquire) & kClientRestart) != 0 &&
         client.epoch.load(std::memory_order_acquire) == epoch;
}

bool Judge::Restarted(uint32_t app, uint32_t slot) const {
  const Header& header = segment_->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t other = 1; other < used; ++other) {
    const Client& client = header.clients[other];
    if (other != slot && client.state.load(std::memory_order_seq_cst) == kSlotAttached &&
        client.app.load(std::memory_order_relaxed) == app &&
        IsRestart(other, client.epoch.load(std::memory_order_acquire))) {
      return true;
    }
  }
  return false;
}

bool Judge::BegunAnew(const FileRecord* record, uint32_t app) const {
  bool anew = true;
  records_->ForEachCell(record, [&](const Cell* cell) {
    if (cell->app != app || (OpensOf(cell->word.load(std::memory_order_acquire)) == 0 &&
                             cell->duplicates.load(std::memory_order_acquire) == 0)) {
      return;
    }
    anew &= IsRestart(cell->slot, cell->epoch);
  });
  return anew;
}

Standing Judge::StandingOf(uint32_t app, int32_t* failed_pid, bool anew) const {
  const App& entry = segment_->header().apps[app];
  if (Running(app)) return Standing::kRunning;
  // Ended, but perhaps no server has settled it yet.
  uint32_t slot = BadEnd(app);
  if (slot != 0 && anew && Restarted(app)) slot = BadEnd(app, true);
  if (slot != 0) {
    *failed_pid = segment_->header().clients[slot].pid.load();
    return Standing::kFailed;
  }
  if (AppCount count = CountProcesses(segment_, app); count.failed_pid != 0) {
    *failed_pid = count.failed_pid;
    return Standing::kFailed;
  }
  if (Awaited(app)) return Standing::kIncomplete;
  switch (entry.outcome.load(std::memory_order_acquire)) {
    case kAppNotStarted:
      return Standing::kNotStarted;
    case kAppFailed:
      *failed_pid = entry.failed_pid.load();
      return Standing::kFailed;
    default:
      return Standing::kEnded;
  }
}

bool Judge::BeingCreated(std::string_view name, bool* dead, uint32_t* slot) const {
  const Header& header = segment_->header();
  uint64_t hash = HashString(name);
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t at = 1; at < used; ++at) {
    const Client& client = header.clients[at];
    if (client.state.load(std::memory_order_acquire) != kSlotAttached) continue;
    for (auto* thread = segment_->At<ThreadSlot>(client.threads.load(std::memory_order_acquire));
         thread != nullptr;
         thread = segment_->At<ThreadSlot>(thread->next.load(std::memory_order_acquire))) {
      if (thread->activity.load(std::memory_order_acquire) == kOpening &&
          thread->name_hash.load(std::memory_order_relaxed) == hash) {
        *slot = at;
        *dead = !locks_->Held(at);
        return true;
      }
    }
  }
  return false;
}

bool Judge::BeingNamed(std::string_view name) const {
  uint64_t hash = HashString(name);
  const Header& header = segment_->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    const Client& client = header.clients[slot];
    if (client.state.load(std::memory_order_acquire) != kSlotAttached) continue;
    for (auto* thread = segment_->At<ThreadSlot>(client.threads.load(std::memory_order_acquire));
         thread != nullptr;
         thread = segment_->At<ThreadSlot>(thread->next.load(std::memory_order_acquire))) {
      uint32_t activity = thread->activity.load(std::memory_order_seq_cst);
      bool this_one = activity == kNaming && thread->name_hash.load() == hash;
      if ((this_one || activity == kNamingTree) && locks_->Held(slot)) return true;
    }
  }
  return false;
}

Judge::Opinion Judge::FailureBy(uint32_t slot, Fate fate) const {
  const Client& client = segment_->header().clients[slot];
  return {Verdict::kFail, fate == Fate::kBad ? kFailureBadEnd : kFailureDied,
          client.app.load(std::memory_order_relaxed), client.pid.load(std::memory_order_relaxed)};
}

// A file that no client has noted: made by a native tool, or by a client that died while creating
// it.
Judge::Opinion Judge::WeighOwnerless(const FileRecord* record, int depth, Sealed* sealed) {
  bool dead = false;
  uint32_t slot = 0;
  if (BeingCreated(segment_->Name(record->name.load(std::memory_order_acquire)), &dead, &slot)) {
    return dead ? FailureBy(slot, Fate::kDied) : Opinion{};
  }
  // Its maker may have counted itself in between the look at the cells and this one.
  if (Owned(record)) return Weigh(record, depth, sealed);
  return {Verdict::kProbe, kFailureNone, kNoApp, 0};
}

bool Judge::Owned(const FileRecord* record) const {
  bool owned = false;
  records_->ForEachCell(record, [&](const Cell* cell) {
    if (OpensOf(cell->word.load(std::memory_order_acquire)) > 0) owned = true;
  });
  return owned;
}

bool Judge::Closed(const FileRecord* record) const {
  bool owned = false;
  bool open = false;
  records_->ForEachCell(record, [&](const Cell* cell) {
    uint64_t word = cell->word.load(std::memory_order_acquire);
    owned |= OpensOf(word) > 0;
    open |= OpensOf(word) > ClosesOf(word);
  });
  return owned && !open;
}

Judge::Tally Judge::Count(const FileRecord* record) const {
  Tally tally;
  tally.probe = (record->flags.load(std::memory_order_acquire) & kFileNeedsProbe) != 0;
  records_->ForEachCell(record, [&](const Cell* cell) {
    if (OpensOf(cell->word.load(std::memory_order_acquire)) == 0 &&
        cell->duplicates.load(std::memory_order_acquire) == 0) {
      return;
    }
    tally.owned = true;
    if (std::find(tally.writers.begin(), tally.writers.end(), cell->app) == tally.writers.end()) {
      tally.writers.push_back(cell->app);
    }
    uint32_t outcome = cell->outcome.load(std::memory_order_acquire);
    Fate fate = Fate::kSettled;
    if (outcome == kCellLive) fate = FateOf(cell->slot, cell->epoch);
    if (fate == Fate::kSettled) fate = OutcomeOf(cell);
    // What it had open was closed by exec, or lives on in what it has become.
    if (fate == Fate::kAlive && Replaced(cell->slot)) fate = Fate::kClean;
    // After the fate, so that the cell of a client that is no more is final; and abandoned after
    // the word, since a client raises it first.
    uint64_t word = cell->word.load(std::memory_order_acquire);
    uint32_t opens = OpensOf(word);
    uint32_t closes = ClosesOf(word);
    uint32_t abandoned = cell->abandoned.load(std::memory_order_acquire);
    uint32_t duplicates = cell->duplicates.load(std::memory_order_acquire);
    switch (fate) {
      case Fate::kAlive:
        if (opens > closes) tally.open = true;
        tally.closes += closes - std::min(closes, abandoned);
        break;
      case Fate::kClean:
        tally.closes += opens;  // what was still open was closed by the process's end
        // Never closed, it may live on in a child by fork.
        if (opens > closes || duplicates > 0) tally.probe = true;
        break;
      case Fate::kBad:
      case Fate::kDied:
      case Fate::kSettled:
        tally.closes += closes - std::min(closes, abandoned);
        if (opens > closes || abandoned > 0 || duplicates > 0) {
          // A settled slot may have a new tenant: then only the app is known.
          tally.failure =
              cell->outcome.load() == kCellLive
                  ? FailureBy(cell->slot, fate)
                  : Opinion{Verdict::kFail, fate == Fate::kBad ? kFailureBadEnd : kFailureDied,
                            cell->app, 0};
        }
        break;
    }
  });
  return tally;
}

Judge::Opinion Judge::Weigh(const FileRecord* record, int depth, Sealed* sealed) {
  uint32_t rule = record->rule.load(std::memory_order_acquire);
  bool on_close = CommitOf(rule) == CommitRule::kOnClose;
  const Tally tally = Count(record);
  Opinion failure = tally.failure;
  if (failure.verdict == Verdict::kFail) return failure;
  if (!tally.owned) return WeighOwnerless(record, depth, sealed);
  if (tally.open) return {};
  Opinion yes{tally.probe ? Verdict::kProbe : Verdict::kCommit, kFailureNone, kNoApp, 0};
  if (on_close && tally.closes >= std::max(1u, record->close_count.load())) return yes;
  // How the apps that wrote it stand: running, ended, or one of them badly.
  bool running = false;
  for (uint32_t app : tally.writers) {
    int32_t pid = 0;
    Standing standing = StandingOf(app, &pid, false);
    const bool anew = standing == Standing::kFailed && BegunAnew(record, app);
    if (anew) standing = StandingOf(app, &pid);
    running |= standing == Standing::kRunning || standing == Standing::kIncomplete;
    if (standing != Standing::kFailed) continue;
    uint32_t slot = BadEnd(app, anew);
    failure = slot != 0
                  ? FailureBy(slot, FateOf(slot, segment_->header().clients[slot].epoch.load()))
                  : Opinion{Verdict::kFail, kFailureBadEnd, app, pid};
    break;
  }
  if (CommitOf(rule) == CommitRule::kOnFile) {
    if (failure.verdict == Verdict::kFail) return failure;
    std::string name = records_->NameOf(record);
    Prospect prospect = ProspectOf(rule_of_(name).streaming.dependencies, depth + 1, sealed);
    switch (prospect.outlook) {
      case Outlook::kMet:
        return yes;
      case Outlook::kPending:
        return {};
      case Outlook::kFailed:
        return {Verdict::kFail, kFailureBadEnd, prospect.app, prospect.pid};
      case Outlook::kNever:
        break;  // then its own producers' end is what commits it
    }
  }
  if (failure.verdict == Verdict::kFail) return failure;
  if (running) return {};
  return on_close ? Opinion{} : yes;
}

Writers Judge::ProbeByName(const FileRecord* record) const {
  // O_NONBLOCK: an open that would break somebody's lease must not wait for it.
  Fd fd(layers_->OpenInStore(records_->NameOf(record), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  return fd.valid() ? ProbeWriters(fd.get()) : Writers::kUnknown;
}

// Never lowered: one of two that come at once may be late, and about an earlier generation.
void Judge::NoteSeal(FileRecord* record) {
  uint64_t now = segment_->header().seals.fetch_add(1, std::memory_order_acq_rel) + 1;
  uint64_t before = record->sealed_at.load(std::memory_order_relaxed);
  while (before < now &&
         !record->sealed_at.compare_exchange_weak(before, now, std::memory_order_acq_rel)) {
  }
}

FileState Judge::Evaluate(FileRecord* record, int read_only, Sealed* sealed) {
  return EvaluateAt(record, read_only, 0, sealed);
}

FileState Judge::EvaluateAt(FileRecord* record, int read_only, int depth, Sealed* sealed) {
  for (;;) {
    uint64_t status = record->status.load(std::memory_order_acquire);
    FileState state = StateOf(status);
    if (state == kCommitted || state == kFailed) return state;
    Opinion opinion = Weigh(record, depth, sealed);
    if (opinion.verdict == Verdict::kFail) {
      if (Fail(record, opinion.kind, opinion.app, opinion.pid)) {
        sealed->push_back(record);
        EvaluateDependentsOf(record, depth + 1, sealed);
      }
      return StateOf(record->status.load(std::memory_order_acquire));
    }
    FileState next = kCommitted;
    if (opinion.verdict == Verdict::kNo) return kGrowing;
    if (opinion.verdict == Verdict::kProbe) {
      Writers writers = read_only >= 0 ? ProbeWriters(read_only) : ProbeByName(record);
      if (writers == Writers::kSome) next = kClosing;
    }
    if (state == next) return state;
    if (next == kCommitted) NoteSeal(record);
    if (record->status.compare_exchange_strong(status, MakeStatus(GenerationOf(status), next),
                                               std::memory_order_acq_rel)) {
      if (next == kCommitted) {
        sealed->push_back(record);
        record->want.store(kNobodyWants);
        WakeAll(&record->word);
        EvaluateDependentsOf(record, depth + 1, sealed);
      }
      return next;
    }
  }
}

// ---- what depends on other files
// ------------------------------------------------------------------------------------------

bool Judge::RealCounts(const struct stat& st, const std::string& relative) const {
  const Header& header = segment_->header();
  if ((header.flags.load() & kResume) != 0) return true;
  int64_t changed = st.st_mtim.tv_sec * INT64_C(1'000'000'000) + st.st_mtim.tv_nsec;
  if (header.fs_in_use.load(std::memory_order_acquire) != 0) {
    // It may be the store's own file, which came here by a rename or was copied with its times.
    Fd fd(os().OpenAt(layers_->real(), relative.c_str(), O_PATH, 0));
    FileIdentity id;
    if (fd.valid() && layers_->identities().Of(fd.get(), st, &id) == 0 &&
        records_->Find(id) != nullptr) {
      return true;
    }
  }
  if (changed < header.stamp_ns) return false;
  // Made in this run by a tool that knows nothing of CAPIO: complete when nobody has it open for
  // writing.
  return S_ISDIR(st.st_mode) || ProbeWritersAt(layers_->real(), relative.c_str()) != Writers::kSome;
}

FileRecord* Judge::RecordAt(Layer layer, const std::string& relative, const struct stat& st) {
  Fd fd(os().OpenAt(layers_->DirOf(layer), relative.c_str(), O_PATH, 0));
  FileIdentity id;
  if (!fd.valid() || layers_->identities().Of(fd.get(), st, &id) < 0) return nullptr;
  return records_->Find(id);
}

Prospect Judge::ProspectOfApps(const std::vector<uint16_t>& apps) const {
  Prospect prospect{Outlook::kNever, kNoApp, 0};
  for (uint32_t app : apps) {
    int32_t pid = 0;
    switch (StandingOf(app, &pid)) {
      case Standing::kNotStarted:
      case Standing::kIncomplete:
      case Standing::kRunning:
        return {};
      case Standing::kFailed:
        prospect = {Outlook::kFailed, app, pid};
        break;
      case Standing::kEnded:
        break;
    }
  }
  return prospect;
}

Prospect Judge::ProspectOfFile(FileRecord* record, int depth, Sealed* sealed) {
  if (depth > kMaxDepth) return {};
  switch (EvaluateAt(record, -1, depth, sealed)) {
    case kCommitted:
      return {Outlook::kMet, kNoApp, 0};
    case kFailed: {
      uint64_t why = record->failure.load(std::memory_order_acquire);
      return {Outlook::kFailed, static_cast<uint32_t>(why >> 32 & 0xffff),
              static_cast<int32_t>(why & 0xffffffff)};
    }
    default:
      return {};
  }
}

Prospect Judge::ProspectOfPattern(const std::string& pattern, int depth, Sealed* sealed) {
  bool any = false;
  bool pending = false;
  Prospect failed;
  std::vector<FileRecord*> matching;
  records_->ForEach([&](FileRecord* record) {
    std::string name = records_->NameOf(record);
    if (GlobMatch(pattern, name)) matching.push_back(record);
  });
  for (FileRecord* record : matching) {
    std::string name = records_->NameOf(record);
    struct stat st = {};
    auto layer = layers_->Find(name, &st, true);
    // Removed, or replaced by another file that has a record of its own.
    if (!layer.ok() || RecordAt(*layer, name, st) != record) continue;
    any = true;
    Prospect one = ProspectOfFile(record, depth, sealed);
    if (one.outlook == Outlook::kFailed) failed = one;
    if (one.outlook == Outlook::kPending) pending = true;
  }
  if (failed.outlook == Outlook::kFailed) return failed;
  if (pending) return {};
  // Another one may come as long as those who are declared to make such files may work.
  std::vector<uint16_t> producers = rule_of_(pattern).producers;
  if (producers.empty()) return {any ? Outlook::kMet : Outlook::kNever, kNoApp, 0};
  Prospect apps = ProspectOfApps(producers);
  if (apps.outlook == Outlook::kNever && any) return {Outlook::kMet, kNoApp, 0};
  return apps;
}

Prospect Judge::ProspectOfOne(const std::string& dependency, int depth, Sealed* sealed) {
  if (IsGlob(dependency)) return ProspectOfPattern(dependency, depth, sealed);
  std::string path = UnescapeGlob(dependency);
  struct stat st = {};
  auto layer = layers_->Find(path, &st, true);
  if (layer.code() == kLinkAhead) {
    const std::string_view dir = segment_->header().capio_dir;
    auto walked = Walk(*layers_, {dir, dir, ""}, std::string(dir) + "/" + path, true);
    if (walked.ok() && walked->inside) {
      path = std::move(walked->path);
      layer = layers_->Find(path, &st, true);
    }
  }
  Rule rule = rule_of_(path);
  if (layer.ok()) {
    if (S_ISDIR(st.st_mode)) return ProspectOfDirectory(path, rule, true, depth, sealed);
    if (FileRecord* record = RecordAt(*layer, path, st)) {
      return ProspectOfFile(record, depth, sealed);
    }
    // One of the store's without a record is just being made.
    if (*layer == Layer::kReal && (!rule.declared() || RealCounts(st, path))) {
      return {Outlook::kMet, kNoApp, 0};
    }
    if (*layer != Layer::kReal) return {};
  }
  // Nobody is declared to make it: perhaps somebody does, but nothing is lost by not waiting.
  return ProspectOfApps(rule.producers);
}

Prospect Judge::ProspectOf(const std::vector<std::string>& dependencies, int depth,
                           Sealed* sealed) {
  Prospect all{Outlook::kMet, kNoApp, 0};
  bool never = false;
  for (const std::string& dependency : dependencies) {
    Prospect one = ProspectOfOne(dependency, depth, sealed);
    if (one.outlook == Outlook::kMet) continue;
    if (one.outlook == Outlook::kFailed) return one;
    if (one.outlook == Outlook::kPending) all = one;
    never |= one.outlook == Outlook::kNever;
  }
  if (all.outlook == Outlook::kMet && never) all.outlook = Outlook::kNever;
  return all;
}

Prospect Judge::DirectoryProspect(const std::string& relative, const Rule& rule, bool count,
                                  Sealed* sealed) {
  return ProspectOfDirectory(relative, rule, count, 0, sealed);
}

size_t Judge::CountEntries(const std::string& relative, size_t least) {
  auto entries = layers_->List(relative);
  if (!entries.ok() || entries->size() < least) return 0;
  return static_cast<size_t>(std::count_if(
      entries->begin(), entries->end(),
      [&](const DirEntry& entry) { return !rule_of_(Below(relative, entry.name)).excluded; }));
}

Prospect Judge::ProspectOfDirectory(const std::string& relative, const Rule& rule, bool count,
                                    int depth, Sealed* sealed) {
  const Prospect met{Outlook::kMet, kNoApp, 0};
  if (depth > kMaxDepth) return {};
  if (!rule.declared()) return met;
  if (rule.streaming.commit == CommitRule::kOnFile) {
    Prospect files = ProspectOf(rule.streaming.dependencies, depth + 1, sealed);
    if (files.outlook != Outlook::kNever) return files;
  }
  // First the apps: what they made by then is counted.
  Prospect apps = ProspectOfApps(rule.producers);
  if (rule.streaming.n_files > 0 && count) {
    const size_t wanted = rule.streaming.n_files;
    if (CountEntries(relative, wanted) >= wanted) return met;
  }
  return apps.outlook == Outlook::kNever ? met : apps;
}

void Judge::EvaluateDependentsOf(const FileRecord* record, int depth, Sealed* sealed) {
  uint64_t first = segment_->header().dependents.load(std::memory_order_acquire);
  if (first == 0 || depth > kMaxDepth) return;
  std::string name = records_->NameOf(record);
  for (const auto* node = segment_->At<Dependent>(first); node != nullptr;
       node = segment_->At<Dependent>(node->next.load(std::memory_order_acquire))) {
    FileRecord* dependent = records_->At(node->record);
    FileState state = StateOf(dependent->status.load(std::memory_order_acquire));
    if (dependent == record || state == kCommitted || state == kFailed) continue;
    for (const std::string& pattern :
         rule_of_(records_->NameOf(dependent)).streaming.dependencies) {
      if (GlobMatch(pattern, name)) {
        (void)EvaluateAt(dependent, -1, depth, sealed);
        break;
      }
    }
  }
}

void Judge::EvaluateDependents(Sealed* sealed) {
  for (const auto* node =
           segment_->At<Dependent>(segment_->header().dependents.load(std::memory_order_acquire));
       node != nullptr;
       node = segment_->At<Dependent>(node->next.load(std::memory_order_acquire))) {
    (void)EvaluateAt(records_->At(node->record), -1, 0, sealed);
  }
}

Progress Judge::ProgressOf(const FileRecord* record) { return Count(record); }

DependencyCount Judge::CountDependencies(const std::vector<std::string>& dependencies,
                                         Sealed* sealed) {
  DependencyCount count;
  for (const std::string& dependency : dependencies) {
    if (ProspectOfOne(dependency, 1, sealed).outlook == Outlook::kMet) {
      ++count.met;
    } else if (count.unmet.empty()) {
      count.unmet = dependency;
    }
  }
  return count;
}

bool Judge::Fail(FileRecord* record, FailureKind kind, uint32_t app, int32_t pid) {
  uint64_t status = record->status.load(std::memory_order_acquire);
  uint64_t why = static_cast<uint64_t>(kind) << 48 | static_cast<uint64_t>(app & 0xffff) << 32 |
                 static_cast<uint32_t>(pid);
  for (;;) {
    FileState state = StateOf(status);
    if (state == kCommitted || state == kFailed) return false;
    // Before the seal: whoever sees the failure must see its reason.
    record->failure.store(why, std::memory_order_release);
    if (record->status.compare_exchange_weak(status, MakeStatus(GenerationOf(status), kFailed),
                                             std::memory_order_acq_rel)) {
      WakeAll(&record->word);
      return true;
    }
  }
}

}  // namespace capio
