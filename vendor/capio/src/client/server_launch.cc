#include "client/server_launch.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "os/os.h"

extern char** environ;

namespace capio {
namespace {

constexpr int kReadyFd = 3;

bool Executable(const std::string& path) { return ::access(path.c_str(), X_OK) == 0; }

std::string LibraryDirectory() {
  Dl_info info = {};
  if (::dladdr(reinterpret_cast<const void*>(&FindServer), &info) == 0 ||
      info.dli_fname == nullptr) {
    return "";
  }
  std::string path = info.dli_fname;
  size_t cut = path.rfind('/');
  return cut == std::string::npos ? "." : path.substr(0, cut);
}

// What the server prints before it is ready: "ready", "busy", or "error ERRNO SENTENCE".
struct Answer {
  bool timed_out = false;
  std::string text;
};

Answer ReadAnswer(int fd, uint32_t await_ms) {
  Answer answer;
  int64_t deadline = os().MonotonicNs() + int64_t{await_ms} * 1000000;
  for (;;) {
    int64_t left = (deadline - os().MonotonicNs()) / 1000000;
    int events = left <= 0 ? 0 : os().Poll(fd, POLLIN, left);
    if (events == -EINTR) continue;
    if (events <= 0) {
      answer.timed_out = true;
      return answer;
    }
    char buf[4096];
    ssize_t n = os().Read(fd, buf, sizeof buf);
    if (n <= 0) return answer;
    answer.text.append(buf, static_cast<size_t>(n));
    // One word is complete with its newline; an error ends with the pipe, since it may have many
    // lines.
    if (answer.text == "ready\n" || answer.text == "busy\n") return answer;
  }
}

std::string LastLines(int fd) {
  char buf[2048];
  off_t size = os().Lseek(fd, 0, SEEK_END);
  off_t from = size > static_cast<off_t>(sizeof buf) ? size - static_cast<off_t>(sizeof buf) : 0;
  ssize_t n = os().Pread(fd, buf, sizeof buf, from);
  std::string text(buf, n > 0 ? static_cast<size_t>(n) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

Result<std::string> FindServer(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    if (Executable(name)) return name;
    return Status::Error(ENOENT, "the CAPIO server " + name +
                                     " is not there or not executable; give the right path, or "
                                     "leave it out to use the one that comes with the library");
  }
  std::string beside = LibraryDirectory();
  for (const std::string& path : {beside + "/" + name, beside + "/../bin/" + name}) {
    if (!beside.empty() && Executable(path)) return path;
  }
  const char* variable = ::getenv("PATH");
  std::string path = variable != nullptr ? variable : "";
  for (size_t at = 0; at <= path.size();) {
    size_t end = path.find(':', at);
    if (end == std::string::npos) end = path.size();
    std::string candidate = path.substr(at, end - at) + "/" + name;
    if (end > at && Executable(candidate)) return candidate;
    at = end + 1;
  }
  return Status::Error(ENOENT, "no server named " + name + " beside the library (" + beside +
                                   ") or on PATH; install capio_server or give its path");
}

namespace {

// *silent: it ended without a word.
Status LaunchOnce(const ServerLaunch& launch, const std::string& path, bool* silent) {
  *silent = false;
  int ready[2];
  if (int error = os().Pipe(ready); error < 0) return Status::Error(-error);
  Fd from(ready[0]);
  Fd to(ready[1]);
  // What it prints before it has a log of its own.
  Fd early(::memfd_create("capio_server-output", MFD_CLOEXEC));

  std::vector<std::string> words = {path,
                                    "--daemon",
                                    "--ready-fd",
                                    std::to_string(kReadyFd),
                                    "--workflow-name",
                                    launch.workflow,
                                    "--capio-dir",
                                    launch.capio_dir};
  if (launch.config_path.empty()) {
    words.push_back("--no-config");
  } else {
    words.insert(words.end(), {"--config", launch.config_path});
  }
  if (!launch.resolve_prefix.empty()) {
    words.insert(words.end(), {"--resolve-prefix", launch.resolve_prefix});
  }
  if (!launch.take_over.empty()) words.insert(words.end(), {"--take-over", launch.take_over});
  if (launch.silent) words.push_back("--silent");
  if (launch.persist) words.push_back("--persist");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  // A relative CAPIO_STORE, after a chdir, would be another one.
  std::string store = "CAPIO_STORE=" + launch.store_root;
  std::vector<char*> environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (strncmp(*entry, "CAPIO_STORE=", 12) != 0) environment.push_back(*entry);
  }
  environment.push_back(store.data());
  environment.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, early.get(), 1);
  ::posix_spawn_file_actions_adddup2(&actions, early.get(), 2);
  // A descriptor dup2'ed to itself would keep close-on-exec.
  Fd moved;
  if (to.get() == kReadyFd) moved.reset(os().Fcntl(to.get(), F_DUPFD_CLOEXEC, kReadyFd + 1));
  ::posix_spawn_file_actions_adddup2(&actions, moved.valid() ? moved.get() : to.get(), kReadyFd);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = 0;
  int error =
      ::posix_spawn(&pid, path.c_str(), &actions, &attributes, argv.data(), environment.data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return Status::Error(error, "cannot run the CAPIO server " + path + ": " + strerror(error));
  }
  to.reset();
  moved.reset();
  Answer answer = ReadAnswer(from.get(), launch.await_ms);
  if (answer.timed_out) (void)::kill(pid, SIGTERM);
  // The server proper is a grandchild: this ends at once.
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (answer.text == "ready\n" || answer.text == "busy\n") return Status::Ok();
  if (answer.text.rfind("error ", 0) == 0) {
    char* rest = nullptr;
    long code = ::strtol(answer.text.c_str() + 6, &rest, 10);
    std::string sentence = rest + (*rest == ' ' ? 1 : 0);
    while (!sentence.empty() && sentence.back() == '\n') sentence.pop_back();
    return Status::Error(code > 0 ? static_cast<int>(code) : EIO, sentence);
  }
  std::string said = LastLines(early.get());
  std::string tail = said.empty() ? "" : "; its last lines:\n" + said;
  if (answer.timed_out) {
    return Status::Error(ETIMEDOUT, "the CAPIO server " + path + " was not ready after " +
                                        std::to_string(launch.await_ms) +
                                        " ms; allow it more time if the machine is busy" + tail);
  }
  *silent = true;
  return Status::Error(EIO, "the CAPIO server " + path + " ended before it was ready" + tail);
}

}  // namespace

Status LaunchServer(const ServerLaunch& launch) {
  auto path = FindServer(launch.server_path);
  if (!path.ok()) return path.status();
  // One that somebody killed on its way is not the last; one that cannot run ends every time.
  constexpr int kMostStarts = 3;
  Status status;
  bool silent = true;
  for (int start = 0; silent && start < kMostStarts; ++start) {
    status = LaunchOnce(launch, *path, &silent);
  }
  return status;
}

}  // namespace capio
