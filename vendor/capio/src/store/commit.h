// M4: whether a file is committed is a pure function of its cells, the slot locks, its rule and
// what the kernel says of its writers; the answer is sealed by one CAS. Anybody may evaluate it,
// and whoever comes first wins.
#ifndef CAPIO_STORE_COMMIT_H_
#define CAPIO_STORE_COMMIT_H_

#include <functional>
#include <string>
#include <vector>

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

// Whether something will be complete. kNever: nobody is left who could make it so, and nobody
// failed.
enum class Outlook { kPending, kMet, kNever, kFailed };
struct Prospect {
  Outlook outlook = Outlook::kPending;
  uint32_t app = kNoApp;  // who failed
  int32_t pid = 0;
};

// What the cells of a file say of its commit.
struct Progress {
  uint64_t closes = 0;            // that count
  bool open = false;              // a live client has it open for writing
  std::vector<uint32_t> writers;  // apps that have had it open for writing
};

struct DependencyCount {
  size_t met = 0;
  std::string unmet;  // the first one that is not; "" if all are
};

// Records that an evaluation has made final.
using Sealed = std::vector<FileRecord*>;

class Judge {
 public:
  using RuleOf = std::function<Rule(std::string_view relative)>;

  // layers: to probe files by name, and to look at what others depend on.
  Judge(Segment* segment, Records* records, SlotLocks* locks, const Layers* layers, RuleOf rule_of)
      : segment_(segment),
        records_(records),
        locks_(locks),
        layers_(layers),
        rule_of_(std::move(rule_of)) {}

  Fate FateOf(uint32_t slot, uint32_t epoch) const;
  // Some client has had the file open for writing. A cell alone says nothing: its client may have
  // died before it counted itself.
  bool Owned(const FileRecord* record) const;
  // Somebody of the app is alive.
  bool Running(uint32_t app) const;
  // Processes of it are still to come.
  bool Awaited(uint32_t app) const;
  // A dead, not yet settled root client of the app that ended badly; 0 if none. anew: as those see
  // it who came after such an end, which is none of theirs.
  uint32_t BadEnd(uint32_t app, bool anew = false) const;
  // The step has begun again before such an end was settled: somebody came afterwards who is not
  // settled either, other than the client in this slot.
  bool Restarted(uint32_t app, uint32_t slot = 0) const;
  // Whether this client is one of those.
  bool IsRestart(uint32_t slot, uint32_t epoch) const;
  // Whether, of the app, only those have written the file.
  bool BegunAnew(const FileRecord* record, uint32_t app) const;

  // Evaluates and seals. Returns the file's status after that: kGrowing, kClosing (only the
  // kernel's writers are in the way), kCommitted or kFailed. read_only: a descriptor for the probe,
  // or -1 to open the file by name. What this call made final is added to *sealed: the record
  // itself, files it depends on and files that depend on it.
  FileState Evaluate(FileRecord* record, int read_only, Sealed* sealed);
  // It has been written, and no client has it open for writing.
  bool Closed(const FileRecord* record) const;
  // Evaluates every file whose commit depends on others.
  void EvaluateDependents(Sealed* sealed);
  // How far a file is on the way to its commit.
  Progress ProgressOf(const FileRecord* record);
  // How many of these dependencies are complete, and which one is not.
  DependencyCount CountDependencies(const std::vector<std::string>& dependencies, Sealed* sealed);
  // The entries of a directory that count for n_files; 0 if all in all there are fewer than
  // `least`, which is cheaper to see.
  size_t CountEntries(const std::string& relative, size_t least = 0);
  // Seals a failure, waking who waits. False if the file was final already.
  bool Fail(FileRecord* record, FailureKind kind, uint32_t app, int32_t pid);

  // anew: where the step has begun again, as its last attempt stands.
  Standing StandingOf(uint32_t app, int32_t* failed_pid, bool anew = true) const;

  // A declared directory's commit: n_files entries, its dependencies, or the end of its producers.
  // count: whether to count entries, which takes time in proportion to their number.
  Prospect DirectoryProspect(const std::string& relative, const Rule& rule, bool count,
                             Sealed* sealed);
  // A real file that may stand for a declared output (S3): made in this run, or resumed.
  bool RealCounts(const struct stat& st, const std::string& relative) const;

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
  struct Tally : Progress {
    bool owned = false;  // some client has had it open for writing
    bool probe = false;  // the kernel must be asked for writers
    Opinion failure;
  };
  // The live client has become, or is about to become, a program that is none.
  [[nodiscard]] bool Replaced(uint32_t slot) const;
  Tally Count(const FileRecord* record) const;
  Opinion Weigh(const FileRecord* record, int depth, Sealed* sealed);
  Opinion WeighOwnerless(const FileRecord* record, int depth, Sealed* sealed);
  Writers ProbeByName(const FileRecord* record) const;
  Opinion FailureBy(uint32_t slot, Fate fate) const;
  void NoteSeal(FileRecord* record);
  FileState EvaluateAt(FileRecord* record, int read_only, int depth, Sealed* sealed);
  void EvaluateDependentsOf(const FileRecord* record, int depth, Sealed* sealed);
  Prospect ProspectOf(const std::vector<std::string>& dependencies, int depth, Sealed* sealed);
  Prospect ProspectOfOne(const std::string& dependency, int depth, Sealed* sealed);
  Prospect ProspectOfPattern(const std::string& pattern, int depth, Sealed* sealed);
  Prospect ProspectOfFile(FileRecord* record, int depth, Sealed* sealed);
  Prospect ProspectOfDirectory(const std::string& relative, const Rule& rule, bool count, int depth,
                               Sealed* sealed);
  // kPending while one of them may still work; else kNever, or kFailed.
  Prospect ProspectOfApps(const std::vector<uint16_t>& apps) const;
  FileRecord* RecordAt(Layer layer, const std::string& relative, const struct stat& st);

  Segment* segment_;
  Records* records_;
  SlotLocks* locks_;
  const Layers* layers_;
  RuleOf rule_of_;
};

}  // namespace capio

#endif  // CAPIO_STORE_COMMIT_H_
