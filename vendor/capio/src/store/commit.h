// M4: whether a file is committed is a pure function of its cells, the slot locks, its rule and
// what the kernel says of its writers; the answer is sealed by one CAS. Anybody may evaluate it,
// and whoever comes first wins.
#ifndef CAPIO_STORE_COMMIT_H_
#define CAPIO_STORE_COMMIT_H_

#include <functional>
#include <string>

#include "store/layers.h"
#include "store/locks.h"
#include "store/probe.h"
#include "store/records.h"

namespace capio {

// How a client stands, from its slot lock and what it announced.
// kSettled: the slot has been freed since; the cell's outcome says how its client ended.
enum class Fate { kAlive, kClean, kBad, kDied, kSettled };

// How an app stands as a whole.
// kIncomplete: nobody of it is alive, but not all of its processes have come.
enum class Standing { kNotStarted, kRunning, kIncomplete, kEnded, kFailed };

class Judge {
 public:
  // layers: to probe files by name.
  Judge(Segment* segment, Records* records, SlotLocks* locks, const Layers* layers)
      : segment_(segment), records_(records), locks_(locks), layers_(layers) {}

  Fate FateOf(uint32_t slot, uint32_t epoch) const;
  // Some client has had the file open for writing. A cell alone says nothing: its client may have
  // died before it counted itself.
  bool Owned(const FileRecord* record) const;
  // Somebody of the app is alive.
  bool Running(uint32_t app) const;
  // Processes of it are still to come.
  bool Awaited(uint32_t app) const;
  // A dead, not yet settled root client of the app that ended badly; 0 if none.
  uint32_t BadEnd(uint32_t app) const;

  // Evaluates and seals. Returns the file's status after that: kGrowing, kClosing (only the
  // kernel's writers are in the way), kCommitted or kFailed. read_only: a descriptor for the probe,
  // or -1 to open the file by name. *sealed tells whether this call changed the state to a final
  // one.
  FileState Evaluate(FileRecord* record, int read_only, bool* sealed);
  // Seals a failure, waking who waits. False if the file was final already.
  bool Fail(FileRecord* record, FailureKind kind, uint32_t app, int32_t pid);

  Standing StandingOf(uint32_t app, int32_t* failed_pid) const;

  // An active intent to create a file of this name. *dead: its client is no more.
  bool BeingCreated(std::string_view name, bool* dead, uint32_t* slot) const;
  // A live client is changing what this name stands for, or renaming or removing a directory.
  bool BeingNamed(std::string_view name) const;

 private:
  enum class Verdict { kNo, kProbe, kCommit, kFail };
  struct Opinion {
    Verdict verdict = Verdict::kNo;
    FailureKind kind = kFailureNone;
    uint32_t app = kNoApp;
    int32_t pid = 0;
  };
  Opinion Weigh(const FileRecord* record) const;
  Opinion WeighOwnerless(const FileRecord* record) const;
  Writers ProbeByName(const FileRecord* record) const;
  Opinion FailureBy(uint32_t slot, Fate fate) const;

  Segment* segment_;
  Records* records_;
  SlotLocks* locks_;
  const Layers* layers_;
};

}  // namespace capio

#endif  // CAPIO_STORE_COMMIT_H_
