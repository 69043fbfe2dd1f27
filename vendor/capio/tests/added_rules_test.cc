// Rules given one by one, how they join those of a file, and the tools around CAPIO-CL files.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "rules/capio_cl.h"
#include "rules/checks.h"
#include "rules/configuration.h"
#include "rules/merge.h"
#include "rules/rule_set.h"

namespace capio {
namespace {

Workflow RulesOf(const std::string& json) {
  Result<Workflow> workflow = ParseRules("[" + json + "]", {"/data/run", "", "/link"});
  EXPECT_TRUE(workflow.ok()) << workflow.status().text();
  return workflow.ok() ? workflow.take() : Workflow();
}

std::string ErrorsOf(const std::string& json) {
  Result<Workflow> workflow = ParseRules(json, {"/data/run", "", ""});
  EXPECT_FALSE(workflow.ok());
  EXPECT_EQ(workflow.code(), EINVAL);
  return workflow.ok() ? "" : workflow.status().text();
}

Streaming StreamingOf(const std::string& rest) {
  const Workflow workflow = RulesOf(R"({"path": "x", )" + rest + "}");
  if (workflow.entries.size() != 1 || !workflow.entries[0].streaming) {
    ADD_FAILURE() << rest;
    return {};
  }
  return *workflow.entries[0].streaming;
}

TEST(ParseRules, SpellingsOfCommit) {
  EXPECT_EQ(StreamingOf(R"("committed": "on_termination")").commit, CommitRule::kOnTermination);
  EXPECT_EQ(StreamingOf(R"("committed": "on_close")").close_count, 1u);
  EXPECT_EQ(StreamingOf(R"("committed": "on_close", "close_count": 3)").close_count, 3u);
  EXPECT_EQ(StreamingOf(R"("committed": "on_close:3")").close_count, 3u);
  EXPECT_EQ(StreamingOf(R"("committed": "on_close", "close_count": 0)").close_count, 1u);
  EXPECT_EQ(
      StreamingOf(R"("committed": "on_file:a", "file_dependencies": ["b", "a"])").dependencies,
      (std::vector<std::string>{"a", "b"}));
  for (const char* text :
       {R"("committed": "on_n_files:7")", R"("committed": "n_files:7")",
        R"("directory_n_file_expected": 7)",
        R"("is_directory": true, "directory_n_file_expected": 7)",
        R"("committed": "n_files", "directory_n_file_expected": 7)",
        R"("committed": "on_close", "is_directory": true, "directory_n_file_expected": 7)"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(StreamingOf(text).commit, CommitRule::kOnNFiles);
    EXPECT_EQ(StreamingOf(text).n_files, 7u);
    EXPECT_TRUE(RulesOf(R"({"path": "x", )" + std::string(text) + "}").entries[0].is_directory);
  }
  EXPECT_EQ(StreamingOf(R"("fire": "no_update", "committed": null)").fire, FireRule::kNoUpdate);
}

TEST(ParseRules, WhatIsNotSaidIsLeftOpen) {
  const Workflow workflow = RulesOf(
      R"({"path": "/link/d/../x", "producers": ["b", "a", "b"], "is_permanent": true,
          "committed": null, "close_count": 0, "file_dependencies": null, "is_directory": false},
         {"path": "/elsewhere/x"})");
  ASSERT_EQ(workflow.entries.size(), 1u);
  const Entry& entry = workflow.entries[0];
  EXPECT_EQ(entry.pattern, "x");
  EXPECT_FALSE(entry.streaming.has_value());
  EXPECT_TRUE(entry.permanent);
  EXPECT_EQ(entry.producers, (std::vector<uint16_t>{0, 1}));
  EXPECT_EQ(workflow.apps, (std::vector<std::string>{"b", "a"}));
  ASSERT_EQ(workflow.warnings.size(), 1u);
  EXPECT_NE(workflow.warnings[0].find("is not inside CAPIO_DIR"), std::string::npos);
}

TEST(ParseRules, ErrorsNameTheRuleAndAllOfThemCome) {
  EXPECT_EQ(
      ErrorsOf(R"([{"path": "a", "committed": "on_clos", "fire": "noupdate"},
                   {"pat": "b"}, 3,
                   {"path": "c", "committed": "on_file"},
                   {"path": "d", "close_count": -1, "producers": [""]},
                   {"path": "../e"}])"),
      "rule \"a\", committed: found \"on_clos\"; write \"on_close\", \"on_close:N\", "
      "\"on_termination\", \"on_n_files\" with \"directory_n_file_expected\", or \"on_file\" with "
      "\"file_dependencies\" (did you mean \"on_close\"?)\n"
      "rule \"a\", fire: found \"noupdate\"; write \"update\" (read when committed) or "
      "\"no_update\" (read while it grows) (did you mean \"no_update\"?)\n"
      "rule 1, pat: unknown key \"pat\"; allowed here: \"path\", \"committed\", \"fire\", "
      "\"close_count\", \"directory_n_file_expected\", \"is_directory\", \"is_permanent\", "
      "\"is_excluded\", \"producers\", \"consumers\" or \"file_dependencies\" (did you mean "
      "\"path\"?)\n"
      "rule 1: \"path\" is missing; write a file name or a pattern\n"
      "rule 2: found the number 3; write a rule, {\"path\": ..., ...}\n"
      "rule \"c\", file_dependencies: \"on_file\" without a file inside CAPIO_DIR to wait for; add "
      "\"file_dependencies\": [...]\n"
      "rule \"d\", close_count: found the number -1; write a whole number from 1 to 4294967295\n"
      "rule \"d\", producers: found \"\"; write the name of an app\n"
      "rule \"../e\": \"../e\" leaves CAPIO_DIR (/data/run); name files inside it");
  EXPECT_NE(ErrorsOf(R"([{"path": "a", "directory_n_file_expected": 3, "is_directory": false}])")
                .find("only a directory has a number of entries"),
            std::string::npos);
  EXPECT_NE(ErrorsOf(R"([{"path": "a", "committed": "on_close", "is_directory": true}])")
                .find("nobody closes a directory"),
            std::string::npos);
  EXPECT_NE(ErrorsOf(R"([{"path": "a", "close_count": 2}])").find("\"on_close\" only"),
            std::string::npos);
  EXPECT_NE(ErrorsOf(R"([{"path": "a", "file_dependencies": ["b"]}])").find("without"),
            std::string::npos);
  EXPECT_EQ(ErrorsOf("{}"), "rules: found an object; write a list of rules");
  EXPECT_NE(ErrorsOf("[").find("line 1, column"), std::string::npos);
}

TEST(MergeRules, TheSameAgainChangesNothing) {
  const Workflow added =
      RulesOf(R"({"path": "a*", "committed": "on_close:2", "producers": ["p"]})");
  Workflow workflow;
  bool changed = false;
  ASSERT_TRUE(MergeRules(added, &workflow, &changed).ok());
  EXPECT_TRUE(changed);
  EXPECT_EQ(RuleSet(workflow).Match("ab").streaming.close_count, 2u);
  const Workflow once = workflow;
  ASSERT_TRUE(MergeRules(added, &workflow, &changed).ok());
  EXPECT_FALSE(changed);
  EXPECT_EQ(workflow, once);
  ASSERT_TRUE(
      MergeRules(RulesOf(R"({"path": "a*", "consumers": ["c", "p"]})"), &workflow, &changed).ok());
  EXPECT_TRUE(changed);
  EXPECT_EQ(RuleSet(workflow).Match("ab").consumers, (std::vector<uint16_t>{0, 1}));
}

TEST(MergeRules, AContradictionNamesBoth) {
  Workflow workflow = RulesOf(R"({"path": "a", "committed": "on_close:2"})");
  bool changed = false;
  const Status status =
      MergeRules(RulesOf(R"({"path": "a", "fire": "no_update"})"), &workflow, &changed);
  EXPECT_EQ(status.code(), EBUSY);
  EXPECT_EQ(
      std::string(status.text()),
      "the rule for \"a\" (name, on_termination, no_update) contradicts the one that holds in "
      "this workflow (name, on_close:2, update); make them the same");
}

TEST(CheckRules, CyclesAndTies) {
  EXPECT_TRUE(CheckRules(RulesOf(R"({"path": "a", "committed": "on_file:b*"},
                                    {"path": "bb", "committed": "on_file:c"})"))
                  .ok());
  const Status cycle = CheckRules(RulesOf(R"({"path": "a", "committed": "on_file:b*"},
                                             {"path": "bb", "committed": "on_file:a"})"));
  EXPECT_EQ(cycle.code(), EINVAL);
  EXPECT_NE(std::string_view(cycle.text()).find("\"a\" -> \"bb\" -> \"a\""),
            std::string_view::npos);
  const Status tie = CheckRules(RulesOf(R"({"path": "out/*", "committed": "on_close"},
                                           {"path": "*.dat", "fire": "no_update"})"));
  EXPECT_EQ(tie.code(), EINVAL);
  EXPECT_NE(std::string_view(tie.text()).find("\"out/x.dat\" matches the equally long patterns"),
            std::string_view::npos);
  EXPECT_TRUE(CheckRules(RulesOf(R"({"path": "out/*", "committed": "on_close"},
                                    {"path": "*.dat", "fire": "no_update"},
                                    {"path": "out/*.dat", "committed": "on_close"})"))
                  .ok());
}

TEST(CommonPath, FindsAPathOfBothOrNone) {
  const auto both = [](const char* a, const char* b) { return CommonPath(a, b).value_or("none"); };
  EXPECT_EQ(both("a*", "b*"), "none");
  EXPECT_EQ(both("*a", "*b"), "none");
  EXPECT_EQ(both("a?c", "ab*"), "abc");
  EXPECT_EQ(both("[ab]1", "[bc]?"), "b1");
  EXPECT_EQ(both("[!a]", "a"), "none");
  EXPECT_EQ(both("[[:digit:]]", "?"), "0");
  EXPECT_EQ(both("\\*x", "?x"), "*x");
  EXPECT_EQ(both("d\xC3\xA9*", "?\xC3\xA9z"), "d\xC3\xA9z");
  EXPECT_EQ(both("out/*", "*.dat"), "out/x.dat");
  EXPECT_EQ(both("a", "a"), "a");
  EXPECT_EQ(both("*/", "*/"), "none");  // no path ends so
  EXPECT_EQ(both("a[", "a["), "a[");    // never closed: an ordinary character
}

// Against all short strings over three letters.
TEST(CommonPath, MissesNoneOverASmallAlphabet) {
  std::vector<std::string> paths;
  for (size_t begin = 0, end = 1; begin < end && paths.size() < 400;) {
    if (paths.empty()) paths = {""};
    for (size_t i = begin; i < end; ++i) {
      for (char c : {'a', 'b', 'x'}) paths.push_back(paths[i] + c);
    }
    begin = end;
    end = paths.size();
  }
  std::mt19937 random(20261124);
  const auto pattern = [&] {
    static const char* const kElements[] = {"a", "b", "?", "*", "*", "[ab]", "[!a]", "[b-x]"};
    std::string text;
    for (size_t left = 1 + random() % 4; left > 0; --left) text += kElements[random() % 8];
    return text;
  };
  int common = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::string a = pattern();
    const std::string b = pattern();
    SCOPED_TRACE(a + " " + b);
    const auto found = CommonPath(a, b);
    const bool expected = std::any_of(paths.begin() + 1, paths.end(), [&](const auto& path) {
      return GlobMatch(a, path) && GlobMatch(b, path);
    });
    if (expected) {
      ++common;
      ASSERT_TRUE(found.has_value());
    }
    if (found) {
      EXPECT_TRUE(GlobMatch(a, *found) && GlobMatch(b, *found)) << *found;
    }
  }
  EXPECT_GT(common, 200);
  EXPECT_LT(common, 1900);
}

TEST(ParseRules, DamagedRulesNeverCrash) {
  const std::string text =
      R"([{"path": "a*", "committed": "on_file:x", "file_dependencies": ["b", "[c"]},
          {"path": "d", "is_directory": true, "directory_n_file_expected": 3, "fire": "no_update"},
          {"path": "e", "committed": "on_close", "close_count": 2, "producers": ["p"],
           "consumers": ["q"], "is_permanent": true, "is_excluded": false}])";
  std::mt19937 random(20261124);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = text;
    const size_t at = random() % text.size();
    if (round % 3 == 0) {
      damaged.resize(at);
    } else if (round % 3 == 1) {
      damaged[at] = static_cast<char>(random() % 256);
    } else {
      damaged.insert(at, 1, "{}[]\",:\\*\n0"[random() % 11]);
    }
    Result<Workflow> workflow = ParseRules(damaged, {"/data/run", "", ""});
    if (workflow.ok()) {
      (void)CheckRules(*workflow);
    } else {
      EXPECT_EQ(workflow.code(), EINVAL);
      EXPECT_NE(std::string_view(workflow.status().text()), "");
    }
  }
}

TEST(StorageTies, OnlyWhereNothingDecides) {
  const auto errors = [](const std::string& storage) {
    std::vector<ClDiagnostic> found;
    (void)ReadCapioCl(R"({"name": "w", "IO_Graph": [{"name": "a", "output_stream": ["n/m"]}],
"storage": {)" + storage + "}}",
                      "f", {"/data/run", "", ""}, &found);
    return FormatDiagnostics(found, "f");
  };
  EXPECT_EQ(errors(R"("memory": ["a*"], "fs": ["b*"])"), "");
  EXPECT_EQ(errors(R"("memory": ["a*"], "fs": ["*b", "a*b"])"), "");
  EXPECT_EQ(errors(R"("memory": ["a*"], "fs": ["*b"])"),
            "f: line 2, /storage: \"axb\", for example, matches the equally long patterns \"a*\" "
            "(memory) and \"*b\" (fs); make one of them longer");
  EXPECT_EQ(errors(R"("memory": ["n*"], "fs": ["*m"])"),
            "f: line 2, /storage: \"n/m\" matches the equally long patterns \"n*\" (memory) and "
            "\"*m\" (fs); make one of them longer");
  EXPECT_EQ(errors(R"("memory": ["n*", "n/m"], "fs": ["*m"])"), "");
}

