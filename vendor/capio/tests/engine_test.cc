// Parts of the engine by themselves: messages, options, names, app entries, waits.
#include <array>
#include <random>
#include <span>
#include <thread>

#include "os/paths.h"
#include "process_harness.h"
#include "server/options.h"
#include "server/server.h"
#include "store/store.h"
#include "store/waits.h"
#include "wire/message.h"

namespace capio::test {
namespace {

std::span<const std::byte> Bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// ---- messages
// ---------------------------------------------------------------------------------------

TEST(Message, SurvivesTheWire) {
  for (const std::string& text :
       {std::string(), std::string("a\0b", 3), std::string(kMaxText, 'x')}) {
    Message message = {MessageType::kNote, 7, 0xffffffff, ~uint64_t{0}, text};
    auto back = DecodeMessage(Bytes(EncodeMessage(message)));
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->type, message.type);
    EXPECT_EQ(back->slot, message.slot);
    EXPECT_EQ(back->epoch, message.epoch);
    EXPECT_EQ(back->argument, message.argument);
    EXPECT_EQ(back->text, text);
  }
  auto cut =
      DecodeMessage(Bytes(EncodeMessage({MessageType::kNote, 0, 0, 0, std::string(9999, 'x')})));
  ASSERT_TRUE(cut.ok());
  EXPECT_EQ(cut->text.size(), kMaxText);
}

TEST(Message, WhatNobodyEncodedIsRefusedAndNothingElse) {
  std::mt19937 random(1123);
  int accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    Message message = {static_cast<MessageType>(random() % 10), static_cast<uint32_t>(random()),
                       static_cast<uint32_t>(random()), random(), std::string(random() % 40, 'x')};
    std::string frame = EncodeMessage(message);
    for (unsigned flips = random() % 4; flips > 0; --flips) {
      frame[random() % frame.size()] = static_cast<char>(random());
    }
    if (random() % 4 == 0) frame.resize(random() % (frame.size() + 8), 'y');
    // A buffer of exactly that size: reading beyond it is found by the sanitizer.
    auto bytes = Bytes(frame);
    std::vector<std::byte> exact(bytes.begin(), bytes.end());
    auto decoded = DecodeMessage(exact);
    if (!decoded.ok()) {
      EXPECT_EQ(decoded.code(), EPROTO);
      continue;
    }
    ++accepted;
    std::string again = EncodeMessage(*decoded);
    ASSERT_EQ(again.size(), frame.size());
    // All but the reserved word.
    EXPECT_EQ(again.substr(0, 28), frame.substr(0, 28));
    EXPECT_EQ(again.substr(32), frame.substr(32));
  }
  EXPECT_GT(accepted, 1000);
}

// ---- options
// ----------------------------------------------------------------------------------------

TEST(Options, AreRead) {
  ::unsetenv("CAPIO_DIR");
  ::unsetenv("CAPIO_WORKFLOW_NAME");
  auto options = ParseServerOptions({"-c", "x.json", "--capio-dir=/d", "-w", "a b", "--backend",
                                     "none", "-r", "/r", "--mem-only", "-s", "--persist",
                                     "--resume", "--daemon", "--ready-fd", "3"});
  ASSERT_TRUE(options.ok()) << options.status().text();
  EXPECT_EQ(options->config_path, "x.json");
  EXPECT_EQ(options->capio_dir, "/d");
  EXPECT_EQ(options->workflow, "a b");
  EXPECT_EQ(options->backend, "none");
  EXPECT_EQ(options->resolve_prefix, "/r");
  EXPECT_TRUE(options->mem_only && options->silent && options->persist && options->resume &&
              options->daemon);
  EXPECT_EQ(options->ready_fd, 3);
  auto least = ParseServerOptions({"--no-config"});
  ASSERT_TRUE(least.ok());
  EXPECT_EQ(least->workflow, "workflow");
  EXPECT_EQ(least->capio_dir, ".");
  EXPECT_EQ(least->ready_fd, -1);
  ::setenv("CAPIO_DIR", "/env", 1);
  ::setenv("CAPIO_WORKFLOW_NAME", "name", 1);
  auto from_environment = ParseServerOptions({"--no-config"});
  EXPECT_EQ(from_environment->capio_dir, "/env");
  EXPECT_EQ(from_environment->workflow, "name");
  ::unsetenv("CAPIO_DIR");
  ::unsetenv("CAPIO_WORKFLOW_NAME");
  EXPECT_TRUE(ParseServerOptions({"--help"})->help);
  EXPECT_TRUE(ParseServerOptions({"-V"})->version);
}

