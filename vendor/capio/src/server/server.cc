#include "server/server.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "os/paths.h"
#include "rules/load.h"
#include "rules/rule_image.h"
#include "server/links.h"
#include "store/apps.h"
#include "store/probe.h"
#include "store/room.h"
#include "store/waits.h"

namespace capio {
namespace {

constexpr uint64_t kListener = uint64_t{1} << 56;
constexpr uint64_t kInotify = uint64_t{2} << 56;
constexpr uint64_t kPersisted = uint64_t{3} << 56;
constexpr uint64_t kSignals = uint64_t{4} << 56;
constexpr uint64_t kConnection = uint64_t{5} << 56;
constexpr uint64_t kPidfd = uint64_t{6} << 56;
constexpr uint64_t kKindMask = uint64_t{0xff} << 56;
constexpr int kPoolThreads = 2;
static_assert(kPoolThreads <= kMovers);
// For clients whose end the kernel cannot announce to us: other pid namespaces, kernels without
// pidfd_open.
constexpr int kSweepMs = 1000;
// Of files with the same fate so many are told of one by one.
constexpr uint64_t kMostAlike = 5;
// How often clients that wait for write-back hear that it goes on.
constexpr int kSignOfLifeMs = 1000;

}  // namespace

// ---- start
// ------------------------------------------------------------------------------------------

Result<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  auto transport = MakeTransport(options.backend);
  if (!transport.ok()) return transport.status();
  char* resolved = ::realpath(options.capio_dir.c_str(), nullptr);
  if (resolved == nullptr) {
    return Status::Error(errno, "CAPIO_DIR '" + options.capio_dir + "': " + strerror(errno));
  }
  auto limit = MemoryLimitFromEnvironment();
  if (!limit.ok()) return limit.status();
  SegmentSpec spec;
  spec.capio_dir = resolved;
  ::free(resolved);
  spec.workflow = options.workflow;
  spec.run_id = RunId();
  spec.flags = (options.persist ? kPersistAll : 0u) | (options.resume ? kResume : 0u) |
               (options.silent ? kSilent : 0u) | (options.mem_only ? kMemoryOnly : 0u);
  if (!options.config_path.empty()) {
    auto text = ReadTextFile(options.config_path, "the CAPIO-CL file");
    if (!text.ok()) return text.status();
    spec.config_hash = HashString(*text);
    spec.flags |= kHasConfig;
  }
  Workflow workflow;
  std::unique_ptr<Server> server(new Server(options));
  server->transport_ = transport.take();
  std::vector<std::shared_ptr<Store>> earlier = Store::LeftAside();
  for (int attempt = 0; attempt < 16; ++attempt) {
    auto adopted = Store::Adopt(options.workflow);
    auto asked_for = [&] {
      return options.take_over == std::to_string((*adopted)->segment->header().control_id);
    };
    if (adopted.ok() && (asked_for() || SameRun(adopted->get(), spec))) {
      server->store_ = adopted.take();
      CAPIO_RETURN_IF_ERROR(server->LightBeacon());
      CAPIO_RETURN_IF_ERROR(server->Prepare(options, true, std::move(earlier)));
      return server;
    }
    if (adopted.ok()) {
      if (!(*adopted)->SetAside().ok()) {
        (*adopted)->locks->Drop(0);
      } else {
        earlier.push_back(adopted.take());
      }
      continue;
    }
    if (adopted.code() == ENXIO) {
      Status gone = Store::Discard(options.workflow);
      if (!gone.ok() && gone.code() != ENOENT) return gone;
      continue;
    }
    if (adopted.code() != ENOENT) return adopted.status();
    // An adopted store holds its rules.
    if (!options.config_path.empty() && spec.rules.empty()) {
      auto dir = AbsolutePath(options.capio_dir);
      if (!dir.ok()) return dir.status();
      auto loaded =
          LoadCapioCl(options.config_path, {spec.capio_dir, options.resolve_prefix, *dir});
      if (!loaded.ok()) return loaded.status();
      if (!loaded->errors.empty()) {
        return Status::Error(EINVAL, FormatDiagnostics(loaded->errors, options.config_path));
      }
      workflow = std::move(loaded->workflow);
      if (options.mem_only) {
        for (Entry& entry : workflow.entries) entry.storage = Storage::kMemory;
      }
      spec.rules = SerialiseRules(workflow);
      spec.config_hash = HashString(loaded->text);
    }
    auto created = Store::Create(options.workflow, spec);
    if (created.code() == EAGAIN) continue;
    if (!created.ok()) return created.status();
    for (const std::string& app : workflow.apps) {
      auto index = (*created)->AppIndex(app);
      if (!index.ok()) return index.status();
      (*created)->segment->header().apps[*index].declared.store(1);
    }
    LowerMemoryLimit(&(*created)->segment->header(), *limit);
    (*created)->segment->header().server_pid.store(::getpid());
    server->store_ = created.take();
    CAPIO_RETURN_IF_ERROR(server->LightBeacon());
    // What an earlier run left behind that ended by the machine's end.
    RemoveLeftLinks(server->store_->real.get(), options.workflow);
    Status published = server->store_->Publish();
    if (published.code() == EEXIST) {
      server->beacon_->Remove();
      server->beacon_.reset();
      server->store_.reset();
      continue;
    }
    CAPIO_RETURN_IF_ERROR(published);
    std::vector<uint64_t> known;
    for (const auto& store : earlier) known.push_back(store->segment->header().control_id);
    const std::vector<std::string> orphans = server->store_->fs->SetAsideOrphans(known);
    CAPIO_RETURN_IF_ERROR(server->Prepare(options, false, std::move(earlier)));
    for (const std::string& kept : orphans) {
      server->Note("files that an earlier run of this workflow left are kept in " + spec.capio_dir +
                   "/" + kept);
    }
    if (!server->store_->set_aside.empty()) {
      server->Note("files that an earlier run of this workflow left are kept in " +
                   server->store_->set_aside);
    }
    for (const std::string& warning : workflow.warnings) server->Note(warning);
    return server;
  }
  return Status::Error(
      EAGAIN, "the store of workflow '" + options.workflow + "' comes and goes; try again");
}

