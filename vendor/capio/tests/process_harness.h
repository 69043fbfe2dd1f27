// For tests with several processes: a store and a managed directory of their own, children by fork
// that talk through pipes, and the proof that nothing is left when they are over.
#ifndef CAPIO_TESTS_PROCESS_HARNESS_H_
#define CAPIO_TESTS_PROCESS_HARNESS_H_

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "capio/capio.h"

#if defined(__SANITIZE_THREAD__)
// Processes end by the thousand here: without this each would sleep a second first.
extern "C" __attribute__((visibility("default"), weak)) const char* __tsan_default_options() {
  return "atexit_sleep_ms=0";
}
#endif

namespace capio::test {

constexpr int kPatienceMs = 60'000;

// "" for a file that is not there, or a process's that has just ended: a filebuf would throw then.
inline std::string Slurp(const std::string& path) {
  std::string text;
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buf[1 << 14];
  ssize_t n = 0;
  while ((n = ::read(fd, buf, sizeof buf)) > 0) text.append(buf, static_cast<size_t>(n));
  ::close(fd);
  return text;
}
inline void Spill(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::set<int> OpenDescriptors() {
  std::set<int> fds;
  DIR* dir = ::opendir("/proc/self/fd");
  while (const struct dirent* entry = ::readdir(dir)) {
    int fd = ::atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd != ::dirfd(dir)) fds.insert(fd);
  }
  ::closedir(dir);
  return fds;
}

// Waits until a process has ended. False if it has not in time.
inline bool AwaitEnd(pid_t pid, int timeout_ms = kPatienceMs) {
  int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return true;
  struct pollfd poll = {fd, POLLIN, 0};
  int n = 0;
  do {
    n = ::poll(&poll, 1, timeout_ms);
  } while (n < 0 && errno == EINTR);
  ::close(fd);
  return n > 0;
}

// A pair of pipes between a test and a child.
class Channel {
 public:
  Channel(int in, int out) : in_(in), out_(out) {}
  ~Channel() {
    if (in_ >= 0) ::close(in_);
    if (out_ >= 0) ::close(out_);
  }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  void Say(const std::string& line) const {
    std::string text = line + "\n";
    if (::write(out_, text.data(), text.size()) < 0 && errno != EPIPE) ::abort();
  }
  // For a process that becomes another program by exec: where that hears, and speaks.
  [[nodiscard]] std::string KeepOverExec() const {
    for (int fd : {in_, out_}) {
      if (::fcntl(fd, F_SETFD, 0) != 0) ::abort();
    }
    return std::to_string(in_) + " " + std::to_string(out_);
  }
  // The next line; "<end>" if the other side has gone, "<late>" if it says nothing.
  std::string Hear() {
    for (;;) {
      size_t end = text_.find('\n');
      if (end != std::string::npos) {
        std::string line = text_.substr(0, end);
        text_.erase(0, end + 1);
        return line;
      }
      struct pollfd poll = {in_, POLLIN, 0};
      int ready = ::poll(&poll, 1, kPatienceMs);
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) return "<late>";
      char buf[4096];
      ssize_t n = ::read(in_, buf, sizeof buf);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return "<end>";
      text_.append(buf, static_cast<size_t>(n));
    }
  }

 private:
  int in_;
  int out_;
  std::string text_;
};

