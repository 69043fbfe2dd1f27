#include "server/links.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <vector>

#include "os/paths.h"

namespace capio {
namespace {

std::string ReadJournal(int dir, const char* name) {
  std::string text;
  Fd fd(os().OpenAt(dir, name, O_RDONLY | O_NOFOLLOW, 0));
  if (!fd.valid()) return text;
  char buf[1 << 14];
  for (ssize_t n = 0; (n = os().Read(fd.get(), buf, sizeof buf)) > 0;) {
    text.append(buf, static_cast<size_t>(n));
  }
  return text;
}

// A link .../<workflow>/tree/<path>: of the present store, or of one that is gone.
bool LeadsToStore(int dir, const std::string& path, const std::string& encoded) {
  std::string target(4096, '\0');
  ssize_t n = os().ReadlinkAt(dir, path.c_str(), target.data(), target.size());
  if (n <= 0) return false;
  target.resize(static_cast<size_t>(n));
  return target.ends_with("/" + encoded + "/tree/" + path);
}

}  // namespace

void RemoveLeftLinks(int real_dir, const std::string& workflow) {
  std::string encoded = EncodeName(workflow);
  std::string home = ".capio/" + encoded;
  std::string journal = home + "/links";
  std::string text = ReadJournal(real_dir, journal.c_str());
  std::vector<std::string> directories;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\0', at);
    if (end == std::string::npos) break;
    std::string entry = text.substr(at, end - at);
    at = end + 1;
    if (entry.size() < 2) continue;
    std::string path = entry.substr(1);
    if (NormalizePath("/" + path) != "/" + path) continue;  // not written by us
    if (entry[0] == 'd') {
      directories.push_back(path);
    } else if (LeadsToStore(real_dir, path, encoded)) {
      (void)os().UnlinkAt(real_dir, path.c_str(), 0);
    }
  }
  for (auto it = directories.rbegin(); it != directories.rend(); ++it) {
    (void)os().UnlinkAt(real_dir, it->c_str(), AT_REMOVEDIR);
  }
  (void)os().UnlinkAt(real_dir, journal.c_str(), 0);
  (void)os().UnlinkAt(real_dir, home.c_str(), AT_REMOVEDIR);
  (void)os().UnlinkAt(real_dir, ".capio", AT_REMOVEDIR);
}

}  // namespace capio