Status Server::LightBeacon() {
  beacon_ = std::make_unique<Beacon>(store_.get());
  return beacon_->Claim();
}

Status Server::Prepare(const ServerOptions& options, bool adopted,
                       std::vector<std::shared_ptr<Store>> earlier) {
  Header& header = store_->segment->header();
  header.server_pid.store(::getpid());
  store_->NoteDirectory();
  adopted_ = adopted;
  // An earlier server may have been killed while it was ending, or moving a file.
  header.phase.store(kPhaseRunning);
  for (auto& name : header.moving) name.store(0, std::memory_order_seq_cst);
  WakeAll(&header.room_word);
  epoll_.reset(os().EpollCreate());
  inotify_.reset(os().InotifyInit());
  persisted_event_.reset(os().EventFd());
  log_.reset(os().OpenAt(store_->dir.get(), "log", O_WRONLY | O_CREAT | O_APPEND, 0600));
  for (int fd : {epoll_.get(), inotify_.get(), persisted_event_.get()}) {
    if (fd < 0) return Status::Error(-fd);
  }
  for (auto [fd, id] :
       {std::pair{store_->listener.get(), kListener}, std::pair{inotify_.get(), kInotify},
        std::pair{persisted_event_.get(), kPersisted}}) {
    int error = os().EpollControl(epoll_.get(), EPOLL_CTL_ADD, fd, EPOLLIN, id);
    if (error < 0) return Status::Error(-error);
  }
  if (!earlier.empty()) {
    salvage_ = std::make_unique<Salvage>(std::move(earlier), persisted_event_.get());
  }
  pool_ = std::make_unique<PersistPool>(store_.get(), persisted_event_.get(), kPoolThreads);
  idle_since_ = os().MonotonicNs();
  Log(std::string(adopted ? "adopted" : "made") + " the store of workflow '" + options.workflow +
      "' on " + header.capio_dir);
  if (adopted) {
    for (uint32_t slot = 1; slot < header.slots_used.load(); ++slot) {
      if (header.clients[slot].state.load() != kSlotAttached) continue;
      Watch(slot);
      CheckSlot(slot);
    }
    LookAtAll();
  }
  return Status::Ok();
}

Server::~Server() {
  salvage_.reset();
  evictor_.reset();
  pool_.reset();
  if (store_ != nullptr) store_->locks->Drop(0);
}

