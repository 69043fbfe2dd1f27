#include "server/salvage.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "os/environment.h"
#include "os/host.h"
#include "os/paths.h"
#include "server/persist.h"
#include "store/apps.h"

namespace capio {
namespace {

constexpr size_t kNamesShown = 5;

// "a, b and 3 more".
std::string Names(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kNamesShown) {
    text += " and " + std::to_string(names.size() - kNamesShown) + " more";
  }
  return text;
}

// What a server that was killed over its writing has left in CAPIO_DIR.
void RemoveTemporaries(Store* store) {
  const std::string salvage = SalvageDirectory(store->segment->header().workflow);
  store->records->ForEach([&](const FileRecord* record) {
    const std::string name = store->records->NameOf(record);
    for (const std::string& to : {name, salvage + "/" + name}) {
      (void)os().UnlinkAt(store->real.get(), TemporaryOf(store, record, to).c_str(), 0);
    }
  });
}

std::string DateOf(int64_t ns) {
  time_t seconds = ns / 1'000'000'000;
  struct tm parts = {};
  ::localtime_r(&seconds, &parts);
  char buf[32];
  size_t n = ::strftime(buf, sizeof buf, "%Y-%m-%d %H:%M:%S", &parts);
  return std::string(buf, n);
}

}  // namespace

int64_t LingerNs() { return SecondsVariable("CAPIO_LINGER", 60'000'000'000); }

bool SameRun(Store* store, const SegmentSpec& ours) {
  if (store->AnyoneAlive()) return true;
  const Header& header = store->segment->header();
  std::string run = header.run_id;
  if (header.phase.load() == kPhaseDone || BootId() != header.boot_id) return false;
  if (!store->IsOn(ours.capio_dir)) return false;
  if ((ours.flags & kHasConfig) != 0 && ours.config_hash != header.config_hash) return false;
  if (!run.empty() && !ours.run_id.empty()) return run == ours.run_id;
  return os().RealtimeNs() - header.alive_ns.load() <= LingerNs();
}

Claims ClaimsOn(Store* store, const FileRecord* record, const Rule& rule) {
  Claims claims;
  bool keep_all = (store->segment->header().flags.load() & kPersistAll) != 0 && !store->HasConfig();
  claims.permanent = keep_all || rule.permanent || (record->flags.load() & kFilePermanent) != 0;
  for (uint16_t app : rule.consumers) {
    int32_t pid = 0;
    if (store->judge->StandingOf(app, &pid) == Standing::kEnded &&
        !CountProcesses(store->segment.get(), app).incomplete()) {
      continue;
    }
    claims.unread_by = store->AppName(app);
    break;
  }
  return claims;
}

std::string SalvageDirectory(const std::string& workflow) {
  return ".capio/salvage/" + EncodeName(workflow);
}

Salvage::Salvage(std::vector<std::shared_ptr<Store>> stores, int done_event)
    : stores_(std::move(stores)), done_event_(done_event), thread_([this] { Work(); }) {}

Salvage::~Salvage() { thread_.join(); }

void Salvage::Work() {
  for (auto& store : stores_) {
    Rescue(store.get());
    store.reset();
  }
  over_.store(true, std::memory_order_release);
  uint64_t one = 1;
  (void)os().Write(done_event_, &one, sizeof one);
}

void Salvage::Rescue(Store* store) {
  Tally tally;
  RescueBelow(store, Layer::kTree, "", &tally);
  if (store->layers->FsInUse()) RescueBelow(store, Layer::kFs, "", &tally);
  RemoveTemporaries(store);
  const Header& header = store->segment->header();
  std::string whose = "an earlier run of workflow '" + std::string(header.workflow) + "' (begun " +
                      DateOf(header.stamp_ns) +
                      (header.run_id[0] != '\0' ? ", " + std::string(header.run_id) : "") + ")";
  std::string where = std::string(header.capio_dir) + "/" + SalvageDirectory(header.workflow);
  if (!tally.kept.empty()) {
    notes_.push_back("warning: " + whose + " was cut off; " + std::to_string(tally.kept.size()) +
                     " of its files that were in nobody's hands yet are kept in " + where + ": " +
                     Names(tally.kept));
  }
  if (!tally.failed.empty()) {
    notes_.push_back("warning: cannot rescue files of " + whose + ": " + Names(tally.failed) +
                     "; they stay in " + store->path);
    store->locks->Drop(0);
    return;
  }
  store->RemoveAside();
}

void Salvage::RescueBelow(Store* store, Layer layer, const std::string& directory, Tally* tally) {
  const int dir = store->layers->DirOf(layer);
  auto entries = ListDirectory(dir, At(directory), layer);
  if (!entries.ok()) {
    tally->failed.push_back(At(directory));
    return;
  }
  for (const DirEntry& entry : *entries) {
    std::string path = directory.empty() ? entry.name : directory + "/" + entry.name;
    struct stat st = {};
    if (os().FstatAt(dir, path.c_str(), &st, AT_SYMLINK_NOFOLLOW) < 0) continue;
    if (S_ISDIR(st.st_mode)) RescueBelow(store, layer, path, tally);
    if (S_ISREG(st.st_mode)) RescueFile(store, layer, path, st, tally);
  }
}

void Salvage::RescueFile(Store* store, Layer layer, const std::string& path, const struct stat& st,
                         Tally* tally) {
  struct stat above = {};
  // On its way to the disk when the server died: the one in memory is the file.
  if (layer == Layer::kFs && store->layers->InTree(path, &above)) return;
  Fd fd(os().OpenAt(store->layers->DirOf(layer), path.c_str(), O_PATH | O_NOFOLLOW, 0));
  FileIdentity id;
  bool created = false;
  Rule rule = store->RuleOf(path);
  if (!fd.valid() || store->layers->identities().Of(fd.get(), st, &id) < 0) {
    tally->failed.push_back(path);
    return;
  }
  auto found = store->records->FindOrCreate(id, path, rule, &created);
  if (!found.ok()) {
    tally->failed.push_back(path);
    return;
  }
  FileRecord* record = *found;
  bool in_place = record->persisted.load() == GenerationOf(record->status.load()) + 1 &&
                  (record->flags.load() & kFileDirty) == 0;
  Claims claims = ClaimsOn(store, record, rule);
  if (in_place || (!claims.permanent && claims.unread_by.empty())) return;
  PersistOutcome outcome = PersistFile(
      store,
      {record, path, SalvageDirectory(store->segment->header().workflow) + "/" + path, true});
  bool ok = outcome.status.ok() && !outcome.superseded;
  (ok ? tally->kept : tally->failed)
      .push_back(ok || outcome.status.ok() ? path
                                           : path + " (" + strerror(outcome.status.code()) + ")");
}

}  // namespace capio
