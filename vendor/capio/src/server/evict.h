// Making room in memory: files that nobody writes are moved from the memory tree to the fs tree, or
// taken from it if CAPIO_DIR has them already.
//
// Who reads a file does not notice. An open descriptor keeps the old inode, which is whole and does
// not change any more; the name leads to the new one; the record goes by both. A lease on the old
// inode holds writers back for as long as the copy is made, and a file that may still be appended
// to (closed, not committed) is moved only if nobody has it open at all.
#ifndef CAPIO_SERVER_EVICT_H_
#define CAPIO_SERVER_EVICT_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "store/store.h"

namespace capio {

class Evictor {
 public:
  struct Report {
    uint64_t files = 0;
    uint64_t bytes = 0;
    std::string trouble;  // "" or what went wrong, for the user
  };

  // done_event: an eventfd that is written after every round.
  Evictor(Store* store, int done_event);
  ~Evictor();  // gives up what it is about
  Evictor(const Evictor&) = delete;
  Evictor& operator=(const Evictor&) = delete;

  // Frees what the header says is wanted, on a thread of its own. Says there when it is done.
  void Ask();
  // What has been done since the last report.
  Report TakeReport();

 private:
  // How much is lost by moving a file.
  enum class Harm { kWrittenBack, kReadByAll, kComplete, kClosed };
  struct Candidate {
    FileRecord* record;
    std::string name;
    uint64_t bytes;
    Harm harm;
  };

  void Work();
  void Round();
  std::vector<Candidate> Candidates();
  // in_use: whether one that is open for reading may be moved. Returns the bytes that are free now.
  uint64_t Move(const Candidate& candidate, bool in_use);
  Status MoveToDisk(const Candidate& candidate, int source, bool final, class Lease* lease);
  bool TakeAway(const Candidate& candidate, int source);
  [[nodiscard]] bool StillNamed(const Candidate& candidate, int source) const;

  Store* store_;
  int done_event_;
  bool can_move_;
  std::atomic<bool> stop_{false};
  uint64_t small_bytes_ = 0;  // moved, but perhaps still in the page cache
  int error_ = 0;             // of this round
  std::mutex mutex_;
  std::condition_variable more_;
  bool asked_ = false;
  Report report_;
  std::thread thread_;
};

}  // namespace capio

#endif  // CAPIO_SERVER_EVICT_H_