Status Server::WatchSignals(int fd) {
  signals_ = fd;
  int error = os().EpollControl(epoll_.get(), EPOLL_CTL_ADD, fd, EPOLLIN, kSignals);
  return error < 0 ? Status::Error(-error) : Status::Ok();
}

// ---- the loop
// ---------------------------------------------------------------------------------------

void Server::Run() {
  while (Step(-1)) {
  }
}

int Server::NextTimeout(int wanted) const {
  int64_t timeout = wanted < 0 ? INT32_MAX : wanted;
  if (closing_retry_ms_ > 0) timeout = std::min<int64_t>(timeout, closing_retry_ms_);
  bool waited_for = std::any_of(connections_.begin(), connections_.end(),
                                [](const auto& entry) { return entry.second.wants_done; });
  if (waited_for) timeout = std::min<int64_t>(timeout, kSignOfLifeMs);
  const Header& header = store_->segment->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  bool clients = false;
  for (uint32_t slot = 1; slot < used; ++slot) {
    if (header.clients[slot].state.load(std::memory_order_acquire) != kSlotAttached) continue;
    clients = true;
    if (pidfds_.count(slot) == 0) timeout = std::min<int64_t>(timeout, kSweepMs);
  }
  timeout = std::min<int64_t>(timeout, Beacon::kBeatMs);
  if (!clients && !last_pass_ && salvage_ == nullptr && closing_.empty() &&
      (SeenClient() || options_.daemon)) {
    int64_t left = (idle_since_ + LingerNs() - os().MonotonicNs()) / 1'000'000 + 1;
    timeout = std::clamp<int64_t>(left, 0, timeout);
  }
  return timeout == INT32_MAX ? -1 : static_cast<int>(timeout);
}

bool Server::Step(int timeout_ms) {
  if (ended_) return false;
  struct epoll_event events[64];
  bool stop_now = stop_requested_ && !last_pass_ && salvage_ == nullptr;
  int n = os().EpollWait(epoll_.get(), events, 64, stop_now ? 0 : NextTimeout(timeout_ms));
  if (n < 0 && n != -EINTR) {
    Log(std::string("cannot wait for events: ") + strerror(-n) + "; another server will go on");
    ended_ = true;
    return false;
  }
  for (int i = 0; i < n; ++i) {
    uint64_t id = events[i].data.u64;
    switch (id & kKindMask) {
      case kListener:
        OnAccept();
        break;
      case kInotify:
        OnInotify();
        break;
      case kPersisted:
        OnPersisted();
        OnMoved();
        break;
      case kConnection:
        OnMessage(id & ~kKindMask);
        break;
      case kPidfd: {
        auto slot = static_cast<uint32_t>(id & ~kKindMask);
        pidfds_.erase(slot);
        CheckSlot(slot);
        break;
      }
      case kSignals: {
        char buf[1024];
        (void)os().Read(signals_, buf, sizeof buf);
        Log("told to stop by a signal");
        stop_requested_ = true;
        break;
      }
      default:
        break;
    }
  }
  if (n == 0 && closing_retry_ms_ > 0) LookAtClosing();
  if (int64_t now = os().MonotonicNs(); n == 0 || now - swept_ >= kSweepMs * INT64_C(1'000'000)) {
    swept_ = now;
    CheckAllSlots();
  }
  if (uint64_t version = store_->rules->version(); version != rules_seen_) {
    rules_seen_ = version;
    Log("rules were added to the workflow");
    // Its adder does the same, unless it was killed before.
    store_->ApplyRules([this](FileRecord* record) { Look(record); });
    for (WaitWord& word : store_->segment->header().path_words) WakeAll(&word);
  }
  MakeRoom();
  ShowLife();
  uint32_t flags = store_->segment->header().flags.load(std::memory_order_acquire);
  if ((flags & kRescan) != 0) {
    store_->segment->header().flags.fetch_and(~uint32_t{kRescan});
    CheckAllSlots();
    LookAtAll();
  }
  if (salvage_ != nullptr && salvage_->over()) {
    for (const std::string& note : salvage_->notes()) Note(note);
    salvage_.reset();
  }
  // Who starts anew hears what became of the old run.
  if (salvage_ != nullptr) return true;
  if (!last_pass_ && MayEnd()) StartLastPass();
  if (last_pass_ && pool_->pending() == 0) Finish();
  if (!ended_ && !last_pass_ && pool_->pending() == 0) AnswerByes();
  return !ended_;
}

