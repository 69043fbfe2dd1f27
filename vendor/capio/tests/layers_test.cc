// What is in which layer, where the answer is remembered.
#include "store/layers.h"

#include <fcntl.h>
#include <linux/magic.h>

#include <filesystem>

#include "client/session.h"
#include "process_harness.h"

namespace capio::test {
namespace {

// Counts the looks for names, and has a clock of its own.
class Looks : public Os {
 public:
  int FstatAt(int dir, const char* path, struct stat* st, int flags) override {
    if (*path != '\0') ++count;
    return Os::FstatAt(dir, path, st, flags);
  }
  int64_t RealtimeNs() override { return Os::RealtimeNs() + ahead_ns; }

  int count = 0;
  int64_t ahead_ns = 0;
};

// CAPIO_DIR is on tmpfs.
class MissingDirectoryTest : public WorkflowTest {
 protected:
  void SetUp() override {
    WorkflowTest::SetUp();
    char made[] = "/dev/shm/capio-test-XXXXXX";
    if (::access("/dev/shm", W_OK) < 0) GTEST_SKIP() << "no tmpfs to write to";
    ASSERT_NE(::mkdtemp(made), nullptr);
    memory = made;
    Fd at(os().OpenAt(AT_FDCWD, memory.c_str(), O_RDONLY | O_DIRECTORY, 0));
    if (os().FsType(at.get()) != TMPFS_MAGIC) GTEST_SKIP() << "/dev/shm is no tmpfs";
    SessionConfig c;
    c.capio_dir = memory;
    c.server_path = CAPIO_TEST_SERVER;
    c.await_server_ms = 30'000;
    c.flags = CAPIO_SESSION_TEARDOWN;
    auto opened = Session::Open(c);
    ASSERT_TRUE(opened.ok()) << opened.status().text();
    session = *opened;
    (void)SetOs(&looks);
  }
  void TearDown() override {
    (void)SetOs(nullptr);
    if (session != nullptr) {
      session->Finish();
      EXPECT_TRUE(session->AwaitSafe(30'000).ok());
      session.reset();
    }
    if (!memory.empty()) std::filesystem::remove_all(memory);
    WorkflowTest::TearDown();
  }
  bool InReal(const std::string& path) {
    struct stat st = {};
    return session->store().layers->InReal(path, &st);
  }

  std::string memory;
  std::shared_ptr<Session> session;
  Looks looks;
};

TEST_F(MissingDirectoryTest, IsLookedForOnce) {
  looks.ahead_ns = 10'000'000'000;  // CAPIO_DIR has not changed for long
  EXPECT_FALSE(InReal("out/a"));
  int first = looks.count;
  EXPECT_GT(first, 0);
  for (const char* path : {"out/a", "out/b", "out/deep/c", "out/d"}) EXPECT_FALSE(InReal(path));
  EXPECT_EQ(looks.count, first);
  // Somebody who knows nothing of CAPIO makes it.
  std::filesystem::create_directories(memory + "/out/deep");
  EXPECT_FALSE(InReal("out/a"));
  EXPECT_TRUE(InReal("out/deep"));
  Spill(memory + "/out/a", "x");
  EXPECT_TRUE(InReal("out/a"));
  std::filesystem::remove_all(memory + "/out");
  EXPECT_FALSE(InReal("out/a"));
}

TEST_F(MissingDirectoryTest, IsNotTakenForMissingWhileCapioDirChanges) {
  // Times of files stand still for a while: what comes in the same tick would not be seen.
  EXPECT_FALSE(InReal("out/a"));
  for (int round = 0; round < 200; ++round) {
    std::filesystem::create_directory(memory + "/out");
    EXPECT_FALSE(InReal("out/a"));
    Spill(memory + "/out/a", "x");
    EXPECT_TRUE(InReal("out/a")) << round;
    std::filesystem::remove_all(memory + "/out");
    EXPECT_FALSE(InReal("out/a"));
    EXPECT_FALSE(InReal("other/a"));
  }
}

TEST_F(MissingDirectoryTest, IsAQuestionOfEachDirectory) {
  looks.ahead_ns = 10'000'000'000;
  std::filesystem::create_directory(memory + "/in");
  Spill(memory + "/in/a", "x");
  for (int round = 0; round < 3; ++round) {
    EXPECT_FALSE(InReal("out/a"));
    EXPECT_TRUE(InReal("in/a"));
    EXPECT_FALSE(InReal("a"));
  }
}

}  // namespace
}  // namespace capio::test
