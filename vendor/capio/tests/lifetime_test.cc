// How a client's end waits for the server.
#include <condition_variable>
#include <mutex>

#include "client/file.h"
#include "client/namespace.h"
#include "client/session.h"
#include "process_harness.h"
#include "server/persist.h"
#include "server/salvage.h"
#include "server/server.h"

namespace capio::test {
namespace {

// A disk on which fsync takes as long as the test wants.
class SlowDisk : public Os {
 public:
  SlowDisk() : before_(SetOs(this)) {}
  ~SlowDisk() override { (void)SetOs(before_); }
  SlowDisk(const SlowDisk&) = delete;
  SlowDisk& operator=(const SlowDisk&) = delete;

  int Fsync(int fd) override {
    std::unique_lock<std::mutex> lock(mutex_);
    busy_ = true;
    changed_.wait(lock, [this] { return open_; });
    return Os::Fsync(fd);
  }
  bool Busy() {
    std::lock_guard<std::mutex> guard(mutex_);
    return busy_;
  }
  void GoOn() {
    std::lock_guard<std::mutex> guard(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  Os* before_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;
  bool open_ = false;
};

// A client's, which does not reach the server.
class NoConnection : public Os {
 public:
  int Connect(int /*fd*/, const struct sockaddr_un& /*address*/, socklen_t /*size*/) override {
    return -ECONNREFUSED;
  }
};

class LifetimeTest : public WorkflowTest {
 protected:
  std::unique_ptr<Server> Serve() {
    ServerOptions options;
    options.workflow = "wf";
    options.capio_dir = dir;
    options.no_config = true;
    options.silent = true;
    options.persist = true;
    auto server = Server::Start(options);
    EXPECT_TRUE(server.ok()) << server.status().text();
    return server.ok() ? server.take() : nullptr;
  }
  // A client that the server does not know of, as if it had been killed just before it said so.
  std::function<int(Channel&)> Unseen() {
    return [this](Channel& parent) {
      (void)parent.Hear();
      NoConnection os;
      (void)SetOs(&os);
      SessionConfig config;
      config.capio_dir = dir;
      config.workflow = "wf";
      config.server_path = CAPIO_TEST_SERVER;
      auto session = Session::Open(config);
      if (!session.ok()) return 1;
      parent.Say("attached");
      (void)parent.Hear();
      return 0;
    };
  }
  // A client that makes one file and ends.
  std::function<int(Channel&)> Maker(uint32_t wait_ms) {
    return [this, wait_ms](Channel& parent) {
      (void)parent.Hear();
      SessionConfig config;
      config.capio_dir = dir;
      config.workflow = "wf";
      config.server_path = CAPIO_TEST_SERVER;
      config.flags = CAPIO_SESSION_TEARDOWN | CAPIO_SESSION_PERSIST;
      auto session = Session::Open(config);
      if (!session.ok()) return 1;
      std::unique_ptr<File> file;
      auto fd = File::Open(*session, "f", O_WRONLY | O_CREAT, 0644, &file);
      if (!fd.ok() || !file->Write("kept", 4, -1).ok()) return 2;
      if (!file->Close(CloseKind::kCount, FdFate::kClose).ok()) return 3;
      parent.Say("made");
      (*session)->Finish();
      parent.Say(std::to_string((*session)->AwaitSafe(wait_ms).code()));
      parent.Say(std::filesystem::exists(StoreBase() + "/wf") ? "there" : "gone");
      return 0;
    };
  }
};

TEST_F(LifetimeTest, ACloseDoesNotWaitForAServerThatFellSilent) {
  Child child(Maker(200), Child::kAtOnce);
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  SlowDisk disk;
  child.Say("go");
  while (!disk.Busy()) ASSERT_TRUE(server->Step(10));
  // From here on the server does nothing, as if stopped; it has said that it is at work.
  EXPECT_EQ(child.Hear(), "made");
  EXPECT_EQ(child.Hear(), std::to_string(ETIMEDOUT));
  EXPECT_EQ(child.Wait(), 0);
  disk.GoOn();
  while (server->Step(1000)) {
  }
  EXPECT_EQ(Slurp(dir + "/f"), "kept");
}

TEST_F(LifetimeTest, TheEndOfTheLastOneIsWaitedForWhoeverWasKilledUnseen) {
  Child unseen(Unseen());
  Child last(Maker(30'000), Child::kAtOnce);
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  ASSERT_TRUE(server->Step(0));  // it has just looked at everybody, and does so once a second
  unseen.Say("go");
  EXPECT_EQ(unseen.Hear(), "attached");
  unseen.Kill(SIGKILL);
  EXPECT_EQ(unseen.Wait(), 128 + SIGKILL);
  last.Say("go");
  EXPECT_EQ(last.Hear(), "made");
  while (server->Step(-1)) {
  }
  EXPECT_EQ(last.Hear(), "0");
  EXPECT_EQ(last.Hear(), "gone");
  EXPECT_EQ(last.Wait(), 0);
}

TEST_F(LifetimeTest, AStepThatBeginsAgainIsNotBlamedForADeathThatNobodyHasNoticed) {
  Child unseen(Unseen());
  Child again(Maker(30'000), Child::kAtOnce);
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  ASSERT_TRUE(server->Step(0));
  unseen.Say("go");
  EXPECT_EQ(unseen.Hear(), "attached");
  unseen.Kill(SIGKILL);
  EXPECT_EQ(unseen.Wait(), 128 + SIGKILL);
  again.Say("go");
  EXPECT_EQ(again.Hear(), "made");
  while (server->Step(-1)) {
  }
  EXPECT_EQ(again.Hear(), "0");
  EXPECT_EQ(again.Hear(), "gone");
  EXPECT_EQ(again.Wait(), 0);
  EXPECT_EQ(Slurp(dir + "/f"), "kept");
  EXPECT_FALSE(std::filesystem::exists(dir + "/.capio/salvage"));
}

TEST_F(LifetimeTest, AServerThatHasTakenOverHearsAtOnceOfAClientThatNeverWaits) {
  Spill(config, R"({"name": "wf", "IO_Graph": [{"name": "writer", "output_stream": ["f"],
    "streaming": [{"name": ["f"], "committed": "on_close"}]}], "permanent": ["f"]})");
  Child child([this](Channel& parent) {
    SessionConfig options;
    options.capio_dir = dir;
    options.workflow = "wf";
    options.server_path = CAPIO_TEST_SERVER;
    options.config_path = config;
    options.await_server_ms = 30'000;
    options.flags = CAPIO_SESSION_TEARDOWN;
    auto session = Session::Open(options);
    parent.Say(session.ok() ? "attached" : session.status().text());
    (void)parent.Hear();
    std::unique_ptr<File> file;
    auto fd = File::Open(*session, "f", O_WRONLY | O_CREAT, 0644, &file);
    if (!fd.ok() || !file->Write("kept", 4, -1).ok()) return 2;
    if (!file->Close(CloseKind::kCount, FdFate::kClose).ok()) return 3;
    parent.Say("made");
    (void)parent.Hear();
    return 0;
  });
  EXPECT_EQ(child.Hear(), "attached");
  pid_t killed = OneServer();
  ::kill(killed, SIGKILL);
  ASSERT_TRUE(AwaitEnd(killed));
  ServerOptions options;
  options.workflow = "wf";
  options.capio_dir = dir;
  options.config_path = config;
  options.silent = true;
  auto server = Server::Start(options);
  ASSERT_TRUE(server.ok()) << server.status().text();
  ASSERT_TRUE((*server)->Step(0));
  // What its clock would make it look at, it finds after this.
  const int64_t late = os().MonotonicNs() + int64_t{Beacon::kBeatMs} * 1'000'000;
  child.Say("go");
  EXPECT_EQ(child.Hear(), "made");
  while (!std::filesystem::exists(dir + "/f")) ASSERT_TRUE((*server)->Step(-1));
  EXPECT_LT(os().MonotonicNs(), late) << "the file was written back late";
  child.Kill(SIGKILL);
  EXPECT_EQ(child.Wait(), 128 + SIGKILL);
  while ((*server)->Step(-1)) {
  }
  EXPECT_LT(os().MonotonicNs(), late) << "the death was noticed late";
}

TEST_F(LifetimeTest, NoCopyIsLeftOfAFileThatWasRemovedAfterItsServerHadBeenKilled) {
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  Child child([this](Channel& parent) {
    SessionConfig options;
    options.capio_dir = dir;
    options.workflow = "wf";
    options.server_path = CAPIO_TEST_SERVER;
    options.flags = CAPIO_SESSION_TEARDOWN | CAPIO_SESSION_PERSIST;
    auto session = Session::Open(options);
    if (!session.ok()) return 1;
    std::unique_ptr<File> file;
    auto fd = File::Open(*session, "f", O_WRONLY | O_CREAT, 0644, &file);
    if (!fd.ok() || !file->Close(CloseKind::kCount, FdFate::kClose).ok()) return 2;
    parent.Say("made");
    (void)parent.Hear();
    if (!RemoveFile(session->get(), "f").ok()) return 3;
    parent.Say("removed");
    return 0;
  });
  EXPECT_EQ(child.Hear(), "made");
  FileRecord* record = server->store().RecordAt(Layer::kTree, "f");
  ASSERT_NE(record, nullptr);
  for (const std::string& to : {std::string("f"), SalvageDirectory("wf") + "/f"}) {
    const std::string copy = dir + "/" + TemporaryOf(&server->store(), record, to);
    std::filesystem::create_directories(std::filesystem::path(copy).parent_path());
    Spill(copy, "half of");
  }
  server.reset();
  server = Serve();
  ASSERT_NE(server, nullptr);
  child.Say("go");
  EXPECT_EQ(child.Hear(), "removed");
  EXPECT_EQ(child.Wait(), 0);
  while (server->Step(-1)) {
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
    EXPECT_TRUE(entry.is_directory()) << entry.path();
  }
}

TEST_F(LifetimeTest, AServerKilledOnItsWayIsStartedAgain) {
  const std::string script = root + "/server";
  Spill(script, "#!/bin/sh\nmkdir '" + root + "/killed' 2>/dev/null && kill -9 $$\nexec " +
                    CAPIO_TEST_SERVER + " \"$@\"\n");
  ASSERT_EQ(::chmod(script.c_str(), 0700), 0);
  Child child([this, script](Channel& parent) {
    SessionConfig options;
    options.capio_dir = dir;
    options.workflow = "wf";
    options.server_path = script;
    options.await_server_ms = 30'000;
    options.flags = CAPIO_SESSION_TEARDOWN;
    auto session = Session::Open(options);
    parent.Say(session.ok() ? "attached" : session.status().text());
    return 0;
  });
  EXPECT_EQ(child.Hear(), "attached");
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_TRUE(std::filesystem::exists(root + "/killed"));
}

TEST_F(LifetimeTest, ACloseWaitsAsLongAsTheDiskNeeds) {
  constexpr int kWaitMs = 1000;
  Child child(Maker(kWaitMs), Child::kAtOnce);
  auto server = Serve();
  ASSERT_NE(server, nullptr);
  SlowDisk disk;
  child.Say("go");
  while (!disk.Busy()) ASSERT_TRUE(server->Step(10));
  // Longer than a silent server would have been waited for.
  int64_t until = os().MonotonicNs() + int64_t{kWaitMs} * 5'500'000;
  while (os().MonotonicNs() < until) ASSERT_TRUE(server->Step(100));
  EXPECT_FALSE(std::filesystem::exists(dir + "/f"));
  disk.GoOn();
  while (server->Step(1000)) {
  }
  server.reset();
  EXPECT_EQ(child.Hear(), "made");
  EXPECT_EQ(child.Hear(), "0");
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(Slurp(dir + "/f"), "kept");
}

}  // namespace
}  // namespace capio::test
