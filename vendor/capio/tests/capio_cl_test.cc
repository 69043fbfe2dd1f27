#include "rules/capio_cl.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "rules/rule_set.h"

namespace capio {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDir = "/data/run";

std::string Slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.is_open()) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<fs::path> Corpus(const char* kind) {
  std::vector<fs::path> files;
  for (const auto& item : fs::directory_iterator(fs::path(CAPIO_TEST_DATA) / "capio_cl" / kind)) {
    if (item.path().extension() == ".json") files.push_back(item.path());
  }
  std::sort(files.begin(), files.end());
  EXPECT_FALSE(files.empty());
  return files;
}

std::string Join(const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& item : list) text.append(text.empty() ? "" : ",").append(item);
  return text;
}

// Everything the workflow holds, one line per fact, to compare with the .txt beside a corpus file.
std::string Dump(const Workflow& workflow) {
  static const char* const kCommit[] = {"on_termination", "on_close", "on_file", "on_n_files"};
  std::string text = "name " + workflow.name + "\n";
  text += workflow.version == 1 ? "version 1\n" : "version 1.1\n";
  if (!workflow.configuration.empty()) text += "configuration " + workflow.configuration + "\n";
  text += "apps " + Join(workflow.apps) + "\n";
  for (const Entry& entry : workflow.entries) {
    text.append(entry.is_glob ? "glob \"" : "name \"").append(entry.pattern).append("\"");
    if (entry.is_directory) text += " directory";
    if (entry.permanent) text += " permanent";
    if (entry.excluded) text += " excluded";
    if (entry.storage) text += entry.storage == Storage::kFs ? " fs" : " memory";
    if (!entry.home.empty()) text += " home=" + entry.home;
    for (uint16_t app : entry.producers) text += " <" + workflow.apps.at(app);
    for (uint16_t app : entry.consumers) text += " >" + workflow.apps.at(app);
    if (entry.streaming) {
      const Streaming& streaming = *entry.streaming;
      text += std::string(" ") + kCommit[static_cast<int>(streaming.commit)];
      text.append(":").append(std::to_string(streaming.close_count));
      text += " n_files=" + std::to_string(streaming.n_files);
      text += streaming.fire == FireRule::kUpdate ? " update" : " no_update";
      if (!streaming.dependencies.empty()) text += " deps=" + Join(streaming.dependencies);
    }
    text += "\n";
  }
  for (const std::string& warning : workflow.warnings) text += "warning " + warning + "\n";
  return text;
}

Workflow Parsed(const std::string& text, std::string_view dir = kDir,
                std::string_view prefix = "") {
  Result<Workflow> workflow = ParseCapioCl(text, "f.json", {dir, prefix, ""});
  EXPECT_TRUE(workflow.ok()) << workflow.status().text();
  return workflow.ok() ? workflow.take() : Workflow();
}

std::string ErrorsOf(const std::string& text, std::string_view dir = kDir,
                     std::string_view prefix = "") {
  Result<Workflow> workflow = ParseCapioCl(text, "f.json", {dir, prefix, ""});
  EXPECT_FALSE(workflow.ok());
  EXPECT_EQ(workflow.code(), EINVAL);
  return workflow.ok() ? "" : workflow.status().text();
}

std::string Consuming(const std::string& files) {
  return R"({"name": "w", "IO_Graph": [{"name": "s", "input_stream": [)" + files + "]}]}";
}

std::vector<std::string> PatternsOf(const Workflow& workflow) {
  std::vector<std::string> patterns;
  for (const Entry& entry : workflow.entries) patterns.push_back(entry.pattern);
  return patterns;
}

TEST(CapioClCorpus, ValidFilesSayWhatTheyMean) {
  for (const fs::path& file : Corpus("valid")) {
    SCOPED_TRACE(file.filename());
    Result<Workflow> workflow = ParseCapioCl(Slurp(file), file.filename().string(), {kDir, "", ""});
    ASSERT_TRUE(workflow.ok()) << workflow.status().text();
    EXPECT_EQ(Dump(*workflow), Slurp(fs::path(file).replace_extension(".txt")));
  }
}

