#include "store/store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "os/fork.h"
#include "os/paths.h"
#include "rules/text.h"

namespace capio {
namespace {

// Stores open in this process, by directory, with the number of shared_ptrs handed out. A store is
// closed under the mutex: who opens it anew must not find the old descriptor of `locks` still to be
// closed.
struct OpenStore {
  Store* store = nullptr;
  int users = 0;
};
struct OpenStores {
  ForkMutex mutex{ForkMutex::kStores};
  std::map<std::pair<dev_t, ino_t>, OpenStore> stores;
  std::map<std::string, std::string> roots;      // a relative $CAPIO_STORE -> what it was first
  std::map<std::pair<dev_t, ino_t>, int> locks;  // descriptors that exec left us
};
OpenStores& AllStores() {
  static auto* all = new OpenStores;
  return *all;
}
[[maybe_unused]] const OpenStores& made_at_load = AllStores();

Result<Fd> OpenDir(int at, const char* path) {
  Fd fd(os().OpenAt(at, path, O_RDONLY | O_DIRECTORY, 0));
  if (!fd.valid()) return Status::Error(-fd.get());
  return fd;
}

Status WithPath(const Status& status, const std::string& what, const std::string& path) {
  if (*status.text() != '\0') return status;
  return Status::Error(status.code(), what + " " + path + ": " + strerror(status.code()));
}

// A directory and those above it, as far as they are missing. The first error.
int MakeDirectories(const std::string& path) {
  int error = os().MkdirAt(AT_FDCWD, path.c_str(), 0700);
  size_t cut = path.rfind('/');
  if (error != -ENOENT || cut == 0 || cut == std::string::npos) return error;
  error = MakeDirectories(path.substr(0, cut));
  if (error < 0 && error != -EEXIST) return error;
  return os().MkdirAt(AT_FDCWD, path.c_str(), 0700);
}

// What servers killed while creating or removing a store left behind.
void SweepLeftovers(const std::string& base) {
  auto entries = ListDirectory(AT_FDCWD, base.c_str(), Layer::kTree);
  if (!entries.ok()) return;
  for (const DirEntry& entry : *entries) {
    if (entry.name.rfind(".new-", 0) != 0 && entry.name.rfind(".gone-", 0) != 0) continue;
    std::string path = base + "/" + entry.name;
    Fd locks(os().OpenAt(AT_FDCWD, (path + "/locks").c_str(), O_RDWR, 0));
    if (!locks.valid()) {
      // All but removed; or just being made, which then starts over.
      (void)os().UnlinkAt(AT_FDCWD, path.c_str(), AT_REMOVEDIR);
      if (entry.name[1] == 'g') (void)RemoveTree(AT_FDCWD, path.c_str());
      continue;
    }
    if (os().TryLock(locks.get(), 0, 1) < 0) continue;
    (void)RemoveTree(AT_FDCWD, path.c_str());
  }
}

}  // namespace

std::string RunId() {
  for (const char* name : {"CAPIO_RUN_ID", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"}) {
    if (const char* value = ::getenv(name); value != nullptr && *value != '\0') {
      std::string id = std::string(name) + "=" + value;
      // A job that was put back into the queue starts from the beginning.
      const char* restart = ::getenv("SLURM_RESTART_COUNT");
      if (strcmp(name, "SLURM_JOB_ID") == 0 && restart != nullptr) id += std::string(".") + restart;
      return id;
    }
  }
  return "";
}

Result<std::string> Store::Root() {
  const char* text = ::getenv("CAPIO_STORE");
  std::string root = text != nullptr && *text != '\0' ? text : "/dev/shm";
  ForkGuard guard(AllStores().mutex);
  auto known = AllStores().roots.find(root);
  if (known != AllStores().roots.end()) return known->second;
  auto absolute = AbsolutePath(root);
  if (absolute.ok() && root.front() != '/') AllStores().roots[root] = *absolute;
  return absolute;
}

Result<std::string> Store::Base() {
  auto root = Root();
  if (!root.ok()) return root.status();
  std::string base = *root + "/capio-" + std::to_string(::getuid());
  struct stat st = {};
  int error = -ENOENT;
  // The last server of another workflow takes it away.
  for (int attempt = 0; error == -ENOENT && attempt < 16; ++attempt) {
    error = os().MkdirAt(AT_FDCWD, base.c_str(), 0700);
    if (error == -ENOENT) {
      if (error = MakeDirectories(*root); error == 0 || error == -EEXIST) {
        error = os().MkdirAt(AT_FDCWD, base.c_str(), 0700);
      }
    }
    if (error < 0 && error != -EEXIST) {
      return Status::Error(-error, "cannot make the store directory " + base + ": " +
                                       strerror(-error) +
                                       "; set CAPIO_STORE to a writable directory");
    }
    error = os().FstatAt(AT_FDCWD, base.c_str(), &st, AT_SYMLINK_NOFOLLOW);
  }
  if (error < 0) return Status::Error(-error);
  if (!S_ISDIR(st.st_mode) || st.st_uid != ::getuid() || (st.st_mode & 077) != 0) {
    return Status::Error(EPERM, "the store directory " + base +
                                    " must be a directory of yours with mode 0700; remove it or "
                                    "set CAPIO_STORE to another place");
  }
  return base;
}

Store::~Store() {
  if (unpublished_.empty()) return;
  (void)RemoveTree(AT_FDCWD, unpublished_.c_str());
  (void)os().UnlinkAt(AT_FDCWD, std::string(path, 0, path.rfind('/')).c_str(), AT_REMOVEDIR);
}

Status Store::OpenParts() {
  for (auto [part, name] : {std::pair{&tree, "tree"}, std::pair{&scratch, "scratch"}}) {
    auto fd = OpenDir(dir.get(), name);
    if (!fd.ok()) return fd.status();
    *part = fd.take();
  }
  Fd control(os().OpenAt(dir.get(), "control", O_RDWR, 0));
  if (!control.valid()) return Status::Error(-control.get());
  auto segment_or = Segment::Open(std::move(control));
  if (!segment_or.ok()) return segment_or.status();
  return Assemble(segment_or.take());
}

Status Store::Assemble(std::unique_ptr<Segment> control) {
  segment = std::move(control);
  const Header& header = segment->header();
  auto fd = OpenDir(AT_FDCWD, header.capio_dir);
  if (fd.code() == ENOENT || fd.code() == ENOTDIR) {
    return Status::Error(ENXIO, std::string("CAPIO_DIR ") + header.capio_dir + " is no more");
  }
  if (!fd.ok()) return WithPath(fd.status(), "cannot open CAPIO_DIR", header.capio_dir);
  real = fd.take();
  records = std::make_unique<Records>(segment.get());
  directories = std::make_unique<DirectoryLogs>(segment.get());
  fs = std::make_unique<FsTree>(real.get(), header.workflow, &segment->header().fs_in_use);
  struct stat tree_stat = {};
  if (int error = os().Fstat(tree.get(), &tree_stat); error < 0) return Status::Error(-error);
  Identities identities;
  if ((header.flags.load(std::memory_order_relaxed) & kByBirth) != 0) {
    if (!Identities::ByBirth(tree.get())) {
      return Status::Error(ENOSYS,
                           "this process is not let use statx(2), on which the store was built by "
                           "another one; run all steps of the workflow in one kind of container");
    }
    identities = Identities(tree_stat.st_dev);
  }
  layers = std::make_unique<Layers>(tree.get(), real.get(), scratch.get(), fs.get(), identities,
                                    &segment->header().links);
  layers->SetAge([this](const FileIdentity& id) {
    const FileRecord* record = records->Find(id);
    return record == nullptr ? 0 : record->age.load(std::memory_order_relaxed);
  });
  judge = std::make_unique<Judge>(segment.get(), records.get(), locks.get(), layers.get(),
                                  [this](std::string_view relative) { return RuleOf(relative); });
  rules = std::make_unique<RuleChain>(segment.get(),
                                      [this](std::string_view app) { return AppIndex(app); });
  CAPIO_RETURN_IF_ERROR(rules->Open());
  if (os().Fstat(dir.get(), &dir_stat_) < 0) return Status::Error(ESTALE);
  return Status::Ok();
}

Result<std::shared_ptr<Store>> Store::Open(const std::string& workflow) {
  auto base = Base();
  if (!base.ok()) return base.status();
  return OpenAt(*base + "/" + EncodeName(workflow), workflow);
}

bool Store::OfferLocks(int fd) {
  struct stat st = {};
  if (os().Fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) return false;
  ForkGuard guard(AllStores().mutex);
  return AllStores().locks.emplace(std::pair(st.st_dev, st.st_ino), fd).second;
}

// With the mutex held.
Fd Store::OpenLocks(int dir) {
  struct stat st = {};
  int error = os().FstatAt(dir, "locks", &st, AT_SYMLINK_NOFOLLOW);
  if (error < 0) return Fd(error);
  auto offered = AllStores().locks.find({st.st_dev, st.st_ino});
  if (offered == AllStores().locks.end()) return Fd(os().OpenAt(dir, "locks", O_RDWR, 0));
  Fd fd(offered->second);
  AllStores().locks.erase(offered);
  (void)os().SetCloseOnExec(fd.get(), true);
  return fd;
}

Result<std::shared_ptr<Store>> Store::OpenAt(const std::string& path, const std::string& workflow) {
  auto dir = OpenDir(AT_FDCWD, path.c_str());
  if (!dir.ok()) return dir.status();
  struct stat st = {};
  if (int error = os().Fstat(dir->get(), &st); error < 0) return Status::Error(-error);
  // Held while opening: two threads must not open `locks` twice.
  ForkGuard guard(AllStores().mutex);
  auto known = AllStores().stores.find({st.st_dev, st.st_ino});
  if (known != AllStores().stores.end()) return Share(&known->second);
  std::unique_ptr<Store> store(new Store);
  store->path = path;
  store->workflow = workflow;
  store->dir = dir.take();
  Fd locks = OpenLocks(store->dir.get());
  if (!locks.valid()) return Status::Error(-locks.get());
  store->locks = std::make_unique<SlotLocks>(std::move(locks));
  CAPIO_RETURN_IF_ERROR(store->OpenParts());
  return Register(std::move(store));
}

std::shared_ptr<Store> Store::Register(std::unique_ptr<Store> store) {
  OpenStore& entry = AllStores().stores[{store->dir_stat_.st_dev, store->dir_stat_.st_ino}];
  entry.store = store.release();
  return Share(&entry);
}

std::shared_ptr<Store> Store::Share(void* open_store) {
  auto* entry = static_cast<OpenStore*>(open_store);
  ++entry->users;
  return {entry->store, [](Store* store) {
            ForkGuard guard(AllStores().mutex);
            auto it = AllStores().stores.find({store->dir_stat_.st_dev, store->dir_stat_.st_ino});
            if (--it->second.users > 0) return;
            AllStores().stores.erase(it);
            delete store;
          }};
}

bool Store::Linked() const {
  struct stat st = {};
  return os().FstatAt(AT_FDCWD, path.c_str(), &st, 0) == 0 && st.st_ino == dir_stat_.st_ino &&
         st.st_dev == dir_stat_.st_dev;
}

bool Store::AnyoneAlive() const {
  uint32_t used = segment->header().slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    if (locks->Held(slot)) return true;
  }
  return false;
}

bool Store::IsOn(const std::string& directory) const {
  const Header& header = segment->header();
  struct stat st = {};
  return os().FstatAt(AT_FDCWD, directory.c_str(), &st, 0) == 0 &&
         st.st_dev == header.dir_device.load() && st.st_ino == header.dir_inode.load();
}

void Store::NoteDirectory() {
  struct stat st = {};
  if (os().Fstat(real.get(), &st) < 0) return;
  segment->header().dir_device.store(st.st_dev);
  segment->header().dir_inode.store(st.st_ino);
}

Status Store::Listen() {
  listener.reset(os().Socket(SOCK_SEQPACKET | SOCK_NONBLOCK));
  if (!listener.valid()) return Status::Error(-listener.get());
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // By descriptor: the store's own path may be longer than sun_path holds.
  int n = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/server.sock",
                   dir.get());
  (void)os().UnlinkAt(dir.get(), "server.sock", 0);
  int error = os().Bind(
      listener.get(), address,
      static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + static_cast<size_t>(n) + 1));
  if (error == 0) error = os().Listen(listener.get(), 128);
  return error < 0 ? Status::Error(-error, std::string("cannot listen on ") + path +
                                               "/server.sock: " + strerror(-error))
                   : Status::Ok();
}

