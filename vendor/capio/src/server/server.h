// capio_server: the custodian of one store. It learns of process death and applies what death
// implies, writes permanent files back to CAPIO_DIR, and removes the store when the workflow has
// ended. Nothing on the data path waits for it: if it is stopped or killed, running clients go on,
// and a new one adopts the store.
//
// One thread runs the epoll loop and owns all state; the pool writes files back.
#ifndef CAPIO_SERVER_SERVER_H_
#define CAPIO_SERVER_SERVER_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "server/beacon.h"
#include "server/evict.h"
#include "server/options.h"
#include "server/persist.h"
#include "server/salvage.h"
#include "server/summary.h"
#include "store/store.h"
#include "transport/transport.h"
#include "wire/message.h"

namespace capio {

class Server {
 public:
  // Creates the workflow's store, or adopts one whose server has died. EBUSY: it is being served.
  // EINVAL: the CAPIO-CL file has errors.
  static Result<std::unique_ptr<Server>> Start(const ServerOptions& options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // One turn of the loop: waits at most timeout_ms (-1: until something happens) and handles what
  // did. False once the server has ended.
  bool Step(int timeout_ms);
  // Until the end.
  void Run();
  // Stop at once, after persistence: what SIGTERM does.
  void RequestStop() { stop_requested_ = true; }
  // Signals arriving on this descriptor (signalfd) request a stop.
  Status WatchSignals(int fd);

  Store& store() { return *store_; }

 private:
  struct Connection {
    Fd fd;
    uint32_t slot = 0;
    uint32_t epoch = 0;
    bool bye = false;
    bool wants_done = false;
    bool wants_summary = false;
  };

  explicit Server(const ServerOptions& options) : options_(options) {}
  Status LightBeacon();
  Status Prepare(const ServerOptions& options, bool adopted,
                 std::vector<std::shared_ptr<Store>> earlier);

  void OnAccept();
  void OnMessage(uint64_t id);
  void OnInotify();
  void OnPersisted();
  void OnMoved();
  void MakeRoom();
  void Handle(uint64_t id, const Message& message);
  void Drop(uint64_t id);
  void Send(Connection* connection, MessageType type, uint64_t argument, const std::string& text);

  void Watch(uint32_t slot);
  void CheckSlot(uint32_t slot);
  void CheckAllSlots();
  void CheckUnwatchedSlots();
  // Of the same app as this client, which came when that had happened; 0: all are settled.
  [[nodiscard]] uint32_t EarlierBadEnd(uint32_t restart) const;
  void Settle(uint32_t slot);
  void SettleIntents(const Client& client, uint32_t slot, bool died);
  void Look(FileRecord* record);
  void LookAtOthers(const FileRecord* record, const Sealed& sealed);
  void LookAtDependents();
  void LookAtAll();
  std::string PathInStore(const std::string& name) const;
  void WatchClosing(FileRecord* record);
  void LookAtClosing();
  void Persist(FileRecord* record, const std::string& name, const std::string& to, bool salvage);

  bool AnyClient() const;
  bool SeenClient() const;
  bool MayEnd();
  void CloseTheBooks();
  void StartLastPass();
  void LastPassOver(Layer layer, const std::string& directory);
  void LastLook(const std::string& path, const struct stat& st);
  void MakeFurtherNames();
  void RemoveLeftCopies();
  void Finish();
  bool SummaryWanted() const;
  void TellSummary(const std::string& line);
  void DeliverNotes();
  void AnswerByes();
  void ShowLife();
  int NextTimeout(int wanted) const;
  void Note(const std::string& text);
  // The same, about one of many files: only the first few of a kind are told one by one. kind goes
  // on from "5 further files".
  void NoteOfFile(const std::string& kind, const std::string& text);
  // How many those were of which the user was not told.
  void NoteFurtherFiles();
  void Log(const std::string& text);

  ServerOptions options_;
  std::shared_ptr<Store> store_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Beacon> beacon_;
  std::unique_ptr<Salvage> salvage_;  // while it is at work
  std::unique_ptr<PersistPool> pool_;
  std::unique_ptr<Evictor> evictor_;  // once memory was short
  Fd epoll_;
  Fd inotify_;
  Fd persisted_event_;
  Fd log_;
  int signals_ = -1;
  uint64_t next_id_ = 1;
  std::map<uint64_t, Connection> connections_;
  std::map<uint32_t, Fd> pidfds_;       // slot -> pidfd of its process
  std::map<int, FileRecord*> closing_;  // inotify watch -> file whose last writer has yet to close
  std::set<FileRecord*> queued_;        // handed to the pool
  std::set<FileRecord*> again_;         // to be looked at once the pool is done with them
  // Hard links that the last pass has met: a name, and the one that the file is written back by.
  std::vector<std::pair<std::string, std::string>> further_names_;
  int closing_retry_ms_ = 0;  // when to ask again for the writers of closing_; 0: no need
  int64_t swept_ = 0;
  int64_t shown_life_ = 0;
  uint64_t rules_seen_ = 0;  // the version that the records have been given
  int64_t beat_ = 0;
  std::vector<std::string> notes_;  // for the user, not yet delivered
  std::set<std::string> told_;      // all there were
  int64_t idle_since_ = 0;
  bool adopted_ = false;  // the store of a server that was killed
  bool stop_requested_ = false;
  bool last_pass_ = false;  // the final writing back is under way
  bool ended_ = false;
  uint64_t written_files_ = 0;
  uint64_t room_seen_ = 0;          // the last request for room that has been passed on
  std::set<std::string> troubles_;  // told already
  Leftovers leftovers_;
  std::map<std::string, uint64_t> notes_of_kind_;
};

}  // namespace capio

#endif  // CAPIO_SERVER_SERVER_H_
