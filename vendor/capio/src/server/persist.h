// Writing files of the store back to CAPIO_DIR, and a small pool of threads that does it.
#ifndef CAPIO_SERVER_PERSIST_H_
#define CAPIO_SERVER_PERSIST_H_

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "store/store.h"

namespace capio {

struct PersistTask {
  FileRecord* record = nullptr;
  std::string name;      // in the tree
  std::string to;        // below CAPIO_DIR
  bool salvage = false;  // written for the user's sake: the record is not final
};

struct PersistOutcome {
  PersistTask task;
  Status status;
  bool superseded = false;  // the file changed or moved meanwhile: look at its record again
};

// Copies one file of the memory tree to CAPIO_DIR: temporary name, fsync, rename; mode and times
// are kept. One of the fs tree is renamed there. The rename happens only if generation and state
// are still what they were.
PersistOutcome PersistFile(Store* store, PersistTask task);

// Where a copy that is to become `to` is written first, below CAPIO_DIR. The same whenever this
// file is written: who takes over from a killed server writes over its leftover.
std::string TemporaryOf(Store* store, const FileRecord* record, const std::string& to);

// Open for as long as a file's name is moved from one layer to another. Who changes names says so
// first and waits for windows to close; a window does not open on a name that is being changed.
class MoveWindow {
 public:
  MoveWindow(Store* store, const std::string& name);
  ~MoveWindow();
  MoveWindow(const MoveWindow&) = delete;
  MoveWindow& operator=(const MoveWindow&) = delete;
  [[nodiscard]] bool open() const { return open_; }
  // Waits for it to open, about a second at most.
  bool Await();

 private:
  void Try();
  void TakeBack();

  Store* store_;
  std::string name_;
  std::atomic<uint64_t>* entry_ = nullptr;
  bool open_ = false;
};

class PersistPool {
 public:
  // done_event: an eventfd that is written after every task.
  PersistPool(Store* store, int done_event, int threads);
  ~PersistPool();  // finishes what is queued
  PersistPool(const PersistPool&) = delete;
  PersistPool& operator=(const PersistPool&) = delete;

  void Submit(PersistTask task);
  std::vector<PersistOutcome> TakeOutcomes();
  [[nodiscard]] size_t pending();  // submitted, outcome not yet taken

 private:
  void Work();

  Store* store_;
  int done_event_;
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<PersistTask> queue_;
  std::vector<PersistOutcome> outcomes_;
  size_t pending_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace capio

#endif  // CAPIO_SERVER_PERSIST_H_