Fd Store::ConnectToServer() const {
  Fd fd(os().Socket(SOCK_SEQPACKET | SOCK_NONBLOCK));
  if (!fd.valid()) return fd;
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  int n = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/server.sock",
                   dir.get());
  if (os().Connect(fd.get(), address,
                   static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) +
                                          static_cast<size_t>(n) + 1)) < 0) {
    fd.reset();
  }
  return fd;
}

Result<std::shared_ptr<Store>> Store::Create(const std::string& workflow, const SegmentSpec& spec) {
  auto base = Base();
  if (!base.ok()) return base.status();
  SweepLeftovers(*base);
  std::unique_ptr<Store> store(new Store);
  store->workflow = workflow;
  store->path = *base + "/" + EncodeName(workflow);
  std::string made = *base + "/.new-" + std::to_string(os().Random());
  if (int error = os().MkdirAt(AT_FDCWD, made.c_str(), 0700); error < 0) {
    // The last server of another workflow takes the common directory with it.
    if (error == -ENOENT) return Status::Error(EAGAIN);
    return WithPath(Status::Error(-error), "cannot make", made);
  }
  store->unpublished_ = made;
  auto fill = [&]() -> Status {
    auto opened = OpenDir(AT_FDCWD, made.c_str());
    if (!opened.ok()) return opened.status();
    store->dir = opened.take();
    int at = store->dir.get();
    Fd locks(os().OpenAt(at, "locks", O_RDWR | O_CREAT | O_EXCL, 0600));
    if (!locks.valid()) return Status::Error(-locks.get());
    store->locks = std::make_unique<SlotLocks>(std::move(locks));
    if (!store->locks->Take(0)) return Status::Error(ESTALE);
    for (auto [part, name] :
         {std::pair{&store->tree, "tree"}, std::pair{&store->scratch, "scratch"}}) {
      if (int error = os().MkdirAt(at, name, 0700); error < 0) return Status::Error(-error);
      auto fd = OpenDir(at, name);
      if (!fd.ok()) return fd.status();
      *part = fd.take();
    }
    Fd control(os().OpenAt(at, "control", O_RDWR | O_CREAT | O_EXCL, 0600));
    if (!control.valid()) return Status::Error(-control.get());
    auto segment = Segment::Create(std::move(control), spec);
    if (!segment.ok()) return segment.status();
    if (Identities::ByBirth(store->tree.get())) (*segment)->header().flags.fetch_or(kByBirth);
    CAPIO_RETURN_IF_ERROR(store->Assemble(segment.take()));
    store->NoteDirectory();
    // Nobody may use the fs tree until that is out of the way.
    if (store->fs->Leftover()) store->segment->header().phase.store(kPhaseStarting);
    return store->Listen();
  };
  if (Status s = fill(); !s.ok()) {
    // Another server took it for the leftover of a killed one, or CAPIO_DIR has gone.
    bool swept = s.code() == ESTALE || (s.code() == ENOENT && *s.text() == '\0');
    return swept ? Status::Error(EAGAIN) : WithPath(s, "cannot make a store in", *base);
  }
  ForkGuard guard(AllStores().mutex);
  return Register(std::move(store));
}

