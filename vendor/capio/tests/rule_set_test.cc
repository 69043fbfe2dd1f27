#include "rules/rule_set.h"

#include <fnmatch.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "rules/capio_cl.h"
#include "rules/rule_image.h"

namespace capio {
namespace {

RuleSet Rules(const std::string& text) {
  Result<Workflow> workflow = ParseCapioCl(text, "f.json", {"/data/run", "", ""});
  EXPECT_TRUE(workflow.ok()) << workflow.status().text();
  return workflow.ok() ? RuleSet(workflow.take()) : RuleSet();
}

// Even if the clauses contradict each other, for which a file is refused.
RuleSet Streams(const std::string& clauses) {
  std::vector<ClDiagnostic> errors;
  Result<Workflow> workflow = ReadCapioCl(
      R"({"name": "w", "IO_Graph": [{"name": "s", "output_stream": ["*"], "streaming": [)" +
          clauses + "]}]}",
      "f.json", {"/data/run", "", ""}, &errors);
  EXPECT_TRUE(workflow.ok()) << workflow.status().text();
  return workflow.ok() ? RuleSet(workflow.take()) : RuleSet();
}

TEST(GlobMatch, Basics) {
  EXPECT_TRUE(GlobMatch("", ""));
  EXPECT_FALSE(GlobMatch("", "a"));
  EXPECT_FALSE(GlobMatch("a", ""));
  EXPECT_TRUE(GlobMatch("*", ""));
  EXPECT_TRUE(GlobMatch("abc", "abc"));
  EXPECT_FALSE(GlobMatch("abc", "abcd"));
  EXPECT_FALSE(GlobMatch("abcd", "abc"));
  EXPECT_TRUE(GlobMatch("a*c*e", "abcde"));
  EXPECT_FALSE(GlobMatch("a*c*e", "abcdef"));
  EXPECT_TRUE(GlobMatch("a?c", "abc"));
  EXPECT_FALSE(GlobMatch("a?c", "ac"));
}

TEST(GlobMatch, SlashAndLeadingDotAreOrdinary) {
  EXPECT_TRUE(GlobMatch("out/*", "out/a/b/c"));
  EXPECT_TRUE(GlobMatch("*.dat", "a/b.dat"));
  EXPECT_TRUE(GlobMatch("a?b", "a/b"));
  EXPECT_TRUE(GlobMatch("a[/x]b", "a/b"));
  EXPECT_TRUE(GlobMatch("*", ".hidden"));
  EXPECT_TRUE(GlobMatch("?hidden", ".hidden"));
  EXPECT_FALSE(GlobMatch("out/*", "out"));
}

TEST(GlobMatch, Sets) {
  EXPECT_TRUE(GlobMatch("[a-c]", "b"));
  EXPECT_FALSE(GlobMatch("[a-c]", "d"));
  EXPECT_FALSE(GlobMatch("[!x]", "x"));
  EXPECT_TRUE(GlobMatch("[!x]", "y"));
  EXPECT_TRUE(GlobMatch("[^x]", "y"));
  EXPECT_TRUE(GlobMatch("[]]", "]"));
  EXPECT_TRUE(GlobMatch("[!]]", "a"));
  EXPECT_FALSE(GlobMatch("[!]]", "]"));
  EXPECT_TRUE(GlobMatch("[a-]", "-"));
  EXPECT_TRUE(GlobMatch("[\\]]", "]"));
  EXPECT_TRUE(GlobMatch("[\\!a]", "!"));
  EXPECT_FALSE(GlobMatch("[c-a]", "b"));
  EXPECT_TRUE(GlobMatch("f[[:digit:][:upper:]]", "f7"));
  EXPECT_TRUE(GlobMatch("f[[:digit:][:upper:]]", "fX"));
  EXPECT_FALSE(GlobMatch("f[[:digit:][:upper:]]", "fx"));
}

TEST(GlobMatch, UnclosedSetIsLiteral) {
  EXPECT_TRUE(GlobMatch("[abc", "[abc"));
  EXPECT_FALSE(GlobMatch("[abc", "a"));
  EXPECT_TRUE(GlobMatch("*[", "x["));
}

TEST(GlobMatch, Escapes) {
  EXPECT_TRUE(GlobMatch("a\\*b", "a*b"));
  EXPECT_FALSE(GlobMatch("a\\*b", "axb"));
  EXPECT_TRUE(GlobMatch("\\a", "a"));
  EXPECT_TRUE(GlobMatch("\\\\", "\\"));
  EXPECT_FALSE(GlobMatch("a\\", "a"));
  EXPECT_FALSE(GlobMatch("a\\", "a\\"));
  for (std::string_view name : {"plain", "a*b", "[x]", "q?", "back\\slash", ""}) {
    EXPECT_TRUE(GlobMatch(EscapeGlob(name), name)) << name;
    EXPECT_FALSE(IsGlob(EscapeGlob(name))) << name;
    EXPECT_EQ(UnescapeGlob(EscapeGlob(name)), name);
  }
}

TEST(GlobMatch, CharactersAreUtf8) {
  EXPECT_TRUE(GlobMatch("caf?", "caf\xC3\xA9"));
  EXPECT_FALSE(GlobMatch("caf??", "caf\xC3\xA9"));
  EXPECT_TRUE(GlobMatch("[\xC3\xA0-\xC3\xBF]", "\xC3\xA9"));
  EXPECT_FALSE(GlobMatch("[!\xC3\xA9]", "\xC3\xA9"));
  EXPECT_TRUE(GlobMatch("?", "\xE4\xB8\xAD"));
  EXPECT_TRUE(GlobMatch("?", "\xF0\x9F\x98\x80"));
  // Bytes that are no UTF-8, also cut-off sequences, are characters of their own.
  EXPECT_TRUE(GlobMatch("?", "\xFF"));
  EXPECT_TRUE(GlobMatch("??", "\xC3x"));
  EXPECT_TRUE(GlobMatch("a?", "a\xE4"));
  EXPECT_TRUE(GlobMatch("\xFF*", "\xFF\xFE"));
  EXPECT_FALSE(GlobMatch("\xFF", "\xFE"));
}

// fnmatch(3) itself is the reference, in the C locale that a test program starts with.
TEST(GlobMatch, AgreesWithFnmatch) {
  std::mt19937 random(1);
  const std::string_view pattern_letters = "aabbc*?[]!-/.\\";
  const std::string_view text_letters = "aabbc-/.]!";
  int matches = 0;
  for (int round = 0; round < 300000; ++round) {
    std::string pattern;
    for (size_t left = random() % 9; left > 0; --left) {
      pattern += pattern_letters[random() % pattern_letters.size()];
    }
    std::string text;
    for (size_t left = random() % 7; left > 0; --left) {
      text += text_letters[random() % text_letters.size()];
    }
    const bool expected = ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
    ASSERT_EQ(GlobMatch(pattern, text), expected) << pattern << " | " << text;
    matches += expected ? 1 : 0;
  }
  EXPECT_GT(matches, 3000);
}

TEST(GlobMatch, ManyStarsStayFast) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "*a";
  pattern += "b";
  const std::string text(4000, 'a');
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(GlobMatch(pattern, text));
  EXPECT_FALSE(GlobMatch(std::string(400, '['), std::string(400, '[') + "x"));
  // Exponential matching would take longer than the universe; the bound only has to be below that.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(IsGlob, LooksThroughEscapes) {
  EXPECT_FALSE(IsGlob("plain"));
  EXPECT_FALSE(IsGlob("a\\*b\\?c\\[d"));
  EXPECT_TRUE(IsGlob("a\\\\*"));
  EXPECT_TRUE(IsGlob("a?"));
  EXPECT_TRUE(IsGlob("[a"));
  EXPECT_FALSE(IsGlob("a]"));
}

TEST(RuleSet, EmptyHasDefaults) {
  const RuleSet rules;
  EXPECT_TRUE(rules.empty());
  const Rule rule = rules.Match("any/path");
  EXPECT_EQ(rule.streaming, Streaming());
  EXPECT_EQ(rule.streaming.commit, CommitRule::kOnTermination);
  EXPECT_EQ(rule.streaming.fire, FireRule::kUpdate);
  EXPECT_EQ(rule.storage, Storage::kMemory);
  EXPECT_FALSE(rule.permanent);
  EXPECT_FALSE(rule.excluded);
  EXPECT_FALSE(rule.declared());
  EXPECT_FALSE(rules.AppIndex("s").has_value());
  EXPECT_FALSE(rules.Conflicts("any/path").has_value());
}

TEST(RuleSet, AppIndexInOrderOfMention) {
  const RuleSet rules =
      Rules(R"({"name": "w", "IO_Graph": [{"name": "b"}, {"name": "a"}, {"name": "c"}]})");
  EXPECT_EQ(rules.AppIndex("b"), 0);
  EXPECT_EQ(rules.AppIndex("a"), 1);
  EXPECT_EQ(rules.AppIndex("c"), 2);
  EXPECT_FALSE(rules.AppIndex("d").has_value());
  EXPECT_TRUE(rules.empty());
}

TEST(RuleSet, ExactNameBeatsEveryPattern) {
  const RuleSet rules = Streams(R"({"name": ["a*"], "committed": "on_close:2"},
      {"name": ["a"], "committed": "on_close:1"},
      {"name": ["[a][b]*"], "committed": "on_close:3", "mode": "no_update"})");
  EXPECT_EQ(rules.Match("a").streaming.close_count, 1u);
  EXPECT_EQ(rules.Match("ac").streaming.close_count, 2u);
  EXPECT_EQ(rules.Match("ab").streaming.close_count, 3u);
  EXPECT_EQ(rules.Match("ab").streaming.fire, FireRule::kNoUpdate);
  EXPECT_EQ(rules.Match("x").streaming, Streaming());
}

TEST(RuleSet, EntriesWithoutStreamingDoNotHideThoseWith) {
  const RuleSet rules = Rules(R"({"name": "w", "IO_Graph": [{"name": "s",
      "output_stream": ["out/exact", "out/long*"],
      "streaming": [{"name": ["o*"], "committed": "on_close"}]}]})");
  EXPECT_EQ(rules.Match("out/exact").streaming.commit, CommitRule::kOnClose);
  EXPECT_EQ(rules.Match("out/long1").streaming.commit, CommitRule::kOnClose);
}

