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

template <typename Visit>
void ForEachEntry(const std::string& journal, Visit visit) {
  for (size_t at = 0; at < journal.size();) {
    size_t end = journal.find('\0', at);
    if (end == std::string::npos) return;
    if (end - at >= 2) visit(journal[at], journal.substr(at + 1, end - at - 1));
    at = end + 1;
  }
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
  ForEachEntry(text, [&](char kind, const std::string& path) {
    if (NormalizePath("/" + path) != "/" + path) return;  // not written by us
    if (kind == 'd') {
      directories.push_back(path);
    } else if (LeadsToStore(real_dir, path, encoded)) {
      (void)os().UnlinkAt(real_dir, path.c_str(), 0);
    }
  });
  for (auto it = directories.rbegin(); it != directories.rend(); ++it) {
    (void)os().UnlinkAt(real_dir, it->c_str(), AT_REMOVEDIR);
  }
  (void)os().UnlinkAt(real_dir, journal.c_str(), 0);
  (void)os().UnlinkAt(real_dir, home.c_str(), AT_REMOVEDIR);
  (void)os().UnlinkAt(real_dir, ".capio", AT_REMOVEDIR);
}

bool IsLinked(int real_dir, const std::string& workflow, const std::string& name) {
  std::string journal = ".capio/" + EncodeName(workflow) + "/links";
  bool linked = false;
  ForEachEntry(ReadJournal(real_dir, journal.c_str()),
               [&](char kind, const std::string& path) { linked |= kind != 'd' && path == name; });
  return linked;
}

}  // namespace capio
