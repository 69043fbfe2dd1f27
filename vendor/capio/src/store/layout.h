// The control segment: what every process of a workflow shares, as it lies in the file
// STORE/control.
//
// Only fixed-width atomics and offsets from the segment's start; offset 0 is "none". No word is
// ever in a state that a process killed at any instruction leaves wrong: a structure is filled
// first and linked by one store or CAS, and every counter has a single writer (the process that
// owns it).
#ifndef CAPIO_STORE_LAYOUT_H_
#define CAPIO_STORE_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace capio {

constexpr uint64_t kSegmentMagic = 0x31474553'4f495041;  // "APIOSEG1"
constexpr uint32_t kLayoutVersion = 9;
constexpr uint32_t kMaxClients = 1024;  // slot 0 is the server's
constexpr uint32_t kMaxApps = 256;
// With 100,000 files a look-up meets a record and no other, mostly.
constexpr uint32_t kFileBuckets = 1u << 17;
constexpr uint32_t kPathWords = 1u << 12;
constexpr uint32_t kMovers = 4;
constexpr uint32_t kDirectoryBuckets = 1u << 10;
constexpr uint32_t kAppNameMax = 128;
constexpr uint16_t kNoApp = 0xffff;

// A word to wait on. Bit 0: somebody waits. The rest counts wake-ups, so that a waiter's expected
// value goes stale.
using WaitWord = std::atomic<uint32_t>;

// kPhaseStarting: what an earlier run left in the fs tree is still to be set aside.
enum Phase : uint32_t { kPhaseRunning = 1, kPhaseClosing = 2, kPhaseDone = 3, kPhaseStarting = 4 };

// ---- clients ----
enum ClientState : uint32_t { kSlotFree = 0, kSlotAttached = 1 };
enum ClientFlags : uint32_t {
  kClientRoot = 1,   // no live ancestor process of the same app
  kClientClean = 2,  // announced: its end is a good one
  kClientBad = 4,  // announced: it ended by an exception or a non-zero exit; wins over kClientClean
  kClientFinished = 8,  // every thread of it is past its last file operation
  // Becomes, or has become, another program by exec(2), which knows nothing of this unless it takes
  // the slot over. What its threads show as being about may be no more.
  kClientExec = 16,
  // With kClientExec: that will take the slot over. Without it there is nobody to say how the
  // program ends, which then is a good end; and what its cells show as open may be closed: whether
  // a file is still written, the kernel tells.
  kClientAwaited = 32,
  // A root that came when one of its app had ended badly and was not settled yet: the step begins
  // again with it, so that end is none of its.
  kClientRestart = 64,
};
constexpr bool IsReplaced(uint32_t flags) {
  return (flags & (kClientExec | kClientAwaited)) == kClientExec;
}
constexpr bool EndsWell(uint32_t flags) {
  return (flags & kClientBad) == 0 && ((flags & kClientClean) != 0 || IsReplaced(flags));
}
struct Client {
  std::atomic<uint32_t> state;
  std::atomic<uint32_t> epoch;  // incarnation of the slot; raised when it is freed
  std::atomic<uint32_t> flags;
  std::atomic<uint32_t> app;
  std::atomic<int32_t> pid;  // for messages only
  // Threads that neither wait in CAPIO nor for each other, as a waiting thread has last counted
  // them, and when.
  std::atomic<uint32_t> busy;
  std::atomic<int64_t> counted_ns;
  std::atomic<uint64_t> process;  // random number of the process: tells two sessions of one process
  std::atomic<uint64_t> cells;    // chain of Cell by next_of_client
  std::atomic<uint64_t> threads;  // chain of ThreadSlot
  std::atomic<uint64_t> member;   // AppMember; 0: not counted
};