TEST(RuleSet, DirectoryComesFromTheClauseObeyed) {
  const RuleSet rules = Streams(R"({"dirname": ["out"], "n_files": 3},
      {"name": ["out/*"], "committed": "on_close"}, {"dirname": ["out/sub*"], "n_files": 2})");
  EXPECT_TRUE(rules.Match("out").is_directory);
  EXPECT_EQ(rules.Match("out").streaming.commit, CommitRule::kOnNFiles);
  EXPECT_EQ(rules.Match("out").streaming.n_files, 3u);
  EXPECT_FALSE(rules.Match("out/a").is_directory);
  EXPECT_TRUE(rules.Match("out/sub1").is_directory);
}

TEST(RuleSet, ProducersAndConsumersAreTheUnion) {
  const RuleSet rules = Rules(R"({"name": "w", "IO_Graph": [
      {"name": "a", "output_stream": ["*.dat"], "input_stream": ["in"]},
      {"name": "b", "output_stream": ["x.dat"], "input_stream": ["in"]},
      {"name": "c", "input_stream": ["x*", "x.dat", "dir"]},
      {"name": "d", "output_stream": ["x.da?", "x.dat"]}]})");
  const Rule rule = rules.Match("x.dat");
  EXPECT_EQ(rule.producers, (std::vector<uint16_t>{0, 1, 3}));
  EXPECT_EQ(rule.consumers, (std::vector<uint16_t>{2}));
  EXPECT_TRUE(rule.declared());
  EXPECT_EQ(rules.Match("in").consumers, (std::vector<uint16_t>{0, 1}));
  EXPECT_FALSE(rules.Match("in").declared());
  // Steps are bound to the path itself, not to what is below it.
  EXPECT_TRUE(rules.Match("dir/x").consumers.empty());
  EXPECT_TRUE(rules.Match("x.dat/below").producers.empty());
}

