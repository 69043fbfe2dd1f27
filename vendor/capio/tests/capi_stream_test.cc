// Files between processes, through the C API: streaming, commit, death, forks, servers that are
// stopped or killed.
#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "process_harness.h"

namespace capio::test {
namespace {

constexpr char kConfig[] = R"({"name": "wf", "IO_Graph": [
  {"name": "maker", "input_stream": [],
   "output_stream": ["nu*", "up*", "two*", "term*", "keep*"],
   "streaming": [
     {"name": ["nu*"], "committed": "on_close", "mode": "no_update"},
     {"name": ["up*"], "committed": "on_close"},
     {"name": ["keep*"], "committed": "on_close"},
     {"name": ["two*"], "committed": "on_close:2", "mode": "no_update"},
     {"name": ["term*"], "committed": "on_termination", "mode": "no_update"}]},
  {"name": "taker", "input_stream": ["nu*", "up*", "two*", "term*"], "output_stream": []}],
  "permanent": ["keep*"]})";

std::string Pattern(size_t n, unsigned seed = 1) {
  std::string text(n, '\0');
  for (size_t i = 0; i < n; ++i) text[i] = static_cast<char>((i * 31 + i / 251 + seed) & 0xff);
  return text;
}

class StreamTest : public WorkflowTest {
 protected:
  void SetUp() override {
    WorkflowTest::SetUp();
    Spill(config, kConfig);
  }
  Client Maker() { return Client(dir, "maker", "wf", config); }
  Client Taker() { return Client(dir, "taker", "wf", config); }

  // A consumer that says "up" when attached and then reads the named file: it says how much it got
  // after the first read, and at the end the size and whether all is as expected, or "error N".
  std::unique_ptr<Child> Reader(const std::string& name, const std::string& expected) {
    return std::make_unique<Child>([=, this](Channel& parent) {
      Client taker = Taker();
      if (!taker.ok()) {
        parent.Say("failed: " + taker.sentence);
        return 1;
      }
      parent.Say("up");
      Opened opened = taker.Open(name, O_RDONLY);
      if (opened.fd < 0) {
        parent.Say("error " + std::to_string(-opened.fd));
        return taker.End();
      }
      int64_t result = 0;
      std::string text = Client::Read(opened, 65536, &result);
      if (result >= 0) {
        parent.Say("first " + std::to_string(result));
        if (result > 0) text += Client::ReadToEnd(opened, &result);
      }
      parent.Say(result < 0         ? "error " + std::to_string(-result)
                 : text == expected ? "whole"
                                    : "wrong, " + std::to_string(text.size()) + " bytes");
      (void)Client::Close(opened);
      return taker.End();
    });
  }
};

