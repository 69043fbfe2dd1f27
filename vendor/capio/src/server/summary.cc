#include "server/summary.h"

#include <dirent.h>
#include <stdio.h>

#include <algorithm>
#include <array>

#include "os/paths.h"
#include "rules/text.h"
#include "server/salvage.h"

namespace capio {
namespace {

constexpr size_t kNamesShown = 8;
// What a pattern may stand for is looked for in the real directory only among so many entries.
constexpr size_t kMostLooks = 10'000;

struct Tally {
  uint64_t files = 0;
  uint64_t bytes = 0;
  void Add(uint64_t size) {
    ++files;
    bytes += size;
  }
};

std::string SizeText(uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
  constexpr std::array kUnits = {"kB", "MB", "GB", "TB", "PB"};
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  for (; value >= 999.95 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  char text[32];
  snprintf(text, sizeof text, "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string Text(const Tally& tally) {
  return std::to_string(tally.files) + (tally.files == 1 ? " file, " : " files, ") +
         SizeText(tally.bytes);
}

// "prep and xcorr ended, plot failed (pid 12), view never started".
std::string StepsText(Store* store) {
  std::vector<std::string> ended;
  std::string others;
  for (uint32_t app = 0; app < kMaxApps; ++app) {
    if (store->segment->header().apps[app].state.load(std::memory_order_acquire) != kAppNamed) {
      continue;
    }
    const std::string name = store->AppName(app);
    int32_t pid = 0;
    switch (store->judge->StandingOf(app, &pid)) {
      case Standing::kFailed:
        others += ", " + name + " failed (pid " + std::to_string(pid) + ")";
        break;
      case Standing::kNotStarted:
        others += ", " + name + " never started";
        break;
      default:
        ended.push_back(name);
    }
  }
  std::string text;
  for (size_t i = 0; i < ended.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == ended.size() ? " and " : ", ") + ended[i];
  }
  if (!ended.empty()) return text + " ended" + others;
  return others.empty() ? "no step" : others.substr(2);
}

// Something of that name has been made in this run, even if it is gone or has another name by now.
class Made {
 public:
  explicit Made(Store* store) : store_(store) {}

  bool Name(const std::string& name) const {
    struct stat st = {};
    auto layer = store_->layers->Find(name, &st, false);
    if (layer.ok() && (*layer != Layer::kReal || store_->judge->RealCounts(st, name))) return true;
    return store_->directories->Find(name) != nullptr ||
           AnyRecord([&](std::string_view made) { return made == name; });
  }

  bool Pattern(const std::string& pattern) const {
    auto fits = [&](std::string_view name) { return GlobMatch(pattern, name); };
    if (AnyRecord(fits)) return true;
    // Directories without files, and what programs that are not Python have written.
    const size_t wild = pattern.find_first_of("*?[\\");
    const size_t cut = pattern.substr(0, wild).rfind('/');
    size_t looks = 0;
    return Below(cut == std::string::npos ? "" : pattern.substr(0, cut), fits, &looks);
  }

 private:
  template <typename Fits>
  bool AnyRecord(const Fits& fits) const {
    const Segment& segment = *store_->segment;
    bool found = false;
    store_->records->ForEach([&](const FileRecord* record) {
      found = found || fits(segment.Name(record->name.load(std::memory_order_acquire))) ||
              fits(segment.Name(record->first_name));
    });
    return found;
  }

  template <typename Fits>
  bool Below(const std::string& directory, const Fits& fits, size_t* looks) const {
    auto entries = store_->layers->List(directory);
    if (!entries.ok()) return false;
    for (const DirEntry& entry : *entries) {
      // Too many to say.
      if (++*looks > kMostLooks) return true;
      const std::string name = capio::Below(directory, entry.name);
      if (fits(name) && Name(name)) return true;
      if (entry.type == DT_DIR && Below(name, fits, looks)) return true;
    }
    return false;
  }

  Store* store_;
};

std::string Producers(Store* store, const std::vector<uint16_t>& apps) {
  std::string text;
  for (uint16_t app : apps) {
    int32_t pid = 0;
    const Standing standing = store->judge->StandingOf(app, &pid);
    text += (text.empty() ? "app '" : ", app '") + store->AppName(app) +
            (standing == Standing::kNotStarted ? "', which never started"
             : standing == Standing::kFailed   ? "', which failed"
                                               : "'");
  }
  return text;
}

}  // namespace

std::vector<std::string> SummaryOf(Store* store, const Leftovers& leftovers) {
  const Header& header = store->segment->header();
  Tally all;
  Tally written;
  Tally dropped;
  Tally incomplete;
  Tally unwritten;
  store->records->ForEach([&](const FileRecord* record) {
    const std::string name = store->records->NameOf(record);
    const bool salvaged = leftovers.incomplete.count(name) != 0;
    struct stat st = {};
    auto layer = store->layers->Find(name, &st, false);
    const bool there = layer.ok() && store->RecordAt(*layer, name) == record;
    const std::string kept = SalvageDirectory(store->workflow) + "/" + name;
    if (!there && !(salvaged && store->layers->InReal(kept, &st))) return;
    const auto size = static_cast<uint64_t>(st.st_size);
    const uint64_t status = record->status.load(std::memory_order_acquire);
    all.Add(size);
    if (leftovers.unwritten.count(name) != 0) {
      unwritten.Add(size);
    } else if (salvaged) {
      incomplete.Add(size);
    } else if (record->persisted.load() == GenerationOf(status) + 1) {
      written.Add(size);
    } else {
      dropped.Add(size);
    }
  });
  const double seconds = static_cast<double>(os().RealtimeNs() - header.stamp_ns) / 1e9;
  char time[32];
  snprintf(time, sizeof time, "%.1f s", std::max(0.0, seconds));
  std::vector<std::string> lines = {"workflow '" + store->workflow + "' has ended after " + time +
                                    ": " + Text(all) + "; " + StepsText(store)};
  if (written.files > 0) {
    lines.push_back("  written to " + std::string(header.capio_dir) + ": " + Text(written));
  }
  if (dropped.files > 0) {
    lines.push_back("  dropped, being neither permanent nor unread: " + Text(dropped));
  }
  if (incomplete.files > 0) {
    lines.push_back("  incomplete, kept in " + std::string(header.capio_dir) + "/" +
                    SalvageDirectory(store->workflow) + ": " + Text(incomplete));
  }
  if (unwritten.files > 0) {
    lines.push_back("  could not be written, still in " + store->path + ": " + Text(unwritten));
  }
  return lines;
}

std::string UnmadeOutputs(Store* store) {
  const auto rules = store->rules->Get();
  const Made made(store);
  std::string names;
  size_t count = 0;
  for (const Entry& entry : rules->workflow().entries) {
    if (entry.producers.empty() || (!entry.is_glob && rules->Match(entry.pattern).excluded)) {
      continue;
    }
    if (entry.is_glob ? made.Pattern(entry.pattern) : made.Name(entry.pattern)) continue;
    if (++count > kNamesShown) continue;
    names += (names.empty() ? "" : "; ") + Quoted(entry.pattern) + " (" +
             Producers(store, entry.producers) + ")";
  }
  if (count == 0) return "";
  if (count > kNamesShown) names += " and " + std::to_string(count - kNamesShown) + " more";
  return "warning: declared as outputs, but nobody has made " + names;
}

}  // namespace capio