Status Store::Publish() {
  int error = os().RenameAt(AT_FDCWD, unpublished_.c_str(), AT_FDCWD, path.c_str());
  if (error == 0) {
    unpublished_.clear();
    return SetAsideLeftover();
  }
  if (error == -ENOTEMPTY) error = -EEXIST;
  return Status::Error(-error);
}

Status Store::SetAsideLeftover() {
  Header& header = segment->header();
  if (header.phase.load() != kPhaseStarting) return Status::Ok();
  std::string to;
  if (Status s = fs->SetAside(&to); !s.ok()) {
    return Status::Error(s.code(), std::string("cannot move what an earlier run left in ") +
                                       header.capio_dir + "/" + fs->path() +
                                       " out of the way: " + strerror(s.code()));
  }
  if (!to.empty()) set_aside = std::string(header.capio_dir) + "/" + to;
  header.phase.store(kPhaseRunning, std::memory_order_seq_cst);
  return Status::Ok();
}

Result<std::shared_ptr<Store>> Store::Adopt(const std::string& workflow) {
  auto store = Open(workflow);
  if (!store.ok()) return store;
  if (!(*store)->locks->Take(0)) return Status::Error(EBUSY);
  // Its server may have removed it between our look and our lock.
  if (!(*store)->Linked()) {
    (*store)->locks->Drop(0);
    return Status::Error(ENOENT);
  }
  CAPIO_RETURN_IF_ERROR((*store)->SetAsideLeftover());
  CAPIO_RETURN_IF_ERROR((*store)->Listen());
  return store;
}