// What one thread of a client is about; single writer, reused by other threads of the same client.
enum ThreadActivity : uint32_t {
  kIdle = 0,
  kOpening = 1,
  kWaitingPath = 2,
  kWaitingCommit = 3,
  kWaitingBytes = 4,
  kWaitingRoom = 5,
  kNaming = 6,      // changes what this name stands for: nobody else moves the file meanwhile
  kNamingTree = 7,  // the same for a directory: nobody moves any file
  kWaitingEntries = 8
};
constexpr size_t kThreadActivities = kWaitingEntries + 1;
constexpr bool IsWait(uint32_t activity) {
  return (activity >= kWaitingPath && activity <= kWaitingRoom) || activity == kWaitingEntries;
}
constexpr uint32_t kThreadNameMax = 4096;
constexpr uint32_t kNeededMax = 14;
struct ThreadSlot {
  std::atomic<uint64_t> next;
  std::atomic<uint32_t> activity;
  std::atomic<uint32_t> name_size;  // full length; name holds at most kThreadNameMax bytes of it
  std::atomic<uint64_t> name_hash;  // of the relative path
  std::atomic<int64_t> since_ns;    // monotonic; when the wait began
  // How often the wait has looked in vain since it began: a rising number says that the thread
  // runs, and that what it waits for has not come.
  std::atomic<uint32_t> rounds;
  std::atomic<int32_t> thread;        // its kernel id
  std::atomic<uint32_t> needed_size;  // apps that could end the wait; 0: not known
  std::atomic<uint16_t> needed[kNeededMax];
  char name[kThreadNameMax];
};

// ---- apps ----
enum AppState : uint32_t { kAppFree = 0, kAppClaimed = 1, kAppNamed = 2 };
enum AppOutcome : uint32_t {
  kAppNotStarted = 0,
  kAppStarted = 1,  // a client has attached since the last outcome
  kAppEnded = 2,
  kAppFailed = 3,
};
struct App {
  std::atomic<uint32_t> state;
  std::atomic<uint32_t> outcome;
  std::atomic<int32_t> failed_pid;
  std::atomic<uint32_t> declared;  // named in the CAPIO-CL file, or by a rule added since
  std::atomic<uint64_t>
      key;  // hash of the name, never 0: claims the entry; the name itself is for people
  char name[kAppNameMax];
  std::atomic<uint32_t> expected;  // processes; 0 and 1: not counted
  std::atomic<uint32_t> round;     // raised when the app starts anew after all had come and ended
  std::atomic<uint64_t> members;   // chain of AppMember, newest first
};

// One process that has come to an app whose processes are counted. Filled, then linked; outcome
// (CellOutcome) has one writer, the server.
struct AppMember {
  std::atomic<uint64_t> next;
  uint64_t key;     // of the process, or of its rank, which may come again
  uint64_t source;  // NameBlock: the variable that says how many there are
  uint32_t round;
  int32_t pid;
  std::atomic<uint32_t> outcome;
  uint32_t reserved;
};

// ---- files ----
enum FileState : uint32_t { kGrowing = 0, kClosing = 1, kCommitted = 2, kFailed = 3 };
constexpr uint64_t MakeStatus(uint64_t generation, FileState state) {
  return generation << 8 | state;
}
constexpr FileState StateOf(uint64_t status) { return static_cast<FileState>(status & 0xff); }
constexpr uint64_t GenerationOf(uint64_t status) { return status >> 8; }

enum FileFlags : uint32_t {
  kFileNeedsProbe =
      1,  // a writing descriptor was exposed or inherited: ask the kernel before committing
  kFilePermanent = 2,  // to be written back to CAPIO_DIR
  kFileManyHoles = 4,  // more than one gap: only the first is known exactly
  kFileDirty = 8,      // changed since it was last written back
  kFileOnDisk = 16,    // storage: fs
  kFileMoved = 32,     // once moved to another layer, which made it another inode
};
enum FailureKind : uint32_t {
  kFailureNone = 0,
  kFailureDied = 1,
  kFailureBadEnd = 2,
  kFailureIo = 3
};
constexpr uint64_t kNoHole = ~uint64_t{0};
constexpr uint64_t kNobodyWants = ~uint64_t{0};
constexpr uint64_t kAnyBytes = 0;

