// M1, slot locks: a process is alive exactly as long as it holds the POSIX lock on byte [slot] of
// the store's `locks` file. Byte 0 is the server's.
#ifndef CAPIO_STORE_LOCKS_H_
#define CAPIO_STORE_LOCKS_H_

#include <sys/types.h>

#include <array>
#include <atomic>

#include "os/os.h"
#include "os/status.h"
#include "store/layout.h"

namespace capio {

// One per process and store: closing any other descriptor of the file would drop the process's
// locks.
class SlotLocks {
 public:
  explicit SlotLocks(Fd fd);
  ~SlotLocks();
  SlotLocks(const SlotLocks&) = delete;
  SlotLocks& operator=(const SlotLocks&) = delete;

  // Takes a slot for this process. False if another process, or another session of this one, has
  // it.
  bool Take(uint32_t slot);
  void Drop(uint32_t slot);
  // Takes every client slot at once: succeeds only if no other process is alive.
  bool TakeAll();
  void DropAll();
  // Alive in any process, this one included. *pid, if given: the holder as seen here, 0 if not
  // visible.
  bool Held(uint32_t slot, pid_t* pid = nullptr) const;
  // By this process, perhaps before exec(2). Only then may it be taken over.
  bool Inherited(uint32_t slot) const { return os().HoldsLock(fd_.get(), slot, 1) == 1; }
  // Whether the slots stay held, by whatever program this process becomes by exec(2).
  Status SurviveExec(bool on) {
    int error = os().SetCloseOnExec(fd_.get(), !on);
    return error < 0 ? Status::Error(-error) : Status::Ok();
  }
  bool HeldHere(uint32_t slot) const { return here_[slot].load(std::memory_order_acquire); }

  int fd() const { return fd_.get(); }

 private:
  // After fork, in the child: the parent's locks are not ours.
  void ForgetAll();
  static void AfterFork();
  static const bool fork_hook_;

  Fd fd_;
  // The kernel shows a process's own locks as free to itself.
  std::array<std::atomic<bool>, kMaxClients> here_ = {};
};

}  // namespace capio

#endif  // CAPIO_STORE_LOCKS_H_
