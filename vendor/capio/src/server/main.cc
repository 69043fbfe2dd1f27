// capio_server: command line, daemonising, readiness, signals. The work is in Server.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "server/options.h"
#include "server/server.h"

namespace {

using capio::os;

void Answer(int fd, const std::string& text) {
  if (fd < 0) return;
  (void)os().Write(fd, text.data(), text.size());
  (void)os().Close(fd);
}

int Fail(int ready_fd, const capio::Status& status) {
  std::string text = *status.text() != '\0' ? status.text() : strerror(status.code());
  Answer(ready_fd, "error " + std::to_string(status.code()) + " " + text + "\n");
  fprintf(stderr, "capio_server: %s\n", text.c_str());
  return status.code() == EINVAL || status.code() == ENOSYS ? 2 : 1;
}

// The background process belongs to no terminal and holds no descriptor of whoever started it.
bool Daemonise(int ready_fd) {
  pid_t pid = ::fork();
  if (pid < 0) return false;
  if (pid > 0) ::_exit(0);
  (void)::setsid();
  (void)::signal(SIGHUP, SIG_IGN);
  (void)::signal(SIGINT, SIG_IGN);
  unsigned first = 3;
  if (ready_fd >= 3) {
    if (ready_fd > 3) (void)os().CloseRange(3, static_cast<unsigned>(ready_fd) - 1);
    first = static_cast<unsigned>(ready_fd) + 1;
  }
  if (os().CloseRange(first, ~0u) < 0) {
    long limit = ::sysconf(_SC_OPEN_MAX);
    for (long fd = first; fd < limit && fd < 65536; ++fd) (void)::close(static_cast<int>(fd));
  }
  return true;
}

void LeaveStdio() {
  int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  for (int fd = 0; fd <= 2; ++fd) (void)::dup2(null, fd);
  (void)::close(null);
}

}  // namespace

int main(int argc, char** argv) {
  (void)::prctl(PR_SET_NAME, "capio_server", 0, 0, 0);
  auto options = capio::ParseServerOptions(std::vector<std::string>(argv + 1, argv + argc));
  if (!options.ok()) return Fail(-1, options.status());
  if (options->help) {
    fputs(capio::ServerUsage(), stdout);
    return 0;
  }
  if (options->version) {
    printf("capio_server %s\n", CAPIO_VERSION);
    return 0;
  }
  if (options->daemon && !Daemonise(options->ready_fd)) {
    return Fail(options->ready_fd, capio::Status::Error(errno, "cannot start in the background"));
  }
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  if (!options->daemon) ::sigaddset(&signals, SIGINT);
  (void)::sigprocmask(SIG_BLOCK, &signals, nullptr);
  (void)::signal(SIGPIPE, SIG_IGN);

  auto server = capio::Server::Start(*options);
  if (!server.ok()) {
    if (server.code() == EBUSY) {
      Answer(options->ready_fd, "busy\n");
      if (options->ready_fd < 0) {
        fprintf(stderr, "capio_server: workflow '%s' is being served already\n",
                options->workflow.c_str());
      }
      return options->ready_fd < 0 ? 1 : 0;
    }
    return Fail(options->ready_fd, server.status());
  }
  capio::Fd signal_fd(os().SignalFd(signals));
  if (!signal_fd.valid()) {
    return Fail(options->ready_fd, capio::Status::Error(-signal_fd.get()));
  }
  if (capio::Status s = (*server)->WatchSignals(signal_fd.get()); !s.ok()) {
    return Fail(options->ready_fd, s);
  }
  if (options->daemon) {
    (void)::chdir("/");
    LeaveStdio();
  }
  Answer(options->ready_fd, "ready\n");
  (*server)->Run();
  return 0;
}
