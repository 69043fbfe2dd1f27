#include "client/directory.h"

#include <string.h>

#include "capio/capio.h"
#include "client/file.h"
#include "store/waits.h"

namespace capio {
namespace {

// A declared directory is final when everybody who is declared to fill it has ended
// (on_termination, which is what a directory without a clause gets, too). Until then a consumer's
// listing under `update` waits.
Status AwaitFilled(Session* session, const std::string& relative) {
  Store& store = session->store();
  for (;;) {
    WaitWord* word = store.records->PathWord(relative);
    uint32_t prepared = PrepareWait(word);
    // Looked up every time: a rule may come while we wait.
    auto rule = session->RuleOf(relative);
    bool filling = false;
    for (uint32_t app : rule->producers) {
      int32_t pid = 0;
      switch (store.judge->StandingOf(app, &pid)) {
        case Standing::kFailed:
          return Status::Error(EOWNERDEAD, "app '" + store.AppName(app) + "' (pid " +
                                               std::to_string(pid) +
                                               ") failed before the directory was complete");
        case Standing::kEnded:
          break;
        default:
          filling = true;
      }
    }
    if (!filling) return Status::Ok();
    if (rule->streaming.n_files > 0) {
      auto entries = store.layers->List(relative);
      if (entries.ok() && entries->size() >= rule->streaming.n_files) return Status::Ok();
    }
    CAPIO_RETURN_IF_ERROR(session->SleepForPath(relative, *rule, prepared));
  }
}

}  // namespace

Result<std::unique_ptr<Directory>> Directory::Open(const std::shared_ptr<Session>& session,
                                                   const std::string& relative) {
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  auto rule = session->RuleOf(relative);
  if (rule->excluded) return Status::Error(CAPIO_UNMANAGED);
  struct stat st = {};
  auto layer = AwaitExistence(session.get(), relative, true, &st);
  if (!layer.ok()) return layer.status();
  if (!S_ISDIR(st.st_mode)) return Status::Error(ENOTDIR);
  if (rule->declared() && !session->DeclaredProducer(*rule)) {
    CAPIO_RETURN_IF_ERROR(AwaitFilled(session.get(), relative));
  }
  auto entries = session->store().layers->List(relative);
  if (!entries.ok()) return entries.status();
  return std::unique_ptr<Directory>(new Directory(entries.take()));
}

Result<size_t> Directory::Read(void* buf, size_t cap) {
  size_t used = 0;
  for (; next_ < entries_.size(); ++next_) {
    const DirEntry& entry = entries_[next_];
    size_t size = (sizeof(capio_dirent) + entry.name.size() + 1 + 7) / 8 * 8;
    if (used + size > cap) {
      if (used == 0) return Status::Error(ERANGE);
      break;
    }
    capio_dirent head = {};
    head.ino = entry.ino;
    head.reclen = static_cast<uint16_t>(size);
    head.namelen = static_cast<uint16_t>(entry.name.size());
    head.type = entry.type;
    head.layer = static_cast<uint8_t>(entry.layer);
    char* to = static_cast<char*>(buf) + used;
    memset(to, 0, size);
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, entry.name.data(), entry.name.size());
    used += size;
  }
  return used;
}

}  // namespace capio