void Server::OnAccept() {
  for (;;) {
    Fd fd(os().Accept(store_->listener.get()));
    if (!fd.valid()) return;
    uid_t uid = 0;
    if (os().PeerUid(fd.get(), &uid) < 0 || uid != ::getuid()) continue;
    uint64_t id = next_id_++;
    if (os().EpollControl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), EPOLLIN | EPOLLRDHUP,
                          kConnection | id) < 0) {
      continue;
    }
    connections_[id].fd = std::move(fd);
  }
}

void Server::OnMessage(uint64_t id) {
  auto it = connections_.find(id);
  if (it == connections_.end()) return;
  for (;;) {
    std::byte buf[kMaxFrame];
    ssize_t n = os().Recv(it->second.fd.get(), buf, sizeof buf, MSG_DONTWAIT);
    if (n == -EAGAIN || n == -EINTR) return;
    if (n <= 0) return Drop(id);
    auto message = DecodeMessage(std::span(buf, static_cast<size_t>(n)));
    if (!message.ok()) {
      Log("a client sent a frame that is none: connection dropped");
      return Drop(id);
    }
    Handle(id, *message);
    it = connections_.find(id);
    if (it == connections_.end()) return;
  }
}

void Server::Handle(uint64_t id, const Message& message) {
  Connection& connection = connections_[id];
  switch (message.type) {
    case MessageType::kHello:
      if (message.slot == 0 || message.slot >= kMaxClients) return Drop(id);
      connection.slot = message.slot;
      connection.epoch = message.epoch;
      Watch(message.slot);
      break;
    case MessageType::kFile:
      if (FileRecord* record = store_->records->AtIfRecord(message.argument)) Look(record);
      break;
    case MessageType::kBye:
      if (message.slot == 0 || message.slot >= kMaxClients) return Drop(id);
      connection.slot = message.slot;
      connection.epoch = message.epoch;
      connection.bye = true;
      connection.wants_done = (message.argument & kTellWhenSafe) != 0;
      connection.wants_summary = (message.argument & kTellSummary) != 0;
      CheckSlot(connection.slot);
      // The answer says whether it was the last one.
      CheckUnwatchedSlots();
      if (connection.wants_done) Send(&connection, MessageType::kWorking, pool_->pending(), "");
      break;
    case MessageType::kStop:
      stop_requested_ = true;
      break;
    case MessageType::kRoom:  // MakeRoom looks at the header
    default:
      break;
  }
}

void Server::Drop(uint64_t id) {
  auto it = connections_.find(id);
  if (it == connections_.end()) return;
  uint32_t slot = it->second.slot;
  connections_.erase(it);
  if (slot != 0) CheckSlot(slot);
}

void Server::Send(Connection* connection, MessageType type, uint64_t argument,
                  const std::string& text) {
  std::string frame = EncodeMessage({type, connection->slot, connection->epoch, argument, text});
  (void)os().Send(connection->fd.get(), frame.data(), frame.size(), MSG_DONTWAIT);
}

void Server::DeliverNotes() {
  for (auto& [id, connection] : connections_) {
    if (!connection.wants_done) continue;
    for (const std::string& note : notes_) Send(&connection, MessageType::kNote, 0, note);
    notes_.clear();
    return;
  }
}

void Server::AnswerByes() {
  DeliverNotes();
  std::vector<uint64_t> gone;
  for (auto& [id, connection] : connections_) {
    if (!connection.bye) continue;
    if (connection.wants_done) Send(&connection, MessageType::kDone, 0, "");
    gone.push_back(id);
  }
  for (uint64_t id : gone) connections_.erase(id);
}

void Server::ShowLife() {
  int64_t now = os().MonotonicNs();
  if (now - beat_ >= Beacon::kBeatMs * INT64_C(1'000'000)) {
    beat_ = now;
    beacon_->Beat();
    store_->segment->header().alive_ns.store(os().RealtimeNs(), std::memory_order_relaxed);
  }
  if (now - shown_life_ < kSignOfLifeMs * INT64_C(1'000'000)) return;
  shown_life_ = now;
  for (auto& [id, connection] : connections_) {
    if (connection.wants_done) Send(&connection, MessageType::kWorking, pool_->pending(), "");
  }
}

