#include "os/paths.h"

#include <limits.h>

#include <vector>

#include "os/os.h"

namespace capio {

Result<std::string> AbsolutePath(std::string_view path) {
  if (path.empty()) return Status::Error(ENOENT);
  if (path.find('\0') != std::string_view::npos) return Status::Error(EINVAL);
  if (path.front() == '/') return NormalizePath(path);
  char cwd[PATH_MAX];
  if (int error = os().Getcwd(cwd, sizeof cwd); error < 0) return Status::Error(-error);
  std::string joined = cwd;
  joined += '/';
  joined += path;
  return NormalizePath(joined);
}

std::string NormalizePath(std::string_view absolute) {
  std::string out;
  out.reserve(absolute.size() + 1);
  for (size_t at = 0; at < absolute.size();) {
    size_t end = absolute.find('/', at);
    if (end == std::string_view::npos) end = absolute.size();
    std::string_view part = absolute.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      size_t cut = out.rfind('/');
      out.resize(cut == std::string::npos ? 0 : cut);
      continue;
    }
    out += '/';
    out += part;
  }
  if (out.empty()) out = "/";
  return out;
}

bool IsNormal(std::string_view path) {
  if (path.empty() || path.front() != '/') return false;
  return path.size() == 1 || IsNormalBelow(path.substr(1));
}

bool IsNormalBelow(std::string_view relative) {
  for (size_t start = 0; start <= relative.size();) {
    size_t end = start;
    for (; end < relative.size() && relative[end] != '/'; ++end) {
      if (relative[end] == '\0') return false;
    }
    std::string_view name = relative.substr(start, end - start);
    if (name.empty() || name == "." || name == "..") return false;
    start = end + 1;
  }
  return true;
}

Ending EndingOf(std::string_view path) {
  if (path.empty() || path == "/") return Ending::kName;
  size_t end = path.find_last_not_of('/');
  if (end == std::string_view::npos) return Ending::kName;
  size_t cut = path.rfind('/', end);
  std::string_view last = path.substr(cut == std::string_view::npos ? 0 : cut + 1,
                                      end - (cut == std::string_view::npos ? 0 : cut + 1) + 1);
  if (last == "." || last == "..") return Ending::kDot;
  return end + 1 < path.size() ? Ending::kSlash : Ending::kName;
}

bool PathBelow(std::string_view path, std::string_view root, std::string* relative) {
  if (root == "/") root = "";
  if (path.size() < root.size() || path.substr(0, root.size()) != root) return false;
  path.remove_prefix(root.size());
  if (path.empty()) {
    relative->clear();
    return true;
  }
  if (path.front() != '/') return false;
  relative->assign(path.substr(1));
  return true;
}

std::string Below(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty()) path += '/';
  return path.append(name);
}

std::string_view ParentOf(std::string_view relative) {
  size_t cut = relative.rfind('/');
  return cut == std::string_view::npos ? std::string_view() : relative.substr(0, cut);
}

uint64_t HashString(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash ^ (hash >> 32);
}

std::string EncodeName(std::string_view name) {
  static const char kHex[] = "0123456789ABCDEF";
  constexpr size_t kMax = 128;
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    auto c = static_cast<unsigned char>(name[i]);
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                 c == '_' || c == '-' || (c == '.' && i > 0);
    if (plain) {
      out += static_cast<char>(c);
    } else {
      out += '%';
      out += kHex[c >> 4];
      out += kHex[c & 15];
    }
  }
  if (out.empty()) out = "%";
  if (out.size() > kMax) {
    uint64_t hash = HashString(name);
    out.resize(kMax - 17);
    out += '~';
    for (int shift = 60; shift >= 0; shift -= 4) out += kHex[(hash >> shift) & 15];
  }
  return out;
}

}  // namespace capio
