#include "store/commit.h"

#include <fcntl.h>

#include <algorithm>
#include <vector>

#include "os/paths.h"
#include "store/apps.h"
#include "store/probe.h"
#include "store/waits.h"

namespace capio {
namespace {

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
  return (flags & kClientClean) != 0 ? Fate::kClean : Fate::kDied;
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

uint32_t Judge::BadEnd(uint32_t app) const {
  const Header& header = segment_->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    const Client& client = header.clients[slot];
    if (client.state.load(std::memory_order_acquire) != kSlotAttached ||
        client.app.load(std::memory_order_relaxed) != app ||
        (client.flags.load(std::memory_order_relaxed) & kClientRoot) == 0) {
      continue;
    }
    Fate fate = FateOf(slot, client.epoch.load(std::memory_order_acquire));
    if (fate == Fate::kBad || fate == Fate::kDied) return slot;
  }
  return 0;
}

Standing Judge::StandingOf(uint32_t app, int32_t* failed_pid) const {
  const App& entry = segment_->header().apps[app];
  if (Running(app)) return Standing::kRunning;
  // Ended, but perhaps no server has settled it yet.
  if (uint32_t slot = BadEnd(app); slot != 0) {
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
Judge::Opinion Judge::WeighOwnerless(const FileRecord* record) const {
  bool dead = false;
  uint32_t slot = 0;
  if (BeingCreated(segment_->Name(record->name.load(std::memory_order_acquire)), &dead, &slot)) {
    return dead ? FailureBy(slot, Fate::kDied) : Opinion{};
  }
  // Its maker may have counted itself in between the look at the cells and this one.
  if (Owned(record)) return Weigh(record);
  return {Verdict::kProbe, kFailureNone, kNoApp, 0};
}

bool Judge::Owned(const FileRecord* record) const {
  bool owned = false;
  records_->ForEachCell(record, [&](const Cell* cell) {
    if (OpensOf(cell->word.load(std::memory_order_acquire)) > 0) owned = true;
  });
  return owned;
}

Judge::Opinion Judge::Weigh(const FileRecord* record) const {
  uint32_t rule = record->rule.load(std::memory_order_acquire);
  bool on_close = CommitOf(rule) == CommitRule::kOnClose;
  uint64_t counted = 0;
  bool open_now = false;
  bool probe = (record->flags.load(std::memory_order_acquire) & kFileNeedsProbe) != 0;
  bool owned = false;
  std::vector<uint32_t> apps;
  Opinion failure;
  records_->ForEachCell(record, [&](const Cell* cell) {
    if (OpensOf(cell->word.load(std::memory_order_acquire)) == 0) return;
    owned = true;
    if (std::find(apps.begin(), apps.end(), cell->app) == apps.end()) apps.push_back(cell->app);
    uint32_t outcome = cell->outcome.load(std::memory_order_acquire);
    Fate fate = Fate::kSettled;
    if (outcome == kCellLive) fate = FateOf(cell->slot, cell->epoch);
    if (fate == Fate::kSettled) fate = OutcomeOf(cell);
    // After the fate, so that the cell of a client that is no more is final; and abandoned after
    // the word, since a client raises it first.
    uint64_t word = cell->word.load(std::memory_order_acquire);
    uint32_t opens = OpensOf(word);
    uint32_t closes = ClosesOf(word);
    uint32_t abandoned = cell->abandoned.load(std::memory_order_acquire);
    switch (fate) {
      case Fate::kAlive:
        if (opens > closes) open_now = true;
        counted += closes - std::min(closes, abandoned);
        break;
      case Fate::kClean:
        counted += opens;  // what was still open was closed by the process's end
        // Never closed, it may live on in a child by fork.
        if (opens > closes) probe = true;
        break;
      case Fate::kBad:
      case Fate::kDied:
      case Fate::kSettled:
        counted += closes - std::min(closes, abandoned);
        if (opens > closes || abandoned > 0) {
          // A settled slot may have a new tenant: then only the app is known.
          failure = cell->outcome.load() == kCellLive
                        ? FailureBy(cell->slot, fate)
                        : Opinion{Verdict::kFail,
                                  fate == Fate::kBad ? kFailureBadEnd : kFailureDied, cell->app, 0};
        }
        break;
    }
  });
  if (failure.verdict == Verdict::kFail) return failure;
  if (!owned) return WeighOwnerless(record);
  if (open_now) return {};
  Opinion yes{probe ? Verdict::kProbe : Verdict::kCommit, kFailureNone, kNoApp, 0};
  if (on_close && counted >= std::max(1u, record->close_count.load())) return yes;
  for (uint32_t app : apps) {
    if (Running(app)) return {};
    if (uint32_t slot = BadEnd(app); slot != 0) {
      return FailureBy(slot, FateOf(slot, segment_->header().clients[slot].epoch.load()));
    }
    int32_t pid = 0;
    Standing standing = StandingOf(app, &pid);
    if (standing == Standing::kFailed) return {Verdict::kFail, kFailureBadEnd, app, pid};
    if (standing == Standing::kIncomplete) return {};
  }
  return on_close ? Opinion{} : yes;
}

Writers Judge::ProbeByName(const FileRecord* record) const {
  // O_NONBLOCK: an open that would break somebody's lease must not wait for it.
  Fd fd(layers_->OpenInStore(records_->NameOf(record), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  return fd.valid() ? ProbeWriters(fd.get()) : Writers::kUnknown;
}

FileState Judge::Evaluate(FileRecord* record, int read_only, bool* sealed) {
  *sealed = false;
  for (;;) {
    uint64_t status = record->status.load(std::memory_order_acquire);
    FileState state = StateOf(status);
    if (state == kCommitted || state == kFailed) return state;
    Opinion opinion = Weigh(record);
    if (opinion.verdict == Verdict::kFail) {
      *sealed = Fail(record, opinion.kind, opinion.app, opinion.pid);
      return StateOf(record->status.load(std::memory_order_acquire));
    }
    FileState next = kCommitted;
    if (opinion.verdict == Verdict::kNo) return kGrowing;
    if (opinion.verdict == Verdict::kProbe) {
      Writers writers = read_only >= 0 ? ProbeWriters(read_only) : ProbeByName(record);
      if (writers == Writers::kSome) next = kClosing;
    }
    if (state == next) return state;
    if (record->status.compare_exchange_strong(status, MakeStatus(GenerationOf(status), next),
                                               std::memory_order_acq_rel)) {
      if (next == kCommitted) {
        *sealed = true;
        record->want.store(kNobodyWants);
        WakeAll(&record->word);
      }
      return next;
    }
  }
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