// ---- clients
// ----------------------------------------------------------------------------------------

// Has the kernel announce the end of the slot's process; where it cannot, Step sweeps.
void Server::Watch(uint32_t slot) {
  if (pidfds_.count(slot) != 0) return;
  pid_t before = 0;
  pid_t after = 0;
  if (!store_->locks->Held(slot, &before) || before == 0) return;
  Fd fd(os().PidfdOpen(before));
  // The same holder before and after: it is the process that the descriptor is of.
  if (!fd.valid() || !store_->locks->Held(slot, &after) || after != before) return;
  if (os().EpollControl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), EPOLLIN, kPidfd | slot) == 0) {
    pidfds_[slot] = std::move(fd);
  }
}

void Server::CheckSlot(uint32_t slot) {
  const Client& client = store_->segment->header().clients[slot];
  if (client.state.load(std::memory_order_acquire) != kSlotAttached) return;
  if (store_->locks->Held(slot)) return Watch(slot);
  // The bad ends that it came after first, as long as it is there to show that.
  if ((client.flags.load(std::memory_order_acquire) & kClientRestart) != 0) {
    while (uint32_t earlier = EarlierBadEnd(slot)) Settle(earlier);
  }
  Settle(slot);
}

uint32_t Server::EarlierBadEnd(uint32_t restart) const {
  const Header& header = store_->segment->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    const Client& client = header.clients[slot];
    if (slot != restart && client.state.load(std::memory_order_acquire) == kSlotAttached &&
        client.app.load() == header.clients[restart].app.load() &&
        (client.flags.load() & (kClientRoot | kClientRestart)) == kClientRoot &&
        !store_->locks->Held(slot) && !EndsWell(client.flags.load())) {
      return slot;
    }
  }
  return 0;
}

// A client that was killed before it had told us of itself is nobody's pidfd.
void Server::CheckUnwatchedSlots() {
  uint32_t used = store_->segment->header().slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    if (pidfds_.count(slot) == 0) CheckSlot(slot);
  }
}

void Server::CheckAllSlots() {
  uint32_t used = store_->segment->header().slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) CheckSlot(slot);
}

// A client that is no more: writes its end into its cells, draws the consequences, frees the slot.
// Every step may be repeated by a server that adopts the store after our death.
void Server::Settle(uint32_t slot) {
  Header& header = store_->segment->header();
  Client& client = header.clients[slot];
  uint32_t flags = client.flags.load(std::memory_order_acquire);
  CellOutcome outcome = (flags & kClientBad) != 0 ? kCellBad
                        : EndsWell(flags)         ? kCellClean
                                                  : kCellDied;
  uint32_t app = client.app.load();
  int32_t pid = client.pid.load();
  bool root = (flags & kClientRoot) != 0;
  bool bad = outcome != kCellClean;
  if (outcome == kCellDied) {
    Log("app '" + store_->AppName(app) + "' pid " + std::to_string(pid) + " died");
  }
  SettleIntents(client, slot, outcome == kCellDied);
  std::vector<FileRecord*> touched;
  // Judged while the slot still says who it was.
  store_->records->ForEachCellOf(
      &client, [&](Cell* cell) { touched.push_back(store_->records->At(cell->record)); });
  for (FileRecord* record : touched) Look(record);
  LeaveApp(store_->segment.get(), client, outcome);
  bool running = store_->judge->Running(app) || store_->judge->Awaited(app);
  // What it leaves unfinished is lost, but not what the step has begun anew meanwhile.
  App& entry = header.apps[app];
  if (root && bad) {
    entry.failed_pid.store(pid);
    entry.outcome.store(kAppFailed, std::memory_order_seq_cst);
  }
  // Looked for when that is said: who comes after this look says otherwise after it.
  const bool restarted = root && bad && store_->judge->Restarted(app, slot);
  if (restarted) entry.outcome.store(kAppStarted, std::memory_order_release);
  if ((root && bad) || !running) {
    store_->records->ForEach([&](FileRecord* record) {
      FileState state = StateOf(record->status.load(std::memory_order_acquire));
      if (state == kCommitted || state == kFailed) return;
      bool of_app = false;
      bool anew = false;
      store_->records->ForEachCell(record, [&](const Cell* cell) {
        if (cell->app != app || OpensOf(cell->word.load(std::memory_order_acquire)) == 0) return;
        of_app = true;
        // Also of one that has come since.
        anew |= bad && cell->slot != slot && store_->judge->IsRestart(cell->slot, cell->epoch);
      });
      if (!of_app) return;
      if (anew) {
        Look(record);
      } else if (root && outcome == kCellDied) {
        (void)store_->judge->Fail(record, kFailureDied, app, pid);
      } else if (root && bad && CommitOf(record->rule.load()) != CommitRule::kOnClose) {
        (void)store_->judge->Fail(record, kFailureBadEnd, app, pid);
      } else {
        Look(record);
      }
    });
  }
  store_->records->ForEachCellOf(
      &client, [&](Cell* cell) { cell->outcome.store(outcome, std::memory_order_release); });
  if (!(root && bad) && !running && entry.outcome.load() == kAppStarted) {
    entry.outcome.store(kAppEnded, std::memory_order_release);
  }
  client.epoch.fetch_add(1, std::memory_order_acq_rel);
  client.state.store(kSlotFree, std::memory_order_seq_cst);
  // The attempt that came after this end counts like any other from now on.
  if (root && bad && store_->judge->BadEnd(app) == 0) {
    for (Client& other : header.clients) {
      if (other.app.load(std::memory_order_relaxed) == app) {
        other.flags.fetch_and(~uint32_t{kClientRestart});
      }
    }
  }
  pidfds_.erase(slot);
  idle_since_ = os().MonotonicNs();
  // Whoever waits for a path of this app must hear that it has ended.
  for (WaitWord& word : header.path_words) WakeAll(&word);
  for (FileRecord* record : touched) {
    if (StateOf(record->status.load()) == kGrowing) Look(record);
  }
  LookAtDependents();
  TellRoomNews(&header);
}

