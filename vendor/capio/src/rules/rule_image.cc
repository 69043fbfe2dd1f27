#include "rules/rule_image.h"

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace capio {
namespace {

constexpr uint32_t kMagic = 0x524C4343;  // "CCLR"
constexpr uint16_t kFormat = 1;
constexpr size_t kSizeAt = 8;
constexpr size_t kChecksumAt = 16;
constexpr size_t kHeaderSize = 24;

constexpr uint8_t kIsGlob = 1;
constexpr uint8_t kIsDirectory = 2;
constexpr uint8_t kPermanent = 4;
constexpr uint8_t kExcluded = 8;
constexpr uint8_t kHasStorage = 16;
constexpr uint8_t kStorageFs = 32;
constexpr uint8_t kHasStreaming = 64;
constexpr uint8_t kAllFlags = 127;

// The fewest bytes an element can take: a count that needs more than is left is refused before
// memory is asked for.
constexpr size_t kMinString = 4;
constexpr size_t kMinEntry = 4 + 1 + 4 + 4 + 4;

uint64_t Checksum(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

class Writer {
 public:
  template <std::unsigned_integral T>
  void Number(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes_ += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i) & 0xFF);
    }
  }
  template <std::unsigned_integral T>
  void NumberAt(size_t at, T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes_[at + i] = static_cast<char>(static_cast<uint64_t>(value) >> (8 * i) & 0xFF);
    }
  }
  void String(std::string_view text) {
    Number(static_cast<uint32_t>(text.size()));
    bytes_ += text;
  }
  void Strings(const std::vector<std::string>& list) {
    Number(static_cast<uint32_t>(list.size()));
    for (const std::string& text : list) String(text);
  }
  void Numbers(const std::vector<uint16_t>& list) {
    Number(static_cast<uint32_t>(list.size()));
    for (uint16_t value : list) Number(value);
  }
  [[nodiscard]] std::string_view bytes() const { return bytes_; }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// After the first read that does not fit, ok() is false and everything reads as zero or empty.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <std::unsigned_integral T>
  T Number() {
    const std::string_view bytes = Take(sizeof(T));
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.size(); ++i) {
      value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
    }
    return static_cast<T>(value);
  }
  std::string String() { return std::string(Take(Number<uint32_t>())); }
  uint32_t Count(size_t min_size) {
    const auto count = Number<uint32_t>();
    if (count > rest_.size() / min_size) Fail();
    return ok_ ? count : 0;
  }
  std::vector<std::string> Strings() {
    std::vector<std::string> list;
    for (uint32_t left = Count(kMinString); left > 0 && ok_; --left) list.push_back(String());
    return list;
  }
  std::vector<uint16_t> Numbers(size_t limit) {
    std::vector<uint16_t> list;
    for (uint32_t left = Count(sizeof(uint16_t)); left > 0 && ok_; --left) {
      list.push_back(Number<uint16_t>());
      if (list.back() >= limit) Fail();
    }
    return list;
  }
  void Fail() { ok_ = false; }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

 private:
  std::string_view Take(size_t size) {
    if (!ok_ || size > rest_.size()) {
      Fail();
      return {};
    }
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  bool ok_ = true;
};

void WriteEntry(const Entry& entry, Writer* out) {
  uint8_t flags = 0;
  if (entry.is_glob) flags |= kIsGlob;
  if (entry.is_directory) flags |= kIsDirectory;
  if (entry.permanent) flags |= kPermanent;
  if (entry.excluded) flags |= kExcluded;
  if (entry.storage) flags |= kHasStorage;
  if (entry.storage == Storage::kFs) flags |= kStorageFs;
  if (entry.streaming) flags |= kHasStreaming;
  out->String(entry.pattern);
  out->Number(flags);
  if (entry.streaming) {
    out->Number(static_cast<uint8_t>(entry.streaming->commit));
    out->Number(static_cast<uint8_t>(entry.streaming->fire));
    out->Number(entry.streaming->close_count);
    out->Number(entry.streaming->n_files);
    out->Strings(entry.streaming->dependencies);
  }
  out->Numbers(entry.producers);
  out->Numbers(entry.consumers);
  out->String(entry.home);
}

