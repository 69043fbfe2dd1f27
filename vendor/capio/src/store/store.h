// One workflow's store: its directory, and the parts in it opened and ready.
//
//   <root>/capio-<uid>/<workflow>/   root is $CAPIO_STORE, else /dev/shm; mode 0700, owner checked
//     locks      slot locks (M1)
//     control    the control segment
//     tree/      the memory tree
//     scratch/   files not yet named
//     server.sock, log
//
// A store appears by rename, complete and with its server's lock held, and goes away by rename:
// whoever sees the directory under its name sees a whole store.
#ifndef CAPIO_STORE_STORE_H_
#define CAPIO_STORE_STORE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "os/os.h"
#include "rules/rule_set.h"
#include "store/commit.h"
#include "store/directories.h"
#include "store/layers.h"
#include "store/locks.h"
#include "store/records.h"
#include "store/rule_chain.h"
#include "store/segment.h"

namespace capio {

class Store {
 public:
  // Where stores lie, absolute. A relative $CAPIO_STORE means the same directory for as long as the
  // process lives, whatever becomes of its current one.
  static Result<std::string> Root();
  // <root>/capio-<uid>, made if absent, with the directories above it. EPERM if it is not ours
  // alone.
  static Result<std::string> Base();

  // Opens the store of a workflow; ENOENT if there is none, ENXIO if its CAPIO_DIR is no more.
  // Within a process the same store is opened once and shared, since closing a second descriptor of
  // `locks` would drop the slots held through the first.
  static Result<std::shared_ptr<Store>> Open(const std::string& workflow);

  // A descriptor of some store's `locks` that this process had before exec(2), and through which it
  // may still hold slots: Open uses it in place of a new one. False if it is none.
  static bool OfferLocks(int fd);

  // For servers. A new store, with slot 0 held and a listening socket, not yet under its name.
  // EAGAIN: others got in the way.
  static Result<std::shared_ptr<Store>> Create(const std::string& workflow,
                                               const SegmentSpec& spec);
  // Puts it under its name. EEXIST if another server was faster. What an earlier run left in the
  // fs tree is set aside: set_aside then says where.
  Status Publish();
  // Takes over a store whose server is gone. EBUSY if it is not gone.
  static Result<std::shared_ptr<Store>> Adopt(const std::string& workflow);
  // Unlinks everything, if no client is alive (EBUSY).
  Status Remove();
  // After that, and after everything else that tells of the store has gone: the last store of this
  // user takes the common directory with it, by which others know the place.
  void LeavePlace();

  // For a store of an earlier run, adopted: takes it from its name, so that a new one can have
  // that. EBUSY: a client has come.
  Status SetAside();
  // Unlinks a store that was set aside.
  void RemoveAside();
  // Stores that were set aside by a server which died over them, with slot 0 held.
  static std::vector<std::shared_ptr<Store>> LeftAside();
  // Removes a store that cannot be opened since its CAPIO_DIR is no more (Open gives ENXIO). EBUSY:
  // somebody uses it.
  static Status Discard(const std::string& workflow);

  ~Store();  // what was never published is removed
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Still the one under its name.
  [[nodiscard]] bool Linked() const;
  // A client lives.
  [[nodiscard]] bool AnyoneAlive() const;
  // CAPIO_DIR is the directory of this name; if not, it has been removed or renamed, or is another.
  [[nodiscard]] bool IsOn(const std::string& directory) const;
  // As whoever serves it from now on, who writes into the directory that is open here.
  void NoteDirectory();
  // Somebody serves it.
  [[nodiscard]] bool Served() const { return locks->Held(0); }
  // A socket connected to the server; does not wait for it.
  [[nodiscard]] Fd ConnectToServer() const;

  // An app's index, claimed if it is new. ENOSPC: too many; ENAMETOOLONG.
  Result<uint32_t> AppIndex(std::string_view name);
  [[nodiscard]] std::string AppName(uint32_t app) const;
  // The rule of a path, with the store's indices of its apps.
  [[nodiscard]] Rule RuleOf(std::string_view relative) { return rules->Get()->Match(relative); }
  // Adds rules, for all processes at once. EBUSY, naming both: they contradict rules that hold, or
  // what was made under them. EINVAL: they form a cycle or a tie with others.
  Status AddRules(const Workflow& added, bool* changed);
  // Gives the records the rules in force, and calls `permanent` for each that has become a
  // permanent one by that.
  void ApplyRules(const std::function<void(FileRecord*)>& permanent);
  // The record of the file that has this name in a layer; null if it has none.
  FileRecord* RecordAt(Layer layer, const std::string& relative);
  [[nodiscard]] bool HasConfig() const {
    return (segment->header().flags.load(std::memory_order_relaxed) & kHasConfig) != 0;
  }

  std::string path;      // the store's directory
  std::string workflow;  // its name as given
  Fd dir;
  Fd tree;
  Fd scratch;
  Fd real;  // CAPIO_DIR
  Fd listener;
  std::unique_ptr<Segment> segment;
  std::unique_ptr<SlotLocks> locks;
  std::unique_ptr<Records> records;
  std::unique_ptr<DirectoryLogs> directories;
  std::unique_ptr<FsTree> fs;
  std::unique_ptr<Layers> layers;
  std::unique_ptr<Judge> judge;
  std::unique_ptr<RuleChain> rules;
  std::string set_aside;

 private:
  Store() = default;
  static Result<std::shared_ptr<Store>> OpenAt(const std::string& path,
                                               const std::string& workflow);
  // Both with the mutex of the open stores held.
  static Fd OpenLocks(int dir);
  static std::shared_ptr<Store> Register(std::unique_ptr<Store> store);
  static std::shared_ptr<Store> Share(void* open_store);
  Status OpenParts();
  Status Assemble(std::unique_ptr<Segment> control);
  Status Listen();
  Status SetAsideLeftover();
  Status CheckActedUpon(const RuleSet& before, const RuleSet& after);

  struct stat dir_stat_ = {};
  std::string unpublished_;  // name in the base directory while not under its own
};

// The run this process belongs to: $CAPIO_RUN_ID, else the batch job's id, else "".
std::string RunId();

}  // namespace capio

#endif  // CAPIO_STORE_STORE_H_