TEST(TomlSettings, EverySettingWithItsTableAndLine) {
  const std::vector<TomlLine> found = TomlSettings(R"(# a comment = 1
top = 1   # [not.a.table]
dotted . "quoted key" = "a = b"
[table]
list = [
  1, # ]
  "]",
]
text = """
inside = 3
"""
literal = '''x = '''''
[[ array . of ]]
inline = {a = 1, b = [2]}
date = 1979-05-27T07:32:00Z

this is no setting
empty =
last = true)");
  const std::vector<std::pair<int, std::string>> expected = {{2, "top"},
                                                             {3, "dotted.quoted key"},
                                                             {5, "table.list"},
                                                             {9, "table.text"},
                                                             {12, "table.literal"},
                                                             {14, "array.of.inline"},
                                                             {15, "array.of.date"},
                                                             {17, ""},
                                                             {18, ""},
                                                             {19, "array.of.last"}};
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].line, expected[i].first);
    EXPECT_EQ(found[i].setting, expected[i].second);
  }
  EXPECT_TRUE(TomlSettings("").empty());
  EXPECT_EQ(TomlSettings("a = \"never ends").size(), 1u);
  EXPECT_EQ(TomlSettings("[open").size(), 1u);
  EXPECT_EQ(TomlSettings("a = [1, 2").size(), 1u);
}

}  // namespace
}  // namespace capio
