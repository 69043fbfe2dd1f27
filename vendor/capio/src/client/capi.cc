// The C API: translates between capio.h and the classes of client/. No exception leaves it.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <memory>
#include <new>
#include <string>
#include <utility>

#include "capio/capio.h"
#include "client/directory.h"
#include "client/exec.h"
#include "client/file.h"
#include "client/handles.h"
#include "client/namespace.h"
#include "client/place.h"
#include "client/session.h"
#include "client/two_names.h"
#include "os/paths.h"
#include "rules/load.h"
#include "rules/report.h"
#include "store/waits.h"

struct capio_session {
  std::shared_ptr<capio::Session> impl;
  // Left open by exec, and not asked for yet.
  std::vector<std::unique_ptr<capio::File>> inherited;
};
struct capio_dir {
  std::unique_ptr<capio::Directory> impl;
};

namespace capio {
namespace {

thread_local std::string last_error;

int Report(const Status& status) {
  last_error = status.text();
  if (status.code() == kLinkAhead) return -ELOOP;
  // Library codes are negative already.
  return status.code() < 0 ? status.code() : -status.code();
}

// Runs body, which returns a Status or a Result of an integer; memory shortage becomes -ENOMEM.
template <typename Body>
auto Guard(Body body) -> int64_t {
  try {
    last_error.clear();
    auto result = body();
    if constexpr (std::is_same_v<decltype(result), Status>) {
      return result.ok() ? 0 : Report(result);
    } else {
      return result.ok() ? static_cast<int64_t>(*result) : Report(result.status());
    }
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  } catch (const std::exception& e) {
    try {
      last_error = e.what();
    } catch (...) {
      last_error.clear();
    }
    return -EIO;
  }
}

template <typename Body>
int GuardInt(Body body) {
  return static_cast<int>(Guard(body));
}

// Calls with the file of a handle; EBADF if that has been closed.
template <typename Call>
int64_t OnFile(capio_file* handle, Call call) {
  return Guard([&]() -> decltype(call(std::declval<File&>())) {
    FileUse file(handle);
    if (!file) return Status::Error(EBADF);
    return call(*file);
  });
}

template <typename Call>
int OnFileInt(capio_file* handle, Call call) {
  return static_cast<int>(OnFile(handle, call));
}

Result<int64_t> CopyOut(const std::string& text, char* buf, size_t cap) {
  if (text.size() + 1 > cap) return Status::Error(ERANGE);
  memcpy(buf, text.c_str(), text.size() + 1);
  return static_cast<int64_t>(text.size());
}

std::string Text(const char* value) { return value == nullptr ? "" : value; }

int CodeOf(const Status& status) { return status.code(); }
template <typename T>
int CodeOf(const Result<T>& result) {
  return result.code();
}

// Links that come and go are followed so many times.
constexpr int kMostLooks = 40;

// What becomes of a last component that is a symbolic link.
enum class Last {
  kFollowed,
  kItself,  // but "link/" is what it leads to
  kNew,     // to be made: what is there already is in the way, whatever it leads to
};

// A path outside, with the ending of the one given, for the kernel to judge.
std::string WithEnding(std::string path, std::string_view given) {
  Ending ending = EndingOf(given);
  if (ending != Ending::kName) path += ending == Ending::kDot ? "/." : "/";
  return path;
}

// Calls inside with what a path means below CAPIO_DIR, or outside with an absolute path, where
// symbolic links or a current directory in the store lead out of it. CAPIO_UNMANAGED is left to the
// caller only where the path as given will do.
template <typename Inside, typename Outside>
auto AtPlace(Session* session, std::string_view path, Last last, Inside inside, Outside outside)
    -> decltype(inside(std::string())) {
  std::string_view wanted = path;
  if (last == Last::kNew && EndingOf(path) == Ending::kSlash) {
    wanted = path.substr(0, path.find_last_not_of('/') + 1);
  }
  bool follow = last == Last::kFollowed || EndingOf(wanted) != Ending::kName;
  for (int look = 0; look < kMostLooks; ++look) {
    auto place = PlaceOf(session, wanted, follow);
    if (!place.ok()) return place.status();
    if (!place->inside) return outside(WithEnding(place->path, path));
    auto result = inside(place->path);
    if (CodeOf(result) == CAPIO_UNMANAGED && !place->literal) {
      return outside(WithEnding(InRealDirectory(*session, place->path), path));
    }
    if (CodeOf(result) != kLinkAhead) return result;
  }
  return Status::Error(ELOOP);
}

Status FromErrno(int result) { return result < 0 ? Status::Error(-result) : Status::Ok(); }

// What the kernel says of "file/" and the like, which are normalised away before it sees the path.
// follow: a link to a directory is one.
Status CheckEnding(Session* session, std::string_view path, const std::string& relative) {
  if (EndingOf(path) == Ending::kName) return Status::Ok();
  CAPIO_RETURN_IF_ERROR(session->Ensure());
  struct stat st = {};
  auto layer = session->store().layers->Find(relative, &st, true);
  if (!layer.ok()) return layer.status();
  return S_ISDIR(st.st_mode) ? Status::Ok() : Status::Error(ENOTDIR);
}

// A new entry: it is made under "new/" as under "new", if it is a directory.
Status CheckNewEnding(Session* session, std::string_view path, const std::string& relative) {
  if (EndingOf(path) != Ending::kDot) return Status::Ok();
  return CheckEnding(session, path, relative);
}

// The same for what is no directory: "new/" cannot be made.
Status CheckNewFile(Session* session, std::string_view path, const std::string& relative) {
  if (EndingOf(path) == Ending::kName) return Status::Ok();
  CAPIO_RETURN_IF_ERROR(CheckNewEnding(session, path, relative));
  struct stat st = {};
  auto there = session->store().layers->Find(relative, &st, false);
  return there.ok() ? Status::Error(EEXIST) : there.status();
}

Result<Question> QuestionOf(uint32_t purpose) {
  uint32_t kind = purpose & 255u;
  if (kind > CAPIO_FOR_ENTRY) return Status::Error(EINVAL);
  Question question;
  question.purpose = static_cast<Purpose>(kind);
  question.follow = (purpose & CAPIO_RESOLVE_NOFOLLOW) == 0;
  if ((purpose & CAPIO_RESOLVE_NOWAIT) != 0) question.patience = Patience::kNone;
  return question;
}

Status StatPath(Session* session, std::string_view path, uint32_t purpose, struct stat* st) {
  auto question = QuestionOf(purpose);
  if (!question.ok()) return question.status();
  if (question->purpose == Purpose::kCreate) return Status::Error(EINVAL);
  // "link/" is the directory that the link leads to, or an error.
  bool directory = EndingOf(path) != Ending::kName;
  question->follow |= directory;
  CAPIO_RETURN_IF_ERROR(AtPlace(
      session, path, question->follow ? Last::kFollowed : Last::kItself,
      [&](const std::string& relative) {
        return Locate(session, relative, *question, st).status();
      },
      [&](const std::string& elsewhere) {
        return FromErrno(os().FstatAt(AT_FDCWD, elsewhere.c_str(), st,
                                      question->follow ? 0 : AT_SYMLINK_NOFOLLOW));
      }));
  return directory && !S_ISDIR(st->st_mode) ? Status::Error(ENOTDIR) : Status::Ok();
}

void PutTime(const struct timespec& time, int64_t* seconds, double* exact, int64_t* ns) {
  *seconds = time.tv_sec;
  *exact = static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  *ns = static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

// Whether a path such as "link/" names a symbolic link, which the kernel does not remove or replace
// by such a name.
bool EndsInLink(Session* session, std::string_view path) {
  if (EndingOf(path) != Ending::kSlash) return false;
  auto place = PlaceOf(session, path.substr(0, path.find_last_not_of('/') + 1), false);
  if (!place.ok() || !place->inside) return false;
  struct stat st = {};
  return session->store().layers->Find(place->path, &st, false).ok() && S_ISLNK(st.st_mode);
}

// Of "name/" and the like, which open(2) cannot make.
Status WhyNotCreate(Session* session, std::string_view path, const std::string& relative,
                    bool exclusive) {
  CAPIO_RETURN_IF_ERROR(CheckNewEnding(session, path, relative));
  struct stat st = {};
  auto parent = session->store().layers->Find(std::string(ParentOf(relative)), &st, true);
  if (!parent.ok()) return parent.status();
  if (!S_ISDIR(st.st_mode)) return Status::Error(ENOTDIR);
  return Status::Error(exclusive && EndingOf(path) == Ending::kDot ? EEXIST : EISDIR);
}

// Sessions that live until the process ends. The handler runs after Python has finalised, so files
// that Python flushes at the very last are written by then; and it gets the exit status.
void AtExit(int status, void*);
struct LiveSessions {
  ForkMutex mutex{ForkMutex::kAttaching};
  std::vector<std::weak_ptr<Session>> sessions;
  bool at_exit = false;  // the handler is there
};
LiveSessions& live = *new LiveSessions;

constexpr uint32_t kExitWaitMs = 2000;

void AtExit(int status, void*) {
  std::vector<std::shared_ptr<Session>> sessions;
  {
    ForkGuard guard(live.mutex);
    for (auto& weak : live.sessions) {
      if (auto session = weak.lock(); session != nullptr && !session->ended()) {
        sessions.push_back(std::move(session));
      }
    }
  }
  for (auto& session : sessions) {
    session->Goodbye(status != 0);
    session->Finish();
  }
  for (auto& session : sessions) (void)session->AwaitSafe(kExitWaitMs);
}

}  // namespace
}  // namespace capio

using capio::Guard;
using capio::GuardInt;
using capio::Result;
using capio::Status;

extern "C" {

uint32_t capio_abi_version(void) { return CAPIO_ABI_VERSION; }
const char* capio_version(void) { return CAPIO_VERSION; }
const char* capio_last_error(void) { return capio::last_error.c_str(); }
void capio_cancel_waits(int on) { capio::CancelWaits(on != 0); }
void capio_end_by_signal(void) { capio::AtExit(EXIT_FAILURE, nullptr); }
const char* capio_wait_needs(void) { return capio::LastWaitNeeds().c_str(); }

void capio_session_options_init(capio_session_options* options) {
  *options = capio_session_options{};
  options->struct_size = sizeof *options;
  options->capio_dir = ".";
  const char* app = ::getenv("CAPIO_APP_NAME");
  const char* workflow = ::getenv("CAPIO_WORKFLOW_NAME");
  options->app_name = app != nullptr && *app != '\0' ? app : "writer";
  options->workflow_name = workflow != nullptr && *workflow != '\0' ? workflow : "workflow";
  options->server_path = "capio_server";
  options->await_server_ms = 2000;
}

int capio_session_open(const capio_session_options* options, capio_session** out) {
  return GuardInt([&]() -> Status {
    if (options == nullptr || out == nullptr || options->struct_size < sizeof *options) {
      return Status::Error(EINVAL, "fill the options with capio_session_options_init");
    }
    capio::SessionConfig config;
    config.capio_dir = capio::Text(options->capio_dir);
    config.app = capio::Text(options->app_name);
    config.workflow = capio::Text(options->workflow_name);
    config.server_path = capio::Text(options->server_path);
    if (config.server_path.empty()) config.server_path = "capio_server";
    if ((options->flags & CAPIO_SESSION_NO_CONFIG) == 0) {
      config.config_path = capio::Text(options->config_path);
    }
    config.resolve_prefix = capio::Text(options->resolve_prefix);
    config.await_server_ms = options->await_server_ms;
    config.flags = options->flags;
    config.handover = capio::Text(options->handover);
    auto session = capio::Session::Open(config);
    if (!session.ok()) return session.status();
    {
      capio::ForkGuard guard(capio::live.mutex);
      std::erase_if(capio::live.sessions, [](const auto& weak) { return weak.expired(); });
      capio::live.sessions.push_back(*session);
      if (!std::exchange(capio::live.at_exit, true)) (void)::on_exit(&capio::AtExit, nullptr);
    }
    *out = new capio_session{*session, {}};
    if ((*session)->taken_over()) (*out)->inherited = capio::AdoptDescriptors(*session);
    return Status::Ok();
  });
}

int capio_session_goodbye(capio_session* session, int outcome) {
  return GuardInt([&] {
    if (outcome == CAPIO_END_TAKEN_BACK) {
      session->impl->TakeBackGoodbye();
    } else {
      session->impl->Goodbye(outcome != CAPIO_END_CLEAN);
    }
    return Status::Ok();
  });
}

int capio_session_exec(capio_session* session, int attaches, char* buf, size_t cap) {
  return GuardInt([&]() -> Result<int64_t> {
    auto handover = session->impl->BecomeAnother(attaches != 0);
    if (!handover.ok()) return handover.status();
    auto size = capio::CopyOut(*handover, buf, cap);
    if (!size.ok()) session->impl->TakeBackGoodbye();
    return size;
  });
}

int capio_session_inherited(capio_session* session, capio_file** out) {
  return GuardInt([&]() -> Result<int64_t> {
    if (session->inherited.empty()) return Status::Error(ENOENT);
    auto file = std::move(session->inherited.back());
    session->inherited.pop_back();
    const int fd = file->fd();
    auto handle = capio::MakeHandle(std::move(file), capio::FdFate::kKeep);
    if (!handle.ok()) return handle.status();
    *out = *handle;
    return fd;
  });
}

int capio_session_goodbye_child(capio_session* session, int64_t pid) {
  return GuardInt([&] {
    session->impl->GoodbyeChild(pid);
    return Status::Ok();
  });
}

int capio_session_fail_abandoned(capio_session* session) {
  return GuardInt([&] {
    session->impl->FailAbandoned();
    return Status::Ok();
  });
}

int capio_session_close(capio_session* session, uint32_t wait_ms) {
  return GuardInt([&] {
    std::unique_ptr<capio_session> owned(session);
    for (auto& file : owned->inherited) {
      (void)file->Close(capio::CloseKind::kCount, capio::FdFate::kKeep);
    }
    owned->impl->Finish();
    return owned->impl->AwaitSafe(wait_ms);
  });
}

int capio_session_set_flags(capio_session* session, uint32_t set, uint32_t clear) {
  return GuardInt([&] {
    session->impl->SetFlags(set, clear);
    return Status::Ok();
  });
}

int capio_session_info(capio_session* session, int what, char* buf, size_t cap) {
  return GuardInt([&]() -> Result<int64_t> {
    capio::Session& impl = *session->impl;
    switch (what) {
      case CAPIO_INFO_DIR:
        return capio::CopyOut(impl.dir(), buf, cap);
      case CAPIO_INFO_REALDIR:
        return capio::CopyOut(impl.real_dir(), buf, cap);
      case CAPIO_INFO_STORE:
        return capio::CopyOut(impl.store().path, buf, cap);
      case CAPIO_INFO_TREE:
        return capio::CopyOut(impl.tree_dir(), buf, cap);
      case CAPIO_INFO_SERVER_PID: {
        bool served = impl.store().Served();
        return capio::CopyOut(
            std::to_string(served ? impl.store().segment->header().server_pid.load() : 0), buf,
            cap);
      }
      case CAPIO_INFO_APP:
        return capio::CopyOut(impl.config().app, buf, cap);
      case CAPIO_INFO_WORKFLOW:
        return capio::CopyOut(impl.config().workflow, buf, cap);
      case CAPIO_INFO_HAS_CONFIG:
        return capio::CopyOut(impl.store().HasConfig() ? "1" : "0", buf, cap);
      default:
        return Status::Error(EINVAL);
    }
  });
}

int capio_session_add_rules(capio_session* session, const char* json, size_t len) {
  return GuardInt([&] { return session->impl->AddRules({json, len}); });
}

void capio_cl_options_init(capio_cl_options* options) {
  *options = capio_cl_options{};
  options->struct_size = sizeof *options;
  options->capio_dir = ".";
}

int capio_cl_check(const capio_cl_options* options, char** out) {
  return GuardInt([&]() -> Result<int> {
    if (options == nullptr || out == nullptr || options->struct_size < sizeof *options ||
        options->path == nullptr) {
      return Status::Error(EINVAL, "fill the options with capio_cl_options_init, and name a file");
    }
    auto dir = capio::AbsolutePath(capio::Text(options->capio_dir));
    if (!dir.ok()) return Status::Error(EINVAL, "CAPIO_DIR is no path");
    // As a server would see it: by both of its names, if it has two.
    std::string real_dir = *dir;
    if (char* resolved = ::realpath(dir->c_str(), nullptr); resolved != nullptr) {
      real_dir = resolved;
      ::free(resolved);
    }
    const std::string path = options->path;
    auto loaded = capio::LoadCapioCl(path, {real_dir, capio::Text(options->resolve_prefix), *dir});
    if (!loaded.ok()) return loaded.status();
    *out = ::strdup(capio::ReportAsJson(*loaded, path).c_str());
    if (*out == nullptr) return Status::Error(ENOMEM);
    return static_cast<int>(loaded->errors.size());
  });
}

void capio_cl_free(char* text) { ::free(text); }

int capio_resolve(capio_session* session, const char* path, size_t len, uint32_t purpose, char* buf,
                  size_t cap) {
  return GuardInt([&]() -> Result<int64_t> {
    auto question = capio::QuestionOf(purpose);
    if (!question.ok()) return question.status();
    const bool directory = capio::EndingOf({path, len}) != capio::Ending::kName;
    question->follow |= directory;
    const capio::Last last = question->purpose == capio::Purpose::kCreate ? capio::Last::kNew
                             : question->follow                           ? capio::Last::kFollowed
                                                                          : capio::Last::kItself;
    auto backing = capio::AtPlace(
        session->impl.get(), {path, len}, last,
        [&](const std::string& relative) {
          auto found = capio::Resolve(session->impl.get(), relative, *question);
          // The kernel judges the ending; CAPIO_DIR itself is a directory.
          if (found.ok() && !relative.empty()) found = capio::WithEnding(found.take(), {path, len});
          return found;
        },
        [](const std::string& elsewhere) -> capio::Result<std::string> { return elsewhere; });
    if (!backing.ok()) return backing.status();
    return capio::CopyOut(*backing, buf, cap);
  });
}

int capio_user_path(capio_session* session, const char* path, size_t len, char* buf, size_t cap) {
  return GuardInt([&]() -> Result<int64_t> {
    auto relative = capio::FromKernelName(session->impl.get(), {path, len});
    if (!relative.ok()) return relative.status();
    return capio::CopyOut(capio::InRealDirectory(*session->impl, *relative), buf, cap);
  });
}

int capio_is_managed(capio_session* session, const char* path, size_t len) {
  return GuardInt([&]() -> Result<int64_t> {
    auto place = capio::PlaceOf(session->impl.get(), {path, len}, true);
    if (!place.ok() || !place->inside) return int64_t{0};
    return int64_t{session->impl->RuleOf(place->path)->excluded ? 0 : 1};
  });
}

int capio_is_input(capio_session* session, const char* path, size_t len) {
  return GuardInt([&]() -> Result<int64_t> {
    auto place = capio::PlaceOf(session->impl.get(), {path, len}, true);
    if (!place.ok() || !place->inside) return int64_t{0};
    auto rule = session->impl->RuleOf(place->path);
    bool input = !rule->excluded && rule->declared() && !session->impl->DeclaredProducer(*rule);
    return int64_t{input ? 1 : 0};
  });
}

void capio_stat_init(capio_stat_t* st) {
  *st = capio_stat_t{};
  st->struct_size = sizeof *st;
}

int capio_stat(capio_session* session, const char* path, size_t len, uint32_t purpose,
               capio_stat_t* out) {
  return GuardInt([&]() -> Status {
    if (out->struct_size < sizeof *out) return Status::Error(EINVAL);
    struct stat st = {};
    CAPIO_RETURN_IF_ERROR(capio::StatPath(session->impl.get(), {path, len}, purpose, &st));
    out->mode = st.st_mode;
    out->ino = st.st_ino;
    out->dev = st.st_dev;
    out->nlink = st.st_nlink;
    out->uid = st.st_uid == static_cast<uid_t>(-1) ? -1 : int64_t{st.st_uid};
    out->gid = st.st_gid == static_cast<gid_t>(-1) ? -1 : int64_t{st.st_gid};
    out->size = st.st_size;
    capio::PutTime(st.st_atim, &out->atime, &out->atime_s, &out->atime_ns);
    capio::PutTime(st.st_mtim, &out->mtime, &out->mtime_s, &out->mtime_ns);
    capio::PutTime(st.st_ctim, &out->ctime, &out->ctime_s, &out->ctime_ns);
    out->blksize = st.st_blksize;
    out->blocks = st.st_blocks;
    out->rdev = st.st_rdev;
    return Status::Ok();
  });
}

int capio_mode(capio_session* session, const char* path, size_t len, uint32_t purpose) {
  return GuardInt([&]() -> Result<int64_t> {
    struct stat st = {};
    CAPIO_RETURN_IF_ERROR(capio::StatPath(session->impl.get(), {path, len}, purpose, &st));
    return int64_t{st.st_mode};
  });
}

int capio_mkdir(capio_session* session, const char* path, size_t len, uint32_t mode) {
  return GuardInt([&] {
    return capio::AtPlace(
        session->impl.get(), {path, len}, capio::Last::kNew,
        [&](const std::string& relative) -> Status {
          CAPIO_RETURN_IF_ERROR(capio::CheckNewEnding(session->impl.get(), {path, len}, relative));
          return capio::MakeDirectory(session->impl.get(), relative, mode);
        },
        [&](const std::string& elsewhere) {
          return capio::FromErrno(capio::os().MkdirAt(AT_FDCWD, elsewhere.c_str(), mode));
        });
  });
}

int capio_rmdir(capio_session* session, const char* path, size_t len) {
  const std::string_view given(path, len);
  return GuardInt([&]() -> Status {
    if (capio::EndsInLink(session->impl.get(), given)) return Status::Error(ENOTDIR);
    return capio::AtPlace(
        session->impl.get(), given, capio::Last::kItself,
        [&](const std::string& relative) -> Status {
          if (capio::EndingOf(given) == capio::Ending::kDot) {
            CAPIO_RETURN_IF_ERROR(capio::CheckEnding(session->impl.get(), given, relative));
            return Status::Error(given.ends_with("..") ? ENOTEMPTY : EINVAL);
          }
          return capio::RemoveDirectory(session->impl.get(), relative);
        },
        [&](const std::string& elsewhere) {
          if (given.ends_with("..")) return Status::Error(ENOTEMPTY);
          return capio::FromErrno(capio::os().UnlinkAt(AT_FDCWD, elsewhere.c_str(), AT_REMOVEDIR));
        });
  });
}

int capio_unlink(capio_session* session, const char* path, size_t len) {
  const std::string_view given(path, len);
  return GuardInt([&]() -> Status {
    if (capio::EndsInLink(session->impl.get(), given)) return Status::Error(ENOTDIR);
    return capio::AtPlace(
        session->impl.get(), given, capio::Last::kItself,
        [&](const std::string& relative) -> Status {
          if (capio::EndingOf(given) != capio::Ending::kName) {
            CAPIO_RETURN_IF_ERROR(capio::CheckEnding(session->impl.get(), given, relative));
            return Status::Error(EISDIR);
          }
          return capio::RemoveFile(session->impl.get(), relative);
        },
        [&](const std::string& elsewhere) {
          return capio::FromErrno(capio::os().UnlinkAt(AT_FDCWD, elsewhere.c_str(), 0));
        });
  });
}

int capio_notice_change(capio_session* session, const char* path, size_t len) {
  return GuardInt([&]() -> Status {
    return capio::AtPlace(
        session->impl.get(), {path, len}, capio::Last::kFollowed,
        [&](const std::string& relative) {
          return capio::NoticeChange(session->impl.get(), relative);
        },
        [&](const std::string&) { return Status::Error(CAPIO_UNMANAGED); });
  });
}

int capio_rename(capio_session* session, const char* from, size_t from_len, const char* to,
                 size_t to_len) {
  return GuardInt(
      [&] { return capio::RenameNames(session->impl.get(), {from, from_len}, {to, to_len}); });
}

int capio_link(capio_session* session, const char* from, size_t from_len, const char* to,
               size_t to_len, uint32_t flags) {
  return GuardInt([&] {
    const bool follow = (flags & CAPIO_RESOLVE_NOFOLLOW) == 0;
    return capio::LinkNames(session->impl.get(), {from, from_len}, {to, to_len}, follow);
  });
}

int capio_symlink(capio_session* session, const char* target, size_t target_len, const char* path,
                  size_t len) {
  return GuardInt([&]() -> Status {
    const std::string text(target, target_len);
    if (text.empty()) return Status::Error(ENOENT);
    if (text.find('\0') != std::string::npos) return Status::Error(EINVAL);
    const std::string_view given(path, len);
    return capio::AtPlace(
        session->impl.get(), given, capio::Last::kNew,
        [&](const std::string& relative) -> Status {
          CAPIO_RETURN_IF_ERROR(capio::CheckNewFile(session->impl.get(), given, relative));
          return capio::MakeSymlink(session->impl.get(), text, relative);
        },
        [&](const std::string& elsewhere) {
          return capio::FromErrno(capio::os().SymlinkAt(text.c_str(), AT_FDCWD, elsewhere.c_str()));
        });
  });
}

int capio_opendir(capio_session* session, const char* path, size_t len, capio_dir** out) {
  return GuardInt([&]() -> Status {
    auto dir = capio::AtPlace(
        session->impl.get(), {path, len}, capio::Last::kFollowed,
        [&](const std::string& relative) {
          return capio::Directory::Open(session->impl, relative);
        },
        [&](const std::string& elsewhere) {
          return capio::Directory::OpenElsewhere(session->impl, elsewhere);
        });
    if (!dir.ok()) return dir.status();
    *out = new capio_dir{dir.take()};
    return Status::Ok();
  });
}

int64_t capio_readdir(capio_dir* dir, void* buf, size_t cap) {
  return Guard([&] { return dir->impl->Read(buf, cap); });
}

int64_t capio_readdir_columns(capio_dir* dir, char* names, size_t cap, uint8_t* types,
                              uint64_t* inos, size_t max) {
  return Guard([&] { return dir->impl->ReadColumns(names, cap, types, inos, max); });
}

int capio_closedir(capio_dir* dir) {
  delete dir;
  return 0;
}

void capio_opened_init(capio_opened_t* opened) {
  *opened = capio_opened_t{};
  opened->struct_size = sizeof *opened;
}

void capio_expect_bytes(void* memory, size_t n) { capio::os().ExpectBytes(memory, n); }

int capio_open(capio_session* session, const char* path, size_t len, int flags, uint32_t mode,
               capio_opened_t* out) {
  return GuardInt([&]() -> Result<int> {
    if (out == nullptr || out->struct_size < sizeof *out) {
      return Status::Error(EINVAL, "fill what is to be told of the file with capio_opened_init");
    }
    out->file = nullptr;
    out->size = -1;
    out->status = 0;
    off_t size = -1;
    const std::string_view given(path, len);
    auto patience =
        (flags & CAPIO_OPEN_NOWAIT) != 0 ? capio::Patience::kNone : capio::Patience::kWait;
    flags &= ~CAPIO_OPEN_NOWAIT;
    const bool exclusive = (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0;
    std::unique_ptr<capio::File> file;
    const bool named = capio::EndingOf(given) == capio::Ending::kName;
    const capio::Last last = exclusive || ((flags & O_CREAT) != 0 && !named) ? capio::Last::kNew
                             : (flags & O_NOFOLLOW) != 0 ? capio::Last::kItself
                                                         : capio::Last::kFollowed;
    auto fd = capio::AtPlace(
        session->impl.get(), given, last,
        [&](const std::string& relative) -> Result<int> {
          int wanted = flags;
          if (!named) {
            if ((flags & O_CREAT) != 0) {
              return capio::WhyNotCreate(session->impl.get(), given, relative, exclusive);
            }
            wanted |= O_DIRECTORY;
          }
          return capio::File::Open(session->impl, relative, wanted, mode, &file, patience, &size);
        },
        [&](const std::string& elsewhere) -> Result<int> {
          int opened = capio::os().OpenAt(AT_FDCWD, elsewhere.c_str(), flags, mode);
          if (opened < 0) return Status::Error(-opened);
          return opened;
        });
    if (!fd.ok()) return fd;
    if (file == nullptr) {
      out->size = size;
      return fd;
    }
    const int status = file->status();
    auto handle = capio::MakeHandle(std::move(file), capio::FdFate::kClose);
    if (!handle.ok()) return handle.status();
    out->file = *handle;
    out->status = static_cast<uint32_t>(status);
    return fd;
  });
}

int64_t capio_read(capio_file* file, void* buf, size_t n, int64_t offset, uint32_t flags) {
  return capio::OnFile(file, [&](capio::File& it) {
    return it.Read(buf, n, offset, (flags & CAPIO_READ_FULL) != 0);
  });
}

int64_t capio_write(capio_file* file, const void* buf, size_t n, int64_t offset) {
  return capio::OnFile(file, [&](capio::File& it) { return it.Write(buf, n, offset); });
}

int64_t capio_lseek(capio_file* file, int64_t offset, int whence) {
  return capio::OnFile(file, [&](capio::File& it) { return it.Seek(offset, whence); });
}

int capio_truncate(capio_file* file, int64_t size) {
  return capio::OnFileInt(file, [&](capio::File& it) { return it.Truncate(size); });
}

int capio_will_write(capio_file* file, int64_t offset) {
  return capio::OnFileInt(file, [&](capio::File& it) { return it.WillWrite(offset); });
}

int capio_wrote(capio_file* file, int64_t offset, int64_t n) {
  return capio::OnFileInt(file, [&](capio::File& it) { return it.Wrote(offset, n); });
}

int capio_duplicate(capio_file* file, int fd, capio_file** out) {
  return capio::OnFileInt(file, [&](capio::File& it) -> Status {
    *out = nullptr;
    std::unique_ptr<capio::File> copy;
    CAPIO_RETURN_IF_ERROR(it.Duplicate(fd, &copy));
    auto handle = capio::MakeHandle(std::move(copy), capio::FdFate::kKeep);
    if (!handle.ok()) return handle.status();
    *out = *handle;
    return Status::Ok();
  });
}

int capio_publish(capio_file* file) {
  return capio::OnFileInt(file, [](capio::File& it) { return it.Publish(); });
}

int capio_fd(capio_file* file) {
  return capio::OnFileInt(file, [](capio::File& it) -> Result<int> { return it.fd(); });
}

int capio_expose(capio_file* file) {
  return capio::OnFileInt(file, [](capio::File& it) -> Result<int> {
    Status s = it.Expose();
    if (!s.ok()) return s;
    return it.fd();
  });
}

int capio_wait_commit(capio_file* file) {
  return capio::OnFileInt(file, [](capio::File& it) { return it.WaitCommit(); });
}

int capio_file_status(capio_file* file) {
  return capio::OnFileInt(file, [](capio::File& it) -> Result<int> { return it.status(); });
}

int capio_quiesce(capio_file* file) {
  return GuardInt([&] { return capio::QuiesceHandle(file); });
}

int capio_close(capio_file* file, int how, int fd_fate) {
  return GuardInt([&] {
    capio::CloseKind kind = how == CAPIO_CLOSE_COUNT       ? capio::CloseKind::kCount
                            : how == CAPIO_CLOSE_ABANDONED ? capio::CloseKind::kAbandoned
                                                           : capio::CloseKind::kFailed;
    capio::FdFate fate = fd_fate == CAPIO_FD_CLOSE  ? capio::FdFate::kClose
                         : fd_fate == CAPIO_FD_KEEP ? capio::FdFate::kKeep
                                                    : capio::FdFate::kClosed;
    return capio::CloseHandle(file, kind, fate);
  });
}

}  // extern "C"
