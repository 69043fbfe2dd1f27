// A client: this process in one workflow as one app. Owns a slot of the control segment, knows the
// rules, and does the waiting that files, directories and name operations ask for.
#ifndef CAPIO_CLIENT_SESSION_H_
#define CAPIO_CLIENT_SESSION_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "client/room_gate.h"
#include "os/fork.h"
#include "store/apps.h"
#include "store/store.h"
#include "wire/message.h"

namespace capio {

struct SessionConfig {
  std::string capio_dir = ".";
  std::string app = "writer";
  std::string workflow = "workflow";
  std::string server_path = "capio_server";
  std::string config_path;
  std::string resolve_prefix;
  uint32_t await_server_ms = 2000;
  uint32_t flags = 0;    // CAPIO_SESSION_*
  std::string handover;  // what this process handed on before exec(2); see client/exec.h
};

struct WaitGoal;

class Session {
 public:
  static Result<std::shared_ptr<Session>> Open(const SessionConfig& config);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Makes sure that this process is a client (again, after fork). To be called on entry of every
  // operation.
  Status Ensure();

  void Goodbye(bool bad);
  // After all this process goes on; a bad end stays announced.
  void TakeBackGoodbye();
  // This process is about to become another program, which attaches or knows nothing of us. Returns
  // what that is to be given; "" if the process is no client. TakeBackGoodbye ends this, too.
  Result<std::string> BecomeAnother(bool attaches);
  // It has taken over the slot that the process had before exec(2).
  [[nodiscard]] bool taken_over() const { return taken_over_; }
  // The process is a client like any other from now on: its cells say what it has open. touched:
  // those that were settled.
  void GoOn(const std::vector<FileRecord*>& touched);
  void GoodbyeChild(int64_t pid);
  void FailAbandoned();
  // The end: gives the slot back and commits what that commits. Idempotent.
  void Finish();
  // After Finish: waits until the server says that what this client made is safe. Prints what the
  // server says.
  Status AwaitSafe(uint32_t wait_ms);
  void SetFlags(uint32_t set, uint32_t clear);

  std::shared_ptr<const Rule> RuleOf(const std::string& relative);
  // Adds rules (see ParseRules) for all clients. EINVAL: the rules are wrong; EBUSY: they
  // contradict others.
  Status AddRules(std::string_view json);
  // To be called for a record just made with a rule looked up at this version of the rules.
  void KeepUp(FileRecord* record, const std::string& relative, uint64_t version);
  // The rule that a file made by this session gets: permanent, too, if the session keeps
  // everything.
  Rule RuleForNew(const Rule& rule) const;
  // Where a new file belongs: the fs tree, if its rule says so or memory is short. bytes: what it
  // holds from the beginning.
  Layer LayerForNew(const Rule& rule, uint64_t bytes = 0);
  RoomGate& room() { return *room_; }
  [[nodiscard]] bool DeclaredProducer(const Rule& rule) const;
  // Of this file: declared, or it has written to it.
  bool Produces(const Rule& rule, const FileRecord* record);
  // A real file that may stand for a declared output (S3): made in this run, or resumed.
  bool RealCounts(const struct stat& st, const std::string& relative) const;

  // The cell of this client for a file.
  Result<Cell*> CellFor(FileRecord* record);

  // One bounded sleep until a declared output may exist; the caller looks again. Fails once nobody
  // will make it.
  Status SleepForPath(const std::string& relative, const Rule& rule, uint32_t prepared);
  // Sleeps until the file is final. Ok: committed.
  Status WaitForCommit(FileRecord* record);
  // One bounded sleep until a declared directory has more entries than were delivered, or is
  // complete; if no number is given, only the latter is of use.
  Status SleepForEntries(const std::string& relative, const Rule& rule,
                         std::optional<uint64_t> delivered, uint32_t prepared);
  // One bounded sleep until the file has `size` bytes (or kAnyBytes more than when its progress was
  // this), or its status is no longer this.
  Status SleepForBytes(FileRecord* record, uint64_t status, uint32_t progress, uint64_t size);
  // Sleeps until `bytes` more of a file may be written to the memory tree; has the server make
  // room. ENOSPC, with what to do, once nobody is left who could make any.
  Status WaitForRoom(const std::string& relative, uint64_t bytes);
  // The error of a write that finds no room, in the layer where the file is.
  Status NoRoom(const std::string& relative, Layer layer = Layer::kTree);
  Status Failure(const FileRecord* record) const;

  // Evaluates a file and tells the server about what it has to do then.
  FileState Evaluate(FileRecord* record, int read_only);
  // Something now exists under a name.
  void NoticePath(const std::string& relative);
  void NoticeFile(const FileRecord* record);
  // Tells the server of those that it has to write back.
  void NoticeSealed(const Sealed& sealed);
  // Once for every key.
  void Warn(const std::string& key, const std::string& text);
  // "there is no step 'pre' in it (did you mean "prep"?)" if the CAPIO-CL file does not know this
  // app, as when its name is mistyped; else "".
  std::string WhyNoStep() const;
  // About to read a file of another app that the rules do not call an input of this one: says what
  // to add to them.
  void WarnOfUndeclaredInput(const std::string& relative, const FileRecord* record);