TEST(Options, BadOnesAreRefusedWithASentence) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> bad = {
      {{}, "--config"},
      {{"--no-config", "--config", "x"}, "exclude"},
      {{"--no-config", "--what"}, "--what"},
      {{"--no-config", "word"}, "word"},
      {{"--config"}, "needs a value"},
      {{"--no-config=1"}, "takes no value"},
      {{"--no-config", "--ready-fd", "x"}, "'x'"},
      {{"--no-config", "--ready-fd", "-1"}, "'-1'"},
      {{"--no-config", "--ready-fd="}, "''"},
      {{"--no-config", "-w", ""}, "empty"}};
  for (const auto& [words, part] : bad) {
    auto options = ParseServerOptions(words);
    EXPECT_EQ(options.code(), EINVAL) << ::testing::PrintToString(words);
    EXPECT_NE(std::string(options.status().text()).find(part), std::string::npos)
        << options.status().text();
  }
  for (const char* backend : {"mpi", "carrier pigeon"}) {
    ServerOptions options;
    options.backend = backend;
    options.no_config = true;
    auto server = Server::Start(options);
    EXPECT_EQ(server.code(), std::string(backend) == "mpi" ? ENOSYS : EINVAL);
  }
}

// ---- paths
// ------------------------------------------------------------------------------------------

TEST(Paths, AreTakenByComponent) {
  std::string rest;
  EXPECT_TRUE(PathBelow("/data/a", "/data", &rest));
  EXPECT_EQ(rest, "a");
  EXPECT_FALSE(PathBelow("/data2/a", "/data", &rest));
  EXPECT_TRUE(PathBelow("/data", "/data", &rest));
  EXPECT_EQ(rest, "");
  EXPECT_TRUE(PathBelow("/x", "/", &rest));
  EXPECT_EQ(rest, "x");
  EXPECT_EQ(NormalizePath("/a/./b//../c/"), "/a/c");
  EXPECT_EQ(NormalizePath("/../.."), "/");
  EXPECT_EQ(AbsolutePath("").code(), ENOENT);
  EXPECT_EQ(AbsolutePath(std::string_view("a\0b", 3)).code(), EINVAL);
}

TEST(Paths, AreNormalOrNot) {
  for (const char* path : {"a", "a/b", "...", ".a/..b", "a b"}) {
    EXPECT_TRUE(IsNormalBelow(path)) << path;
    EXPECT_TRUE(IsNormal(std::string("/") + path)) << path;
  }
  for (const char* path : {".", "..", "a/", "a//b", "a/.", "./a", "a/../b", "/", "/a"}) {
    EXPECT_FALSE(IsNormalBelow(path)) << path;
    EXPECT_FALSE(IsNormal(std::string("/") + path)) << path;
  }
  EXPECT_FALSE(IsNormalBelow(""));
  EXPECT_FALSE(IsNormalBelow(std::string_view("a\0b", 3)));
  EXPECT_TRUE(IsNormal("/"));
  EXPECT_FALSE(IsNormal("a"));
}

TEST(Paths, ThatAreRelativeNeedACurrentDirectory) {
  class RemovedCwd : public Os {
    int Getcwd(char*, size_t) override { return -ENOENT; }
  } os;
  SetOs(&os);
  EXPECT_EQ(AbsolutePath("a").code(), ENOENT);
  EXPECT_TRUE(AbsolutePath("/a").ok());
  SetOs(nullptr);
}