// Files it was creating when it died have no cell yet: they fail by their name.
void Server::SettleIntents(const Client& client, uint32_t slot, bool died) {
  Segment& segment = *store_->segment;
  for (auto* thread = segment.At<ThreadSlot>(client.threads.load(std::memory_order_acquire));
       thread != nullptr;
       thread = segment.At<ThreadSlot>(thread->next.load(std::memory_order_acquire))) {
    if (thread->activity.load(std::memory_order_acquire) != kOpening || !died) continue;
    size_t size = std::min<size_t>(thread->name_size.load(), kThreadNameMax);
    if (size == thread->name_size.load()) {
      std::string name(thread->name, size);
      Fd fd = store_->layers->OpenInStore(name, O_PATH | O_NOFOLLOW);
      struct stat st = {};
      FileIdentity id;
      bool created = false;
      if (fd.valid() && os().Fstat(fd.get(), &st) == 0 && S_ISREG(st.st_mode) &&
          store_->layers->identities().Of(fd.get(), st, &id) == 0) {
        auto record = store_->records->FindOrCreate(id, name, store_->RuleOf(name), &created);
        if (record.ok() && !store_->judge->Owned(*record)) {
          (void)store_->judge->Fail(*record, kFailureDied,
                                    segment.header().clients[slot].app.load(), client.pid.load());
        }
      }
    }
    thread->activity.store(kIdle, std::memory_order_release);
  }
}

// ---- files
// ------------------------------------------------------------------------------------------

// Evaluates a file and does what its state asks of the server.
void Server::Look(FileRecord* record) {
  Sealed sealed;
  FileState state = store_->judge->Evaluate(record, -1, &sealed);
  LookAtOthers(record, sealed);
  if (state == kClosing) return WatchClosing(record);
  uint32_t flags = record->flags.load(std::memory_order_acquire);
  if (state != kCommitted || (flags & kFilePermanent) == 0) return;
  uint64_t done = record->persisted.load(std::memory_order_acquire);
  bool fresh = done == GenerationOf(record->status.load()) + 1;
  if (fresh && (flags & kFileDirty) == 0) return;
  std::string name = store_->records->NameOf(record);
  Persist(record, name, name, false);
}

// What became final together with a file.
void Server::LookAtOthers(const FileRecord* record, const Sealed& sealed) {
  for (FileRecord* other : sealed) {
    if (other != record) Look(other);
  }
}

void Server::LookAtDependents() {
  Sealed sealed;
  store_->judge->EvaluateDependents(&sealed);
  LookAtOthers(nullptr, sealed);
}