TEST(RuleSet, NamesCoverWhatIsBelowThem) {
  const RuleSet rules = Rules(R"({"name": "w", "IO_Graph": [],
      "exclude": ["scratch", "*.tmp"], "permanent": ["res/final"], "storage": {"fs": ["big"]}})");
  EXPECT_TRUE(rules.Match("scratch").excluded);
  EXPECT_TRUE(rules.Match("scratch/a/b/c").excluded);
  EXPECT_FALSE(rules.Match("scratch2").excluded);
  EXPECT_FALSE(rules.Match("scratch2/a").excluded);
  EXPECT_FALSE(rules.Match("a/scratch").excluded);
  EXPECT_TRUE(rules.Match("d/x.tmp").excluded);
  EXPECT_FALSE(rules.Match("x.tmp/below").excluded);
  EXPECT_FALSE(rules.Match("").excluded);
  EXPECT_TRUE(rules.Match("res/final/x").permanent);
  EXPECT_FALSE(rules.Match("res/other").permanent);
  EXPECT_FALSE(rules.Match("res").permanent);
  EXPECT_EQ(rules.Match("big/x").storage, Storage::kFs);
  EXPECT_EQ(rules.Match("bigger").storage, Storage::kMemory);
}

TEST(RuleSet, CapioDirItselfCoversAll) {
  const RuleSet rules = Rules(
      R"({"name": "w", "IO_Graph": [], "permanent": ["."], "storage": {"fs": ["/data/run"]}})");
  for (std::string_view path : {"", "a", "a/b"}) {
    EXPECT_TRUE(rules.Match(path).permanent) << path;
    EXPECT_EQ(rules.Match(path).storage, Storage::kFs) << path;
  }
}