TEST(Paths, EncodedNamesAreFileNamesAndDiffer) {
  std::mt19937 random(5);
  std::set<std::string> names = {"", ".", "..", "/", "%", "a/b", "a%2Fb", std::string(127, 'a')};
  for (int i = 0; i < 5000; ++i) {
    std::string name(random() % 200, '\0');
    for (char& c : name) c = static_cast<char>(random());
    names.insert(name);
  }
  std::set<std::string> encoded;
  for (const std::string& name : names) {
    std::string out = EncodeName(name);
    EXPECT_TRUE(!out.empty() && out.size() <= 128 && out[0] != '.') << out;
    EXPECT_EQ(out.find('/'), std::string::npos);
    encoded.insert(out);
  }
  EXPECT_EQ(encoded.size(), names.size());
}

// ---- gaps
// -------------------------------------------------------------------------------------------

TEST(Gaps, AreSeenUntilFilled) {
  FileRecord record = {};
  record.hole.store(kNoHole);
  NoteGap(&record, 10, 10);
  EXPECT_EQ(record.hole.load(), kNoHole);
  NoteGap(&record, 10, 20);
  EXPECT_EQ(record.hole.load(), 10u);
  EXPECT_EQ(record.gaps.load(), 1u);
  NoteWritten(&record, 20, 25);
  EXPECT_EQ(record.hole.load(), 10u);
  NoteWritten(&record, 10, 15);
  EXPECT_EQ(record.hole.load(), 15u);
  NoteWritten(&record, 12, 20);
  EXPECT_EQ(record.hole.load(), kNoHole);
  NoteGap(&record, 25, 30);
  NoteGap(&record, 35, 40);
  EXPECT_EQ(record.hole.load(), 25u);
  NoteWritten(&record, 25, 40);
  // With several gaps only what was written in one go from the first one is sure.
  EXPECT_EQ(record.hole.load(), 40u);
}

// ---- store
// ------------------------------------------------------------------------------------------

class StoreTest : public WorkflowTest {
 protected:
  std::unique_ptr<Server> Serve() {
    ServerOptions options;
    options.workflow = "wf";
    options.capio_dir = dir;
    options.no_config = true;
    options.silent = true;
    auto server = Server::Start(options);
    EXPECT_TRUE(server.ok()) << server.status().text();
    return server.ok() ? server.take() : nullptr;
  }
  static void Stop(Server* server) {
    server->RequestStop();
    while (server->Step(1000)) {
    }
  }
};

TEST_F(StoreTest, IsServedOnce) {
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  Child other(
      [this](Channel& parent) {
        auto adopted = Store::Adopt("wf");
        parent.Say(std::to_string(adopted.code()));
        auto created = Store::Create("wf", {dir, "wf", "", "", 0, 0});
        parent.Say(created.ok() ? std::to_string((*created)->Publish().code()) : "not created");
        created = Status::Error(ENOENT);
        return 0;
      },
      Child::kAtOnce);
  EXPECT_EQ(other.Hear(), std::to_string(EBUSY));
  EXPECT_EQ(other.Hear(), std::to_string(EEXIST));
  EXPECT_EQ(other.Wait(), 0);
  Stop(server.get());
}

TEST_F(StoreTest, WhatKilledServersLeftIsSwept) {
  Child half([this](Channel& parent) {
    auto created = Store::Create("wf", {dir, "wf", "", "", 0, 0});
    parent.Say(created.ok() ? "made" : "failed");
    (void)parent.Hear();
    return 0;
  });
  EXPECT_EQ(half.Hear(), "made");
  half.Kill(SIGKILL);
  EXPECT_EQ(half.Wait(), 128 + SIGKILL);
  std::filesystem::create_directory(StoreBase() + "/.new-1");
  std::filesystem::create_directories(StoreBase() + "/.gone-2/tree/x");
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  for (const auto& entry : std::filesystem::directory_iterator(StoreBase())) {
    EXPECT_EQ(entry.path().filename(), "wf");
  }
  Stop(server.get());
}

