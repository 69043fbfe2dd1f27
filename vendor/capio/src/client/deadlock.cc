#include "client/deadlock.h"

#include <algorithm>
#include <map>
#include <set>

namespace capio {
namespace {

struct Waiting {
  uint32_t slot;
  const ThreadSlot* thread;
};

// A process as its clients show it. One process may be several clients, of different apps.
struct Process {
  uint32_t busy = 1;
  int64_t counted_ns = 0;
  std::vector<Waiting> waits;
};

template <typename Visit>
void ForEachWait(Store* store, uint32_t slot, Visit visit) {
  const Segment& segment = *store->segment;
  const Client& client = segment.header().clients[slot];
  if ((client.flags.load(std::memory_order_acquire) & kClientExec) != 0) return;
  for (const auto* thread = segment.At<ThreadSlot>(client.threads.load(std::memory_order_acquire));
       thread != nullptr;
       thread = segment.At<ThreadSlot>(thread->next.load(std::memory_order_acquire))) {
    if (IsWait(thread->activity.load(std::memory_order_acquire))) visit(thread);
  }
}

template <typename Visit>
void ForEachLive(Store* store, Visit visit) {
  const Header& header = store->segment->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    const Client& client = header.clients[slot];
    if (client.state.load(std::memory_order_acquire) == kSlotAttached && store->locks->Held(slot)) {
      visit(slot, client);
    }
  }
}

using Processes = std::map<uint64_t, Process>;

// Takes away who may still go on, until nobody is left or nobody can.
void Reduce(Store* store, const std::map<uint32_t, std::set<uint64_t>>& processes_of,
            Processes* stuck) {
  auto may_act = [&](uint32_t app) {
    auto live = processes_of.find(app);
    int32_t pid = 0;
    switch (store->judge->StandingOf(app, &pid)) {
      case Standing::kEnded:
      case Standing::kFailed:
        return false;
      case Standing::kNotStarted:
      case Standing::kIncomplete:
        return true;
      case Standing::kRunning:
        break;
    }
    if (live == processes_of.end()) return true;
    return std::any_of(live->second.begin(), live->second.end(),
                       [&](uint64_t process) { return stuck->count(process) == 0; });
  };
  auto hopeful = [&](const Process& process) {
    if (process.busy != 0 || process.waits.empty()) return true;
    return std::any_of(process.waits.begin(), process.waits.end(), [&](const Waiting& wait) {
      uint32_t size = wait.thread->needed_size.load(std::memory_order_relaxed);
      // Not known who could end it; or it has yet to look for itself.
      if (size == 0 || size > kNeededMax || wait.thread->rounds.load() == 0) return true;
      bool somebody_runs = false;
      for (uint32_t i = 0; i < size; ++i) {
        uint32_t app = wait.thread->needed[i].load(std::memory_order_relaxed);
        if (app >= kMaxApps || may_act(app)) return true;
        somebody_runs |= processes_of.count(app) != 0;
      }
      // If all have ended the wait ends, too.
      return !somebody_runs;
    });
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (auto it = stuck->begin(); it != stuck->end();) {
      if (hopeful(it->second)) {
        it = stuck->erase(it);
        changed = true;
      } else {
        ++it;
      }
    }
  }
}

std::string NameOf(const ThreadSlot* thread) {
  size_t size = std::min<size_t>(thread->name_size.load(), kThreadNameMax);
  return {thread->name, size};
}

// Follows the waits from one process to the next until it comes back to one it has been at.
std::string Tell(Store* store, uint64_t from, const Processes& stuck,
                 const std::map<uint32_t, std::set<uint64_t>>& processes_of) {
  const Header& header = store->segment->header();
  std::vector<uint64_t> path;
  std::vector<std::string> links;
  uint64_t at = from;
  while (std::find(path.begin(), path.end(), at) == path.end()) {
    path.push_back(at);
    const Waiting& wait = stuck.at(at).waits.front();
    const Client& client = header.clients[wait.slot];
    uint64_t next = at;
    uint32_t size = wait.thread->needed_size.load();
    uint32_t provider = kNoApp;
    for (uint32_t i = 0; i < size && provider == kNoApp; ++i) {
      uint32_t app = wait.thread->needed[i].load();
      auto live = processes_of.find(app);
      if (live == processes_of.end()) continue;
      provider = app;
      next = *live->second.begin();
    }
    links.push_back("app '" + store->AppName(client.app.load()) + "' (pid " +
                    std::to_string(client.pid.load()) + ") waits for " + NameOf(wait.thread) +
                    ", which app '" + store->AppName(provider) + "' has yet to complete");
    if (stuck.count(next) == 0) break;
    at = next;
  }
  size_t start = static_cast<size_t>(std::find(path.begin(), path.end(), at) - path.begin());
  std::string text;
  for (size_t i = start; i < links.size(); ++i) text += (text.empty() ? "" : "; ") + links[i];
  return "a deadlock, nobody in it can go on: " + text;
}

}  // namespace