class Child {
 public:
  // Runs body in a child; its return value is the exit status. The child ends through exit(3), as
  // Python does, or at once: what belongs to threads that are not there any more is no leak.
  enum Ending { kExit, kAtOnce };
  explicit Child(const std::function<int(Channel&)>& body, Ending ending = kExit) {
    int down[2];
    int up[2];
    if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0) ::abort();
    pid_ = ::fork();
    if (pid_ < 0) ::abort();
    if (pid_ == 0) {
      ::close(down[1]);
      ::close(up[0]);
      ::signal(SIGPIPE, SIG_IGN);
      ::alarm(100);
      Channel channel(down[0], up[1]);
      int status = body(channel);
      if (ending == kAtOnce) ::_exit(status);
      ::exit(status);
    }
    ::close(down[0]);
    ::close(up[1]);
    channel_ = std::make_unique<Channel>(up[0], down[1]);
  }
  ~Child() {
    if (pid_ > 0) {
      Kill(SIGKILL);
      (void)Wait();
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void Say(const std::string& line) const { channel_->Say(line); }
  std::string Hear() { return channel_->Hear(); }
  void Kill(int signal) const { ::kill(pid_, signal); }
  // The exit status; 128 + signal if a signal ended it; -1 if it did not end.
  int Wait() {
    if (!AwaitEnd(pid_)) return -1;
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
  std::unique_ptr<Channel> channel_;
};

// Every test has a store, a managed directory and a workflow name of its own; when it is over, its
// servers must end and take the store with them.
class WorkflowTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::alarm(110);
    ::signal(SIGPIPE, SIG_IGN);
    for (const char* name : {"CAPIO_APP_NAME", "CAPIO_WORKFLOW_NAME", "CAPIO_WAIT_TIMEOUT",
                             "CAPIO_DIR", "CAPIO_WAIT_WARN", "CAPIO_RUN_ID"}) {
      ::unsetenv(name);
    }
    // Apps of the CAPIO-CL file that a test does not start are not waited for.
    ::setenv("CAPIO_LINGER", "3", 1);
#if defined(__SANITIZE_THREAD__)
    ::setenv("TSAN_OPTIONS", "atexit_sleep_ms=0", 0);
#endif
    fds_ = OpenDescriptors();
    // On disk, unless that names another place, as it does for the Python tests.
    const char* parent = ::getenv("CAPIO_TEST_STORE");
    root = std::string(parent != nullptr ? parent : "/tmp") + "/capio-test-XXXXXX";
    ASSERT_NE(::mkdtemp(root.data()), nullptr);
    store = root + "/store";
    dir = root + "/dir";
    config = root + "/workflow.json";
    std::filesystem::create_directory(store);
    std::filesystem::create_directory(dir);
    ::setenv("CAPIO_STORE", store.c_str(), 1);
  }
  void TearDown() override {
    for (pid_t pid : Servers()) {
      if (AwaitEnd(pid, 20'000)) continue;
      ADD_FAILURE() << "server " << pid << " did not end; its log:\n" << LogOf();
      ::kill(pid, SIGCONT);
      ::kill(pid, SIGKILL);
      (void)AwaitEnd(pid);
    }
    if (!keeps_store) {
      EXPECT_FALSE(std::filesystem::exists(StoreBase())) << "left in the store: " << Listing(store);
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
      EXPECT_NE(entry.path().filename().string().substr(0, 7), ".capio-") << entry.path();
    }
    EXPECT_EQ(OpenDescriptors(), fds_);
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
    std::filesystem::remove_all(root);
    ::alarm(0);
  }

  std::string StoreBase() const { return store + "/capio-" + std::to_string(::getuid()); }

  // The servers of this test, found by the environment they were started with.
  std::vector<pid_t> Servers() const {
    std::vector<pid_t> pids;
    std::string wanted = "CAPIO_STORE=" + store;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::string name = entry.path().filename();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      std::string comm = Slurp("/proc/" + name + "/comm");
      if (comm != "capio_server\n") continue;
      std::string environment = Slurp("/proc/" + name + "/environ");
      if (environment.find(wanted + '\0') != std::string::npos) {
        pids.push_back(::atoi(name.c_str()));
      }
    }
    return pids;
  }
  pid_t OneServer() const {
    auto pids = Servers();
    EXPECT_EQ(pids.size(), 1u);
    return pids.empty() ? 0 : pids.front();
  }
  std::string LogOf() const {
    std::string text;
    if (!std::filesystem::exists(StoreBase())) return "(no store)";
    for (const auto& entry : std::filesystem::directory_iterator(StoreBase())) {
      text += Slurp(entry.path().string() + "/log");
    }
    return text;
  }
  static std::string Listing(const std::string& path) {
    std::string text;
    if (!std::filesystem::exists(path)) return text;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      text += entry.path().string() + "\n";
    }
    return text;
  }

  std::string root;
  std::string store;
  std::string dir;
  std::string config;
  bool keeps_store = false;

 private:
  std::set<int> fds_;
};

// An open file as a client has it.
struct Opened {
  int fd = -1;  // or the negated errno
  capio_file* file = nullptr;
  int64_t size = -1;
  uint32_t status = 0;
};

// capio_open, once.
inline Opened OpenPath(capio_session* session, const std::string& path, int flags,
                       uint32_t mode = 0644) {
  capio_opened_t told;
  capio_opened_init(&told);
  int fd = capio_open(session, path.data(), path.size(), flags, mode, &told);
  return {fd, told.file, told.size, told.status};
}

// A session and the calls of the C API on it, with the repetition that -EINTR asks for.
class Client {
 public:
  Client(const std::string& dir, const std::string& app, const std::string& workflow,
         const std::string& config, uint32_t flags = CAPIO_SESSION_TEARDOWN,
         const std::string& handover = "")
      : dir_(dir) {
    capio_session_options options;
    capio_session_options_init(&options);
    options.capio_dir = dir.c_str();
    options.app_name = app.c_str();
    options.workflow_name = workflow.c_str();
    options.config_path = config.c_str();
    options.server_path = CAPIO_TEST_SERVER;
    options.await_server_ms = 30'000;
    options.flags = flags;
    options.handover = handover.c_str();
    error = capio_session_open(&options, &session_);
    if (error != 0) sentence = capio_last_error();
    KeepReachable(session_);
  }
  [[nodiscard]] bool ok() const { return error == 0; }
  capio_session* session() { return session_; }

