// How files are told apart: by number and time of birth where that is enough, by handle elsewhere.
#include "store/identity.h"

#include <fcntl.h>
#include <linux/magic.h>

#include <set>
#include <tuple>

#include "client/file.h"
#include "client/session.h"
#include "process_harness.h"

namespace capio::test {
namespace {

// Linux before 4.11, or a sandbox that hides statx.
class WithoutStatx : public Os {
 public:
  int StatBirth(int dir, const char* path, int flags, struct stat* st, int64_t* birth_ns) override {
    *birth_ns = 0;
    return FstatAt(dir, path, st, flags);
  }
};

// A directory on tmpfs. The tests' own is wherever /tmp is.
class IdentityTest : public WorkflowTest {
 protected:
  void SetUp() override {
    WorkflowTest::SetUp();
    char made[] = "/dev/shm/capio-test-XXXXXX";
    if (::access("/dev/shm", W_OK) < 0) GTEST_SKIP() << "no tmpfs to write to";
    ASSERT_NE(::mkdtemp(made), nullptr);
    memory = made;
    at = Fd(os().OpenAt(AT_FDCWD, memory.c_str(), O_RDONLY | O_DIRECTORY, 0));
    if (os().FsType(at.get()) != TMPFS_MAGIC) GTEST_SKIP() << "/dev/shm is no tmpfs";
    if (!Identities::ByBirth(at.get())) GTEST_SKIP() << "this tmpfs tells no times of birth";
    ASSERT_EQ(os().Fstat(at.get(), &st), 0);
  }
  void TearDown() override {
    at.reset();
    if (!memory.empty()) std::filesystem::remove_all(memory);
    WorkflowTest::TearDown();
  }
  SessionConfig Config() const {
    SessionConfig c;
    c.capio_dir = dir;
    c.server_path = CAPIO_TEST_SERVER;
    c.await_server_ms = 30'000;
    c.flags = CAPIO_SESSION_TEARDOWN;
    return c;
  }