  // What limits the room in memory, for messages.
  std::string DescribeRoom() const { return room_->Look().Describe(); }

  Store& store() { return *store_; }
  const std::string& dir() const { return dir_; }
  const std::string& real_dir() const { return real_dir_; }
  // The memory tree, as the kernel names it.
  const std::string& tree_dir() const { return tree_dir_; }
  const std::string& app_name() const { return config_.app; }
  uint32_t app() const { return app_; }
  uint32_t slot() const { return slot_; }
  uint32_t epoch() const { return epoch_; }
  const SessionConfig& config() const { return config_; }
  // Its bad end has been announced.
  bool EndsBadly() const {
    return (store_->segment->header().clients[slot_].flags.load() & kClientBad) != 0;
  }
  bool ended() const { return ended_.load(std::memory_order_acquire); }

 private:
  friend class Activity;
  explicit Session(SessionConfig config);

  Status Attach();
  Status Connect();
  Status AttachOnce();
  bool TakeOver();
  void Attached();
  void SayHello();
  bool IsRoot() const;
  void Send(const Message& message);
  // ESTALE: CAPIO_DIR has been made anew. EBUSY: it is another, or the CAPIO-CL file is.
  Status CheckSameWorkflow() const;
  Status StartServer() const;
  void ReviveServer();

  ThreadSlot* TakeThreadSlot();
  void ReturnThreadSlot(ThreadSlot* slot);
  // The common part of every sleep: says what is waited for, sleeps at most the back-off, reports
  // time-outs. Ok: look again.
  Status Sleep(WaitWord* word, uint32_t prepared, const WaitGoal& goal, bool* timed_out);
  // Has the server move files to disk. Returns the number of the request.
  uint64_t AskForRoom(uint64_t bytes);
  struct Others {
    std::vector<uint32_t> apps;  // of processes that live
    bool writing = false;        // one of them has another file open, which it may yet close
    bool here = false;           // so has another thread of this process
  };
  // Who else may make room for a file.
  Others WhoMayMakeRoom(const std::string& relative);
  // Notes what has come to be in the log of the directory it is in, if that is declared.
  void NoteEntry(const std::string& relative);
  // The apps that could complete a file, or what it depends on.
  std::vector<uint32_t> ProvidersOf(const FileRecord* record);
  // Adds the apps that could complete the first of these that is not.
  void AddProvidersOf(const std::vector<std::string>& dependencies, std::vector<uint32_t>* apps);

  SessionConfig config_;
  std::string dir_;
  std::string real_dir_;
  std::string tree_dir_;
  std::string config_text_;
  AppSize app_size_;
  uint64_t member_key_ = 0;  // shared with children by fork, which are the same process of the app
  uint64_t memory_limit_ = 0;  // CAPIO_MEMORY_LIMIT; 0: not set
  std::shared_ptr<Store> store_;
  std::unique_ptr<RoomGate> room_;
  uint32_t app_ = 0;
  uint32_t slot_ = 0;
  uint32_t epoch_ = 0;
  std::atomic<uint64_t> fork_epoch_{0};
  std::atomic<bool> ended_{false};
  bool taken_over_ = false;
  Fd socket_;

  const uint64_t number_;  // of this object, and of no other one

  // Guards what follows and socket_; never held across a system call that can block.
  ForkMutex mutex_{ForkMutex::kSessions};
  std::vector<ThreadSlot*> idle_threads_;
  std::unordered_map<std::string, std::shared_ptr<const Rule>> rule_cache_;  // of rules_seen_
  uint64_t rules_seen_ = 0;
  std::unordered_set<std::string> warned_;
  uint32_t undeclared_inputs_ = 0;  // told
};

// What the calling thread is about, shown in its thread slot for as long as this lives.
class Activity {
 public:
  Activity(Session* session, ThreadActivity activity, std::string_view name,
           const std::vector<uint32_t>& needed = {}, int64_t since_ns = 0, uint32_t rounds = 0);
  ~Activity();
  Activity(const Activity&) = delete;
  Activity& operator=(const Activity&) = delete;
  // False if there was no room for a slot: creating must not go on without one.
  [[nodiscard]] bool shown() const { return slot_ != nullptr; }

 private:
  Session* session_;
  ThreadSlot* slot_;
};

// The apps that the calling thread's last wait needs, all of whose processes are this one; ""
// otherwise. Names are separated by newlines.
const std::string& LastWaitNeeds();
// How long the calling thread has been waiting for the file of this name, in ns; 0: it has not.
int64_t WaitedFor(const std::string& relative);
// The wait has had its end: the next one for the same file is another.
void EndWait();

}  // namespace capio

#endif  // CAPIO_CLIENT_SESSION_H_
