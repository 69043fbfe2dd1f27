#include "server/beacon.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "os/host.h"
#include "os/paths.h"

namespace capio {
namespace {

// Of a server on another node: three signs of life that did not come, and some for the clocks.
constexpr int64_t kDeadAfterNs = INT64_C(3'500'000) * Beacon::kBeatMs;

std::string ReadText(int fd) {
  char buf[8192];
  ssize_t n = os().Pread(fd, buf, sizeof buf, 0);
  return std::string(buf, n > 0 ? static_cast<size_t>(n) : 0);
}

// The value of a "key value" line.
std::string ValueOf(const std::string& text, const std::string& key) {
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    if (text.compare(at, key.size() + 1, key + " ") == 0) {
      return text.substr(at + key.size() + 1, end - at - key.size() - 1);
    }
    at = end + 1;
  }
  return "";
}

}  // namespace

Beacon::Beacon(const Store* store) : store_(store) {
  directory_ = ".capio/" + EncodeName(store->workflow);
  path_ = directory_ + "/where";
  struct stat st = {};
  size_t cut = store->path.rfind('/');
  (void)os().FstatAt(AT_FDCWD, store->path.substr(0, cut).c_str(), &st, 0);
  place_ = BootId() + " " + std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino);
}

std::string Beacon::Describe(const std::string& text) const {
  return "the store " + ValueOf(text, "store") + " on host " + ValueOf(text, "host") +
         " (server pid " + ValueOf(text, "pid") + ")";
}

std::string Beacon::Unnamed() const {
  return directory_ + "/.new-" + std::to_string(store_->segment->header().control_id);
}

// A beacon is locked and whole before it has its name: two servers that start at once must not
// read half of each other's.
Fd Beacon::Make(const std::string& text) const {
  Fd fd(os().OpenAt(store_->real.get(), Unnamed().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW,
                    0644));
  if (!fd.valid()) return fd;
  if (os().Flock(fd.get(), LOCK_EX | LOCK_NB) < 0 ||
      os().Pwrite(fd.get(), text.data(), text.size(), 0) < 0) {
    (void)os().UnlinkAt(store_->real.get(), Unnamed().c_str(), 0);
    fd.reset();
  }
  return fd;
}

Status Beacon::Claim() {
  const Header& header = store_->segment->header();
  int real = store_->real.get();
  std::string mine = "host " + HostName() + "\nboot " + BootId() + "\nplace " + place_ +
                     "\nstore " + store_->path + "\ncontrol " + std::to_string(header.control_id) +
                     "\npid " + std::to_string(::getpid()) + "\nrun " + header.run_id + "\n";
  for (int attempt = 0; attempt < 8; ++attempt) {
    for (const char* directory : {".capio", directory_.c_str()}) {
      int error = os().MkdirAt(real, directory, 0777);
      // Nobody else can put one here either.
      if (error < 0 && error != -EEXIST && error != -ENOENT) return Status::Ok();
    }
    // One at a time: who takes a dead server's beacon over holds its lock for a moment, and must
    // not be taken for that server. Where directories cannot be locked (NFS) it may be.
    Fd turn(os().OpenAt(real, directory_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0));
    if (turn.valid()) (void)os().Flock(turn.get(), LOCK_EX);
    Fd fd(os().OpenAt(real, path_.c_str(), O_RDWR | O_NOFOLLOW, 0));
    if (fd.get() == -ENOENT) {
      Fd made = Make(mine);
      if (!made.valid()) {
        if (made.get() == -ENOENT) continue;  // a server that ends takes the directory away
        return Status::Ok();
      }
      int error = os().LinkAt(real, Unnamed().c_str(), real, path_.c_str(), 0);
      (void)os().UnlinkAt(real, Unnamed().c_str(), 0);
      if (error == -EEXIST || error == -ENOENT) continue;  // another was faster, or has ended
      if (error == 0) fd_ = std::move(made);
      return Status::Ok();
    }
    bool foreign = fd.get() == -EACCES;
    if (foreign) fd.reset(os().OpenAt(real, path_.c_str(), O_RDONLY | O_NOFOLLOW, 0));
    if (!fd.valid()) return Status::Ok();
    int locked = os().Flock(fd.get(), LOCK_EX | LOCK_NB);
    std::string theirs = ReadText(fd.get());
    bool alive = locked == -EWOULDBLOCK;
    if (alive && ValueOf(theirs, "place") == place_) return Status::Ok();
    struct stat st = {};
    struct stat named = {};
    if (os().Fstat(fd.get(), &st) < 0) continue;
    if (os().FstatAt(real, path_.c_str(), &named, AT_SYMLINK_NOFOLLOW) < 0 ||
        named.st_ino != st.st_ino) {
      continue;
    }
    // The lock of another node may not be seen here.
    if (!alive && !theirs.empty() && ValueOf(theirs, "boot") != BootId()) {
      int64_t beat = st.st_mtim.tv_sec * INT64_C(1'000'000'000) + st.st_mtim.tv_nsec;
      alive = os().RealtimeNs() - beat < kDeadAfterNs;
    }
    if (alive) {
      return Status::Error(
          EADDRINUSE,
          "workflow '" + store_->workflow + "' on " + header.capio_dir + " is being served from " +
              Describe(theirs) + "; this process would use " + Describe(mine) +
              ", and the two would not see each other's files. Give all steps a CAPIO_STORE that "
              "they share, or this workflow another name; if the other server's machine is no "
              "more, wait half a minute");
    }
    if (foreign) return Status::Ok();
    // The lock of the old one, which we hold, keeps others from doing the same.
    Fd made = Make(mine);
    if (!made.valid()) return Status::Ok();
    if (os().RenameAt(real, Unnamed().c_str(), real, path_.c_str()) < 0) {
      (void)os().UnlinkAt(real, Unnamed().c_str(), 0);
      return Status::Ok();
    }
    fd_ = std::move(made);
    return Status::Ok();
  }
  return Status::Ok();
}

void Beacon::Beat() {
  struct stat st = {};
  struct stat named = {};
  if (fd_.valid() && os().Fstat(fd_.get(), &st) == 0 &&
      os().FstatAt(store_->real.get(), path_.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
      st.st_ino == named.st_ino) {
    const struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    (void)os().Futimens(fd_.get(), now);
    return;
  }
  // Not to be had before, or removed by somebody who cleaned up.
  fd_.reset();
  (void)Claim();
}

void Beacon::Remove() {
  if (!fd_.valid()) return;
  (void)os().UnlinkAt(store_->real.get(), path_.c_str(), 0);
  fd_.reset();
  (void)os().UnlinkAt(store_->real.get(), directory_.c_str(), AT_REMOVEDIR);
  (void)os().UnlinkAt(store_->real.get(), ".capio", AT_REMOVEDIR);
}

}  // namespace capio