TEST_F(StreamTest, NoUpdateStreamsBytesAsTheyCome) {
  std::string text = Pattern(300'000);
  auto reader = Reader("nu", text);
  ASSERT_EQ(reader->Hear(), "up");
  Client maker = Maker();
  ASSERT_TRUE(maker.ok()) << maker.sentence;
  Opened out = maker.Create("nu");
  ASSERT_GE(out.fd, 0);
  EXPECT_EQ(Client::Write(out, text.substr(0, 100)), 100);
  EXPECT_EQ(reader->Hear(), "first 100");
  for (size_t at = 100; at < text.size(); at += 4321) {
    EXPECT_GT(Client::Write(out, text.substr(at, 4321)), 0);
  }
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(reader->Hear(), "whole");
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, UpdateGivesBytesOnlyOnceCommitted) {
  std::string text = Pattern(10'000);
  auto reader = Reader("up", text);
  ASSERT_EQ(reader->Hear(), "up");
  Client maker = Maker();
  ASSERT_TRUE(maker.ok());
  Opened out = maker.Create("up");
  EXPECT_EQ(Client::Write(out, text.substr(0, 5000)), 5000);
  EXPECT_EQ(Client::Write(out, text.substr(5000)), 5000);
  EXPECT_EQ(Client::Close(out), 0);
  // Had a read been answered before the commit, it would have had fewer bytes.
  EXPECT_EQ(reader->Hear(), "first 10000");
  EXPECT_EQ(reader->Hear(), "whole");
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, WithoutPatienceAWaitIsSaidInsteadOfDone) {
  Client maker = Maker();
  ASSERT_TRUE(maker.ok()) << maker.sentence;
  Client taker = Taker();
  ASSERT_TRUE(taker.ok());
  const std::string path = dir + "/up";
  auto mode = [&](uint32_t purpose) {
    return capio_mode(taker.session(), path.data(), path.size(), purpose | CAPIO_RESOLVE_NOWAIT);
  };
  EXPECT_EQ(mode(CAPIO_FOR_LOOKUP), -ENOENT);
  EXPECT_EQ(mode(CAPIO_FOR_EXISTENCE), -EAGAIN);
  EXPECT_EQ(mode(CAPIO_FOR_CONTENT), -EAGAIN);
  Opened out = maker.Create("up");
  ASSERT_GE(out.fd, 0);
  EXPECT_EQ(Client::Write(out, "abc"), 3);
  EXPECT_TRUE(S_ISREG(static_cast<mode_t>(mode(CAPIO_FOR_EXISTENCE))));
  EXPECT_EQ(mode(CAPIO_FOR_CONTENT), -EAGAIN);
  capio_stat_t st;
  capio_stat_init(&st);
  // Its producer never waits.
  EXPECT_EQ(capio_stat(maker.session(), path.data(), path.size(), CAPIO_FOR_CONTENT, &st), 0);
  EXPECT_EQ(st.size, 3);
  EXPECT_EQ(Client::Write(out, "def"), 3);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_TRUE(S_ISREG(static_cast<mode_t>(mode(CAPIO_FOR_CONTENT))));
  EXPECT_EQ(capio_stat(taker.session(), path.data(), path.size(),
                       CAPIO_FOR_CONTENT | CAPIO_RESOLVE_NOWAIT, &st),
            0);
  EXPECT_EQ(st.size, 6);
  // Written to again, it is as good as new.
  Opened again = maker.Open("up", O_RDWR);
  ASSERT_GE(again.fd, 0);
  EXPECT_EQ(Client::Write(again, "xyz"), 3);
  EXPECT_EQ(mode(CAPIO_FOR_CONTENT), -EAGAIN);
  EXPECT_EQ(Client::Close(again, CAPIO_CLOSE_FAILED), 0);
  EXPECT_EQ(mode(CAPIO_FOR_CONTENT), -EAGAIN);
  EXPECT_EQ(capio_mode(taker.session(), path.data(), path.size(), CAPIO_FOR_CONTENT), -EOWNERDEAD);
  EXPECT_EQ(taker.End(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, OnCloseCountsTheCloses) {
  auto reader = Reader("two", "abcd");
  ASSERT_EQ(reader->Hear(), "up");
  Client maker = Maker();
  EXPECT_EQ(maker.Make("two", "ab"), 0);
  EXPECT_EQ(reader->Hear(), "first 2");
  Opened again = maker.Open("two", O_WRONLY | O_APPEND);
  ASSERT_GE(again.fd, 0);
  EXPECT_EQ(capio_file_status(again.file) & static_cast<int>(CAPIO_FILE_COMMITTED), 0);
  EXPECT_EQ(Client::Write(again, "cd"), 2);
  EXPECT_EQ(Client::Close(again), 0);
  EXPECT_EQ(reader->Hear(), "whole");
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, OnTerminationWaitsForTheLastProcessOfTheApp) {
  auto reader = Reader("term", "abc");
  ASSERT_EQ(reader->Hear(), "up");
  auto client = [this](const std::string& name, const std::string& text) {
    return std::make_unique<Child>([=, this](Channel& parent) {
      Client maker = Maker();
      parent.Say(std::to_string(name.empty() ? 0 : maker.Make(name, text)));
      (void)parent.Hear();
      return maker.End();
    });
  };
  auto one = client("term", "abc");
  EXPECT_EQ(one->Hear(), "0");
  auto two = client("", "");
  EXPECT_EQ(two->Hear(), "0");
  EXPECT_EQ(reader->Hear(), "first 3");
  one->Say("end");
  EXPECT_EQ(one->Wait(), 0);
  Client other(dir, "other", "wf", config);
  Opened look = other.Open("term", O_RDONLY);
  ASSERT_NE(look.file, nullptr);
  EXPECT_EQ(capio_file_status(look.file) & static_cast<int>(CAPIO_FILE_COMMITTED), 0);
  two->Say("end");
  EXPECT_EQ(two->Wait(), 0);
  EXPECT_EQ(reader->Hear(), "whole");
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(Client::Close(look), 0);
  EXPECT_EQ(other.End(), 0);
}

TEST_F(StreamTest, RenameIntoPlace) {
  auto reader = Reader("nu.dat", "whole text");
  ASSERT_EQ(reader->Hear(), "up");
  Client maker = Maker();
  EXPECT_EQ(maker.Make("x.tmp", "whole text"), 0);
  EXPECT_EQ(maker.Rename("x.tmp", "nu.dat"), 0);
  EXPECT_EQ(reader->Hear(), "first 10");
  EXPECT_EQ(reader->Hear(), "whole");
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.Content("x.tmp"), "error " + std::to_string(ENOENT));
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, TruncatedByOpenWhileReadIsStale) {
  auto reader = Reader("nu", "");
  ASSERT_EQ(reader->Hear(), "up");
  Client maker = Maker();
  Opened first = maker.Create("nu");
  EXPECT_EQ(Client::Write(first, "old"), 3);
  EXPECT_EQ(reader->Hear(), "first 3");
  Opened second = maker.Create("nu");
  EXPECT_EQ(Client::Write(second, "new content"), 11);
  EXPECT_EQ(reader->Hear(), "error " + std::to_string(ESTALE));
  EXPECT_EQ(Client::Close(first), 0);
  EXPECT_EQ(Client::Close(second), 0);
  EXPECT_EQ(reader->Wait(), 0);
  auto fresh = Reader("nu", "new content");
  EXPECT_EQ(fresh->Hear(), "up");
  EXPECT_EQ(fresh->Hear(), "first 11");
  EXPECT_EQ(fresh->Hear(), "whole");
  EXPECT_EQ(fresh->Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, ShrinkingAFileThatIsReadIsStale) {
  auto reader = Reader("nu", "");
  ASSERT_EQ(reader->Hear(), "up");
  Client maker = Maker();
  Opened out = maker.Create("nu");
  EXPECT_EQ(Client::Write(out, "0123456789"), 10);
  EXPECT_EQ(reader->Hear(), "first 10");
  EXPECT_EQ(capio_truncate(out.file, 4), 0);
  EXPECT_EQ(reader->Hear(), "error " + std::to_string(ESTALE));
  // The position is beyond the end now: what is written there leaves a gap.
  EXPECT_EQ(Client::Write(out, "x"), 1);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.Content("nu"), std::string("0123\0\0\0\0\0\0x", 11));
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, TruncatingACommittedFileMakesAnother) {
  Client maker = Maker();
  EXPECT_EQ(maker.Make("nu", "first edition"), 0);
  Child reader([this](Channel& parent) {
    Client taker = Taker();
    Opened opened = taker.Open("nu", O_RDONLY);
    parent.Say(opened.fd >= 0 && opened.file == nullptr ? "open" : "wrong");
    (void)parent.Hear();
    int64_t result = 0;
    parent.Say(Client::ReadToEnd(opened, &result));
    (void)Client::Close(opened);
    parent.Say(taker.Content("nu"));
    return taker.End();
  });
  EXPECT_EQ(reader.Hear(), "open");
  EXPECT_EQ(maker.Make("nu", "second"), 0);
  reader.Say("read");
  EXPECT_EQ(reader.Hear(), "first edition");
  EXPECT_EQ(reader.Hear(), "second");
  EXPECT_EQ(reader.Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, ReadersStopAtAGapUntilItIsFilled) {
  std::string expected = "headmiddletail";
  auto reader = Reader("nu", expected);
  ASSERT_EQ(reader->Hear(), "up");
  Client maker = Maker();
  Opened out = maker.Create("nu");
  EXPECT_EQ(Client::Write(out, "tail", 10), 4);
  EXPECT_EQ(Client::Write(out, "head", 0), 4);
  EXPECT_EQ(reader->Hear(), "first 4");
  EXPECT_EQ(Client::Write(out, "middle", 4), 6);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(reader->Hear(), "whole");
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, AGapThatStaysIsReadAsZerosOnceCommitted) {
  std::string expected = std::string("a\0\0\0\0b\0\0\0c", 10);
  auto reader = Reader("nu", expected);
  ASSERT_EQ(reader->Hear(), "up");
  Client maker = Maker();
  Opened out = maker.Create("nu");
  EXPECT_EQ(Client::Write(out, "a"), 1);
  EXPECT_EQ(reader->Hear(), "first 1");
  EXPECT_EQ(Client::Write(out, "b", 5), 1);
  EXPECT_EQ(Client::Write(out, "c", 9), 1);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(reader->Hear(), "whole");
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, SeveralProcessesAppend) {
  constexpr int kWriters = 3;
  constexpr int kLines = 200;
  Client root = Maker();
  ASSERT_TRUE(root.ok());
  std::vector<std::unique_ptr<Child>> writers;
  for (int i = 0; i < kWriters; ++i) {
    writers.push_back(std::make_unique<Child>([=, this](Channel& parent) {
      Client maker = Maker();
      Opened out = maker.Open("term", O_WRONLY | O_CREAT | O_APPEND);
      parent.Say(out.fd >= 0 ? "open" : "failed");
      (void)parent.Hear();
      for (int n = 0; n < kLines; ++n) {
        if (Client::Write(out, std::string(99, static_cast<char>('a' + i)) + "\n") != 100) return 1;
      }
      return Client::Close(out) + maker.End();
    }));
  }
  for (auto& writer : writers) EXPECT_EQ(writer->Hear(), "open");
  Child reader([this](Channel& parent) {
    Client taker = Taker();
    parent.Say("up");
    parent.Say(std::to_string(taker.Content("term").size()));
    return taker.End();
  });
  EXPECT_EQ(reader.Hear(), "up");
  for (auto& writer : writers) writer->Say("go");
  for (auto& writer : writers) EXPECT_EQ(writer->Wait(), 0);
  EXPECT_EQ(root.End(), 0);
  EXPECT_EQ(reader.Hear(), std::to_string(kWriters * kLines * 100));
  EXPECT_EQ(reader.Wait(), 0);
}

// ---- ends
// -------------------------------------------------------------------------------------------

// A consumer reads a file whose producer is killed at a random moment: it gets the whole file or
// EOWNERDEAD.
TEST_F(StreamTest, KilledAtAnyMomentNeverAShortFile) {
  constexpr int kRounds = 200;
  std::mt19937 random(20261123);
  const std::string text = Pattern(40'000);
  Client keeper(dir, "keeper", "wf", config);
  ASSERT_TRUE(keeper.ok());
  Child reader([&, this](Channel& parent) {
    Client taker = Taker();
    for (int round = 0; round < kRounds; ++round) {
      std::string name = parent.Hear();
      if (name == "<end>") return 1;
      std::string got = taker.Content(name);
      parent.Say(got == text ? "whole"
                 : got == "error " + std::to_string(EOWNERDEAD)
                     ? "dead"
                     : "SHORT " + std::to_string(got.size()) + " " + got.substr(0, 20));
    }
    return taker.End();
  });
  int whole = 0;
  int dead = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::string name = (round % 3 == 0   ? "nu"
                        : round % 3 == 1 ? "up"
                                         : "term") +
                       std::to_string(round);
    Child maker([&, this](Channel& parent) {
      Client client = Maker();
      parent.Say("up");
      Opened out = client.Create(name);
      for (size_t at = 0; at < text.size(); at += 1000) {
        (void)Client::Write(out, text.substr(at, 1000));
      }
      (void)Client::Close(out);
      (void)capio_session_goodbye(client.session(), CAPIO_END_CLEAN);
      return 0;
    });
    ASSERT_EQ(maker.Hear(), "up");
    reader.Say(name);
    // Busy for a random while, from before the file is created to after the end.
    volatile unsigned spin = random() % 300'000;
    while (spin > 0) spin = spin - 1;
    maker.Kill(SIGKILL);
    (void)maker.Wait();
    std::string result = reader.Hear();
    if (result == "whole") ++whole;
    if (result == "dead") ++dead;
    ASSERT_TRUE(result == "whole" || result == "dead") << "round " << round << ": " << result;
  }
  EXPECT_EQ(whole + dead, kRounds);
  EXPECT_GT(dead, 0);
  EXPECT_EQ(reader.Wait(), 0);
  EXPECT_EQ(keeper.End(), 0);
}

TEST_F(StreamTest, AnAbandonedCloseIsNone) {
  Child maker([this](Channel& parent) {
    Client client = Maker();
    Opened out = client.Create("nu");
    (void)Client::Write(out, "half");
    (void)Client::Close(out, CAPIO_CLOSE_ABANDONED);
    parent.Say("closed");
    std::string how = parent.Hear();
    if (how == "fail") (void)capio_session_fail_abandoned(client.session());
    if (how == "fail") (void)parent.Hear();
    if (how == "exit 3") return 3;
    (void)capio_session_goodbye(client.session(), how == "bad" ? CAPIO_END_BAD : CAPIO_END_CLEAN);
    return 0;
  });
  ASSERT_EQ(maker.Hear(), "closed");
  auto reader = Reader("nu", "half");
  EXPECT_EQ(reader->Hear(), "up");
  EXPECT_EQ(reader->Hear(), "first 4");
  maker.Say("bad");
  EXPECT_EQ(reader->Hear(), "error " + std::to_string(EOWNERDEAD));
  EXPECT_EQ(maker.Wait(), 0);
  EXPECT_EQ(reader->Wait(), 0);
}

struct End {
  const char* how;
  const char* result;
};
class EndTest : public StreamTest, public ::testing::WithParamInterface<End> {};

TEST_P(EndTest, DecidesOverWhatWasAbandonedOrLeftOpen) {
  std::string how = GetParam().how;
  for (bool abandoned : {true, false}) {
    std::string name = abandoned ? "nu-abandoned" : "nu-open";
    Child maker([&, this](Channel& parent) {
      Client client = Maker();
      Opened out = client.Create(name);
      (void)Client::Write(out, "half");
      if (abandoned) (void)Client::Close(out, CAPIO_CLOSE_ABANDONED);
      parent.Say("written");
      (void)parent.Hear();
      if (how == "goodbye clean") (void)capio_session_goodbye(client.session(), CAPIO_END_CLEAN);
      if (how == "goodbye bad") (void)capio_session_goodbye(client.session(), CAPIO_END_BAD);
      if (how == "abort") ::_exit(0);
      return how == "exit 3" ? 3 : 0;
    });
    ASSERT_EQ(maker.Hear(), "written");
    auto reader = Reader(name, "half");
    EXPECT_EQ(reader->Hear(), "up");
    EXPECT_EQ(reader->Hear(), "first 4");
    maker.Say("end");
    EXPECT_EQ(reader->Hear(), GetParam().result) << name;
    EXPECT_EQ(maker.Wait(), how == "exit 3" ? 3 : 0);
    EXPECT_EQ(reader->Wait(), 0);
  }
}
// EOWNERDEAD is 130 on Linux.
INSTANTIATE_TEST_SUITE_P(All, EndTest,
                         ::testing::Values(End{"goodbye clean", "whole"}, End{"exit 0", "whole"},
                                           End{"goodbye bad", "error 130"},
                                           End{"exit 3", "error 130"}, End{"abort", "error 130"}));

TEST_F(StreamTest, AFailedFileIsMadeAnew) {
  Child dying([this](Channel& parent) {
    Client client = Maker();
    Opened out = client.Create("nu");
    (void)Client::Write(out, "half");
    parent.Say("written");
    (void)parent.Hear();
    return 0;
  });
  EXPECT_EQ(dying.Hear(), "written");
  Client taker = Taker();
  dying.Kill(SIGKILL);
  EXPECT_EQ(dying.Wait(), 128 + SIGKILL);
  EXPECT_EQ(taker.Content("nu"), "error " + std::to_string(EOWNERDEAD));
  EXPECT_NE(taker.sentence.find("maker"), std::string::npos) << taker.sentence;
  {
    Child again([this](Channel&) {
      Client client = Maker();
      return client.Make("nu", "all of it") + client.End();
    });
    EXPECT_EQ(again.Wait(), 0);
  }
  EXPECT_EQ(taker.Content("nu"), "all of it");
  EXPECT_EQ(taker.End(), 0);
}

// The server comes to know of a death when the step has begun again already.
class AgainTest : public StreamTest, public ::testing::WithParamInterface<bool> {};
TEST_P(AgainTest, ADeathThatIsSettledLateFailsNothingOfTheNextAttempt) {
  const bool another_dies = GetParam();
  Child dying([this](Channel& parent) {
    Client client = Maker();
    Opened out = client.Create("nu");
    (void)Client::Write(out, "half");
    parent.Say("written");
    (void)parent.Hear();
    return 0;
  });
  EXPECT_EQ(dying.Hear(), "written");
  Client taker = Taker();
  pid_t server = OneServer();
  ::kill(server, SIGSTOP);
  dying.Kill(SIGKILL);
  EXPECT_EQ(dying.Wait(), 128 + SIGKILL);
  EXPECT_EQ(taker.Content("nu"), "error " + std::to_string(EOWNERDEAD));
  Child again([this](Channel& parent) {
    Client client = Maker();
    Opened out = client.Create("nu");
    (void)Client::Write(out, "all ");
    parent.Say("begun");
    (void)parent.Hear();
    (void)Client::Write(out, "of it");
    int closed = Client::Close(out);
    Opened late = client.Create("term");  // complete when the step has ended
    return closed + Client::Close(late) + client.End();
  });
  EXPECT_EQ(again.Hear(), "begun");
  ::kill(server, SIGCONT);
  // It deals with what has happened in that order.
  Client other(dir, "other", "wf", config);
  EXPECT_EQ(other.End(), 0);
  if (another_dies) {  // which is a death of this attempt
    Child late([this](Channel& parent) {
      Client client = Maker();
      parent.Say("up");
      (void)parent.Hear();
      return 0;
    });
    EXPECT_EQ(late.Hear(), "up");
    late.Kill(SIGKILL);
    EXPECT_EQ(late.Wait(), 128 + SIGKILL);
    EXPECT_EQ(Client(dir, "other", "wf", config).End(), 0);
  }
  again.Say("go on");
  EXPECT_EQ(again.Wait(), 0);
  // It takes with it what the app has not completed.
  const std::string dead = "error " + std::to_string(EOWNERDEAD);
  EXPECT_EQ(taker.Content("nu"), another_dies ? dead : "all of it");
  EXPECT_EQ(taker.Content("term"), another_dies ? dead : "");
  EXPECT_EQ(taker.End(), 0);
}
INSTANTIATE_TEST_SUITE_P(All, AgainTest, ::testing::Bool());

TEST_F(StreamTest, WaitingForAnAppThatEndsWithoutMakingIt) {
  Client maker = Maker();
  Child reader([this](Channel& parent) {
    Client taker = Taker();
    parent.Say("up");
    parent.Say(taker.Content("nu"));
    return taker.End();
  });
  EXPECT_EQ(reader.Hear(), "up");
  EXPECT_EQ(maker.End(), 0);
  EXPECT_EQ(reader.Hear(), "error " + std::to_string(ENOENT));
  EXPECT_EQ(reader.Wait(), 0);
}

// ---- forks and inherited descriptors
// ----------------------------------------------------------------

TEST_F(StreamTest, AChildsBorrowedHandleCountsForNothing) {
  Client maker = Maker();
  Opened out = maker.Create("nu");
  EXPECT_EQ(Client::Write(out, "ab"), 2);
  Child child([&](Channel& parent) {
    int status = capio_file_status(out.file);
    int result = capio_close(out.file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSE);
    parent.Say((status & static_cast<int>(CAPIO_FILE_BORROWED)) != 0 && result == 0 ? "closed"
                                                                                    : "wrong");
    return 0;
  });
  EXPECT_EQ(child.Hear(), "closed");
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(capio_file_status(out.file), static_cast<int>(CAPIO_FILE_WRITER | CAPIO_FILE_STREAMED));
  EXPECT_EQ(Client::Write(out, "cd"), 2);
  EXPECT_EQ(Client::Close(out), 0);
  Client taker = Taker();
  EXPECT_EQ(taker.Content("nu"), "abcd");
  EXPECT_EQ(maker.End(), 0);
  EXPECT_EQ(taker.End(), 0);
}

TEST_F(StreamTest, AChildThatWritesIsAClientOfItsOwn) {
  Client maker = Maker();
  Opened out = maker.Create("nu");
  EXPECT_EQ(Client::Write(out, "ab"), 2);
  Child child([&](Channel& parent) {
    parent.Say(Client::Write(out, "cd") == 2 ? "written" : "failed");
    (void)parent.Hear();
    return capio_close(out.file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSE);
  });
  EXPECT_EQ(child.Hear(), "written");
  EXPECT_EQ(Client::Close(out), 0);
  auto reader = Reader("nu", "abcd");
  EXPECT_EQ(reader->Hear(), "up");
  EXPECT_EQ(reader->Hear(), "first 4");
  child.Say("close");
  EXPECT_EQ(reader->Hear(), "whole");
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, ForkWhileThreadsAreBusy) {
  Client maker = Maker();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; !stop.load(); ++n) {
        if (maker.Make("up-" + std::to_string(i) + "-" + std::to_string(n % 10), "text") != 0)
          return;
      }
    });
  }
  for (int round = 0; round < 30; ++round) {
    Child child(
        [&](Channel&) {
          Opened up = OpenPath(maker.session(), dir + "/up-child", O_WRONLY | O_CREAT);
          return up.fd >= 0 && capio_write(up.file, "text", 4, -1) == 4 &&
                         capio_close(up.file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSE) == 0
                     ? 0
                     : 1;
        },
        Child::kAtOnce);
    EXPECT_EQ(child.Wait(), 0) << round;
  }
  stop.store(true);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(maker.End(), 0);
}