void Server::LookAtAll() {
  store_->records->ForEach([this](FileRecord* record) { Look(record); });
}

std::string Server::PathInStore(const std::string& name) const {
  struct stat st = {};
  Layer layer = Layer::kTree;
  if (store_->layers->InStore(name, &st, &layer) && layer == Layer::kFs) {
    return std::string(store_->segment->header().capio_dir) + "/" + store_->fs->path() + "/" + name;
  }
  return store_->path + "/tree/" + name;
}

void Server::WatchClosing(FileRecord* record) {
  std::string path = PathInStore(store_->records->NameOf(record));
  int watch = os().InotifyAdd(inotify_.get(), path.c_str(), IN_CLOSE_WRITE);
  if (watch < 0) return;
  closing_[watch] = record;
  // The last writer may have closed before the watch was there.
  Sealed sealed;
  FileState state = store_->judge->Evaluate(record, -1, &sealed);
  LookAtOthers(record, sealed);
  if (state == kCommitted) {
    (void)os().InotifyRemove(inotify_.get(), watch);
    if (!sealed.empty()) Look(record);
  } else if (closing_retry_ms_ == 0) {
    closing_retry_ms_ = kSweepMs;
  }
}

// The kernel announces a close before it stops counting the writer, so the news may come a moment
// too early.
void Server::LookAtClosing() {
  std::set<FileRecord*> records;
  for (auto& [watch, record] : closing_) records.insert(record);
  bool left = false;
  for (FileRecord* record : records) {
    Look(record);
    left |= StateOf(record->status.load(std::memory_order_acquire)) == kClosing;
  }
  if (left) {
    closing_retry_ms_ = std::min(closing_retry_ms_ * 2, kSweepMs);
    return;
  }
  closing_retry_ms_ = 0;
  for (auto& [watch, record] : closing_) (void)os().InotifyRemove(inotify_.get(), watch);
}

void Server::OnInotify() {
  alignas(struct inotify_event) char buf[4096];
  for (;;) {
    ssize_t n = os().Read(inotify_.get(), buf, sizeof buf);
    if (n <= 0) return;
    for (ssize_t at = 0; at < n;) {
      const auto* event = reinterpret_cast<const struct inotify_event*>(buf + at);
      at += static_cast<ssize_t>(sizeof *event + event->len);
      auto it = closing_.find(event->wd);
      if (it == closing_.end()) continue;
      FileRecord* record = it->second;
      if ((event->mask & IN_IGNORED) != 0) {
        closing_.erase(it);
        continue;
      }
      Look(record);
      if (StateOf(record->status.load(std::memory_order_acquire)) == kClosing) {
        closing_retry_ms_ = 1;
      } else {
        (void)os().InotifyRemove(inotify_.get(), event->wd);
      }
    }
  }
}

void Server::Persist(FileRecord* record, const std::string& name, const std::string& to,
                     bool salvage) {
  if (name.empty()) return;
  if (!queued_.insert(record).second) {
    // What is being written may be what it was before.
    again_.insert(record);
    return;
  }
  struct stat st = {};
  Layer layer = Layer::kTree;
  // Renamed over from outside, it lies in the real directory already; or something else has taken
  // its name, and nobody has it any more.
  if (!store_->layers->InStore(name, &st, &layer) || store_->RecordAt(layer, name) != record) {
    queued_.erase(record);
    return;
  }
  pool_->Submit({record, name, to, salvage});
}

void Server::OnPersisted() {
  uint64_t count = 0;
  (void)os().Read(persisted_event_.get(), &count, sizeof count);
  for (PersistOutcome& outcome : pool_->TakeOutcomes()) {
    FileRecord* record = outcome.task.record;
    queued_.erase(record);
    bool again = again_.erase(record) > 0;
    if (!outcome.status.ok()) {
      leftovers_.unwritten.insert(outcome.task.name);
      NoteOfFile("cannot be written to CAPIO_DIR",
                 "cannot write " + std::string(store_->segment->header().capio_dir) + "/" +
                     outcome.task.to + ": " + strerror(outcome.status.code()) +
                     "; its bytes stay in " + PathInStore(outcome.task.name) +
                     ": put that right and run a step of the workflow again, or copy them from "
                     "there");
    } else if (!outcome.superseded) {
      ++written_files_;
      leftovers_.unwritten.erase(outcome.task.name);
    }
    if (!again && !outcome.superseded) continue;
    std::string name = store_->records->NameOf(record);
    struct stat st = {};
    if (!store_->layers->InStore(name, &st) || !S_ISREG(st.st_mode)) continue;
    if (!last_pass_) {
      Look(record);
    } else if (!AnyClient()) {
      // Nobody changes it any more; while there are clients, the store stays.
      LastLook(name, st);
    }
  }
}

