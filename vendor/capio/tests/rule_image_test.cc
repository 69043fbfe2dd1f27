#include "rules/rule_image.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rules/capio_cl.h"
#include "rules/rule_set.h"

namespace capio {
namespace {

using namespace std::string_view_literals;

Workflow Sample() {
  Result<Workflow> workflow = ParseCapioCl(R"({"name": "w \u00e9", "version": 1.1,
      "configuration": "c.toml",
      "IO_Graph": [
        {"name": "a", "output_stream": ["x", "d", "d/*", "y"], "streaming": [
          {"name": ["x"], "committed": "on_close:3", "mode": "no_update"},
          {"dirname": ["d"], "n_files": 70000},
          {"name": ["d/*"], "committed": "on_file", "file_deps": ["x", "q/*.z"]}]},
        {"name": "b", "input_stream": ["x", "d", "d/*"], "output_stream": ["y"]}],
      "permanent": ["y"], "exclude": ["*.tmp", "/outside"],
      "home_node_policies": {"manual": [{"name": ["x"], "app_node": "a"}]},
      "storage": {"memory": ["x"], "fs": ["d/*"]}})",
                                           "f.json", {"/data", "", ""});
  EXPECT_TRUE(workflow.ok()) << workflow.status().text();
  return workflow.ok() ? workflow.take() : Workflow();
}

// A heap copy of exactly this size, so that a read beyond it is seen by the address sanitizer.
Result<Workflow> Parse(std::string_view image) {
  auto exact = std::make_unique<char[]>(image.size());
  std::memcpy(exact.get(), image.data(), image.size());
  return ParseRuleImage(std::as_bytes(std::span(exact.get(), image.size())));
}

void PutLittleEndian(uint64_t value, size_t size, size_t at, std::string* image) {
  for (size_t i = 0; i < size; ++i) (*image)[at + i] = static_cast<char>(value >> (8 * i) & 0xFF);
}

// Makes size and checksum right again after a change behind the header, to reach what they protect.
void Seal(std::string* image) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 24; i < image->size(); ++i) {
    hash = (hash ^ static_cast<unsigned char>((*image)[i])) * 0x100000001b3u;
  }
  PutLittleEndian(image->size(), 8, 8, image);
  PutLittleEndian(hash, 8, 16, image);
}

TEST(RuleImage, RoundTrip) {
  const Workflow workflow = Sample();
  ASSERT_FALSE(workflow.entries.empty());
  ASSERT_FALSE(workflow.warnings.empty());
  Result<Workflow> read = Parse(SerialiseRules(workflow));
  ASSERT_TRUE(read.ok()) << read.status().text();
  EXPECT_TRUE(*read == workflow);
  EXPECT_EQ(SerialiseRules(*read), SerialiseRules(workflow));
}

TEST(RuleImage, EmptyWorkflow) {
  Result<Workflow> read = Parse(SerialiseRules(Workflow()));
  ASSERT_TRUE(read.ok()) << read.status().text();
  EXPECT_TRUE(*read == Workflow());
}

TEST(RuleImage, LayoutIsFixed) {
  Workflow workflow;
  workflow.name = "w";
  workflow.apps = {"ab"};
  Entry& entry = workflow.entries.emplace_back();
  entry.pattern = "x";
  entry.permanent = true;
  entry.producers = {0};
  const std::string image = SerialiseRules(workflow);
  const std::string_view body =
      "\1\0\0\0w"
      "\0\0\0\0\0\0\xF0\x3F"
      "\0\0\0\0"
      "\0\0\0\0"
      "\1\0\0\0\2\0\0\0ab"
      "\1\0\0\0"
      "\1\0\0\0x\4"
      "\1\0\0\0\0\0"
      "\0\0\0\0"
      "\0\0\0\0"sv;
  EXPECT_EQ(image.substr(0, 8), "CCLR\1\0\0\0"sv);
  EXPECT_EQ(image.substr(24), body);
  EXPECT_EQ(image[8], static_cast<char>(24 + body.size()));
}

TEST(RuleImage, BytesBehindTheImageAreIgnored) {
  const Workflow workflow = Sample();
  Result<Workflow> read = Parse(SerialiseRules(workflow) + std::string(4096, '\xEE'));
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(*read == workflow);
}

TEST(RuleImage, EveryTruncationIsRefused) {
  const std::string image = SerialiseRules(Sample());
  for (size_t size = 0; size < image.size(); ++size) {
    Result<Workflow> read = Parse(std::string_view(image).substr(0, size));
    ASSERT_FALSE(read.ok()) << size;
    ASSERT_EQ(read.code(), EPROTO) << size;
    // Also when the header admits to the shorter size.
    if (size < 24) continue;
    std::string sealed = image.substr(0, size);
    Seal(&sealed);
    ASSERT_EQ(Parse(sealed).code(), EPROTO) << size;
  }
}

TEST(RuleImage, EveryChangedBitIsRefused) {
  const std::string image = SerialiseRules(Sample());
  for (size_t at = 0; at < image.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = image;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      Result<Workflow> read = Parse(damaged);
      ASSERT_FALSE(read.ok()) << at << "." << bit;
      ASSERT_EQ(read.code(), EPROTO) << at << "." << bit;
      ASSERT_STRNE(read.status().text(), "");
    }
  }
}