enum class ServerState { kAlive, kStopped, kKilled };
class InheritTest : public StreamTest, public ::testing::WithParamInterface<ServerState> {};

// A child that has the file as its standard output outlives the close.
TEST_P(InheritTest, ACommitWaitsForWhoStillHoldsTheDescriptor) {
  Client maker = Maker();
  ASSERT_TRUE(maker.ok());
  pid_t server = OneServer();
  Opened out = maker.Create("nu");
  EXPECT_EQ(capio_expose(out.file), out.fd);
  // No client: it only inherits.
  int gate[2];
  ASSERT_EQ(::pipe2(gate, O_CLOEXEC), 0);
  pid_t child = ::fork();
  if (child == 0) {
    ::dup2(out.fd, 1);
    ::dup2(gate[0], 0);
    ::execlp("sh", "sh", "-c", "echo early; read line; echo late", nullptr);
    ::_exit(127);
  }
  ::close(gate[0]);
  EXPECT_EQ(Client::Close(out), 0);
  auto reader = Reader("nu", "early\nlate\n");
  EXPECT_EQ(reader->Hear(), "up");
  EXPECT_EQ(reader->Hear(), "first 6");
  if (GetParam() == ServerState::kStopped) ::kill(server, SIGSTOP);
  if (GetParam() == ServerState::kKilled) {
    ::kill(server, SIGKILL);
    EXPECT_TRUE(AwaitEnd(server));
  }
  EXPECT_EQ(::write(gate[1], "\n", 1), 1);
  ::close(gate[1]);
  EXPECT_EQ(reader->Hear(), "whole");
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
  if (GetParam() == ServerState::kStopped) ::kill(server, SIGCONT);
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}
INSTANTIATE_TEST_SUITE_P(All, InheritTest,
                         ::testing::Values(ServerState::kAlive, ServerState::kStopped,
                                           ServerState::kKilled));