Status Store::Remove() {
  if (!locks->TakeAll()) return Status::Error(EBUSY);
  segment->header().phase.store(kPhaseDone);
  // While the store's name is ours: the next one of this name will use the same tree.
  if (segment->header().fs_in_use.load() != 0) fs->Remove();
  size_t cut = path.rfind('/');
  std::string base = path.substr(0, cut);
  std::string gone = base + "/.gone-" + std::to_string(os().Random());
  int error = os().RenameAt(AT_FDCWD, path.c_str(), AT_FDCWD, gone.c_str());
  if (error < 0) {
    locks->DropAll();
    return Status::Error(-error);
  }
  return RemoveTree(AT_FDCWD, gone.c_str());
}

void Store::LeavePlace() {
  (void)os().UnlinkAt(AT_FDCWD, path.substr(0, path.rfind('/')).c_str(), AT_REMOVEDIR);
}

namespace {

// The file that a record describes is still there under its name.
bool StillThere(Store* store, const FileRecord* record, const std::string& name) {
  struct stat st = {};
  auto layer = store->layers->Find(name, &st, false);
  return layer.ok() && store->RecordAt(*layer, name) == record;
}

std::string ClauseOf(const RuleSet& rules, const std::string& name) {
  auto index = rules.StreamingEntry(name);
  if (!index) return "no rule, so on_termination, update";
  const Entry& entry = rules.workflow().entries[*index];
  return "the rule for " + Quoted(entry.pattern) + ": " + DescribeStreaming(entry);
}

}  // namespace

