// How a run ends: every file of the store is looked at for the last time, and what has to stay is
// written to CAPIO_DIR before the store goes.
#include <fcntl.h>
#include <string.h>

#include <algorithm>

#include "os/paths.h"
#include "server/links.h"
#include "server/server.h"
#include "store/apps.h"

namespace capio {

// From here on nobody who has not come is waited for: what the others wrote is whole.
void Server::CloseTheBooks() {
  for (uint32_t app = 0; app < kMaxApps; ++app) {
    if (store_->segment->header().apps[app].state.load() != kAppNamed) continue;
    int32_t pid = 0;
    if (store_->judge->StandingOf(app, &pid) != Standing::kIncomplete) continue;
    AppCount count = CountProcesses(store_->segment.get(), app);
    Note("warning: only " + std::to_string(count.came) + " of the " +
         std::to_string(count.expected) + " processes of app '" + store_->AppName(app) + "' (" +
         count.source + ") have come; what they wrote is taken as complete");
  }
  store_->segment->header().flags.fetch_or(kNoneToCome);
}

void Server::StartLastPass() {
  CheckAllSlots();
  if (!AnyClient()) CloseTheBooks();
  LookAtAll();
  if (!stop_requested_ && !closing_.empty()) return;
  last_pass_ = true;
  // What it has not got to stays where it is.
  evictor_.reset();
  // All of it is tried again.
  leftovers_ = {};
  LastPassOver(Layer::kTree, "");
  if (store_->layers->FsInUse()) LastPassOver(Layer::kFs, "");
}

void Server::LastPassOver(Layer layer, const std::string& directory) {
  int dir = store_->layers->DirOf(layer);
  auto entries = ListDirectory(dir, At(directory), layer);
  if (!entries.ok()) return;
  bool keep_all =
      (store_->segment->header().flags.load() & kPersistAll) != 0 && !store_->HasConfig();
  for (const DirEntry& entry : *entries) {
    std::string path = directory.empty() ? entry.name : directory + "/" + entry.name;
    struct stat st = {};
    if (!store_->layers->In(layer, path, &st)) continue;
    if (S_ISDIR(st.st_mode)) {
      if (keep_all || store_->RuleOf(path).permanent) (void)store_->layers->MakeInReal(path);
      LastPassOver(layer, path);
    } else if (S_ISLNK(st.st_mode)) {
      if (!keep_all && !store_->RuleOf(path).permanent) continue;
      std::string target(4096, '\0');
      ssize_t n = os().ReadlinkAt(dir, path.c_str(), target.data(), target.size() - 1);
      if (n <= 0) continue;
      target.resize(static_cast<size_t>(n));
      (void)store_->layers->MakeInReal(std::string(ParentOf(path)));
      (void)os().SymlinkAt(target.c_str(), store_->real.get(), path.c_str());
    } else if (S_ISREG(st.st_mode)) {
      LastLook(path, st);
    }
  }
}

// What becomes of one file of the tree when the store goes.
void Server::LastLook(const std::string& path, const struct stat& st) {
  bool keep_all =
      (store_->segment->header().flags.load() & kPersistAll) != 0 && !store_->HasConfig();
  Fd fd = store_->layers->OpenInStore(path, O_PATH | O_NOFOLLOW);
  FileIdentity id;
  if (!fd.valid() || store_->layers->identities().Of(fd.get(), st, &id) < 0) return;
  Rule rule = store_->RuleOf(path);
  if (keep_all) rule.permanent = true;
  bool created = false;
  auto found = store_->records->FindOrCreate(id, path, rule, &created);
  if (!found.ok()) return;
  FileRecord* record = *found;
  if (std::string name = store_->records->NameOf(record); name != path) {
    struct stat named = {};
    if (st.st_nlink > 1 && store_->layers->InStore(name, &named) && named.st_ino == st.st_ino &&
        named.st_dev == st.st_dev && (keep_all || store_->RuleOf(name).permanent)) {
      // A hard link: it is made again once the file is in place.
      if (rule.permanent) further_names_.emplace_back(path, name);
      return;
    }
    // A directory above it may have been renamed.
    (void)store_->records->Rename(record, path, rule);
  }
  Sealed sealed;
  FileState state = store_->judge->Evaluate(record, -1, &sealed);
  Claims claims = ClaimsOn(store_.get(), record, rule);
  bool keep = claims.permanent || !claims.unread_by.empty();
  // S10: what a declared consumer has not been there to read is not dropped.
  if (!claims.permanent && keep && state == kCommitted) {
    NoteOfFile("not read by app '" + claims.unread_by + "' yet are written to CAPIO_DIR",
               "warning: " + path + " was not read by app '" + claims.unread_by +
                   "' yet: it is written to CAPIO_DIR");
  }
  if (!keep) return;
  if (state == kCommitted) {
    bool fresh = record->persisted.load() == GenerationOf(record->status.load()) + 1 &&
                 (record->flags.load() & kFileDirty) == 0;
    if (!fresh) Persist(record, path, path, false);
    return;
  }
  // Its writer is alive and will go on: then the store stays, too.
  if (AnyClient()) return;
  std::string to = SalvageDirectory(store_->workflow) + "/" + path;
  NoteOfFile("incomplete are kept in " + std::string(store_->segment->header().capio_dir) + "/" +
                 SalvageDirectory(store_->workflow),
             path + " is incomplete (" +
                 (state == kFailed ? "its producer failed" : "it was never committed") +
                 "): what was written of it is kept as " + store_->segment->header().capio_dir +
                 "/" + to);
  leftovers_.incomplete.insert(path);
  Persist(record, path, to, true);
}

// Hard links of the store become hard links of CAPIO_DIR.
void Server::MakeFurtherNames() {
  int real = store_->real.get();
  for (const auto& [path, name] : further_names_) {
    std::string parent(ParentOf(path));
    (void)store_->layers->MakeInReal(parent);
    std::string temporary = Below(parent, ".capio-" + std::to_string(os().Random()) + ".tmp");
    int error = os().LinkAt(real, name.c_str(), real, temporary.c_str(), 0);
    if (error == 0) error = os().RenameAt(real, temporary.c_str(), real, path.c_str());
    if (error < 0) {
      (void)os().UnlinkAt(real, temporary.c_str(), 0);
      Note("cannot make " + path + " in CAPIO_DIR, a hard link to " + name + ": " +
           strerror(-error));
    } else {
      // Two names of one file already: then rename(2) does nothing.
      (void)os().UnlinkAt(real, temporary.c_str(), 0);
    }
  }
  further_names_.clear();
}

// A server that was killed over writing a file back has left a copy of it, which nobody goes on
// with if the file was removed since, or became another's.
void Server::RemoveLeftCopies() {
  store_->records->ForEach([&](FileRecord* record) {
    const std::string name = store_->records->NameOf(record);
    if (name.empty()) return;
    for (const std::string& to : {name, SalvageDirectory(store_->workflow) + "/" + name}) {
      (void)os().UnlinkAt(store_->real.get(), TemporaryOf(store_.get(), record, to).c_str(), 0);
    }
  });
}

void Server::Finish() {
  Header& header = store_->segment->header();
  last_pass_ = false;
  MakeFurtherNames();
  header.flags.fetch_and(~uint32_t{kNoneToCome});
  if (AnyClient()) {
    // Told to stop while clients live: they go on, and the next server adopts the store.
    if (stop_requested_) Log("ends; its clients go on");
    ended_ = stop_requested_;
    return;
  }
  // While everything is there to be looked at; told when the end is certain.
  const std::string unmade = stop_requested_ ? "" : UnmadeOutputs(store_.get());
  const bool summary = SummaryWanted();
  const std::vector<std::string> lines =
      summary ? SummaryOf(store_.get(), leftovers_) : std::vector<std::string>();
  Log("ends after writing " + std::to_string(written_files_) + " files to CAPIO_DIR");
  // What could not be written is not ours to drop: the next server of the run tries again, and one
  // of another run salvages it.
  if (leftovers_.unwritten.empty()) {
    header.phase.store(kPhaseClosing, std::memory_order_seq_cst);
    if (adopted_) RemoveLeftCopies();
    RemoveLeftLinks(store_->real.get(), store_->workflow);
    if (store_->Remove().code() == EBUSY) {
      // Somebody attached at the last moment.
      header.phase.store(kPhaseRunning, std::memory_order_seq_cst);
      ended_ = stop_requested_;
      return;
    }
    beacon_->Remove();
    store_->LeavePlace();
  }
  NoteFurtherFiles();
  if (!unmade.empty()) Note(unmade);
  DeliverNotes();
  for (const std::string& line : lines) TellSummary(line);
  AnswerByes();
  ended_ = true;
}

bool Server::SummaryWanted() const {
  return (!options_.daemon && !options_.silent) ||
         std::any_of(connections_.begin(), connections_.end(), [](const auto& entry) {
           return entry.second.wants_done && entry.second.wants_summary;
         });
}

// To one of those who wait for the end, and to the terminal of a server that has one.
void Server::TellSummary(const std::string& line) {
  if (!options_.daemon) Log(line);
  for (auto& [id, connection] : connections_) {
    if (!connection.wants_done || !connection.wants_summary) continue;
    Send(&connection, MessageType::kNote, 0, line);
    return;
  }
}

}  // namespace capio
