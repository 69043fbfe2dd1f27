// How a client that writes waits for room in memory, and what it is told when none can come.
#include <string.h>

#include <algorithm>

#include "client/deadlock.h"
#include "client/session.h"
#include "client/wait_report.h"
#include "store/waits.h"

namespace capio {
namespace {

// How long those who write nothing are trusted to let go of files, or to end.
constexpr int64_t kPatienceNs = 60'000'000'000;

}  // namespace

uint64_t Session::AskForRoom(uint64_t bytes) {
  Header& header = store_->segment->header();
  uint64_t wanted = header.room_wanted.load();
  while (wanted < bytes && !header.room_wanted.compare_exchange_weak(wanted, bytes)) {
  }
  uint64_t request = header.room_asked.fetch_add(1) + 1;
  Send({MessageType::kRoom, slot_, epoch_, bytes, ""});
  return request;
}

Session::Others Session::WhoMayMakeRoom(const std::string& relative) {
  const Header& header = store_->segment->header();
  uint32_t used = header.slots_used.load(std::memory_order_acquire);
  const uint64_t me = header.clients[slot_].process.load();
  Others others;
  for (uint32_t slot = 1; slot < used; ++slot) {
    const Client& client = header.clients[slot];
    if (client.state.load(std::memory_order_acquire) != kSlotAttached) continue;
    bool here = client.process.load() == me;
    if (!here && !store_->locks->Held(slot)) continue;
    uint32_t app = client.app.load();
    if (!here && std::find(others.apps.begin(), others.apps.end(), app) == others.apps.end()) {
      others.apps.push_back(app);
    }
    bool* writes = here ? &others.here : &others.writing;
    store_->records->ForEachCellOf(&client, [&](const Cell* cell) {
      uint64_t word = cell->word.load(std::memory_order_acquire);
      if (*writes || OpensOf(word) <= ClosesOf(word)) return;
      *writes = store_->records->NameOf(store_->records->At(cell->record)) != relative;
    });
  }
  if (others.here) {
    // It may be this thread's own, or one that waits, too.
    Activity shown(this, kWaitingRoom, relative);
    CountBusyThreads(store_.get(), slot_);
    others.here = header.clients[slot_].busy.load() > 0;
  }
  return others;
}

Status Session::NoRoom(const std::string& relative, Layer layer) {
  EndWait();
  std::string path = dir_ + "/" + relative;
  if (layer != Layer::kTree) {
    return Status::Error(ENOSPC, "the file system of CAPIO_DIR has no room left for " + path +
                                     ", which is kept on disk");
  }
  Room room = room_->Look();
  std::string what = "raise CAPIO_MEMORY_LIMIT";
  if (room.bound == RoomBound::kCgroup) {
    what = "raise the limit of the job, set CAPIO_STORE to a directory on a disk";
  } else if (room.bound != RoomBound::kSetting) {
    what = "set CAPIO_STORE to a directory on a larger file system";
  }
  int error = store_->segment->header().evict_error.load();
  return Status::Error(
      ENOSPC,
      "the store " + store_->path + " has no room left for " + path + " (" + room.Describe() + ")" +
          (error == 0
               ? ""
               : std::string(", and files cannot be moved to CAPIO_DIR: ") + strerror(error)) +
          "; " + what + ", or declare large files with storage fs");
}

Status Session::WaitForRoom(const std::string& relative, uint64_t bytes) {
  Header& header = store_->segment->header();
  uint64_t asked = 0;
  uint32_t news_seen = 0;
  bool timed_out = false;
  Others others;
  for (;;) {
    uint32_t prepared = PrepareWait(&header.room_word);
    Room room = room_->Look(timed_out);
    if (room.spare >= bytes) {
      EndWait();
      return Status::Ok();
    }
    uint32_t news = header.room_news.load();
    bool answered = asked != 0 && header.room_done.load(std::memory_order_acquire) >= asked;
    bool futile = answered && news == news_seen &&
                  header.room_futile.load(std::memory_order_acquire) >= asked;
    // Not for every file that is moved.
    if (asked == 0 || futile || timed_out) others = WhoMayMakeRoom(relative);
    if (futile && !others.writing) {
      // Who only reads may still let go of a file, or end; and so may a thread that does something
      // else. Not for ever.
      bool nobody = others.apps.empty() && !others.here;
      if (nobody || WaitedFor(relative) >= kPatienceNs) {
        if (room_->Look(true).spare < bytes) return NoRoom(relative);
        continue;
      }
    }
    // No server, and none can be started: it has been said why.
    if (!answered && WaitedFor(relative) >= kPatienceNs && !store_->Served()) {
      return NoRoom(relative);
    }
    if (asked == 0 || news != news_seen || (answered && !futile) || timed_out) {
      news_seen = news;
      asked = AskForRoom(std::max(room.wanted, bytes));
      // Its answer may have come before we sleep.
      prepared = PrepareWait(&header.room_word);
      if (header.room_done.load(std::memory_order_acquire) >= asked) continue;
    }
    Status slept =
        Sleep(&header.room_word, prepared,
              {.activity = kWaitingRoom, .name = relative, .apps = others.apps}, &timed_out);
    // Nobody who waits for this wait will make room.
    if (slept.code() == EDEADLK && futile) return NoRoom(relative);
    if (slept.code() != EDEADLK) CAPIO_RETURN_IF_ERROR(slept);
  }
}

}  // namespace capio