  Opened Open(const std::string& name, int flags, uint32_t mode = 0644) {
    Opened opened;
    do {
      opened = OpenPath(session_, dir_ + "/" + name, flags, mode);
    } while (opened.fd == -EINTR);
    if (opened.fd < 0) sentence = capio_last_error();
    KeepReachable(opened.file);
    return opened;
  }
  Opened Create(const std::string& name) { return Open(name, O_WRONLY | O_CREAT | O_TRUNC); }
  static int64_t Write(const Opened& opened, const std::string& text, int64_t offset = -1) {
    size_t done = 0;
    while (done < text.size()) {
      int64_t n = capio_write(opened.file, text.data() + done, text.size() - done,
                              offset < 0 ? -1 : offset + static_cast<int64_t>(done));
      if (n < 0) return n;
      done += static_cast<size_t>(n);
    }
    return static_cast<int64_t>(done);
  }
  // Up to n bytes; *result: the count or the negated errno.
  static std::string Read(const Opened& opened, size_t n, int64_t* result, uint32_t flags = 0) {
    std::string buf(n, '\0');
    if (opened.file == nullptr) {
      *result = ::read(opened.fd, buf.data(), n);
      if (*result < 0) *result = -errno;
    } else {
      do {
        *result = capio_read(opened.file, buf.data(), n, -1, flags);
      } while (*result == -EINTR);
    }
    buf.resize(*result > 0 ? static_cast<size_t>(*result) : 0);
    return buf;
  }
  // Everything to the end; *result: 0 or the negated errno.
  static std::string ReadToEnd(const Opened& opened, int64_t* result, size_t step = 65536) {
    std::string all;
    for (;;) {
      std::string part = Read(opened, step, result);
      if (*result <= 0) return all;
      all += part;
    }
  }
  static int Close(const Opened& opened, int how = CAPIO_CLOSE_COUNT, int fate = CAPIO_FD_CLOSE) {
    if (opened.file == nullptr) return ::close(opened.fd) == 0 ? 0 : -errno;
    return capio_close(opened.file, how, fate);
  }
  // The whole content, or "error ERRNO".
  std::string Content(const std::string& name) {
    Opened opened = Open(name, O_RDONLY);
    if (opened.fd < 0) return "error " + std::to_string(-opened.fd);
    int64_t result = 0;
    std::string text = ReadToEnd(opened, &result);
    if (result < 0) sentence = capio_last_error();
    (void)Close(opened);
    return result < 0 ? "error " + std::to_string(-result) : text;
  }
  int Make(const std::string& name, const std::string& text) {
    Opened opened = Create(name);
    if (opened.fd < 0) return opened.fd;
    int64_t n = Write(opened, text);
    int closed = Close(opened);
    return n < 0 ? static_cast<int>(n) : closed;
  }
  int Rename(const std::string& from, const std::string& to) {
    std::string a = dir_ + "/" + from;
    std::string b = dir_ + "/" + to;
    int result = 0;
    do {
      result = capio_rename(session_, a.data(), a.size(), b.data(), b.size());
    } while (result == -EINTR);
    return result;
  }
  std::string Resolve(const std::string& name, uint32_t purpose) {
    std::string path = dir_ + "/" + name;
    char buf[8192];
    int n = 0;
    do {
      n = capio_resolve(session_, path.data(), path.size(), purpose, buf, sizeof buf);
    } while (n == -EINTR);
    return n < 0 ? "error " + std::to_string(-n) : buf;
  }
  int Mkdir(const std::string& name) {
    std::string path = dir_ + "/" + name;
    return capio_mkdir(session_, path.data(), path.size(), 0755);
  }
  std::string Info(int what) {
    char buf[8192];
    return capio_session_info(session_, what, buf, sizeof buf) < 0 ? "?" : buf;
  }
  int End(uint32_t wait_ms = 30'000) {
    capio_session* session = std::exchange(session_, nullptr);
    return capio_session_close(session, wait_ms);
  }

  int error = 0;
  std::string sentence;

 private:
  // For the leak checker: a child may end with sessions and files open.
  static void KeepReachable(const void* handle) {
    static auto* mutex = new std::mutex;
    static auto* all = new std::set<const void*>;
    std::lock_guard<std::mutex> guard(*mutex);
    all->insert(handle);
  }

  std::string dir_;
  capio_session* session_ = nullptr;
};

}  // namespace capio::test

#endif  // CAPIO_TESTS_PROCESS_HARNESS_H_