TEST_F(StoreTest, SlotsAreFreeWhenTheirProcessIsNoMore) {
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  for (int round = 0; round < 100; ++round) {
    Child holder(
        [](Channel& parent) {
          auto store = Store::Open("wf");
          parent.Say(store.ok() && (*store)->locks->Take(5) ? "taken" : "failed");
          (void)parent.Hear();
          return 0;
        },
        Child::kAtOnce);
    ASSERT_EQ(holder.Hear(), "taken");
    pid_t pid = 0;
    EXPECT_TRUE(server->store().locks->Held(5, &pid));
    EXPECT_EQ(pid, holder.pid());
    holder.Kill(SIGKILL);
    ASSERT_EQ(holder.Wait(), 128 + SIGKILL);
    EXPECT_FALSE(server->store().locks->Held(5));
  }
  Stop(server.get());
}

TEST_F(StoreTest, OneEntryPerAppHoweverManyComeAtOnce) {
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  constexpr int kThreads = 4;
  std::array<std::vector<uint32_t>, kThreads> found;
  std::vector<std::thread> threads;
  for (auto& mine : found) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i)
        mine.push_back(server->store().AppIndex("app " + std::to_string(i)).take());
    });
  }
  for (auto& thread : threads) thread.join();
  for (auto& other : found) EXPECT_EQ(other, found[0]);
  EXPECT_EQ(std::set<uint32_t>(found[0].begin(), found[0].end()).size(), 100u);
  EXPECT_EQ(server->store().AppName(found[0][42]), "app 42");
  EXPECT_EQ(server->store().AppIndex("").code(), EINVAL);
  EXPECT_EQ(server->store().AppIndex(std::string(128, 'x')).code(), EINVAL);
  for (int i = 100; i < 256; ++i)
    EXPECT_TRUE(server->store().AppIndex("app " + std::to_string(i)).ok());
  EXPECT_EQ(server->store().AppIndex("one more").code(), ENOSPC);
  Stop(server.get());
}

TEST_F(StoreTest, AStrangersFrameCostsItOnlyItsConnection) {
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    Fd socket = server->store().ConnectToServer();
    ASSERT_TRUE(socket.valid());
    std::string frame =
        round % 3 == 0
            ? std::string(random() % 100, 'x')
            : EncodeMessage({static_cast<MessageType>(random() % 9),
                             static_cast<uint32_t>(random() % 2000),
                             static_cast<uint32_t>(random()), random() % 10'000'000, "text"});
    // kStop is the one message that rightly ends it.
    if (round % 3 != 0 &&
        static_cast<uint8_t>(frame[6]) == static_cast<uint8_t>(MessageType::kStop))
      continue;
    (void)os().Send(socket.get(), frame.data(), frame.size(), MSG_DONTWAIT);
    EXPECT_TRUE(server->Step(0));
    EXPECT_TRUE(server->Step(0));
  }
  Stop(server.get());
}

// ---- waits
// ------------------------------------------------------------------------------------------

TEST(Waits, NoWakeUpIsLost) {
  WaitWord word{0};
  std::atomic<uint64_t> ping{0};
  std::atomic<uint64_t> pong{0};
  constexpr uint64_t kRounds = 50'000;
  auto await = [&](const std::atomic<uint64_t>& value, uint64_t wanted) {
    int late = 0;
    for (;;) {
      uint32_t prepared = PrepareWait(&word);
      if (value.load() >= wanted) return late;
      if (WaitOn(&word, prepared, 2'000'000'000) == -ETIMEDOUT) ++late;
    }
  };
  int late = 0;
  std::thread other([&] {
    for (uint64_t i = 1; i <= kRounds; ++i) {
      (void)await(ping, i);
      pong.store(i);
      WakeAll(&word);
    }
  });
  for (uint64_t i = 1; i <= kRounds; ++i) {
    ping.store(i);
    WakeAll(&word);
    late += await(pong, i);
  }
  other.join();
  EXPECT_EQ(late, 0);
}

}  // namespace
}  // namespace capio::test