struct FileRecord {
  std::atomic<uint64_t> next;  // in its bucket; written before the record is linked
  uint64_t dev, ino, incarnation;
  uint64_t first_name;              // NameBlock: relative path when the record was made
  std::atomic<uint64_t> status;     // generation and FileState
  std::atomic<uint64_t> persisted;  // generation + 1 last written back to CAPIO_DIR; 0: none
  std::atomic<uint64_t> hole;       // first byte below the size that nobody has written yet
  std::atomic<uint64_t> hole_end;
  std::atomic<uint64_t> want;     // lowest size that some reader waits for, or kAnyBytes
  std::atomic<uint64_t> cells;    // chain of Cell by next_in_file
  std::atomic<uint64_t> name;     // NameBlock: relative path when last created or renamed
  std::atomic<uint64_t> failure;  // FailureKind << 48 | app << 32 | pid
  WaitWord word;
  std::atomic<uint32_t> flags;
  std::atomic<uint32_t> rule;  // CommitRule | FireRule << 8 | declared << 16
  std::atomic<uint32_t> close_count;
  std::atomic<uint32_t> gaps;  // raised with every new hole
  // Raised after whatever may be news to readers, and before it is looked whether some wait. It
  // says that another look is worth it; the size says what is there.
  std::atomic<uint32_t> progress;
  std::atomic<uint64_t> age;  // grows from file to file as they are made
  // Header::seals when it was last found complete, just before its status said so. Who has looked
  // at the file after reading a seals that is no smaller saw its final size.
  std::atomic<uint64_t> sealed_at;
  // Of an inode that a file was moved to: the file's record, which goes by both identities; this
  // entry then holds nothing else. 0: it is the record.
  uint64_t stands_for;
};

// size bytes of text follow.
struct NameBlock {
  uint32_t size;
};

// A record whose commit depends on other files (on_file).
struct Dependent {
  std::atomic<uint64_t> next;
  uint64_t record;
};

// The names that have come to be in one declared directory, in that order. Appended to by one CAS,
// never taken from; a name may be there twice, or no longer exist.
struct DirectoryLog {
  std::atomic<uint64_t> next;   // in its bucket
  uint64_t name;                // NameBlock: relative path of the directory
  std::atomic<uint64_t> first;  // DirectoryLogEntry
  std::atomic<uint64_t> last;   // a hint: from there on the end is found
  std::atomic<uint64_t> count;  // a hint
  // A consumer has listed it, or begun to, under the rule that held then.
  std::atomic<uint32_t> listed;
  uint32_t reserved;
};
// size bytes of text follow.
struct DirectoryLogEntry {
  std::atomic<uint64_t> next;
  uint32_t size;
};

// M2: what one client did with one file. The words have one writer, the client; outcome has one
// writer, the server.
enum CellOutcome : uint32_t { kCellLive = 0, kCellClean = 1, kCellBad = 2, kCellDied = 3 };
struct Cell {
  std::atomic<uint64_t> next_in_file;
  std::atomic<uint64_t> next_of_client;
  uint64_t record;
  std::atomic<uint64_t> word;  // opens << 32 | closes, of writing handles
  std::atomic<uint32_t> abandoned;
  std::atomic<uint32_t> outcome;
  uint32_t slot;
  uint32_t epoch;
  uint32_t app;
  // Duplicates of its writing descriptors. Their closes are not counted, and may not be seen at
  // all: while a client lives the probe tells whether they are open.
  std::atomic<uint32_t> duplicates;
};
constexpr uint64_t kOneOpen = uint64_t{1} << 32;
constexpr uint32_t OpensOf(uint64_t word) { return static_cast<uint32_t>(word >> 32); }
constexpr uint32_t ClosesOf(uint64_t word) { return static_cast<uint32_t>(word); }