Status Store::AddRules(const Workflow& added, bool* changed) {
  return rules->Add(
      added,
      [this](const RuleSet& before, const RuleSet& after) { return CheckActedUpon(before, after); },
      changed);
}

// What was done under rules stays done: others that would have had it otherwise come too late.
Status Store::CheckActedUpon(const RuleSet& before, const RuleSet& after) {
  constexpr size_t kMostLines = 8;
  std::vector<std::string> lines;
  auto clash = [&](const std::string& name, bool excluded, const char* done, const char* remedy) {
    lines.push_back(Quoted(name) +
                    (excluded ? " is in the store already and cannot be excluded any more"
                              : std::string(done) + " under (" + ClauseOf(before, name) +
                                    "), which the new rule would change (" + ClauseOf(after, name) +
                                    ")") +
                    remedy);
  };
  records->ForEach([&](FileRecord* record) {
    const std::string name = records->NameOf(record);
    const Rule old_rule = before.Match(name);
    const Rule new_rule = after.Match(name);
    const bool excluded = new_rule.excluded && !old_rule.excluded;
    if (!excluded && old_rule.streaming == new_rule.streaming) return;
    if (!StillThere(this, record, name)) return;
    clash(name, excluded, " was made", "; add the rule before the file is written");
  });
  directories->ForEachListed([&](const std::string& name) {
    const Rule old_rule = before.Match(name);
    const Rule new_rule = after.Match(name);
    const bool excluded = new_rule.excluded && !old_rule.excluded;
    if (!excluded && old_rule.streaming == new_rule.streaming &&
        old_rule.is_directory == new_rule.is_directory) {
      return;
    }
    clash(name, excluded, " was listed", "; add the rule before anybody lists the directory");
  });
  if (lines.empty()) return Status::Ok();
  std::string text;
  for (size_t i = 0; i < std::min(lines.size(), kMostLines); ++i) {
    text += (i == 0 ? "" : "\n") + lines[i];
  }
  if (lines.size() > kMostLines) {
    text += "\nand " + std::to_string(lines.size() - kMostLines) + " more";
  }
  return Status::Error(EBUSY, text);
}

void Store::ApplyRules(const std::function<void(FileRecord*)>& permanent) {
  const std::shared_ptr<const RuleSet> now = rules->Get();
  records->ForEach([&](FileRecord* record) {
    const Rule rule = now->Match(records->NameOf(record));
    records->SetRule(record, rule);
    if (rule.permanent && (record->flags.fetch_or(kFilePermanent) & kFilePermanent) == 0) {
      permanent(record);
    }
  });
}