TEST_F(StreamTest, TheServerOutlivesTheClientsForAnInheritedDescriptor) {
  int gate[2];
  ASSERT_EQ(::pipe2(gate, O_CLOEXEC), 0);
  Child maker([&, this](Channel& parent) {
    Client client = Maker();
    Opened out = client.Create("keep");
    if (capio_expose(out.file) != out.fd) return 1;
    if (::fork() == 0) {
      ::dup2(out.fd, 1);
      ::dup2(gate[0], 0);
      ::execlp("sh", "sh", "-c", "read line; echo late", nullptr);
      ::_exit(127);
    }
    (void)Client::Close(out);
    parent.Say("closed");
    return client.End(0);
  });
  EXPECT_EQ(maker.Hear(), "closed");
  EXPECT_EQ(maker.Wait(), 0);
  pid_t server = OneServer();
  EXPECT_EQ(::write(gate[1], "\n", 1), 1);
  ::close(gate[0]);
  ::close(gate[1]);
  EXPECT_TRUE(AwaitEnd(server));
  EXPECT_EQ(Slurp(dir + "/keep"), "late\n");
}

// ---- servers
// ----------------------------------------------------------------------------------------

class ServerTest : public StreamTest, public ::testing::WithParamInterface<ServerState> {};

TEST_P(ServerTest, ClientsGoOnWithoutIt) {
  std::string text = Pattern(200'000);
  auto reader = Reader("nu", text);
  ASSERT_EQ(reader->Hear(), "up");
  Client maker = Maker();
  ASSERT_TRUE(maker.ok());
  pid_t server = OneServer();
  ::kill(server, GetParam() == ServerState::kStopped ? SIGSTOP : SIGKILL);
  if (GetParam() == ServerState::kKilled) {
    EXPECT_TRUE(AwaitEnd(server));
  }
  Opened out = maker.Create("nu");
  EXPECT_EQ(Client::Write(out, text.substr(0, 100)), 100);
  EXPECT_EQ(reader->Hear(), "first 100");
  EXPECT_EQ(Client::Write(out, text.substr(100)), 199'900);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(reader->Hear(), "whole");
  if (GetParam() == ServerState::kStopped) ::kill(server, SIGCONT);
  EXPECT_EQ(reader->Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}
INSTANTIATE_TEST_SUITE_P(All, ServerTest,
                         ::testing::Values(ServerState::kStopped, ServerState::kKilled));

TEST_F(StreamTest, ANewServerAdoptsLearnsAndCleansUp) {
  Client maker = Maker();
  pid_t first = OneServer();
  Child dying([this](Channel& parent) {
    Client client = Maker();
    Opened out = client.Create("nu-half");
    (void)Client::Write(out, "half");
    parent.Say("written");
    (void)parent.Hear();
    return 0;
  });
  EXPECT_EQ(dying.Hear(), "written");
  EXPECT_EQ(maker.Make("keep-1", "kept"), 0);
  ::kill(first, SIGKILL);
  EXPECT_TRUE(AwaitEnd(first));
  dying.Kill(SIGKILL);
  EXPECT_EQ(dying.Wait(), 128 + SIGKILL);
  EXPECT_EQ(maker.Make("keep-2", "kept, too"), 0);
  Client taker = Taker();
  ASSERT_TRUE(taker.ok()) << taker.sentence;
  pid_t second = OneServer();
  EXPECT_NE(second, first);
  EXPECT_EQ(taker.Info(CAPIO_INFO_SERVER_PID), std::to_string(second));
  EXPECT_EQ(taker.Content("nu-half"), "error " + std::to_string(EOWNERDEAD));
  EXPECT_EQ(taker.End(), 0);
  EXPECT_EQ(maker.End(), 0);
  EXPECT_TRUE(AwaitEnd(second));
  EXPECT_EQ(Slurp(dir + "/keep-1"), "kept");
  EXPECT_EQ(Slurp(dir + "/keep-2"), "kept, too");
}

TEST_F(StreamTest, TheLastClientBringsBackAServerToCleanUp) {
  Client maker = Maker();
  pid_t first = OneServer();
  ::kill(first, SIGKILL);
  EXPECT_TRUE(AwaitEnd(first));
  EXPECT_EQ(maker.Make("keep", "kept"), 0);
  EXPECT_EQ(maker.End(), 0);
  // Not for want of a server: it had to be written before the end was told.
  EXPECT_EQ(Slurp(dir + "/keep"), "kept");
}

TEST_F(StreamTest, ManyServersAtOnceOneServes) {
  constexpr int kClients = 8;
  for (int round = 0; round < 4; ++round) {
    std::vector<std::unique_ptr<Child>> clients;
    for (int i = 0; i < kClients; ++i) {
      clients.push_back(std::make_unique<Child>([=, this](Channel& parent) {
        (void)parent.Hear();
        Client client = Maker();
        parent.Say(client.ok() ? client.Info(CAPIO_INFO_SERVER_PID) : "failed: " + client.sentence);
        (void)parent.Hear();
        return client.End();
      }));
    }
    for (auto& client : clients) client->Say("go");
    std::set<std::string> pids;
    for (auto& client : clients) pids.insert(client->Hear());
    EXPECT_EQ(pids.size(), 1u) << ::testing::PrintToString(pids);
    for (auto& client : clients) client->Say("end");
    // Sessions end and begin at the same time: the next round meets servers that are going.
    for (auto& client : clients) EXPECT_EQ(client->Wait(), 0);
  }
}

TEST_F(StreamTest, SessionsComeAndGo) {
  // In one process, from two threads: opening and closing the same store must never drop the
  // other's slot.
  Client keeper(dir, "keeper", "wf", config);
  std::vector<std::thread> threads;
  std::atomic<int> bad{0};
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 100; ++n) {
        Client client = Maker();
        std::string name = "up-" + std::to_string(i);
        if (!client.ok() || client.Make(name, "text") != 0) ++bad;
        if (client.End(0) != 0) ++bad;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(bad.load(), 0);
  EXPECT_EQ(keeper.End(), 0);
}

TEST_F(StreamTest, TerminatedServerLeavesTheStoreToItsClients) {
  Client maker = Maker();
  pid_t server = OneServer();
  EXPECT_EQ(maker.Make("keep-1", "before"), 0);
  ::kill(server, SIGTERM);
  EXPECT_TRUE(AwaitEnd(server));
  EXPECT_EQ(Slurp(dir + "/keep-1"), "before");
  EXPECT_EQ(maker.Make("keep-2", "after"), 0);
  EXPECT_EQ(maker.End(), 0);
  EXPECT_EQ(Slurp(dir + "/keep-2"), "after");
}

TEST_F(StreamTest, IdleServerEndsAfterItsLinger) {
  ::setenv("CAPIO_LINGER", "0.05", 1);
  Client maker(dir, "maker", "wf", config, 0);
  pid_t server = OneServer();
  EXPECT_EQ(maker.End(), 0);
  EXPECT_TRUE(AwaitEnd(server));
}

TEST_F(StreamTest, WithAConfigTheServerWaitsForTheAppsThatAreToCome) {
  ::setenv("CAPIO_LINGER", "30", 1);
  Client maker = Maker();
  EXPECT_EQ(maker.Make("nu", "text"), 0);
  pid_t server = OneServer();
  EXPECT_EQ(maker.End(), 0);
  EXPECT_EQ(OneServer(), server);
  Client taker = Taker();
  EXPECT_EQ(taker.Info(CAPIO_INFO_SERVER_PID), std::to_string(server));
  EXPECT_EQ(taker.Content("nu"), "text");
  EXPECT_EQ(taker.End(), 0);
}

TEST_F(StreamTest, AtExitASilentServerIsNotWaitedForLong) {
  Child maker([this](Channel& parent) {
    Client client = Maker();
    (void)client.Make("keep", "kept");
    int log = ::open((root + "/stderr").c_str(), O_WRONLY | O_CREAT, 0600);
    ::dup2(log, 2);
    parent.Say("made");
    (void)parent.Hear();
    return 0;
  });
  ASSERT_EQ(maker.Hear(), "made");
  pid_t server = OneServer();
  ::kill(server, SIGSTOP);
  auto before = std::chrono::steady_clock::now();
  maker.Say("exit");
  EXPECT_EQ(maker.Wait(), 0);
  auto took = std::chrono::steady_clock::now() - before;
  ::kill(server, SIGCONT);
  EXPECT_GE(took, std::chrono::milliseconds(1500));
  EXPECT_LE(took, std::chrono::seconds(20));
  EXPECT_NE(Slurp(root + "/stderr").find("does not answer"), std::string::npos);
  EXPECT_TRUE(AwaitEnd(server));
  EXPECT_EQ(Slurp(dir + "/keep"), "kept");
}

// ---- CAPIO_DIR
// --------------------------------------------------------------------------------------

TEST_F(StreamTest, PersistsContentModeAndTimes) {
  Client client(dir, "a", "wf", "", CAPIO_SESSION_TEARDOWN | CAPIO_SESSION_PERSIST);
  std::string text = Pattern(3'000'000);
  EXPECT_EQ(client.Mkdir("d"), 0);
  EXPECT_EQ(client.Mkdir("d/empty"), 0);
  Opened out = client.Open("d/file", O_WRONLY | O_CREAT | O_TRUNC, 0750);
  EXPECT_EQ(Client::Write(out, text), 3'000'000);
  EXPECT_EQ(Client::Close(out), 0);
  std::string backing = client.Resolve("d/file", CAPIO_FOR_CHANGE);
  const struct timespec times[2] = {{1'000'000'000, 5}, {1'100'000'000, 123'456'789}};
  EXPECT_EQ(::utimensat(AT_FDCWD, backing.c_str(), times, 0), 0);
  EXPECT_EQ(::chmod(backing.c_str(), 0604), 0);
  std::string link = client.Resolve("d/link", CAPIO_FOR_CREATE);
  EXPECT_EQ(::symlink("file", link.c_str()), 0);
  EXPECT_EQ(client.Make("x.tmp", "moved"), 0);
  EXPECT_EQ(client.Rename("x.tmp", "x"), 0);
  EXPECT_EQ(client.End(), 0);
  EXPECT_EQ(Slurp(dir + "/d/file"), text);
  struct stat st = {};
  ASSERT_EQ(::stat((dir + "/d/file").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0604u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1'100'000'000);
  EXPECT_EQ(st.st_mtim.tv_nsec, 123'456'789);
  EXPECT_TRUE(std::filesystem::is_directory(dir + "/d/empty"));
  EXPECT_EQ(std::filesystem::read_symlink(dir + "/d/link"), "file");
  EXPECT_EQ(Slurp(dir + "/x"), "moved");
  EXPECT_FALSE(std::filesystem::exists(dir + "/x.tmp"));
}

TEST_F(StreamTest, RenamesAndRemovalsWhileFilesAreWrittenBack) {
  for (int round = 0; round < 20; ++round) {
    Client client(dir, "maker", "wf" + std::to_string(round), config);
    ASSERT_TRUE(client.ok()) << client.sentence;
    for (int i = 0; i < 5; ++i) {
      std::string n = std::to_string(i);
      EXPECT_EQ(client.Make("keep-tmp-" + n, "text " + n), 0);
      EXPECT_EQ(client.Rename("keep-tmp-" + n, "keep-" + n), 0);
      EXPECT_EQ(client.Make("keep-gone", "gone"), 0);
      std::string path = dir + "/keep-gone";
      EXPECT_EQ(capio_unlink(client.session(), path.data(), path.size()), 0);
    }
    std::vector<pid_t> servers = Servers();
    EXPECT_EQ(client.End(), 0);
    for (pid_t pid : servers) {
      ::kill(pid, SIGTERM);
      EXPECT_TRUE(AwaitEnd(pid));
    }
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(Slurp(dir + "/keep-" + std::to_string(i)), "text " + std::to_string(i)) << round;
      EXPECT_FALSE(std::filesystem::exists(dir + "/keep-tmp-" + std::to_string(i))) << round;
    }
    EXPECT_FALSE(std::filesystem::exists(dir + "/keep-gone")) << round;
    std::filesystem::remove_all(dir);
    std::filesystem::create_directory(dir);
  }
}

TEST_F(StreamTest, RealFilesAreCopiedUpAndGoBackWhenChanged) {
  Spill(dir + "/input", "original");
  ASSERT_EQ(::chmod((dir + "/input").c_str(), 0640), 0);
  Client client(dir, "a", "wf", "", CAPIO_SESSION_TEARDOWN);
  Opened out = client.Open("input", O_WRONLY | O_APPEND);
  EXPECT_EQ(Client::Write(out, " and more"), 9);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(Slurp(dir + "/input"), "original");
  EXPECT_EQ(client.Content("input"), "original and more");
  EXPECT_EQ(client.End(), 0);
  EXPECT_EQ(Slurp(dir + "/input"), "original and more");
  struct stat st = {};
  ASSERT_EQ(::stat((dir + "/input").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0640u);
}

TEST_F(StreamTest, WhatFailedIsSalvaged) {
  Child dying([this](Channel& parent) {
    Client client = Maker();
    Opened out = client.Create("keep");
    (void)Client::Write(out, "half of it");
    parent.Say("written");
    (void)parent.Hear();
    return 0;
  });
  EXPECT_EQ(dying.Hear(), "written");
  pid_t server = OneServer();
  dying.Kill(SIGKILL);
  EXPECT_EQ(dying.Wait(), 128 + SIGKILL);
  ::kill(server, SIGTERM);
  EXPECT_TRUE(AwaitEnd(server));
  EXPECT_FALSE(std::filesystem::exists(dir + "/keep"));
  EXPECT_EQ(Slurp(dir + "/.capio/salvage/wf/keep"), "half of it");
}

TEST_F(StreamTest, AServerKilledWhileWritingBackLeavesNoTemporaries) {
  std::mt19937 random(7);
  for (int round = 0; round < 10; ++round) {
    Client client = Maker();
    ASSERT_TRUE(client.ok());
    std::string text = Pattern(2'000'000, static_cast<unsigned>(round));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Make("keep-" + std::to_string(i), text), 0);
    volatile unsigned spin = random() % 2'000'000;
    while (spin > 0) spin = spin - 1;
    for (pid_t pid : Servers()) {
      ::kill(pid, SIGKILL);
      EXPECT_TRUE(AwaitEnd(pid));
    }
    EXPECT_EQ(client.End(), 0);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(Slurp(dir + "/keep-" + std::to_string(i)), text);
  }
}

// ---- names and stores
// -------------------------------------------------------------------------------

TEST_F(StreamTest, WorkflowNamesMayHoldAnything) {
  const std::vector<std::string> names = {"a/b",
                                          "..",
                                          ".",
                                          "../../etc",
                                          " spaces and\ttabs\n",
                                          "%41",
                                          "A",
                                          "\xff\xfe not utf-8",
                                          std::string(300, 'x'),
                                          std::string(299, 'x') + "y",
                                          "-rf",
                                          "~"};
  std::set<std::string> stores;
  for (const std::string& name : names) {
    Client client(dir, "a", name, "", CAPIO_SESSION_TEARDOWN);
    ASSERT_TRUE(client.ok()) << name << ": " << client.sentence;
    std::string path = client.Info(CAPIO_INFO_STORE);
    EXPECT_TRUE(stores.insert(path).second) << path;
    EXPECT_EQ(std::filesystem::path(path).parent_path(), StoreBase());
    EXPECT_EQ(client.Info(CAPIO_INFO_WORKFLOW), name);
    EXPECT_EQ(client.Make("f", "text"), 0);
    EXPECT_EQ(client.Content("f"), "text");
    EXPECT_EQ(client.End(), 0);
  }
}

TEST_F(StreamTest, AStoreDirectoryOfOthersIsRefused) {
  std::filesystem::create_directory(StoreBase());
  ASSERT_EQ(::chmod(StoreBase().c_str(), 0755), 0);
  Client open_to_all(dir, "a", "wf", "");
  EXPECT_EQ(open_to_all.error, -EPERM);
  EXPECT_NE(open_to_all.sentence.find(StoreBase()), std::string::npos);
  ASSERT_EQ(::rmdir(StoreBase().c_str()), 0);
  std::filesystem::create_directory(root + "/elsewhere");
  ASSERT_EQ(::chmod((root + "/elsewhere").c_str(), 0700), 0);
  std::filesystem::create_symlink(root + "/elsewhere", StoreBase());
  Client link(dir, "a", "wf", "");
  EXPECT_EQ(link.error, -EPERM);
  std::filesystem::remove(StoreBase());
  if (::getuid() == 0) {
    std::filesystem::create_directory(StoreBase());
    ASSERT_EQ(::chmod(StoreBase().c_str(), 0700), 0);
    ASSERT_EQ(::chown(StoreBase().c_str(), 65534, 65534), 0);
    Client foreign(dir, "a", "wf", "");
    EXPECT_EQ(foreign.error, -EPERM);
    std::filesystem::remove(StoreBase());
  }
}

TEST_F(StreamTest, AStoreOfAnotherVersionIsRefused) {
  // Forked first: it must not inherit the store as it was.
  Child stranger([this](Channel& parent) {
    (void)parent.Hear();
    Client client = Taker();
    parent.Say(std::to_string(client.error) + " " + client.sentence);
    return 0;
  });
  Client maker = Maker();
  std::string control = maker.Info(CAPIO_INFO_STORE) + "/control";
  std::fstream file(control, std::ios::in | std::ios::out | std::ios::binary);
  uint32_t layout = 0;
  file.seekg(8).read(reinterpret_cast<char*>(&layout), sizeof layout);
  uint32_t other = layout + 1;
  file.seekp(8).write(reinterpret_cast<const char*>(&other), sizeof other).flush();
  stranger.Say("open");
  std::string said = stranger.Hear();
  EXPECT_NE(said.find("another version"), std::string::npos) << said;
  EXPECT_EQ(stranger.Wait(), 0);
  file.seekp(8).write(reinterpret_cast<const char*>(&layout), sizeof layout).flush();
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, AnotherDirectoryOrConfigIsRefused) {
  Client maker = Maker();
  std::filesystem::create_directory(root + "/other");
  Client elsewhere(root + "/other", "a", "wf", config);
  EXPECT_EQ(elsewhere.error, -EBUSY);
  EXPECT_NE(elsewhere.sentence.find(dir), std::string::npos) << elsewhere.sentence;
  Spill(root + "/other.json", R"({"name": "x", "IO_Graph": []})");
  Client otherwise(dir, "a", "wf", root + "/other.json");
  EXPECT_EQ(otherwise.error, -EBUSY);
  Spill(root + "/bad.json", "{");
  Client bad(dir, "a", "wf2", root + "/bad.json");
  EXPECT_EQ(bad.error, -EINVAL);
  EXPECT_NE(bad.sentence.find("bad.json"), std::string::npos) << bad.sentence;
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, CancelledWaitsEnd) {
  Client maker = Maker();
  Client taker = Taker();
  std::atomic<int64_t> result{0};
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  Opened out = maker.Create("up");
  std::thread waiter([&] {
    int64_t n = -EINTR;
    (void)!::write(ready[1], "r", 1);
    while (n == -EINTR) n = OpenPath(taker.session(), dir + "/nu", O_RDONLY).fd;
    result.store(n);
  });
  char byte = 0;
  EXPECT_EQ(::read(ready[0], &byte, 1), 1);
  capio_cancel_waits(1);
  waiter.join();
  capio_cancel_waits(0);
  EXPECT_EQ(result.load(), -ECANCELED);
  ::close(ready[0]);
  ::close(ready[1]);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(taker.End(0), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(StreamTest, WaitTimeoutIsObeyed) {
  ::setenv("CAPIO_WAIT_TIMEOUT", "0.2", 1);
  Client taker = Taker();
  EXPECT_EQ(taker.Content("nu"), "error " + std::to_string(ETIMEDOUT));
  EXPECT_NE(taker.sentence.find("maker"), std::string::npos) << taker.sentence;
  EXPECT_EQ(taker.End(), 0);
  ::unsetenv("CAPIO_WAIT_TIMEOUT");
}

// Two processes answer each other byte by byte: one lost wake-up in a hundred would already cost
// seconds.
TEST_F(StreamTest, PingPong) {
  // Each is two switches of processes: with twenty busy ones besides, a millisecond or more.
  constexpr int kRounds = 5'000;
  auto play = [this](const std::string& mine, const std::string& theirs, bool serve) {
    Client client(dir, mine == "ping" ? "pinger" : "ponger", "wf", config);
    Opened out = client.Create(mine);
    Opened in = client.Open(theirs, O_RDONLY);
    int64_t result = 0;
    for (int i = 0; i < kRounds; ++i) {
      if (serve && Client::Write(out, "x") != 1) return 1;
      if (Client::Read(in, 1, &result) != "x") return 2;
      if (!serve && Client::Write(out, "x") != 1) return 3;
    }
    return Client::Close(out) + Client::Close(in) + client.End();
  };
  Spill(config, R"({"name": "wf", "IO_Graph": [
    {"name": "pinger", "input_stream": ["pong"], "output_stream": ["ping"],
     "streaming": [{"name": ["ping"], "committed": "on_close", "mode": "no_update"}]},
    {"name": "ponger", "input_stream": ["ping"], "output_stream": ["pong"],
     "streaming": [{"name": ["pong"], "committed": "on_close", "mode": "no_update"}]}]})");
  auto before = std::chrono::steady_clock::now();
  Child other([&](Channel&) { return play("pong", "ping", false); });
  EXPECT_EQ(play("ping", "pong", true), 0);
  EXPECT_EQ(other.Wait(), 0);
  auto took = std::chrono::steady_clock::now() - before;
  EXPECT_LE(took, std::chrono::seconds(60));
  RecordProperty(
      "milliseconds",
      static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
}

}  // namespace
}  // namespace capio::test