// ---- room
// ------------------------------------------------------------------------------------------

// Passes on what writers have asked for since the last time, whoever lost the notice of it.
void Server::MakeRoom() {
  const Header& header = store_->segment->header();
  uint64_t asked = header.room_asked.load(std::memory_order_acquire);
  if (asked == room_seen_ || last_pass_) return;
  room_seen_ = asked;
  if (asked == header.room_done.load(std::memory_order_acquire)) return;
  if (evictor_ == nullptr) {
    evictor_ = std::make_unique<Evictor>(store_.get(), persisted_event_.get());
  }
  evictor_->Ask();
}

void Server::OnMoved() {
  if (evictor_ == nullptr) return;
  Evictor::Report report = evictor_->TakeReport();
  if (report.files > 0) {
    Log("made room in memory: " + std::to_string(report.files) + " files (" +
        FormatBytes(report.bytes) + ") are on disk now");
  }
  if (!report.trouble.empty() && troubles_.insert(report.trouble).second) {
    Note("warning: " + report.trouble);
  }
}

// ---- the end
// ----------------------------------------------------------------------------------------

bool Server::AnyClient() const {
  const Header& header = store_->segment->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    if (header.clients[slot].state.load(std::memory_order_acquire) == kSlotAttached) return true;
  }
  return false;
}

bool Server::SeenClient() const { return store_->segment->header().slots_used.load() > 1; }

bool Server::MayEnd() {
  if (stop_requested_) return true;
  if (AnyClient()) return false;
  // Somebody who is no client, but has inherited a descriptor, still writes.
  if (!closing_.empty()) return false;
  const Header& header = store_->segment->header();
  // Steps still to come would be of another run.
  if (SeenClient() && !store_->IsOn(header.capio_dir)) return true;
  uint32_t flags = header.flags.load(std::memory_order_acquire);
  bool waited = os().MonotonicNs() - idle_since_ >= LingerNs();
  if (!SeenClient()) return waited && options_.daemon;
  if ((flags & kTeardown) == 0) return waited;
  for (uint32_t app = 0; app < kMaxApps; ++app) {
    const App& entry = header.apps[app];
    if (entry.state.load() != kAppNamed) continue;
    // Declared by the CAPIO-CL file, or by rules added since. Nobody may be; but a step of which
    // some have come is not over.
    bool known = entry.declared.load() != 0;
    int32_t pid = 0;
    Standing standing = store_->judge->StandingOf(app, &pid);
    if (standing == Standing::kIncomplete || (known && standing == Standing::kNotStarted)) {
      return waited;
    }
  }
  return true;
}

void Server::Note(const std::string& text) {
  if (!told_.insert(text).second) return;
  Log(text);
  notes_.push_back(text);
}

void Server::NoteOfFile(const std::string& kind, const std::string& text) {
  if (told_.count(text) != 0) return;
  if (++notes_of_kind_[kind] <= kMostAlike) {
    Note(text);
  } else {
    told_.insert(text);
    Log(text);
  }
}

void Server::NoteFurtherFiles() {
  for (const auto& [kind, count] : notes_of_kind_) {
    if (count > kMostAlike) {
      Note("warning: " + std::to_string(count - kMostAlike) + " further files " + kind);
    }
  }
  notes_of_kind_.clear();
}

void Server::Log(const std::string& text) {
  char stamp[32];
  time_t now = ::time(nullptr);
  struct tm parts = {};
  ::localtime_r(&now, &parts);
  size_t n = ::strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S ", &parts);
  std::string line = std::string(stamp, n) + text + "\n";
  if (log_.valid()) (void)os().Write(log_.get(), line.data(), line.size());
  if (!options_.daemon && !options_.silent) {
    line = "capio_server: " + text + "\n";
    (void)os().Write(STDERR_FILENO, line.data(), line.size());
  }
}

}  // namespace capio
