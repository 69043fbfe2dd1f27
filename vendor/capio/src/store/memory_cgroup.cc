#include "store/memory_cgroup.h"

#include <fcntl.h>
#include <stdlib.h>

#include <algorithm>

#include "os/os.h"
#include "os/paths.h"

namespace capio {
namespace {

// Without a limit, cgroups of version 1 show the largest number of whole pages.
constexpr uint64_t kNoLimit = uint64_t{1} << 62;

std::string ReadAll(const std::string& path) {
  std::string text;
  Fd fd(os().OpenAt(AT_FDCWD, path.c_str(), O_RDONLY, 0));
  if (!fd.valid()) return text;
  char buf[1 << 12];
  for (ssize_t n = 0; (n = os().Read(fd.get(), buf, sizeof buf)) > 0;) {
    text.append(buf, static_cast<size_t>(n));
  }
  return text;
}

std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::string text = ReadAll(path);
  char* end = nullptr;
  uint64_t value = ::strtoull(text.c_str(), &end, 10);
  if (end == text.c_str()) return std::nullopt;  // not there, or "max"
  return value;
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

bool Lists(std::string_view options, std::string_view wanted) {
  auto all = Split(options, ',');
  return std::find(all.begin(), all.end(), wanted) != all.end();
}

// mountinfo writes blanks and the like as \040.
std::string Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>(::strtol(std::string(text.substr(i + 1, 3)).c_str(), nullptr, 8));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// The number that follows a key at the beginning of a line; 0 if there is none.
uint64_t Field(std::string_view stat, std::string_view key) {
  for (std::string_view line : Split(stat, '\n')) {
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
      return ::strtoull(std::string(line.substr(key.size() + 1)).c_str(), nullptr, 10);
    }
  }
  return 0;
}

}  // namespace

std::optional<CgroupPlace> FindMemoryCgroup(std::string_view cgroup, std::string_view mountinfo) {
  CgroupPlace place;
  std::string own;
  bool found = false;
  // ID:CONTROLLERS:PATH; version 2 has no controllers here. Where both are mounted the memory
  // controller belongs to version 1 if that names it.
  for (std::string_view line : Split(cgroup, '\n')) {
    size_t first = line.find(':');
    size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    std::string_view controllers = line.substr(first + 1, second - first - 1);
    bool version1 = Lists(controllers, "memory");
    if (!version1 && (!controllers.empty() || found)) continue;
    own = line.substr(second + 1);
    place.v2 = !version1;
    found = true;
    if (version1) break;
  }
  if (!found) return std::nullopt;
  for (std::string_view line : Split(mountinfo, '\n')) {
    size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    auto head = Split(line.substr(0, dash), ' ');
    auto tail = Split(line.substr(dash + 3), ' ');
    if (head.size() < 5 || tail.empty()) continue;
    if (tail[0] != (place.v2 ? "cgroup2" : "cgroup")) continue;
    if (!place.v2 && (tail.size() < 3 || !Lists(tail[2], "memory"))) continue;
    // What is mounted may be a part of the hierarchy: a container sees its own.
    std::string root = Unescape(head[3]);
    place.mount = Unescape(head[4]);
    place.directory = place.mount;
    std::string below;
    if (own.find("/..") == std::string::npos && PathBelow(own, root, &below) && !below.empty()) {
      place.directory += "/" + below;
    }
    return place;
  }
  return std::nullopt;
}

MemoryCgroups MemoryCgroups::OfThisProcess() {
  MemoryCgroups cgroups;
  auto place = FindMemoryCgroup(ReadAll("/proc/self/cgroup"), ReadAll("/proc/self/mountinfo"));
  if (!place) return cgroups;
  cgroups.v2_ = place->v2;
  for (std::string at = place->directory; at.size() >= place->mount.size();) {
    cgroups.chain_.push_back(at);
    if (at.size() == place->mount.size()) break;
    at.resize(at.rfind('/'));
  }
  return cgroups;
}

std::vector<CgroupLimit> MemoryCgroups::Limits() const {
  std::vector<CgroupLimit> limits;
  for (const std::string& directory : chain_) {
    if (auto limit = LimitOf(directory)) limits.push_back(std::move(*limit));
  }
  return limits;
}

std::optional<CgroupLimit> MemoryCgroups::LimitOf(const std::string& directory) const {
  auto limit = ReadNumber(directory + (v2_ ? "/memory.max" : "/memory.limit_in_bytes"));
  if (v2_) {
    // Above this one the kernel slows everybody down to a crawl.
    auto high = ReadNumber(directory + "/memory.high");
    if (high) limit = std::min(*high, limit.value_or(*high));
  }
  if (!limit || *limit >= kNoLimit) return std::nullopt;
  auto usage = ReadNumber(directory + (v2_ ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!usage) return std::nullopt;
  CgroupLimit found{directory, *limit, *limit - std::min(*limit, *usage)};
  if (found.left > *limit / 2) return found;
  // Pages of files on disk are given up under pressure; those not yet written only later. What
  // lies on tmpfs counts as anonymous memory. The file is long: read when it matters.
  std::string stat = ReadAll(directory + "/memory.stat");
  auto field = [&](const char* v1, const char* v2) { return Field(stat, v2_ ? v2 : v1); };
  uint64_t cache =
      field("total_inactive_file", "inactive_file") + field("total_active_file", "active_file");
  if (v2_) cache += Field(stat, "slab_reclaimable");
  uint64_t busy = field("total_dirty", "file_dirty") + field("total_writeback", "file_writeback");
  found.left = std::min(*limit, found.left + cache - std::min(cache, busy));
  return found;
}

}  // namespace capio