// Each alone, so that none lives on the others' account.
TEST(RuleSet, EachKindCoversWhatIsBelow) {
  const std::string head = R"({"name": "w", "IO_Graph": [], )";
  EXPECT_TRUE(Rules(head + R"("permanent": ["d"]})").Match("d/x").permanent);
  EXPECT_TRUE(Rules(head + R"("exclude": ["d"]})").Match("d/x").excluded);
  EXPECT_EQ(Rules(head + R"("storage": {"fs": ["d"]}})").Match("d/x").storage, Storage::kFs);
}

TEST(RuleSet, StorageOfTheLongestEntry) {
  const RuleSet rules = Rules(R"({"name": "w", "IO_Graph": [],
      "storage": {"memory": ["data/hot", "data/x*", "data/b/f", "da*"],
                  "fs": ["data", "data/x*.big", "data/b*"]}})");
  EXPECT_EQ(rules.Match("data/a").storage, Storage::kFs);          // "data" beats "da*"
  EXPECT_EQ(rules.Match("data/hot/a").storage, Storage::kMemory);  // the inner directory
  EXPECT_EQ(rules.Match("data/x1").storage, Storage::kMemory);     // pattern longer than "data"
  EXPECT_EQ(rules.Match("data/x1.big").storage, Storage::kFs);
  EXPECT_EQ(rules.Match("data/b/f").storage, Storage::kMemory);  // exact name
  EXPECT_EQ(rules.Match("data/b/g").storage, Storage::kFs);
  EXPECT_EQ(rules.Match("dad").storage, Storage::kMemory);
}