Entry ReadEntry(Reader* in, size_t app_count) {
  Entry entry;
  entry.pattern = in->String();
  const auto flags = in->Number<uint8_t>();
  if ((flags & ~kAllFlags) != 0) in->Fail();
  if ((flags & kStorageFs) != 0 && (flags & kHasStorage) == 0) in->Fail();
  entry.is_glob = (flags & kIsGlob) != 0;
  entry.is_directory = (flags & kIsDirectory) != 0;
  entry.permanent = (flags & kPermanent) != 0;
  entry.excluded = (flags & kExcluded) != 0;
  if ((flags & kHasStorage) != 0) {
    entry.storage = (flags & kStorageFs) != 0 ? Storage::kFs : Storage::kMemory;
  }
  if ((flags & kHasStreaming) != 0) {
    Streaming& streaming = entry.streaming.emplace();
    const auto commit = in->Number<uint8_t>();
    const auto fire = in->Number<uint8_t>();
    if (commit > static_cast<uint8_t>(CommitRule::kOnNFiles)) {
      in->Fail();
    } else {
      streaming.commit = static_cast<CommitRule>(commit);
    }
    if (fire > static_cast<uint8_t>(FireRule::kNoUpdate)) {
      in->Fail();
    } else {
      streaming.fire = static_cast<FireRule>(fire);
    }
    streaming.close_count = in->Number<uint32_t>();
    streaming.n_files = in->Number<uint32_t>();
    streaming.dependencies = in->Strings();
  }
  entry.producers = in->Numbers(app_count);
  entry.consumers = in->Numbers(app_count);
  entry.home = in->String();
  return entry;
}

Status Corrupt(const char* what) {
  return Status::Error(EPROTO, std::string("the CAPIO-CL rules in shared memory are corrupt (") +
                                   what + "); stop the workflow's server and start again");
}

}  // namespace

std::string SerialiseRules(const Workflow& workflow) {
  Writer out;
  out.Number(kMagic);
  out.Number(kFormat);
  out.Number(uint16_t{0});
  out.Number(uint64_t{0});
  out.Number(uint64_t{0});
  out.String(workflow.name);
  out.Number(std::bit_cast<uint64_t>(workflow.version));
  out.String(workflow.configuration);
  out.Strings(workflow.warnings);
  out.Strings(workflow.apps);
  out.Number(static_cast<uint32_t>(workflow.entries.size()));
  for (const Entry& entry : workflow.entries) WriteEntry(entry, &out);
  out.NumberAt(kSizeAt, static_cast<uint64_t>(out.bytes().size()));
  out.NumberAt(kChecksumAt, Checksum(out.bytes().substr(kHeaderSize)));
  return out.take();
}

Result<Workflow> ParseRuleImage(std::span<const std::byte> image) {
  if (image.size() < kHeaderSize) return Corrupt("shorter than its header");
  const std::string header(reinterpret_cast<const char*>(image.data()), kHeaderSize);
  Reader head(header);
  if (head.Number<uint32_t>() != kMagic) return Corrupt("no rules at all");
  if (head.Number<uint16_t>() != kFormat || head.Number<uint16_t>() != 0) {
    return Status::Error(EPROTO,
                         "the CAPIO-CL rules in shared memory have another format: the workflow's "
                         "server is of another release; use one release for all of its steps");
  }
  const auto size = head.Number<uint64_t>();
  const auto checksum = head.Number<uint64_t>();
  if (size < kHeaderSize || size > image.size()) return Corrupt("truncated");
  // A copy: what has been checked must not change before it is used.
  const std::string body(reinterpret_cast<const char*>(image.data()) + kHeaderSize,
                         size - kHeaderSize);
  if (Checksum(body) != checksum) return Corrupt("wrong checksum");

  Reader in(body);
  Workflow workflow;
  workflow.name = in.String();
  workflow.version = std::bit_cast<double>(in.Number<uint64_t>());
  if (!std::isfinite(workflow.version)) in.Fail();
  workflow.configuration = in.String();
  workflow.warnings = in.Strings();
  workflow.apps = in.Strings();
  if (workflow.apps.size() > std::numeric_limits<uint16_t>::max()) in.Fail();
  std::unordered_set<std::string> seen;
  for (uint32_t left = in.Count(kMinEntry); left > 0 && in.ok(); --left) {
    workflow.entries.push_back(ReadEntry(&in, workflow.apps.size()));
    const Entry& entry = workflow.entries.back();
    if (!seen.insert((entry.is_glob ? '*' : '=') + entry.pattern).second) in.Fail();
  }
  if (!in.ok() || !in.at_end()) return Corrupt("malformed");
  return workflow;
}

}  // namespace capio