  std::string memory;
  Fd at;
  struct stat st = {};
};

using Key = std::tuple<uint64_t, uint64_t, uint64_t>;
Key KeyOf(const FileIdentity& id) { return {id.dev, id.ino, id.incarnation}; }

TEST_F(IdentityTest, NoTwoFilesOfTheTreeHaveOneIdentity) {
  Identities identities(st.st_dev);
  std::set<Key> seen;
  for (int round = 0; round < 20'000; ++round) {
    // Removed at once, so that its number is free.
    Fd fd(os().OpenAt(at.get(), "file", O_WRONLY | O_CREAT | O_EXCL, 0600));
    struct stat now = {};
    FileIdentity by_name;
    FileIdentity by_descriptor;
    ASSERT_EQ(identities.Stat(at.get(), "file", 0, &now, &by_name), 0);
    ASSERT_EQ(os().Fstat(fd.get(), &now), 0);
    ASSERT_EQ(identities.Of(fd.get(), now, &by_descriptor), 0);
    ASSERT_EQ(by_name, by_descriptor);
    ASSERT_EQ(os().UnlinkAt(at.get(), "file", 0), 0);
    ASSERT_EQ(identities.Of(fd.get(), now, &by_descriptor), 0);
    ASSERT_EQ(by_name, by_descriptor);
    ASSERT_TRUE(seen.insert(KeyOf(by_name)).second);
  }
}

TEST_F(IdentityTest, StaysWhatItIsWhateverIsDoneToTheFile) {
  Identities identities(st.st_dev);
  Fd fd(os().OpenAt(at.get(), "file", O_RDWR | O_CREAT, 0600));
  struct stat now = {};
  FileIdentity first;
  ASSERT_EQ(identities.Stat(at.get(), "file", 0, &now, &first), 0);
  ASSERT_EQ(os().Write(fd.get(), "x", 1), 1);
  ASSERT_EQ(os().Ftruncate(fd.get(), 100), 0);
  ASSERT_EQ(os().Fchmod(fd.get(), 0400), 0);
  const struct timespec times[2] = {{1, 2}, {3, 4}};
  ASSERT_EQ(os().Futimens(fd.get(), times), 0);
  ASSERT_EQ(os().LinkAt(at.get(), "file", at.get(), "link", 0), 0);
  ASSERT_EQ(os().RenameAt(at.get(), "file", at.get(), "moved"), 0);
  for (const char* name : {"link", "moved"}) {
    FileIdentity id;
    ASSERT_EQ(identities.Stat(at.get(), name, 0, &now, &id), 0);
    EXPECT_EQ(id, first);
  }
  // The same as stat(2) says in all that it says.
  struct stat plain = {};
  ASSERT_EQ(os().FstatAt(at.get(), "moved", &plain, 0), 0);
  EXPECT_EQ(now.st_dev, plain.st_dev);
  EXPECT_EQ(now.st_ino, plain.st_ino);
  EXPECT_EQ(now.st_mode, plain.st_mode);
  EXPECT_EQ(now.st_nlink, plain.st_nlink);
  EXPECT_EQ(now.st_uid, plain.st_uid);
  EXPECT_EQ(now.st_gid, plain.st_gid);
  EXPECT_EQ(now.st_rdev, plain.st_rdev);
  EXPECT_EQ(now.st_size, plain.st_size);
  EXPECT_EQ(now.st_blksize, plain.st_blksize);
  EXPECT_EQ(now.st_blocks, plain.st_blocks);
  for (auto time : {&stat::st_atim, &stat::st_mtim, &stat::st_ctim}) {
    EXPECT_EQ((now.*time).tv_sec, (plain.*time).tv_sec);
    EXPECT_EQ((now.*time).tv_nsec, (plain.*time).tv_nsec);
  }
}

TEST_F(IdentityTest, ElsewhereTheHandleTells) {
  Fd here(os().OpenAt(AT_FDCWD, root.c_str(), O_RDONLY | O_DIRECTORY, 0));
  if (Identities::ByBirth(here.get())) GTEST_SKIP() << "/tmp is a tmpfs, too";
  Identities identities(st.st_dev);
  Spill(root + "/file", "x");
  ASSERT_EQ(::symlink((root + "/file").c_str(), (memory + "/link").c_str()), 0);
  struct stat now = {};
  FileIdentity id;
  for (auto [dir_fd, name] : {std::pair{here.get(), "file"}, std::pair{at.get(), "link"}}) {
    ASSERT_EQ(identities.Stat(dir_fd, name, 0, &now, &id), 0);
    EXPECT_EQ(id.ino, 0u) << "the number alone must not be taken for an identity";
  }
  Fd fd(os().OpenAt(here.get(), "file", O_RDONLY, 0));
  FileIdentity of_handle;
  ASSERT_EQ(identities.Of(fd.get(), now, &id), 0);
  ASSERT_EQ(os().Identity(fd.get(), now, &of_handle), 0);
  EXPECT_EQ(id, of_handle);
}

TEST_F(IdentityTest, WithoutStatxHandlesTell) {
  WithoutStatx old;
  (void)SetOs(&old);
  EXPECT_FALSE(Identities::ByBirth(at.get()));
  Identities identities;
  Fd fd(os().OpenAt(at.get(), "file", O_RDWR | O_CREAT, 0600));
  struct stat now = {};
  FileIdentity id;
  EXPECT_EQ(identities.Stat(at.get(), "file", 0, &now, &id), 0);
  EXPECT_EQ(id.ino, 0u);
  EXPECT_EQ(identities.Of(fd.get(), now, &id), 0);
  EXPECT_EQ(id.ino, now.st_ino);
  // A process that cannot see births must not look for other records than the rest does.
  Identities by_birth(st.st_dev);
  EXPECT_EQ(by_birth.Stat(at.get(), "file", 0, &now, &id), -ENOSYS);
  EXPECT_EQ(id.ino, 0u);
  (void)SetOs(nullptr);
}

TEST_F(IdentityTest, AProcessThatCannotTellFilesAsTheOthersDoIsRefused) {
  ::setenv("CAPIO_STORE", memory.c_str(), 1);
  Child first([this](Channel& parent) {
    auto session = Session::Open(Config());
    parent.Say(session.ok() ? "up" : session.status().text());
    (void)parent.Hear();
    (*session)->Finish();
    return (*session)->AwaitSafe(30'000).ok() ? 0 : 1;
  });
  ASSERT_EQ(first.Hear(), "up");
  WithoutStatx old;
  (void)SetOs(&old);
  auto session = Session::Open(Config());
  (void)SetOs(nullptr);
  EXPECT_EQ(session.code(), ENOSYS);
  EXPECT_NE(std::string(session.status().text()).find("statx"), std::string::npos);
  first.Say("end");
  EXPECT_EQ(first.Wait(), 0);
}

}  // namespace
}  // namespace capio::test