TEST(CapioClCorpus, InvalidFilesAreReportedInFull) {
  for (const fs::path& file : Corpus("invalid")) {
    SCOPED_TRACE(file.filename());
    Result<Workflow> workflow = ParseCapioCl(Slurp(file), file.filename().string(), {kDir, "", ""});
    ASSERT_FALSE(workflow.ok());
    EXPECT_EQ(workflow.code(), EINVAL);
    EXPECT_EQ(workflow.status().text() + std::string("\n"),
              Slurp(fs::path(file).replace_extension(".txt")));
  }
}

// Cutting or changing any byte must give a workflow or errors, never a crash, and an error names a
// line there is.
TEST(CapioClCorpus, DamagedFilesNeverCrash) {
  std::mt19937 random(20261123);
  for (const char* kind : {"valid", "invalid"}) {
    for (const fs::path& file : Corpus(kind)) {
      SCOPED_TRACE(file.filename());
      const std::string text = Slurp(file);
      if (text.empty()) continue;
      for (int round = 0; round < 150; ++round) {
        std::string damaged = text;
        const size_t at = random() % text.size();
        if (round % 3 == 0) {
          damaged.resize(at);
        } else if (round % 3 == 1) {
          damaged[at] = static_cast<char>(random() % 256);
        } else {
          damaged.insert(at, 1, "{}[]\",:\\*\n0"[random() % 11]);
        }
        std::vector<ClDiagnostic> errors;
        Result<Workflow> workflow = ReadCapioCl(damaged, "f", {kDir, "", ""}, &errors);
        ASSERT_TRUE(workflow.ok()) << workflow.status().text();
        const auto lines = 1 + std::count(damaged.begin(), damaged.end(), '\n');
        for (const ClDiagnostic& error : errors) {
          EXPECT_GE(error.line, 1);
          EXPECT_LE(error.line, lines);
          EXPECT_FALSE(error.message.empty());
        }
      }
    }
  }
}

TEST(CapioCl, PrefixIsTakenFromCapioDir) {
  const std::string text = Consuming(R"("a", "../b", "/data/run/c")");
  EXPECT_EQ(PatternsOf(Parsed(text, kDir, "sub")), (std::vector<std::string>{"sub/a", "b", "c"}));
  EXPECT_EQ(PatternsOf(Parsed(text, kDir, "/data/run/sub/./")),
            (std::vector<std::string>{"sub/a", "b", "c"}));
  EXPECT_EQ(PatternsOf(Parsed(text, "/data/./run/", "sub/x")),
            (std::vector<std::string>{"sub/x/a", "sub/b", "c"}));
}

TEST(CapioCl, LeavingThroughThePrefixIsAnError) {
  EXPECT_EQ(ErrorsOf(Consuming(R"("../../b")"), kDir, "sub"),
            "f.json: line 1, /IO_Graph/0/input_stream/0: \"../../b\" leaves CAPIO_DIR (/data/run); "
            "name files inside it");
}

TEST(CapioCl, PrefixOutsideCapioDir) {
  const Workflow workflow = Parsed(Consuming(R"("a", "run/b", "../data/run/c")"), kDir, "/data");
  EXPECT_EQ(PatternsOf(workflow), (std::vector<std::string>{"b", "c"}));
  ASSERT_EQ(workflow.warnings.size(), 1u);
  EXPECT_EQ(workflow.warnings[0],
            "f.json: line 1, /IO_Graph/0/input_stream/0: \"a\", taken from the resolve prefix, is "
            "not inside CAPIO_DIR (/data/run) and is ignored; CAPIO handles only what is inside");
}

TEST(CapioCl, CapioDirIsNoPattern) {
  const std::string dir = "/data/[run] *";
  const Workflow workflow =
      Parsed(Consuming(R"("x*", "/data/[run] */y", "/data/\\[run\\] \\*/z", "/data/r */no")"), dir,
             "[pre]");
  EXPECT_EQ(PatternsOf(workflow), (std::vector<std::string>{"\\[pre]/x*", "y", "z"}));
  EXPECT_EQ(workflow.warnings.size(), 1u);
  const RuleSet rules(workflow);
  EXPECT_FALSE(rules.Match("[pre]/x1").consumers.empty());
  EXPECT_TRUE(rules.Match("p/x1").consumers.empty());
}

TEST(CapioCl, CapioDirMayBeTheRoot) {
  EXPECT_EQ(PatternsOf(Parsed(Consuming(R"("/a", "b", "/c/../d")"), "/")),
            (std::vector<std::string>{"a", "b", "d"}));
}

