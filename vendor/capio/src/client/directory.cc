#include "client/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include <algorithm>

#include "capio/capio.h"
#include "client/file.h"
#include "os/paths.h"
#include "store/waits.h"

namespace capio {
namespace {

// A listing costs time in proportion to the directory: it may take a twentieth of the time.
constexpr int64_t kScanShare = 20;
// Without need a growing directory is listed again no more often than this.
constexpr int64_t kIdleScanNs = 5'000'000'000;
constexpr size_t kTakenAtOnce = 512;

Status Failed(Session* session, const Prospect& prospect) {
  return Status::Error(EOWNERDEAD, "app '" + session->store().AppName(prospect.app) + "' (pid " +
                                       std::to_string(prospect.pid) +
                                       ") failed before the directory was complete");
}

// Waits until a declared directory is final (S5).
Status AwaitFilled(Session* session, const std::string& relative) {
  Store& store = session->store();
  int64_t scanned = 0;
  int64_t cost = 0;
  for (;;) {
    uint32_t prepared = PrepareWait(store.records->PathWord(relative));
    // Looked up every time: a rule may come while we wait.
    auto rule = session->RuleOf(relative);
    // The log says when counting may be worth its time.
    const DirectoryLog* log = store.directories->Find(relative);
    int64_t now = os().MonotonicNs();
    bool count = now - scanned >= cost * kScanShare &&
                 (log == nullptr || log->count.load() + 1 >= rule->streaming.n_files ||
                  now - scanned >= kIdleScanNs);
    Sealed sealed;
    Prospect prospect = store.judge->DirectoryProspect(relative, *rule, count, &sealed);
    session->NoticeSealed(sealed);
    if (count) {
      scanned = os().MonotonicNs();
      cost = scanned - now;
    }
    if (prospect.outlook == Outlook::kFailed) return Failed(session, prospect);
    if (prospect.outlook != Outlook::kPending) return Status::Ok();
    CAPIO_RETURN_IF_ERROR(session->SleepForEntries(relative, *rule, std::nullopt, prepared));
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
  std::unique_ptr<Directory> directory(new Directory(session, relative, rule));
  if (rule->declared() && !session->DeclaredProducer(*rule)) {
    // From here on other rules come too late. Who is refused none sees this one.
    (void)session->store().directories->MarkListed(relative);
    rule = session->RuleOf(relative);
    directory->rule_ = rule;
    directory->live_ = rule->is_directory && rule->streaming.fire == FireRule::kNoUpdate;
    if (!directory->live_) CAPIO_RETURN_IF_ERROR(AwaitFilled(session.get(), relative));
  }
  if (directory->live_) {
    // In the order in which they came; then what no log knows.
    while (directory->TakeLogged()) {
    }
  }
  CAPIO_RETURN_IF_ERROR(directory->Scan(!directory->live_));
  return directory;
}

Result<std::unique_ptr<Directory>> Directory::OpenElsewhere(const std::shared_ptr<Session>& session,
                                                            const std::string& path) {
  auto entries = ListDirectory(AT_FDCWD, path.c_str(), Layer::kReal);
  if (!entries.ok()) return entries.status();
  std::unique_ptr<Directory> directory(new Directory(session, "", std::make_shared<const Rule>()));
  for (DirEntry& entry : *entries) directory->entries_.push_back(std::move(entry));
  directory->done_ = true;
  return directory;
}

// What a consumer must not see of the real directory (S3): a declared output that an earlier run
// has left.
bool Directory::Hidden(const DirEntry& entry) const {
  if (entry.layer != Layer::kReal) return false;
  std::string path = Below(relative_, entry.name);
  auto rule = session_->RuleOf(path);
  if (rule->excluded || !rule->declared() || session_->DeclaredProducer(*rule)) return false;
  struct stat st = {};
  return session_->store().layers->InReal(path, &st) && !session_->RealCounts(st, path);
}

bool Directory::TakeLogged() {
  DirectoryLogs& logs = *session_->store().directories;
  const DirectoryLog* log = logs.Find(relative_);
  if (log == nullptr) return false;
  bool any = false;
  for (size_t n = 0; n < kTakenAtOnce; ++n) {
    const DirectoryLogEntry* next = logs.Next(log, last_);
    if (next == nullptr) break;
    last_ = next;
    any = true;
    DirEntry entry;
    entry.name = DirectoryLogs::NameOf(next);
    struct stat st = {};
    auto layer = session_->store().layers->Find(Below(relative_, entry.name), &st, false);
    // It has been renamed or removed since.
    if (!layer.ok() || !taken_.insert(entry.name).second) continue;
    entry.ino = st.st_ino;
    entry.type = IFTODT(st.st_mode);
    entry.layer = *layer;
    entries_.push_back(std::move(entry));
  }
  return any;
}

Status Directory::Scan(bool final) {
  int64_t start = os().MonotonicNs();
  auto listed = session_->store().layers->List(relative_);
  if (!listed.ok()) return listed.status();
  const bool rules = rule_->declared() || session_->store().rules->any();
  std::erase_if(*listed, [&](const DirEntry& entry) {
    if (rules && Hidden(entry)) return true;
    // What CAPIO leaves alone is shown when the listing is final: a temporary file is gone by then.
    if (!final && session_->RuleOf(Below(relative_, entry.name))->excluded) return true;
    return live_ && !taken_.insert(entry.name).second;
  });
  if (entries_.empty()) {
    entries_ = listed.take();
  } else {
    entries_.insert(entries_.end(), std::make_move_iterator(listed->begin()),
                    std::make_move_iterator(listed->end()));
  }
  done_ = final;
  scanned_ns_ = os().MonotonicNs();
  scan_cost_ns_ = scanned_ns_ - start;
  return Status::Ok();
}

// Nothing is left to deliver: waits for more, once, or finds that the directory is complete.
Status Directory::AwaitMore() {
  Store& store = session_->store();
  uint32_t prepared = PrepareWait(store.records->PathWord(relative_));
  if (TakeLogged()) return Status::Ok();
  rule_ = session_->RuleOf(relative_);
  int64_t since = os().MonotonicNs() - scanned_ns_;
  bool affordable = since >= scan_cost_ns_ * kScanShare;
  bool count = affordable && taken_.size() >= rule_->streaming.n_files;
  Sealed sealed;
  Prospect prospect = store.judge->DirectoryProspect(relative_, *rule_, count, &sealed);
  session_->NoticeSealed(sealed);
  if (prospect.outlook == Outlook::kFailed) return Failed(session_.get(), prospect);
  if (prospect.outlook != Outlook::kPending) {
    while (TakeLogged()) {
    }
    return Scan(true);
  }
  if (since >= std::max(kIdleScanNs, scan_cost_ns_ * kScanShare)) {
    CAPIO_RETURN_IF_ERROR(Scan(false));
    if (!drained()) return Status::Ok();
  }
  return session_->SleepForEntries(relative_, *rule_, taken_.size(), prepared);
}

Status Directory::AwaitAny() {
  while (drained() && !done_) {
    entries_.clear();
    delivered_ = 0;
    CAPIO_RETURN_IF_ERROR(AwaitMore());
  }
  return Status::Ok();
}

Result<size_t> Directory::Read(void* buf, size_t cap) {
  CAPIO_RETURN_IF_ERROR(AwaitAny());
  size_t used = 0;
  for (; !drained(); ++delivered_) {
    const DirEntry& entry = entries_[delivered_];
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

Result<size_t> Directory::ReadColumns(char* names, size_t cap, uint8_t* types, uint64_t* inos,
                                      size_t max) {
  CAPIO_RETURN_IF_ERROR(AwaitAny());
  size_t used = 0;
  for (size_t n = 0; !drained() && n < max; ++n, ++delivered_) {
    const DirEntry& entry = entries_[delivered_];
    size_t size = entry.name.size() + 1;
    if (used + size > cap) {
      if (used == 0) return Status::Error(ERANGE);
      break;
    }
    memcpy(names + used, entry.name.c_str(), size);
    if (types != nullptr) types[n] = entry.type;
    if (inos != nullptr) inos[n] = entry.ino;
    used += size;
  }
  return used;
}

}  // namespace capio