// ---- rules ----
// Rules added to a running workflow; a rule image (rules/rule_image.h) of `size` bytes follows.
// Filled first, then linked by one CAS of Header::added_rules, which thereby is the version of the
// rules, too. Never changed or removed.
struct AddedRules {
  uint64_t earlier;  // what was the newest before; 0: none
  uint64_t number;   // from 1
  uint64_t size;
};

// ---- the whole ----
enum HeaderFlags : uint32_t {
  kHasConfig = 1,
  kTeardown = 2,  // stop when the last client has gone
  kSilent = 4,
  kPersistAll = 8,  // some session keeps everything it writes
  kRescan = 16,     // a notice to the server was lost: look at every record
  kResume = 32,
  kNoneToCome = 64,   // the workflow is over: processes that have not come are not waited for
  kByBirth = 128,     // files beside the memory tree are told apart as Identities::ByBirth says
  kMemoryOnly = 256,  // no file goes to the fs tree (--mem-only)
};
struct Header {
  uint64_t magic;
  uint32_t layout;
  uint32_t header_size;
  uint64_t control_id;  // random: this store and no other
  int64_t stamp_ns;     // when the run began: real outputs older than this are an earlier run's
  std::atomic<uint32_t> phase;
  std::atomic<uint32_t> flags;
  std::atomic<int32_t> server_pid;
  std::atomic<uint32_t> slots_used;  // slots at and above this have never been taken
  std::atomic<uint64_t> allocated;   // end of what has been handed out
  std::atomic<uint64_t> grown;       // end of what is backed by memory
  uint64_t rules;                    // offset and size of the rule image; 0: none
  uint64_t rules_size;
  uint64_t config_hash;
  std::atomic<uint64_t> added_rules;   // newest AddedRules; 0: none
  std::atomic<uint32_t> fs_in_use;     // something is, or was, in the fs tree
  std::atomic<uint64_t> seals;         // raised when a file is found complete
  std::atomic<uint32_t> links;         // a symbolic link has been made, or seen, in CAPIO_DIR
  std::atomic<uint64_t> memory_limit;  // CAPIO_MEMORY_LIMIT in bytes; 0: none
  std::atomic<uint64_t> tree_bytes;    // what the memory tree takes, about: counted, then estimated
  std::atomic<int64_t> counted_ns;     // when it was counted last, and what that cost
  std::atomic<int64_t> counting_ns;
  std::atomic<uint32_t> room_epoch;   // raised when somebody finds less room than before
  std::atomic<int32_t> evict_error;   // errno of the last failure to make room; 0: none
  std::atomic<uint64_t> room_wanted;  // bytes that the server is asked to move; 0: none
  // Requests for room, counted; and up to which one the server has done what it could, or found
  // that it could not do enough.
  std::atomic<uint64_t> room_asked;
  std::atomic<uint64_t> room_done;
  std::atomic<uint64_t> room_futile;
  std::atomic<uint32_t> room_news;        // raised when a file was closed, completed or removed
  WaitWord room_word;                     // to wait on for room, and for the end of a move
  std::atomic<uint64_t> moving[kMovers];  // hashes of names that the server is moving to another
                                          // layer, never 0
  std::atomic<int64_t> alive_ns;          // realtime; last sign of life of a server or client
  std::atomic<uint64_t> dir_device;       // CAPIO_DIR as the server knows it: its name may lead to
  std::atomic<uint64_t> dir_inode;        // another directory since
  char boot_id[40];
  char run_id[128];
  char capio_dir[4096];
  char workflow[1024];
  App apps[kMaxApps];
  Client clients[kMaxClients];
  std::atomic<uint64_t> buckets[kFileBuckets];
  WaitWord path_words[kPathWords];
  std::atomic<uint64_t> dependents;  // chain of Dependent
  std::atomic<uint64_t> directory_logs[kDirectoryBuckets];
};

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(FileRecord) + sizeof(Cell) + 128 <= 512);

}  // namespace capio

#endif  // CAPIO_STORE_LAYOUT_H_