TEST(RuleSet, EquallyLongStorageEntriesFirstWins) {
  EXPECT_EQ(Rules(R"({"name": "w", "IO_Graph": [], "storage": {"memory": ["d/*"], "fs": ["d/a"]}})")
                .Match("d/a/x")
                .storage,
            Storage::kMemory);
  EXPECT_EQ(Rules(R"({"name": "w", "IO_Graph": [], "storage": {"memory": ["d/a"], "fs": ["d/*"]}})")
                .Match("d/a/x")
                .storage,
            Storage::kMemory);
}

TEST(RuleSet, EquallyLongPatternsFirstWinsAndIsReported) {
  const RuleSet rules = Streams(R"({"name": ["file*"], "committed": "on_close"},
      {"name": ["*.dat"], "committed": "on_termination"},
      {"name": ["fil*9.dat"], "committed": "on_close:9"},
      {"name": ["*.txt"], "committed": "on_close"})");
  EXPECT_EQ(rules.Match("file1.dat").streaming.commit, CommitRule::kOnClose);
  EXPECT_EQ(
      rules.Conflicts("file1.dat"),
      "\"file1.dat\" matches the equally long patterns \"file*\" and \"*.dat\", which ask for "
      "different streaming; \"file*\", the first in the CAPIO-CL file, is obeyed; name the "
      "file in a clause of its own");
  EXPECT_FALSE(rules.Conflicts("other.dat").has_value());
  EXPECT_FALSE(rules.Conflicts("file9.dat").has_value());  // a longer pattern decides
  EXPECT_FALSE(rules.Conflicts("file1.txt").has_value());  // equally long, but they agree
}

TEST(RuleSet, ConflictOverTheKind) {
  const RuleSet rules = Streams(R"({"name": ["ab*"]}, {"dirname": ["a*c"]})");
  EXPECT_FALSE(rules.Match("abc").is_directory);
  EXPECT_TRUE(rules.Conflicts("abc").has_value());
}

TEST(RuleSet, ExactNameEndsAConflict) {
  const RuleSet rules = Streams(R"({"name": ["ab*"], "committed": "on_close"}, {"name": ["a*c"]},
      {"name": ["abc"], "committed": "on_close:5"})");
  EXPECT_FALSE(rules.Conflicts("abc").has_value());
  EXPECT_EQ(rules.Match("abc").streaming.close_count, 5u);
  EXPECT_TRUE(rules.Conflicts("abbc").has_value());
}

TEST(RuleSet, NoPatternStandsForCapioDir) {
  const RuleSet rules = Streams(R"({"name": ["*"], "committed": "on_close:2"})");
  EXPECT_EQ(rules.Match("a").streaming.close_count, 2u);
  EXPECT_FALSE(rules.Match("").declared());
  EXPECT_EQ(rules.Match("").streaming.commit, CommitRule::kOnTermination);
  EXPECT_FALSE(rules.StreamingEntry("").has_value());
  const RuleSet named = Streams(R"({"dirname": ["."], "committed": "on_n_files", "n_files": 2})");
  EXPECT_TRUE(named.Match("").declared());
  EXPECT_EQ(named.Match("").streaming.n_files, 2u);
}

TEST(RuleSet, CopiesAndMovesAreIndependent) {
  RuleSet rules = Streams(R"({"name": ["ab*"], "committed": "on_close"}, {"name": ["x"]})");
  const RuleSet copy = rules;
  const RuleSet moved = std::move(rules);
  EXPECT_EQ(copy.Match("abc").streaming.commit, CommitRule::kOnClose);
  EXPECT_EQ(moved.Match("abc").streaming.commit, CommitRule::kOnClose);
}

TEST(RuleSet, FromImage) {
  const RuleSet rules = Streams(R"({"name": ["ab*"], "committed": "on_close:4"})");
  const std::string image = SerialiseRules(rules.workflow());
  Result<RuleSet> read = RuleSet::FromImage(std::as_bytes(std::span(image)));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->Match("abc").streaming.close_count, 4u);
  EXPECT_EQ(read->AppIndex("s"), 0);
  EXPECT_EQ(RuleSet::FromImage(std::as_bytes(std::span(image)).first(30)).code(), EPROTO);
}

TEST(RuleSet, ManyThreadsMayAsk) {
  const RuleSet rules = Streams(R"({"name": ["ab*"], "committed": "on_close:4"}, {"name": ["x"]})");
  std::vector<std::thread> threads;
  std::vector<int> right(4, 0);
  for (int& count : right) {
    threads.emplace_back([&rules, &count] {
      for (int i = 0; i < 2000; ++i) {
        count += rules.Match("ab" + std::to_string(i)).streaming.close_count == 4u ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, (std::vector<int>{2000, 2000, 2000, 2000}));
}

}  // namespace
}  // namespace capio