TEST(RuleImage, RandomDamageBehindAValidChecksumNeverCrashes) {
  const std::string image = SerialiseRules(Sample());
  std::mt19937 random(20261123);
  int refused = 0;
  int accepted = 0;
  for (int round = 0; round < 60000; ++round) {
    std::string damaged = image;
    for (size_t left = 1 + random() % 4; left > 0; --left) {
      const size_t at = 24 + random() % (damaged.size() - 24);
      switch (random() % 4) {
        case 0:
          damaged[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          damaged[at] = static_cast<char>(0xFF);
          break;
        case 2:
          damaged.erase(at, 1 + random() % 8);
          break;
        default:
          damaged.insert(at, 1 + random() % 8, static_cast<char>(random() % 4));
      }
      if (damaged.size() <= 24) damaged = image;
    }
    Seal(&damaged);
    Result<Workflow> read = Parse(damaged);
    if (!read.ok()) {
      ASSERT_EQ(read.code(), EPROTO);
      ++refused;
      continue;
    }
    // What is accepted must be fit for use.
    ++accepted;
    const size_t apps = read->apps.size();
    for (const Entry& entry : read->entries) {
      for (uint16_t app : entry.producers) ASSERT_LT(app, apps);
      for (uint16_t app : entry.consumers) ASSERT_LT(app, apps);
    }
    const std::string again = SerialiseRules(*read);
    ASSERT_EQ(again, damaged);
    const RuleSet rules(read->entries.empty() ? Workflow() : read.take());
    (void)rules.Match("d/x");
    (void)rules.Conflicts("d/x");
  }
  EXPECT_GT(refused, 10000);
  EXPECT_GT(accepted, 1000);
}

TEST(RuleImage, HugeCountsAskForNoMemory) {
  const std::string image = SerialiseRules(Workflow());
  // Name, version, configuration, warnings, apps, entries: each count in turn.
  for (size_t at : {24u, 36u, 40u, 44u, 48u}) {
    for (uint64_t count : {uint64_t{1}, uint64_t{0x7FFFFFFF}, uint64_t{0xFFFFFFFF}}) {
      std::string damaged = image;
      PutLittleEndian(count, 4, at, &damaged);
      Seal(&damaged);
      EXPECT_EQ(Parse(damaged).code(), EPROTO) << at << " " << count;
    }
  }
}

TEST(RuleImage, StatedSizeIsChecked) {
  const std::string image = SerialiseRules(Sample());
  for (uint64_t size : {uint64_t{0}, uint64_t{23}, uint64_t{24}, uint64_t{image.size() - 1},
                        uint64_t{image.size() + 1}, std::numeric_limits<uint64_t>::max()}) {
    std::string damaged = image;
    PutLittleEndian(size, 8, 8, &damaged);
    EXPECT_EQ(Parse(damaged).code(), EPROTO) << size;
  }
}

TEST(RuleImage, OtherFormatSaysSo) {
  std::string image = SerialiseRules(Sample());
  image[4] = 2;
  Result<Workflow> read = Parse(image);
  EXPECT_EQ(read.code(), EPROTO);
  EXPECT_NE(std::string_view(read.status().text()).find("another format"), std::string_view::npos);
}

// Values no writer produces, each behind a valid checksum.
TEST(RuleImage, BadValuesAreRefused) {
  Workflow workflow;
  workflow.apps = {"a"};
  Entry& entry = workflow.entries.emplace_back();
  entry.pattern = "x";
  entry.streaming.emplace();
  entry.producers = {0};
  EXPECT_TRUE(Parse(SerialiseRules(workflow)).ok());

  Workflow bad = workflow;
  bad.entries[0].producers = {1};
  EXPECT_EQ(Parse(SerialiseRules(bad)).code(), EPROTO) << "an app that does not exist";
  bad = workflow;
  bad.entries.push_back(bad.entries[0]);
  EXPECT_EQ(Parse(SerialiseRules(bad)).code(), EPROTO) << "a pattern given twice";
  bad.entries[1].is_glob = true;
  EXPECT_TRUE(Parse(SerialiseRules(bad)).ok()) << "a name and a pattern of the same text";
  bad = workflow;
  bad.version = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Parse(SerialiseRules(bad)).code(), EPROTO) << "a version that is no number";

  const std::string image = SerialiseRules(workflow);
  const size_t flags = image.find("x", 24) + 1;
  for (auto [at, value] : {std::pair<size_t, int>{flags, 64 | 128},  // unknown flag
                           {flags, 64 | 32},                         // fs without storage
                           {flags + 1, 4},                           // no commit rule
                           {flags + 2, 2}}) {                        // no fire rule
    std::string damaged = image;
    damaged[at] = static_cast<char>(value);
    Seal(&damaged);
    EXPECT_EQ(Parse(damaged).code(), EPROTO) << at - flags << " " << value;
  }
}

}  // namespace
}  // namespace capio
