#include "client/session.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "capio/capio.h"
#include "client/exec.h"
#include "client/say.h"
#include "client/server_launch.h"
#include "os/environment.h"
#include "os/paths.h"
#include "rules/capio_cl.h"
#include "rules/text.h"
#include "store/waits.h"

namespace capio {
namespace {

// A server that has said it is at work may be silent for so many times the wait for its answer.
constexpr int64_t kSilenceFactor = 5;
constexpr size_t kRuleCacheMax = 1 << 16;
constexpr uint32_t kMostInputWarnings = 20;

std::atomic<uint64_t> process_key{0};
std::atomic<uint64_t> sessions_made{0};

// Held while a child by fork attaches anew.
ForkMutex& AttachMutex() {
  static auto* mutex = new ForkMutex(ForkMutex::kAttaching);
  return *mutex;
}

// What holds where nothing is declared.
const std::shared_ptr<const Rule>& NoRule() {
  static const auto* rule = new std::shared_ptr<const Rule>(std::make_shared<const Rule>());
  return *rule;
}

// Made when the library is loaded: a fork in the middle of making one would leave its guard taken
// in the child.
const bool fork_hook = [] {
  (void)AttachMutex();
  (void)NoRule();
  CallAfterForkInChild([] { process_key.store(0, std::memory_order_release); });
  return true;
}();

uint64_t ProcessKey() {
  uint64_t key = process_key.load(std::memory_order_acquire);
  while (key == 0) {
    uint64_t fresh = os().Random() | 1;
    if (process_key.compare_exchange_strong(key, fresh)) return fresh;
  }
  return key;
}

// What the kernel calls an open directory; "" where /proc does not tell.
std::string NameOfDescriptor(int fd) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  std::string name(PATH_MAX, '\0');
  ssize_t size = os().ReadlinkAt(AT_FDCWD, link, name.data(), name.size());
  name.resize(size < 0 ? 0 : static_cast<size_t>(size));
  return name;
}

Status Translated(int code, const std::string& sentence) { return Status::Error(code, sentence); }

pid_t ParentOfPid(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  Fd fd(os().OpenAt(AT_FDCWD, path, O_RDONLY, 0));
  if (!fd.valid()) return 0;
  char buf[512];
  ssize_t n = os().Read(fd.get(), buf, sizeof buf - 1);
  if (n <= 0) return 0;
  buf[n] = '\0';
  const char* after = strrchr(buf, ')');  // the name may hold anything
  int parent = 0;
  return after != nullptr && sscanf(after + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

}  // namespace

// ---- attaching
// --------------------------------------------------------------------------------------

Result<std::shared_ptr<Session>> Session::Open(const SessionConfig& config) {
  std::shared_ptr<Session> session(new Session(config));
  auto dir = AbsolutePath(config.capio_dir);
  if (!dir.ok()) return Translated(dir.code(), "CAPIO_DIR '" + config.capio_dir + "' is no path");
  session->dir_ = *dir;
  char* resolved = ::realpath(dir->c_str(), nullptr);
  if (resolved == nullptr) {
    return Translated(errno, "CAPIO_DIR '" + config.capio_dir + "': " + strerror(errno));
  }
  session->real_dir_ = resolved;
  ::free(resolved);
  struct stat st = {};
  if (os().FstatAt(AT_FDCWD, session->real_dir_.c_str(), &st, 0) == 0 && !S_ISDIR(st.st_mode)) {
    return Translated(ENOTDIR, "CAPIO_DIR '" + config.capio_dir + "' is not a directory");
  }
  if (config.workflow.empty()) return Translated(EINVAL, "the workflow name is empty");
  if (config.app.empty() || config.app.size() >= kAppNameMax) {
    return Translated(EINVAL, "an app name must have 1 to 127 bytes");
  }
  auto size = AppSizeFromEnvironment();
  if (!size.ok()) return size.status();
  for (const char* name : {"CAPIO_WAIT_WARN", "CAPIO_WAIT_TIMEOUT", "CAPIO_LINGER"}) {
    CAPIO_RETURN_IF_ERROR(CheckSecondsVariable(name));
  }
  auto limit = MemoryLimitFromEnvironment();
  if (!limit.ok()) return limit.status();
  session->memory_limit_ = *limit;
  session->app_size_ = size.take();
  session->member_key_ = ProcessKey();
  if (!config.config_path.empty()) {
    // A server may have to be started again after a chdir.
    auto path = AbsolutePath(config.config_path);
    if (!path.ok()) return Translated(path.code(), "the path of the CAPIO-CL file is no path");
    session->config_.config_path = path.take();
    Fd fd(os().OpenAt(AT_FDCWD, config.config_path.c_str(), O_RDONLY, 0));
    if (!fd.valid()) {
      return Translated(-fd.get(), "cannot read the CAPIO-CL file '" + config.config_path +
                                       "': " + strerror(-fd.get()));
    }
    char buf[1 << 14];
    ssize_t n = 0;
    while ((n = os().Read(fd.get(), buf, sizeof buf)) > 0) {
      session->config_text_.append(buf, static_cast<size_t>(n));
    }
    if (n < 0) {
      return Translated(static_cast<int>(-n), "cannot read the CAPIO-CL file '" +
                                                  config.config_path +
                                                  "': " + strerror(static_cast<int>(-n)));
    }
  }
  for (const Handover& handover : ParseHandovers(config.handover)) {
    (void)Store::OfferLocks(handover.locks);
  }
  CAPIO_RETURN_IF_ERROR(session->Connect());
  session->tree_dir_ = NameOfDescriptor(session->store_->tree.get());
  if (session->tree_dir_.empty()) session->tree_dir_ = session->store_->path + "/tree";
  session->fork_epoch_.store(ForkEpoch());
  return session;
}

Session::Session(SessionConfig config)
    : config_(std::move(config)), number_(sessions_made.fetch_add(1) + 1) {}

Session::~Session() {
  if (fork_epoch_.load() == ForkEpoch()) Finish();
}

Status Session::StartServer() const {
  auto root = Store::Root();
  if (!root.ok()) return root.status();
  ServerLaunch launch;
  launch.store_root = root.take();
  launch.server_path = config_.server_path;
  launch.workflow = config_.workflow;
  launch.capio_dir = dir_;
  launch.config_path = config_.config_path;
  launch.resolve_prefix = config_.resolve_prefix;
  launch.await_ms = config_.await_server_ms;
  // Also when we have let our slot go: then nobody else says that its run is still on.
  if (store_ != nullptr) {
    launch.take_over = std::to_string(store_->segment->header().control_id);
  }
  launch.silent = (config_.flags & CAPIO_SESSION_SILENT) != 0;
  launch.persist = (config_.flags & CAPIO_SESSION_PERSIST) != 0;
  return LaunchServer(launch);
}

// Finds or makes the store and a server for it, and attaches.
Status Session::Connect() {
  int64_t deadline = os().MonotonicNs() + int64_t{config_.await_server_ms} * 1'000'000;
  for (;;) {
    auto store = Store::Open(config_.workflow);
    // One that nobody serves may be an earlier run's: that is for a server to find out.
    if (!store.ok() && store.code() != ENOENT && store.code() != ENXIO) return store.status();
    int64_t left = (deadline - os().MonotonicNs()) / 1'000'000;
    bool closing = false;
    if (store.ok()) {
      store_ = store.take();
      closing = store_->segment->header().phase.load() != kPhaseRunning;
      if (!closing && store_->Served()) {
        Status same = CheckSameWorkflow();
        // The server of a CAPIO_DIR that has been removed, and that has no clients any more, ends
        // when somebody comes.
        closing = same.code() == ESTALE && !store_->AnyoneAlive() && left > 0;
        if (!closing) {
          CAPIO_RETURN_IF_ERROR(same);
          Status s = AttachOnce();
          if (s.ok()) {
            SayHello();
            return s;
          }
          if (s.code() != ESTALE || os().MonotonicNs() > deadline) return s;
          continue;
        }
      }
    }
    if (closing && store_->Served()) {
      // The server is on its way out: its end closes our connection. Bounded, since it may decide
      // to stay.
      Fd socket = store_->ConnectToServer();
      if (left <= 0) {
        return Translated(ETIMEDOUT, "the server of workflow '" + config_.workflow +
                                         "' is still ending; run again in a moment");
      }
      if (socket.valid()) {
        (void)os().Poll(socket.get(), POLLIN | POLLRDHUP, std::min<int64_t>(left, 50));
      }
      continue;
    }
    store_.reset();
    CAPIO_RETURN_IF_ERROR(StartServer());
    if (os().MonotonicNs() > deadline + 10'000'000'000) {
      return Translated(ETIMEDOUT, "no server for workflow '" + config_.workflow +
                                       "' stays up; see the log in its store");
    }
  }
}

Status Session::CheckSameWorkflow() const {
  const Header& header = store_->segment->header();
  if (!store_->IsOn(real_dir_) && real_dir_ == header.capio_dir) {
    return Translated(ESTALE, "workflow '" + config_.workflow + "' is running on a CAPIO_DIR " +
                                  real_dir_ +
                                  " that has been removed, or renamed, since; let its steps end "
                                  "first, or use another workflow name");
  }
  if (!store_->IsOn(real_dir_)) {
    return Translated(EBUSY, "workflow '" + config_.workflow + "' is running on CAPIO_DIR " +
                                 header.capio_dir + ", not on " + real_dir_ +
                                 "; give this one another workflow name");
  }
  if (!config_.config_path.empty() && HashString(config_text_) != header.config_hash) {
    return Translated(EBUSY, "workflow '" + config_.workflow + "' is running " +
                                 (store_->HasConfig() ? "with another CAPIO-CL file than '"
                                                      : "without a CAPIO-CL file, not with '") +
                                 config_.config_path +
                                 "'; let it end first, or use another workflow name");
  }
  return Status::Ok();
}

bool Session::IsRoot() const {
  const Header& header = store_->segment->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  std::unordered_set<pid_t> peers;
  for (uint32_t slot = 1; slot < used; ++slot) {
    const Client& client = header.clients[slot];
    if (client.state.load(std::memory_order_acquire) == kSlotAttached &&
        client.app.load() == app_ && store_->locks->Held(slot)) {
      peers.insert(client.pid.load());
    }
  }
  peers.erase(::getpid());
  if (peers.empty()) return true;
  pid_t pid = ::getpid();
  for (int depth = 0; depth < 64 && pid > 1; ++depth) {
    pid = ParentOfPid(pid);
    if (peers.count(pid) != 0) return false;
  }
  return true;
}

// ESTALE: the store is going away; look again.
Status Session::AttachOnce() {
  auto app = store_->AppIndex(config_.app);
  if (!app.ok()) return app.status();
  app_ = *app;
  if (TakeOver()) return Status::Ok();
  Header& header = store_->segment->header();
  bool root = (config_.flags & CAPIO_SESSION_WORKER) == 0 && IsRoot();
  for (uint32_t slot = 1; slot < kMaxClients; ++slot) {
    Client& client = header.clients[slot];
    if (client.state.load(std::memory_order_acquire) != kSlotFree) continue;
    if (!store_->locks->Take(slot)) continue;
    // A client that attached and died between the two looks is for the server to settle first.
    if (client.state.load(std::memory_order_acquire) != kSlotFree) {
      store_->locks->Drop(slot);
      continue;
    }
    uint32_t flags = root ? kClientRoot : 0u;
    if (root && store_->judge->BadEnd(app_) != 0) flags |= kClientRestart;
    client.flags.store(flags);
    client.app.store(app_);
    client.pid.store(::getpid());
    client.process.store(ProcessKey());
    client.cells.store(0);
    client.threads.store(0);
    client.member.store(0);
    if (root) {
      Status joined = JoinApp(store_->segment.get(), &client, app_, app_size_, member_key_,
                              store_->judge->Running(app_));
      if (!joined.ok()) {
        store_->locks->Drop(slot);
        return joined;
      }
    }
    uint32_t used = header.slots_used.load();
    while (used <= slot && !header.slots_used.compare_exchange_weak(used, slot + 1)) {
    }
    slot_ = slot;
    epoch_ = client.epoch.load(std::memory_order_acquire);
    client.state.store(kSlotAttached, std::memory_order_seq_cst);
    // Slot first, then this look: a server that closes takes all slots after it has set the phase.
    if (header.phase.load(std::memory_order_seq_cst) != kPhaseRunning || !store_->Linked()) {
      client.state.store(kSlotFree);
      slot_ = 0;
      store_->locks->Drop(slot);
      return Status::Error(ESTALE);
    }
    // Settled between that look and our being seen: then whoever ends badly from now on counts.
    if ((flags & kClientRestart) != 0 && store_->judge->BadEnd(app_) == 0) {
      client.flags.fetch_and(~uint32_t{kClientRestart});
    }
    Attached();
    return Status::Ok();
  }
  // A server that is about to end holds them all.
  if (header.phase.load() != kPhaseRunning || !store_->Linked()) return Status::Error(ESTALE);
  return Translated(EAGAIN, "workflow '" + config_.workflow +
                                "' has no free client slot (1023 processes at once are its limit)");
}

void Session::Attached() {
  Header& header = store_->segment->header();
  // After the slot was: see Server::Settle.
  header.apps[app_].outcome.store(kAppStarted, std::memory_order_seq_cst);
  LowerMemoryLimit(&header, memory_limit_);
  if (room_ == nullptr) room_ = std::make_unique<RoomGate>(store_.get());
  header.alive_ns.store(os().RealtimeNs(), std::memory_order_relaxed);
  uint32_t set = 0;
  if ((config_.flags & CAPIO_SESSION_TEARDOWN) != 0) set |= kTeardown;
  if ((config_.flags & CAPIO_SESSION_PERSIST) != 0) set |= kPersistAll;
  if (set != 0) header.flags.fetch_or(set);
}

// The slot that this process had before exec(2), if it still has it. While it is held nobody
// settles it, and the store stays.
bool Session::TakeOver() {
  Header& header = store_->segment->header();
  for (const Handover& handover : ParseHandovers(config_.handover)) {
    Client& client = header.clients[handover.slot];
    if (handover.control_id != header.control_id || !store_->locks->Inherited(handover.slot) ||
        client.state.load(std::memory_order_acquire) != kSlotAttached ||
        client.epoch.load(std::memory_order_acquire) != handover.epoch ||
        client.app.load() != app_ || (client.flags.load() & kClientExec) == 0 ||
        !store_->locks->Take(handover.slot)) {
      continue;
    }
    slot_ = handover.slot;
    epoch_ = handover.epoch;
    client.process.store(ProcessKey());
    // Of threads that are no more.
    for (auto* thread = store_->segment->At<ThreadSlot>(client.threads.load()); thread != nullptr;
         thread = store_->segment->At<ThreadSlot>(thread->next.load())) {
      thread->activity.store(kIdle, std::memory_order_release);
      idle_threads_.push_back(thread);
    }
    taken_over_ = true;
    Attached();
    return true;
  }
  return false;
}

void Session::SayHello() {
  Fd socket = store_->ConnectToServer();
  ForkGuard guard(mutex_);
  socket_ = std::move(socket);
  if (!socket_.valid()) return;
  std::string frame = EncodeMessage({MessageType::kHello, slot_, epoch_, 0, ""});
  (void)os().Send(socket_.get(), frame.data(), frame.size(), MSG_DONTWAIT);
}

void Session::Send(const Message& message) {
  std::string frame = EncodeMessage(message);
  auto send = [&]() -> ssize_t {
    // Held, lest another thread put a new socket in place and somebody else's descriptor get this
    // number.
    ForkGuard guard(mutex_);
    if (!socket_.valid()) return -ENOTCONN;
    return os().Send(socket_.get(), frame.data(), frame.size(), MSG_DONTWAIT);
  };
  ssize_t sent = send();
  if ((sent == -EPIPE || sent == -ECONNRESET || sent == -ENOTCONN) && !ended()) {
    // The server was killed; the one that has taken its place would sleep on.
    SayHello();
    sent = send();
  }
  // Its socket is full, or there is none: it must look at everything when it can.
  if (sent < 0) store_->segment->header().flags.fetch_or(kRescan);
}

// Starts a server if there is none, and tells it (or its successor) who we are.
void Session::ReviveServer() {
  if (store_->Served()) {
    bool connected = false;
    {
      ForkGuard guard(mutex_);
      connected = socket_.valid() && (os().Poll(socket_.get(), POLLIN | POLLRDHUP, 0) &
                                      (POLLHUP | POLLRDHUP | POLLERR)) == 0;
    }
    if (!connected) SayHello();
    return;
  }
  if (Status s = StartServer(); s.ok()) {
    SayHello();
  } else {
    Warn("revive",
         std::string("the CAPIO server has ended and cannot be started again: ") + s.text());
  }
}

Status Session::Ensure() {
  if (fork_epoch_.load(std::memory_order_acquire) == ForkEpoch()) [[likely]] {
    return Status::Ok();
  }
  // The only thread of a new process, or threads it has started since: the first one attaches.
  ForkGuard guard(AttachMutex());
  if (fork_epoch_.load() == ForkEpoch()) return Status::Ok();
  slot_ = 0;
  {
    ForkGuard inner(mutex_);
    idle_threads_.clear();
    socket_.reset();
  }
  if (!ended()) {
    Status s = AttachOnce();
    if (s.code() == ESTALE)
      s = Translated(ESTALE, "the workflow ended while this process was starting");
    CAPIO_RETURN_IF_ERROR(s);
    SayHello();
  }
  fork_epoch_.store(ForkEpoch(), std::memory_order_release);
  return Status::Ok();
}

// ---- the end
// ----------------------------------------------------------------------------------------

void Session::Goodbye(bool bad) {
  if (ended() || fork_epoch_.load() != ForkEpoch()) return;
  store_->segment->header().clients[slot_].flags.fetch_or(bad ? kClientBad : kClientClean);
}

void Session::TakeBackGoodbye() {
  if (ended() || fork_epoch_.load() != ForkEpoch()) return;
  Client& client = store_->segment->header().clients[slot_];
  if ((client.flags.fetch_and(~uint32_t{kClientClean | kClientExec | kClientAwaited}) &
       kClientExec) == 0) {
    return;
  }
  (void)store_->locks->SurviveExec(false);
  // As open as before: what was waited for the end of is not to come.
  store_->records->ForEachCellOf(&client, [&](const Cell* cell) {
    uint64_t word = cell->word.load(std::memory_order_acquire);
    if (OpensOf(word) <= ClosesOf(word)) return;
    FileRecord* record = store_->records->At(cell->record);
    uint64_t status = record->status.load(std::memory_order_acquire);
    if (StateOf(status) != kClosing) return;
    (void)record->status.compare_exchange_strong(status,
                                                 MakeStatus(GenerationOf(status), kGrowing));
  });
}

Result<std::string> Session::BecomeAnother(bool attaches) {
  if (ended() || slot_ == 0 || fork_epoch_.load() != ForkEpoch()) return std::string();
  Client& client = store_->segment->header().clients[slot_];
  CAPIO_RETURN_IF_ERROR(store_->locks->SurviveExec(true));
  client.flags.fetch_or(attaches ? kClientExec | kClientAwaited : kClientExec,
                        std::memory_order_seq_cst);
  // The server watches for the end of those who may write them: exec, perhaps, or the program's.
  store_->records->ForEachCellOf(&client, [&](const Cell* cell) {
    uint64_t word = cell->word.load(std::memory_order_acquire);
    if (OpensOf(word) <= ClosesOf(word) && cell->duplicates.load() == 0) return;
    FileRecord* record = store_->records->At(cell->record);
    if (CommitOf(record->rule.load()) == CommitRule::kOnClose) NoticeFile(record);
  });
  return FormatHandover(
      {store_->segment->header().control_id, ::getpid(), slot_, epoch_, store_->locks->fd()});
}

void Session::GoOn(const std::vector<FileRecord*>& touched) {
  store_->segment->header().clients[slot_].flags.fetch_and(~uint32_t{kClientExec | kClientAwaited});
  for (FileRecord* record : touched) (void)Evaluate(record, -1);
}

void Session::GoodbyeChild(int64_t pid) {
  Header& header = store_->segment->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  for (uint32_t slot = 1; slot < used; ++slot) {
    Client& client = header.clients[slot];
    if (client.state.load(std::memory_order_acquire) == kSlotAttached && client.pid.load() == pid &&
        client.app.load() == app_) {
      // No death of the step; what it has open fails all the same, for it may be half written.
      client.flags.fetch_and(~uint32_t{kClientRoot});
    }
  }
}

void Session::FailAbandoned() {
  if (fork_epoch_.load() != ForkEpoch()) return;
  store_->records->ForEachCellOf(&store_->segment->header().clients[slot_], [&](const Cell* cell) {
    if (cell->abandoned.load() == 0) return;
    FileRecord* record = store_->records->At(cell->record);
    if (store_->judge->Fail(record, kFailureBadEnd, app_, ::getpid())) NoticeFile(record);
  });
}

void Session::Finish() {
  if (ended_.exchange(true)) return;
  if (slot_ == 0 || fork_epoch_.load() != ForkEpoch()) return;
  Client& client = store_->segment->header().clients[slot_];
  if ((client.flags.load() & (kClientClean | kClientBad)) == 0) {
    client.flags.fetch_or(kClientClean);
  }
  // Before the slot can be another's.
  std::vector<FileRecord*> mine;
  store_->records->ForEachCellOf(
      &client, [&](const Cell* cell) { mine.push_back(store_->records->At(cell->record)); });
  store_->segment->header().alive_ns.store(os().RealtimeNs(), std::memory_order_relaxed);
  store_->locks->Drop(slot_);
  // What our end commits we seal ourselves: nobody has to wait for a busy server.
  Sealed sealed;
  for (FileRecord* record : mine) (void)store_->judge->Evaluate(record, -1, &sealed);
  store_->judge->EvaluateDependents(&sealed);
}

Status Session::AwaitSafe(uint32_t wait_ms) {
  if (slot_ == 0 || fork_epoch_.load() != ForkEpoch()) return Status::Ok();
  Fd socket;
  {
    ForkGuard guard(mutex_);
    socket = std::move(socket_);
  }
  uint64_t wishes = wait_ms > 0 ? uint64_t{kTellWhenSafe} : 0;
  if ((config_.flags & CAPIO_SESSION_SILENT) == 0) wishes |= kTellSummary;
  std::string frame = EncodeMessage({MessageType::kBye, slot_, epoch_, wishes, ""});
  auto sent = [&] {
    return socket.valid() && os().Send(socket.get(), frame.data(), frame.size(), MSG_DONTWAIT) >= 0;
  };
  // A server that has ended in order has taken the store away. If one was killed, what we made must
  // not lie in the store for want of another.
  auto reached = [&]() -> Result<bool> {
    if (sent()) return true;
    if (!store_->Linked()) return false;
    if (!store_->Served()) {
      if (Status s = StartServer(); !s.ok()) return s;
      if (!store_->Linked()) return false;
    }
    socket = store_->ConnectToServer();
    if (sent()) return true;
    store_->segment->header().flags.fetch_or(kRescan);
    return false;
  };
  auto there = reached();
  if (!there.ok()) return there.status();
  if (!*there || wait_ms == 0) return Status::Ok();
  // A server that is alive answers at once. Then the wait is for the disk, and as long as it takes:
  // the server says every second that it is still at it.
  int64_t start = os().MonotonicNs();
  int64_t deadline = start + int64_t{wait_ms} * 1'000'000;
  int64_t next_warning = start + SecondsVariable("CAPIO_WAIT_WARN", 10'000'000'000);
  int revived = 0;
  for (;;) {
    int64_t left = (deadline - os().MonotonicNs()) / 1'000'000;
    int events = left <= 0 ? 0 : os().Poll(socket.get(), POLLIN, left);
    if (events == -EINTR) continue;
    if (events <= 0) {
      Say("capio_server (pid " + std::to_string(store_->segment->header().server_pid.load()) +
          ") does not answer; what this step wrote goes to CAPIO_DIR when it does");
      return Status::Error(ETIMEDOUT);
    }
    std::array<std::byte, kMaxFrame> buf;
    ssize_t n = os().Recv(socket.get(), buf.data(), buf.size(), 0);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n <= 0) {
      socket.reset();
      if (++revived > 3) return Status::Ok();
      there = reached();
      if (!there.ok()) return there.status();
      if (!*there) return Status::Ok();
      deadline = os().MonotonicNs() + int64_t{wait_ms} * 1'000'000;
      continue;
    }
    auto message = DecodeMessage(std::span(buf).first(static_cast<size_t>(n)));
    if (!message.ok()) return message.status();
    int64_t now = os().MonotonicNs();
    deadline = now + kSilenceFactor * int64_t{wait_ms} * 1'000'000;
    if (message->type == MessageType::kWorking && now >= next_warning) {
      Say("waiting " + std::to_string((now - start) / 1'000'000'000) + " s for capio_server (pid " +
          std::to_string(store_->segment->header().server_pid.load()) + ") to write " +
          std::to_string(message->argument) + " files to " + real_dir_);
      next_warning = now + 2 * std::max<int64_t>(now - start, 1'000'000'000);
    }
    if (message->type == MessageType::kNote) Say(message->text);
    if (message->type == MessageType::kDone) return Status::Ok();
  }
}

void Session::SetFlags(uint32_t set, uint32_t clear) {
  Header& header = store_->segment->header();
  if ((set & CAPIO_SESSION_TEARDOWN) != 0) header.flags.fetch_or(kTeardown);
  if ((clear & CAPIO_SESSION_TEARDOWN) != 0) header.flags.fetch_and(~uint32_t{kTeardown});
  if ((set & CAPIO_SESSION_PERSIST) != 0) header.flags.fetch_or(kPersistAll);
  config_.flags = (config_.flags | set) & ~clear;
}

// ---- names and rules
// --------------------------------------------------------------------------------

std::shared_ptr<const Rule> Session::RuleOf(const std::string& relative) {
  if (!store_->rules->any()) return NoRule();
  const uint64_t version = store_->rules->version();
  // One call asks several times.
  thread_local struct {
    uint64_t session, version;
    std::string path;
    std::shared_ptr<const Rule> rule;
  } last = {};
  if (last.session == number_ && last.version == version && last.path == relative) return last.rule;
  auto remembered = [&](const std::shared_ptr<const Rule>& rule) {
    last.session = number_;
    last.version = version;
    last.path = relative;
    last.rule = rule;
    return rule;
  };
  {
    ForkGuard guard(mutex_);
    if (rules_seen_ != version) {
      rule_cache_.clear();
      rules_seen_ = version;
    }
    auto found = rule_cache_.find(relative);
    if (found != rule_cache_.end()) return remembered(found->second);
  }
  auto rule = std::make_shared<const Rule>(store_->RuleOf(relative));
  ForkGuard guard(mutex_);
  if (rules_seen_ != version) return remembered(rule);
  if (rule_cache_.size() >= kRuleCacheMax) rule_cache_.clear();
  return remembered(rule_cache_.emplace(relative, std::move(rule)).first->second);
}

Status Session::AddRules(std::string_view json) {
  CAPIO_RETURN_IF_ERROR(Ensure());
  auto added = ParseRules(json, {real_dir_, config_.resolve_prefix, dir_});
  if (!added.ok()) return added.status();
  for (const std::string& warning : added->warnings) Warn("rules:" + warning, warning);
  added->warnings.clear();
  bool changed = false;
  CAPIO_RETURN_IF_ERROR(store_->AddRules(*added, &changed));
  if (!changed) return Status::Ok();
  // From here on it is only haste: whoever dies now leaves the rest to the server.
  store_->ApplyRules([this](FileRecord* record) { NoticeFile(record); });
  for (WaitWord& word : store_->segment->header().path_words) WakeAll(&word);
  // Wakes the server, which looks at the version whatever it is told.
  Send({MessageType::kFile, slot_, epoch_, 0, ""});
  return Status::Ok();
}

void Session::KeepUp(FileRecord* record, const std::string& relative, uint64_t version) {
  // Pairs with the link of new rules: either their adder finds the record, or we find the rules.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (store_->rules->version() == version) return;
  Records::SetRule(record, *RuleOf(relative));
}

Rule Session::RuleForNew(const Rule& rule) const {
  Rule mine = rule;
  if ((config_.flags & CAPIO_SESSION_PERSIST) != 0 && !store_->HasConfig()) mine.permanent = true;
  return mine;
}

Layer Session::LayerForNew(const Rule& rule, uint64_t bytes) {
  if (rule.storage == Storage::kFs) return Layer::kFs;
  // At least a page, and the inode.
  constexpr uint64_t kLeast = 8192;
  uint64_t takes = std::max(bytes, kLeast);
  bool may_move = room_->CanMove() && (store_->segment->header().flags.load() & kMemoryOnly) == 0;
  bool room = room_->Level() == RoomLevel::kPlenty && room_->Take(takes) == takes;
  return room || !may_move ? Layer::kTree : Layer::kFs;
}

bool Session::DeclaredProducer(const Rule& rule) const {
  return std::find(rule.producers.begin(), rule.producers.end(), app_) != rule.producers.end();
}

bool Session::Produces(const Rule& rule, const FileRecord* record) {
  if (DeclaredProducer(rule)) return true;
  if (record == nullptr) return false;
  bool wrote = false;
  store_->records->ForEachCell(record, [&](const Cell* cell) {
    if (cell->app == app_ && OpensOf(cell->word.load(std::memory_order_acquire)) > 0) wrote = true;
  });
  return wrote;
}

bool Session::RealCounts(const struct stat& st, const std::string& relative) const {
  return (config_.flags & CAPIO_SESSION_RESUME) != 0 || store_->judge->RealCounts(st, relative);
}

Result<Cell*> Session::CellFor(FileRecord* record) {
  Cell* mine = nullptr;
  store_->records->ForEachCell(record, [&](Cell* cell) {
    if (cell->slot == slot_ && cell->epoch == epoch_) mine = cell;
  });
  if (mine != nullptr) return mine;
  // Threads that come at once may get one each: what counts is their sum.
  return store_->records->AddCell(record, slot_, epoch_, app_);
}

FileState Session::Evaluate(FileRecord* record, int read_only) {
  Sealed sealed;
  FileState state = store_->judge->Evaluate(record, read_only, &sealed);
  if (state == kClosing) NoticeFile(record);
  NoticeSealed(sealed);
  if (!sealed.empty()) TellRoomNews(&store_->segment->header());
  return state;
}

void Session::NoteEntry(const std::string& relative) {
  if (!store_->rules->any() || relative.empty()) return;
  std::string directory(ParentOf(relative));
  auto rule = RuleOf(directory);
  if (!rule->is_directory || !rule->declared()) return;
  // Without room for it a listing finds the entry.
  (void)store_->directories->Append(directory,
                                    std::string_view(relative).substr(relative.rfind('/') + 1));
}

void Session::NoticePath(const std::string& relative) {
  NoteEntry(relative);
  WakeAll(store_->records->PathWord(relative));
  // Who waits for a directory to fill sleeps on its name.
  WakeAll(store_->records->PathWord(ParentOf(relative)));
}

void Session::NoticeFile(const FileRecord* record) {
  Send({MessageType::kFile, slot_, epoch_, store_->records->OffsetOf(record), ""});
}

void Session::NoticeSealed(const Sealed& sealed) {
  for (const FileRecord* final : sealed) {
    if ((final->flags.load() & kFilePermanent) != 0) NoticeFile(final);
  }
}

void Session::Warn(const std::string& key, const std::string& text) {
  {
    ForkGuard guard(mutex_);
    if (!warned_.insert(key).second) return;
  }
  Say("warning: " + text);
}

std::string Session::WhyNoStep() const {
  const Header& header = store_->segment->header();
  if (!store_->HasConfig() || header.apps[app_].declared.load() != 0) return "";
  std::vector<std::string> names;
  for (uint32_t app = 0; app < kMaxApps; ++app) {
    if (header.apps[app].state.load() != kAppNamed || header.apps[app].declared.load() == 0) {
      continue;
    }
    names.push_back(store_->AppName(app));
  }
  const std::vector<std::string_view> steps(names.begin(), names.end());
  return "there is no step '" + config_.app + "' in it" + Suggestion(config_.app, steps);
}

void Session::WarnOfUndeclaredInput(const std::string& relative, const FileRecord* record) {
  if (!store_->rules->any()) return;
  auto rule = RuleOf(relative);
  if (DeclaredProducer(*rule) ||
      std::find(rule->consumers.begin(), rule->consumers.end(), app_) != rule->consumers.end()) {
    return;
  }
  uint32_t writer = kNoApp;
  bool ours = false;
  store_->records->ForEachCell(record, [&](const Cell* cell) {
    if (OpensOf(cell->word.load(std::memory_order_acquire)) == 0) return;
    if (cell->app == app_) {
      ours = true;
    } else {
      writer = cell->app;
    }
  });
  if (ours || writer == kNoApp) return;
  {
    ForkGuard guard(mutex_);
    if (warned_.count("input:" + relative) != 0 || undeclared_inputs_ >= kMostInputWarnings) return;
    ++undeclared_inputs_;
  }
  const std::string me = "'" + config_.app + "'";
  const std::string maker = "'" + store_->AppName(writer) + "'";
  const std::string file = config_.config_path.empty() ? "the CAPIO-CL rules" : config_.config_path;
  const std::string no_step = WhyNoStep();
  std::string text = "app " + me + " reads " + dir_ + "/" + relative;
  if (rule->declared()) {
    text += ", an output of app " + maker + ", without being declared to: it may be dropped " +
            "before " + me + " has come. ";
    text += no_step.empty()
                ? "Add " + Quoted(relative) + " to the input_stream of " + me + " in " + file
                : "Look at the CAPIO-CL file: " + no_step;
  } else {
    text += ", which app " + maker + " wrote and no rule names: had it not been there yet, " + me +
            " would not have waited for it. Add " + Quoted(relative) + " to the output_stream of " +
            maker + " and to the input_stream of " + me + " in " + file;
  }
  if (undeclared_inputs_ == kMostInputWarnings) text += " (more such files are not told of)";
  Warn("input:" + relative, text);
}

}  // namespace capio