void CountBusyThreads(Store* store, uint32_t slot) {
  Client& mine = store->segment->header().clients[slot];
  std::set<int32_t> waiting;
  uint64_t process = mine.process.load();
  uint32_t used = store->segment->header().slots_used.load(std::memory_order_acquire);
  for (uint32_t other = 1; other < used; ++other) {
    const Client& client = store->segment->header().clients[other];
    if (client.state.load(std::memory_order_acquire) != kSlotAttached ||
        client.process.load() != process) {
      continue;
    }
    ForEachWait(store, other,
                [&](const ThreadSlot* thread) { waiting.insert(thread->thread.load()); });
  }
  uint32_t busy = 0;
  std::vector<int32_t> threads;
  if (os().ThreadIds(&threads) < 0) {
    busy = 1;
  } else {
    for (int32_t thread : threads) {
      if (waiting.count(thread) == 0 && !os().WaitsForThread(thread)) ++busy;
    }
  }
  mine.busy.store(busy, std::memory_order_relaxed);
  mine.counted_ns.store(os().MonotonicNs(), std::memory_order_release);
}

Status DeadlockWatch::Check(Store* store, uint32_t slot, bool for_room) {
  const Header& header = store->segment->header();
  uint64_t self = header.clients[slot].process.load();
  Processes stuck;
  std::map<uint32_t, std::set<uint64_t>> processes_of;
  ForEachLive(store, [&](uint32_t at, const Client& client) {
    uint64_t key = client.process.load();
    processes_of[client.app.load()].insert(key);
    Process& process = stuck[key];
    int64_t counted = client.counted_ns.load(std::memory_order_acquire);
    if (counted > process.counted_ns) {
      process.counted_ns = counted;
      process.busy = client.busy.load(std::memory_order_relaxed);
    }
    ForEachWait(store, at,
                [&](const ThreadSlot* thread) { process.waits.push_back({at, thread}); });
  });
  Reduce(store, processes_of, &stuck);
  if (stuck.count(self) == 0) {
    seen_.clear();
    return Status::Ok();
  }
  std::vector<Wait> now;
  bool room_wanted = false;
  int64_t counted = INT64_MAX;
  for (const auto& [key, process] : stuck) {
    counted = std::min(counted, process.counted_ns);
    for (const Waiting& wait : process.waits) {
      room_wanted |= wait.thread->activity.load() == kWaitingRoom;
      now.push_back({wait.slot, wait.thread->thread.load(), wait.thread->since_ns.load(),
                     wait.thread->rounds.load()});
    }
  }
  if (room_wanted && !for_room) {
    seen_.clear();
    return Status::Ok();
  }
  auto order = [](const Wait& a, const Wait& b) {
    return std::pair(a.slot, a.thread) < std::pair(b.slot, b.thread);
  };
  std::sort(now.begin(), now.end(), order);
  auto same = [](const Wait& a, const Wait& b) {
    return a.slot == b.slot && a.thread == b.thread && a.since == b.since;
  };
  if (!std::equal(now.begin(), now.end(), seen_.begin(), seen_.end(), same)) {
    seen_ = std::move(now);
    seen_ns_ = os().MonotonicNs();
    return Status::Ok();
  }
  if (counted <= seen_ns_) return Status::Ok();
  for (size_t i = 0; i < now.size(); ++i) {
    if (now[i].rounds <= seen_[i].rounds) return Status::Ok();
  }
  return Status::Error(EDEADLK, Tell(store, self, stuck, processes_of));
}

}  // namespace capio
