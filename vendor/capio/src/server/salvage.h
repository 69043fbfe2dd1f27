// What an earlier run left: whether a store without a server is still this run's, and rescuing
// what nobody has of a store that is not.
#ifndef CAPIO_SERVER_SALVAGE_H_
#define CAPIO_SERVER_SALVAGE_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "store/store.h"

namespace capio {

// How long a server waits for steps still to come: CAPIO_LINGER, else a minute.
int64_t LingerNs();

// A store whose server has died belongs to the run that is starting if a client of it lives, or if
// both have the same run id. If one of them has none, it does for as long as its server would have
// waited for the next step. It never does on another CAPIO_DIR, under another CAPIO-CL file or
// after the machine was started anew.
bool SameRun(Store* store, const SegmentSpec& ours);

// Why a file is not to be dropped with its store.
struct Claims {
  bool permanent = false;
  std::string unread_by;  // a declared consumer that has not been there
};
Claims ClaimsOn(Store* store, const FileRecord* record, const Rule& rule);

// Where incomplete and left-over files of a workflow are kept, below CAPIO_DIR.
std::string SalvageDirectory(const std::string& workflow);

// Copies permanent and unread files of stores that were set aside to CAPIO_DIR/.capio/salvage, then
// removes the stores, on a thread of its own. What could not be copied stays for the next server.
class Salvage {
 public:
  // done_event: an eventfd that is written when all is done.
  Salvage(std::vector<std::shared_ptr<Store>> stores, int done_event);
  ~Salvage();  // waits for the end
  Salvage(const Salvage&) = delete;
  Salvage& operator=(const Salvage&) = delete;

  [[nodiscard]] bool over() const { return over_.load(std::memory_order_acquire); }
  // For the user; once over.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Tally {
    std::vector<std::string> kept;
    std::vector<std::string> failed;
  };
  void Work();
  void Rescue(Store* store);
  void RescueBelow(Store* store, Layer layer, const std::string& directory, Tally* tally);
  void RescueFile(Store* store, Layer layer, const std::string& path, const struct stat& st,
                  Tally* tally);

  std::vector<std::shared_ptr<Store>> stores_;
  int done_event_;
  std::vector<std::string> notes_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

}  // namespace capio

#endif  // CAPIO_SERVER_SALVAGE_H_
