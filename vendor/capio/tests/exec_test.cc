// What is handed over exec(2), and whom it is for.
#include "client/exec.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/locks.h"

namespace capio {
namespace {

TEST(HandoverTest, IsForOneProcess) {
  Handover mine{0xabc, ::getpid(), 3, 5, 7};
  Handover others = mine;
  others.pid = 1;
  auto parsed = ParseHandovers(FormatHandover(others) + " " + FormatHandover(mine) + " x 1:2:3");
  ASSERT_EQ(parsed.size(), 1u);
  EXPECT_EQ(parsed[0].control_id, 0xabcu);
  EXPECT_EQ(parsed[0].slot, 3u);
  EXPECT_EQ(parsed[0].epoch, 5u);
  EXPECT_EQ(parsed[0].locks, 7);
  mine.slot = 0;
  EXPECT_TRUE(ParseHandovers(FormatHandover(mine)).empty());
  mine.slot = kMaxClients;
  EXPECT_TRUE(ParseHandovers(FormatHandover(mine)).empty());
  EXPECT_TRUE(ParseHandovers("").empty());
}

// Does not say that a lock is this process's own, as kernels before 3.15 do not.
class NoOfdLocks : public Os {
 public:
  NoOfdLocks() : before_(SetOs(this)) {}
  ~NoOfdLocks() override { (void)SetOs(before_); }
  NoOfdLocks(const NoOfdLocks&) = delete;
  NoOfdLocks& operator=(const NoOfdLocks&) = delete;
  int HoldsLock(int, off_t, off_t) override { return -EINVAL; }

 private:
  Os* before_;
};

TEST(SlotLocksTest, InheritedIsWhatThisProcessHolds) {
  char path[] = "/tmp/capio-test-XXXXXX";
  Fd fd(::mkostemp(path, O_CLOEXEC));
  ASSERT_TRUE(fd.valid());
  ::unlink(path);
  SlotLocks locks(std::move(fd));
  EXPECT_FALSE(locks.Inherited(5));
  ASSERT_TRUE(locks.Take(5));
  EXPECT_TRUE(locks.Inherited(5));
  EXPECT_FALSE(locks.Inherited(6));
  {
    NoOfdLocks old;
    EXPECT_FALSE(locks.Inherited(5));
  }
  // Another process's is not.
  pid_t child = ::fork();
  if (child == 0) ::_exit(locks.Inherited(5) ? 1 : 0);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  locks.Drop(5);
  EXPECT_FALSE(locks.Inherited(5));
}

TEST(SlotLocksTest, SurviveExec) {
  char path[] = "/tmp/capio-test-XXXXXX";
  Fd fd(::mkostemp(path, O_CLOEXEC));
  ASSERT_TRUE(fd.valid());
  ::unlink(path);
  const int number = fd.get();
  SlotLocks locks(std::move(fd));
  EXPECT_TRUE(locks.SurviveExec(true).ok());
  EXPECT_EQ(::fcntl(number, F_GETFD), 0);
  EXPECT_TRUE(locks.SurviveExec(false).ok());
  EXPECT_EQ(::fcntl(number, F_GETFD), FD_CLOEXEC);
}

}  // namespace
}  // namespace capio