TEST(CapioCl, OutsideIsJudgedByComponent) {
  const Workflow workflow = Parsed(Consuming(R"("/data/run2/a", "/data", "/data/run/../x")"));
  EXPECT_TRUE(workflow.entries.empty());
  EXPECT_EQ(workflow.warnings.size(), 3u);
}

TEST(CapioCl, CapioDirMustBeAbsolute) {
  EXPECT_EQ(ParseCapioCl("{}", "f", {"data", "", ""}).code(), EINVAL);
  EXPECT_EQ(ParseCapioCl("{}", "f", {"", "", ""}).code(), EINVAL);
}

TEST(CapioCl, DiagnosticsAsData) {
  std::vector<ClDiagnostic> errors;
  Result<Workflow> workflow = ReadCapioCl("{\"name\": \"w\",\n\"IO_Graph\": [],\n\"modes\": 1}",
                                          "f", {kDir, "", ""}, &errors);
  ASSERT_TRUE(workflow.ok());
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].line, 3);
  EXPECT_EQ(errors[0].column, 0);
  EXPECT_EQ(errors[0].pointer, "/modes");
  EXPECT_EQ(errors[0].message.substr(0, 19), "unknown key \"modes\"");

  // What an earlier call reported is forgotten.
  workflow = ReadCapioCl(R"({"name": "w", "IO_Graph": []})", "f", {kDir, "", ""}, &errors);
  ASSERT_TRUE(workflow.ok());
  EXPECT_TRUE(errors.empty());
}

// The JSON lexer reads one character beyond a number: its line must not be that of the next token.
TEST(CapioCl, NumbersAtTheEndOfALineKeepTheirLine) {
  EXPECT_EQ(ErrorsOf("{\"name\": \"w\", \"IO_Graph\": [],\n\"version\":\n3\n\n}"),
            "f.json: line 3, /version: found the number 3; write the number 1 or 1.1");
}

TEST(CapioCl, ByteOrderMarkAndCarriageReturns) {
  EXPECT_EQ(Parsed("\xEF\xBB\xBF{\"name\": \"w\",\r\n\"IO_Graph\": []\r\n}\r\n").name, "w");
}

// Bytes of a file name that are no UTF-8 must not reach those who decode the message.
TEST(CapioCl, MessagesAreUtf8) {
  Result<Workflow> workflow = ParseCapioCl("[]", "caf\xE9\n\xC3\xA9.json", {kDir, "", ""});
  EXPECT_EQ(
      workflow.status().text(),
      std::string("caf\\xE9\\x0A\xC3\xA9.json: line 1: found a list; write a JSON object with "
                  "\"name\" and \"IO_Graph\""));
}

// A group may double in each level: 64 levels must not take 2^64 steps.
TEST(CapioCl, GroupsOfGroupsStaySmall) {
  std::string aliases = R"({"group_name": "g0", "files": ["a", "b"]})";
  for (int i = 1; i < 60; ++i) {
    const std::string inner = "\"g" + std::to_string(i - 1) + "\"";
    aliases += ",{\"group_name\": \"g" + std::to_string(i) + "\", \"files\": [" + inner + "," +
               inner + ",\"f" + std::to_string(i) + "\"]}";
  }
  const Workflow workflow = Parsed(R"({"name": "w", "aliases": [)" + aliases +
                                   R"(], "IO_Graph": [{"name": "s", "input_stream": "g59"}]})");
  EXPECT_EQ(workflow.entries.size(), 61u);
}

TEST(CapioCl, GroupsNestedTooDeepAreRefused) {
  std::string aliases;
  for (int i = 0; i < 500; ++i) {
    aliases += "{\"group_name\": \"g" + std::to_string(i) + "\", \"files\": [\"g" +
               std::to_string(i + 1) + "\"]},\n";
  }
  aliases += R"({"group_name": "g500", "files": ["a"]})";
  EXPECT_NE(ErrorsOf(R"({"name": "w", "aliases": [)" + aliases + R"(], "IO_Graph": []})")
                .find("groups are nested more than 64 deep"),
            std::string::npos);
}

std::string Chain(int length, const std::string& last) {
  std::string clauses;
  for (int i = 0; i < length; ++i) {
    const std::string next = i + 1 < length ? std::string("f").append(std::to_string(i + 1)) : last;
    clauses.append(i == 0 ? "" : ",\n").append("{\"name\": [\"f").append(std::to_string(i));
    clauses.append("\"], \"committed\": \"on_file:").append(next).append("\"}");
  }
  return R"({"name": "w", "IO_Graph": [{"name": "s", "output_stream": ["*"], "streaming": [)" +
         clauses + "]}]}";
}