Status Store::SetAside() {
  Header& header = segment->header();
  // First the phase: who attaches now looks at it after taking a slot, and starts over.
  uint32_t before = header.phase.exchange(kPhaseClosing, std::memory_order_seq_cst);
  auto back = [&](int code) {
    header.phase.store(before, std::memory_order_seq_cst);
    return Status::Error(code);
  };
  if (!locks->TakeAll()) return back(EBUSY);
  std::string aside = path.substr(0, path.rfind('/')) + "/.old-" + std::to_string(os().Random());
  if (int error = os().RenameAt(AT_FDCWD, path.c_str(), AT_FDCWD, aside.c_str()); error < 0) {
    locks->DropAll();
    return back(-error);
  }
  path = aside;
  listener.reset();
  // After the store, whose name decides. Killed in between, the next server keeps it whole.
  if (header.fs_in_use.load() != 0) (void)fs->SetApart(header.control_id);
  return Status::Ok();
}

void Store::RemoveAside() {
  segment->header().phase.store(kPhaseDone);
  if (segment->header().fs_in_use.load() != 0) fs->Remove();
  (void)RemoveTree(AT_FDCWD, path.c_str());
  LeavePlace();
}

std::vector<std::shared_ptr<Store>> Store::LeftAside() {
  std::vector<std::shared_ptr<Store>> stores;
  auto base = Base();
  if (!base.ok()) return stores;
  auto entries = ListDirectory(AT_FDCWD, base->c_str(), Layer::kTree);
  if (!entries.ok()) return stores;
  for (const DirEntry& entry : *entries) {
    if (entry.name.rfind(".old-", 0) != 0) continue;
    auto store = OpenAt(*base + "/" + entry.name, "");
    if (!store.ok() || !(*store)->locks->Take(0)) continue;
    if (!(*store)->Linked() || !(*store)->locks->TakeAll()) {
      (*store)->locks->Drop(0);
      continue;
    }
    (*store)->fs->LookApart((*store)->segment->header().control_id);
    stores.push_back(store.take());
  }
  return stores;
}

Status Store::Discard(const std::string& workflow) {
  auto base = Base();
  if (!base.ok()) return base.status();
  std::string path = *base + "/" + EncodeName(workflow);
  Fd locks(os().OpenAt(AT_FDCWD, (path + "/locks").c_str(), O_RDWR, 0));
  if (!locks.valid()) return Status::Error(-locks.get());
  if (os().TryLock(locks.get(), 0, kMaxClients) < 0) {
    return Status::Error(EADDRINUSE, "workflow '" + workflow +
                                         "' is in use on a CAPIO_DIR that is no more; end its "
                                         "processes, or give this workflow another name");
  }
  std::string gone = *base + "/.gone-" + std::to_string(os().Random());
  int error = os().RenameAt(AT_FDCWD, path.c_str(), AT_FDCWD, gone.c_str());
  return error < 0 ? Status::Error(-error) : RemoveTree(AT_FDCWD, gone.c_str());
}

FileRecord* Store::RecordAt(Layer layer, const std::string& relative) {
  int dir = layers->DirOf(layer);
  Fd fd(dir < 0 ? -1 : os().OpenAt(dir, At(relative), O_PATH | O_NOFOLLOW, 0));
  struct stat st = {};
  FileIdentity id;
  if (!fd.valid() || os().Fstat(fd.get(), &st) < 0 ||
      layers->identities().Of(fd.get(), st, &id) < 0) {
    return nullptr;
  }
  return records->Find(id);
}

Result<uint32_t> Store::AppIndex(std::string_view name) {
  if (name.empty() || name.size() >= kAppNameMax) {
    return Status::Error(
        EINVAL, "an app name must have 1 to " + std::to_string(kAppNameMax - 1) + " bytes");
  }
  // The key decides, so that two processes that come with the same new name at once get the same
  // entry.
  uint64_t key = HashString(name) | 1;
  for (uint32_t index = 0; index < kMaxApps; ++index) {
    App& app = segment->header().apps[index];
    uint64_t found = app.key.load(std::memory_order_acquire);
    if (found == 0 && app.key.compare_exchange_strong(found, key)) found = key;
    if (found != key) continue;
    uint32_t state = kAppFree;
    if (app.state.compare_exchange_strong(state, kAppClaimed)) {
      memcpy(app.name, name.data(), name.size());
      app.state.store(kAppNamed, std::memory_order_release);
    }
    return index;
  }
  return Status::Error(ENOSPC, "the workflow has too many apps");
}

std::string Store::AppName(uint32_t app) const {
  if (app >= kMaxApps) return "?";
  const App& entry = segment->header().apps[app];
  return entry.state.load(std::memory_order_acquire) == kAppNamed ? entry.name : "?";
}

}  // namespace capio
