// Every system call of the client fails once; the server dies at every one of its own.
#include <chrono>

#include "client/file.h"
#include "client/namespace.h"
#include "client/session.h"
#include "faulty_os.h"
#include "process_harness.h"
#include "server/persist.h"
#include "server/server.h"

namespace capio::test {
namespace {

constexpr char kConfig[] = R"({"name": "wf", "IO_Graph": [
  {"name": "maker", "input_stream": [], "output_stream": ["nu*", "keep*"],
   "streaming": [{"name": ["nu*"], "committed": "on_close", "mode": "no_update"},
                 {"name": ["keep*"], "committed": "on_close"}]}],
  "permanent": ["keep*"]})";

class FaultTest : public WorkflowTest {
 protected:
  void SetUp() override {
    WorkflowTest::SetUp();
    Spill(config, kConfig);
  }
  SessionConfig Config() const {
    SessionConfig c;
    c.capio_dir = dir;
    c.app = "maker";
    c.workflow = "wf";
    c.server_path = CAPIO_TEST_SERVER;
    c.config_path = config;
    c.await_server_ms = 30'000;
    c.flags = CAPIO_SESSION_TEARDOWN;
    return c;
  }
  static void End(std::shared_ptr<Session> session) {
    session->Finish();
    EXPECT_TRUE(session->AwaitSafe(30'000).ok());
  }

  bool keeps_descriptors = false;  // what body opens is closed by after

  // Runs body with call 1, 2, 3 … failing until none is left to fail. After each, nothing may be
  // left over.
  void FailEveryCall(const std::function<Status()>& body, const std::function<void()>& after) {
    for (int error : {EIO, ENOSPC, EMFILE}) {
      for (int call = 1;; ++call) {
        ASSERT_LT(call, 2000);
        auto before = OpenDescriptors();
        Status status;
        bool hit = false;
        std::string where;
        {
          ScopedFault fault(call, error);
          status = body();
          hit = fault->hit();
          where = fault->where();
        }
        SCOPED_TRACE("call " + std::to_string(call) + ", " + where + ": " + strerror(error));
        if (!keeps_descriptors || !status.ok()) {
          EXPECT_EQ(OpenDescriptors(), before);
        }
        if (!status.ok()) {
          EXPECT_TRUE(hit) << status.code() << " " << status.text();
          EXPECT_GT(status.code(), 0);
          EXPECT_LT(status.code(), 134) << status.text();
        }
        after();
        EXPECT_EQ(OpenDescriptors(), before);
        if (::testing::Test::HasFailure() || !hit) return;
      }
    }
  }
};

TEST_F(FaultTest, OpeningASession) {
  auto keeper = Session::Open(Config());
  ASSERT_TRUE(keeper.ok()) << keeper.status().text();
  SessionConfig other = Config();
  other.app = "other";
  std::shared_ptr<Session> opened;
  keeps_descriptors = true;
  FailEveryCall(
      [&]() -> Status {
        auto session = Session::Open(other);
        if (!session.ok()) return session.status();
        opened = session.take();
        return Status::Ok();
      },
      [&] {
        if (opened != nullptr) End(std::exchange(opened, nullptr));
        // The keeper must still be alive in the eyes of others.
        EXPECT_TRUE((*keeper)->store().locks->HeldHere((*keeper)->slot()));
        Child look([&](Channel& parent) {
          parent.Say((*keeper)->store().locks->Held((*keeper)->slot()) ? "alive" : "dead");
          return 0;
        });
        EXPECT_EQ(look.Hear(), "alive");
        EXPECT_EQ(look.Wait(), 0);
      });
  End(keeper.take());
}

TEST_F(FaultTest, MakingAFile) {
  auto session = Session::Open(Config());
  ASSERT_TRUE(session.ok());
  int round = 0;
  FailEveryCall(
      [&]() -> Status {
        std::string name = "d/nu" + std::to_string(++round);
        std::filesystem::create_directories(dir + "/d");
        std::unique_ptr<File> file;
        auto fd = File::Open(*session, name, O_WRONLY | O_CREAT | O_TRUNC, 0644, &file);
        if (!fd.ok()) return fd.status();
        auto put = file->Write("text", 4, -1);
        Status closed =
            file->Close(put.ok() ? CloseKind::kCount : CloseKind::kFailed, FdFate::kClose);
        return put.ok() ? closed : put.status();
      },
      [] {});
  // No intent is left that would hold up others.
  bool dead = false;
  uint32_t slot = 0;
  EXPECT_FALSE((*session)->store().judge->BeingCreated("d/nu1", &dead, &slot));
  EXPECT_TRUE(std::filesystem::is_empty((*session)->store().path + "/scratch"));
  End(session.take());
}

TEST_F(FaultTest, ReplacingRenamingAndCopyingUp) {
  auto opened = Session::Open(Config());
  ASSERT_TRUE(opened.ok());
  std::shared_ptr<Session> session = opened.take();
  auto make = [&](const std::string& name, int flags, const std::string& text) -> Status {
    std::unique_ptr<File> file;
    auto fd = File::Open(session, name, flags, 0644, &file);
    if (!fd.ok()) return fd.status();
    auto put = file->Write(text.data(), text.size(), -1);
    Status closed = file->Close(CloseKind::kCount, FdFate::kClose);
    return put.ok() ? closed : put.status();
  };
  ASSERT_TRUE(make("nu-target", O_WRONLY | O_CREAT | O_TRUNC, "old").ok());
  int round = 0;
  FailEveryCall(
      [&]() -> Status {
        std::string real = "input" + std::to_string(++round);
        Spill(dir + "/" + real, "real");
        CAPIO_RETURN_IF_ERROR(make(real, O_WRONLY | O_APPEND, " more"));
        CAPIO_RETURN_IF_ERROR(make("nu-target", O_WRONLY | O_TRUNC, "new"));
        NameEnd from{true, real, dir + "/" + real};
        NameEnd to{true, "moved", dir + "/moved"};
        return RenamePath(session.get(), from, to);
      },
      [&] {
        // The target is the old or the new one, or empty and of an open that failed: never anything
        // else.
        std::string text = Slurp(session->store().path + "/tree/nu-target");
        EXPECT_TRUE(text == "old" || text == "new" || text.empty()) << text;
      });
  EXPECT_TRUE(make("nu-target", O_WRONLY | O_CREAT | O_TRUNC, "last").ok());
  session->Finish();
  EXPECT_TRUE(session->AwaitSafe(30'000).ok());
}

TEST_F(FaultTest, WritingBack) {
  auto opened = Session::Open(Config());
  ASSERT_TRUE(opened.ok());
  std::shared_ptr<Session> session = opened.take();
  std::unique_ptr<File> file;
  ASSERT_TRUE(File::Open(session, "d", O_WRONLY | O_CREAT, 0644, &file).ok());
  ASSERT_TRUE(file->Write("text", 4, -1).ok());
  ASSERT_TRUE(file->Close(CloseKind::kCount, FdFate::kClose).ok());
  struct stat st = {};
  FileIdentity id;
  Fd fd(os().OpenAt(session->store().tree.get(), "d", O_PATH, 0));
  ASSERT_EQ(os().Fstat(fd.get(), &st), 0);
  ASSERT_EQ(session->store().layers->identities().Of(fd.get(), st, &id), 0);
  fd.reset();
  FileRecord* record = session->store().records->Find(id);
  ASSERT_NE(record, nullptr);
  FailEveryCall(
      [&]() -> Status {
        std::filesystem::remove_all(dir + "/copy");
        PersistOutcome outcome = PersistFile(&session->store(), {record, "d", "copy/of/d", true});
        if (!outcome.status.ok()) return outcome.status;
        return Status::Ok();
      },
      [&] {
        std::string path = dir + "/copy/of/d";
        if (std::filesystem::exists(path)) {
          EXPECT_EQ(Slurp(path), "text");
        }
      });
  EXPECT_EQ(Slurp(dir + "/copy/of/d"), "text");
  session->Finish();
  EXPECT_TRUE(session->AwaitSafe(30'000).ok());
}

// The server is no more from its call N on, while a producer died and another file has to be
// written back: the next server must come to the same end.
TEST_F(FaultTest, AServerThatDiesAtAnyOfItsCallsIsReplaced) {
  bool ended = false;
  for (int call = 1; !ended; ++call) {
    ASSERT_LT(call, 1000);
    SCOPED_TRACE("call " + std::to_string(call));
    Child server([&, this](Channel& parent) {
      auto* faulty = new FaultyOs(call, 0);
      (void)SetOs(faulty);
      ServerOptions options;
      options.workflow = "wf";
      options.capio_dir = dir;
      options.config_path = config;
      options.daemon = true;
      auto started = Server::Start(options);
      if (!started.ok()) return 3;
      parent.Say("serving");
      (*started)->Run();
      return 0;
    });
    bool serving = server.Hear() == "serving";
    Child maker([this](Channel& parent) {
      auto session = Session::Open(Config());
      if (!session.ok()) {
        parent.Say(session.status().text());
        return 1;
      }
      std::unique_ptr<File> half;
      std::unique_ptr<File> kept;
      (void)File::Open(*session, "keep", O_WRONLY | O_CREAT | O_TRUNC, 0644, &kept);
      (void)kept->Write("kept", 4, -1);
      (void)kept->Close(CloseKind::kCount, FdFate::kClose);
      (void)File::Open(*session, "nu-half", O_WRONLY | O_CREAT | O_TRUNC, 0644, &half);
      (void)half->Write("half", 4, -1);
      parent.Say("made");
      (void)parent.Hear();
      return 0;
    });
    ASSERT_EQ(maker.Hear(), "made");
    // Attaches to the server that is there, or to one that takes over.
    SessionConfig reader = Config();
    reader.app = "reader";
    auto session = Session::Open(reader);
    ASSERT_TRUE(session.ok()) << session.status().text();
    maker.Kill(SIGKILL);
    ASSERT_EQ(maker.Wait(), 128 + SIGKILL);
    std::unique_ptr<File> file;
    Result<int> fd = 0;
    do {
      fd = File::Open(*session, "nu-half", O_RDONLY, 0, &file);
    } while (fd.code() == EINTR);
    EXPECT_EQ(fd.code(), EOWNERDEAD);
    (*session)->Finish();
    Status safe = (*session)->AwaitSafe(30'000);
    EXPECT_TRUE(safe.ok()) << safe.text();
    session = Status::Error(ENOENT);
    int status = server.Wait();
    EXPECT_TRUE(status == 77 || (status == 0 && serving)) << status;
    ended = status == 0;
    for (pid_t pid : Servers()) ASSERT_TRUE(AwaitEnd(pid, 20'000)) << LogOf();
    ASSERT_EQ(Slurp(dir + "/keep"), "kept");
    std::filesystem::remove(dir + "/keep");
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace capio::test