TEST(CapioCl, LongDependencyChains) {
  EXPECT_EQ(Parsed(Chain(20000, "end")).entries.size(), 20001u);
  const std::string errors = ErrorsOf(Chain(20000, "f19998"));
  EXPECT_NE(errors.find("\"f19998\" -> \"f19999\" -> \"f19998\""), std::string::npos);
  EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 0);
}

TEST(CapioCl, DependenciesKeepTheirPatternForm) {
  const Workflow workflow = Parsed(R"({"name": "w", "IO_Graph": [{"name": "s",
      "output_stream": ["a"], "streaming": [{"name": ["a"], "committed": "on_file",
      "file_deps": ["x\\*y", "plain", "z/*"]}]}]})");
  ASSERT_TRUE(workflow.entries.at(0).streaming.has_value());
  const std::vector<std::string>& names = workflow.entries[0].streaming->dependencies;
  ASSERT_EQ(names, (std::vector<std::string>{"plain", "x\\*y", "z/*"}));
  EXPECT_FALSE(IsGlob(names[1]));
  EXPECT_EQ(UnescapeGlob(names[1]), "x*y");
}

TEST(CapioCl, EscapedNamesAndPatternsOfTheSameTextStayApart) {
  const Workflow workflow =
      Parsed(R"({"name": "w", "IO_Graph": [], "permanent": ["a\\*"], "exclude": ["a*"]})");
  ASSERT_EQ(workflow.entries.size(), 2u);
  const RuleSet rules(workflow);
  EXPECT_TRUE(rules.Match("a*").permanent);
  EXPECT_FALSE(rules.Match("ab").permanent);
  EXPECT_TRUE(rules.Match("ab").excluded);
}

TEST(CapioCl, TooManySteps) {
  std::string steps;
  for (int i = 0; i < 65536; ++i) {
    steps.append(i == 0 ? "" : ",").append("{\"name\":\"").append(std::to_string(i)).append("\"}");
  }
  EXPECT_EQ(ErrorsOf(R"({"name": "w", "IO_Graph": [)" + steps + "]}"),
            "f.json: line 1, /IO_Graph/65535: more than 65535 steps; split the workflow");
}

// An error in a clause must not be followed by errors that only come from it.
TEST(CapioCl, OneMistakeOneError) {
  EXPECT_EQ(
      ErrorsOf(R"({"name": "w", "IO_Graph": [{"name": "s", "output_stream": ["file1.dat"],
"streaming": [{"name": ["file*"], "committed": "on_close"},
{"name": ["*.dat"], "committed": "on_termination"},
{"name": ["file1.dat"], "committed": "on_close", "mode": "up"}]}]})"),
      "f.json: line 4, /IO_Graph/0/streaming/2/mode: found \"up\"; write \"update\" (read when "
      "committed) or \"no_update\" (read while it grows)");
}

TEST(CapioCl, TiesOfNamesInAliasesAndDependencies) {
  const char* const kClauses = R"("IO_Graph": [{"name": "s", "output_stream": ["*"], "streaming": [
{"name": ["file*"], "committed": "on_close"},
{"name": ["*.dat"], "committed": "on_termination"},
{"name": ["late"], "committed": "on_file:DEPENDENCY"}]}]})";
  std::string text =
      std::string(R"({"name": "w", "aliases": [{"group_name": "g", "files": ["FILE"]}], )") +
      kClauses;
  EXPECT_NE(ErrorsOf(text).find("such as \"filex.dat\""), std::string::npos);
  std::string with_alias = text;
  with_alias.replace(with_alias.find("FILE"), 4, "fileA.dat");
  EXPECT_NE(ErrorsOf(with_alias).find("\"fileA.dat\" matches the equally long patterns \"file*\""),
            std::string::npos);
  std::string with_dependency = text;
  with_dependency.replace(with_dependency.find("DEPENDENCY"), 10, "fileB.dat");
  EXPECT_NE(ErrorsOf(with_dependency).find("\"fileB.dat\" matches the equally long patterns"),
            std::string::npos);
}

}  // namespace
}  // namespace capio
