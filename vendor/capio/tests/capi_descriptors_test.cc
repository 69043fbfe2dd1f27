// Descriptors in many hands: duplicates, writes by other calls than ours, changes nobody saw.
#include <sys/uio.h>

#include "process_harness.h"

namespace capio::test {
namespace {

constexpr char kConfig[] = R"({"name": "wf", "IO_Graph": [
  {"name": "maker", "input_stream": [], "output_stream": ["one", "two"],
   "streaming": [
     {"name": ["one"], "committed": "on_close", "mode": "no_update"},
     {"name": ["two"], "committed": "on_close:2", "mode": "no_update"}]},
  {"name": "taker", "input_stream": ["one", "two"], "output_stream": []}],
  "permanent": ["one"]})";

class DescriptorsTest : public WorkflowTest {
 protected:
  void SetUp() override {
    WorkflowTest::SetUp();
    Spill(config, kConfig);
  }
  Client Maker() { return Client(dir, "maker", "wf", config); }
  Client Taker() { return Client(dir, "taker", "wf", config); }

  static Opened Duplicate(const Opened& opened) {
    Opened copy;
    copy.fd = ::dup(opened.fd);
    EXPECT_EQ(capio_duplicate(opened.file, copy.fd, &copy.file), 0);
    return copy;
  }
  static bool Committed(const Opened& opened) {
    return (capio_file_status(opened.file) & static_cast<int>(CAPIO_FILE_COMMITTED)) != 0;
  }
};

TEST_F(DescriptorsTest, ADuplicateCountsForNothingAndKeepsTheFileOpen) {
  Client maker = Maker();
  Client taker = Taker();
  Opened out = maker.Create("two");
  Opened copy = Duplicate(out);
  Opened look = taker.Open("two", O_RDONLY);
  ASSERT_NE(look.file, nullptr);
  EXPECT_EQ(Client::Write(out, "ab"), 2);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(Client::Close(copy), 0);
  EXPECT_FALSE(Committed(look));
  Opened again = maker.Open("two", O_WRONLY | O_APPEND);
  copy = Duplicate(again);
  EXPECT_EQ(Client::Close(again), 0);
  EXPECT_FALSE(Committed(look));
  EXPECT_EQ(Client::Write(copy, "cd"), 2);
  EXPECT_EQ(Client::Close(copy), 0);
  EXPECT_TRUE(Committed(look));
  EXPECT_EQ(Client::Close(look), 0);
  EXPECT_EQ(taker.Content("two"), "abcd");
  EXPECT_EQ(taker.End(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(DescriptorsTest, OneThatIsClosedBehindOurBackIsNotWaitedFor) {
  Client maker = Maker();
  Opened out = maker.Create("one");
  Opened copy = Duplicate(out);
  EXPECT_EQ(Client::Write(out, "ab"), 2);
  EXPECT_EQ(::close(copy.fd), 0);
  EXPECT_EQ(Client::Close(out), 0);
  Client taker = Taker();
  EXPECT_EQ(taker.Content("one"), "ab");
  EXPECT_EQ(capio_close(copy.file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSED), 0);
  EXPECT_EQ(taker.End(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(DescriptorsTest, DeathWithADuplicateOpenFailsTheFile) {
  Client taker = Taker();
  Child child([this](Channel& parent) {
    Client maker = Maker();
    Opened out = maker.Create("one");
    Opened copy = Duplicate(out);
    (void)Client::Write(out, "ab");
    (void)Client::Close(out);
    parent.Say("closed");
    (void)parent.Hear();
    return copy.fd;
  });
  EXPECT_EQ(child.Hear(), "closed");
  child.Kill(SIGKILL);
  EXPECT_EQ(child.Wait(), 128 + SIGKILL);
  EXPECT_EQ(taker.Content("one"), "error " + std::to_string(EOWNERDEAD));
  EXPECT_EQ(taker.End(), 0);
}

TEST_F(DescriptorsTest, WritesByOtherCallsNoteTheirGapAndWakeReaders) {
  Client maker = Maker();
  Opened out = maker.Create("one");
  Child reader([this](Channel& parent) {
    Client taker = Taker();
    Opened opened = taker.Open("one", O_RDONLY);
    parent.Say("up");
    int64_t result = 0;
    parent.Say(Client::Read(opened, 4, &result, CAPIO_READ_FULL));
    parent.Say(Client::Read(opened, 6, &result, CAPIO_READ_FULL));
    (void)Client::Close(opened);
    return taker.End();
  });
  EXPECT_EQ(reader.Hear(), "up");
  char late[] = "late";
  struct iovec parts[] = {{late, 2}, {late + 2, 2}};
  EXPECT_EQ(capio_will_write(out.file, 6), 0);
  ssize_t n = ::pwritev(out.fd, parts, 2, 6);
  EXPECT_EQ(capio_wrote(out.file, 6, n), 0);
  EXPECT_EQ(capio_will_write(out.file, 0), 0);
  n = ::pwrite(out.fd, "head", 4, 0);
  EXPECT_EQ(capio_wrote(out.file, 0, n), 0);
  EXPECT_EQ(reader.Hear(), "head");
  EXPECT_EQ(::lseek(out.fd, 4, SEEK_SET), 4);
  EXPECT_EQ(capio_will_write(out.file, -1), 0);
  n = ::write(out.fd, "--", 2);
  EXPECT_EQ(capio_wrote(out.file, -1, n), 0);
  EXPECT_EQ(capio_wrote(out.file, -1, -ENOSPC), -ENOSPC);
  EXPECT_NE(std::string(capio_last_error()).find("CAPIO_STORE"), std::string::npos);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(reader.Hear(), "--late");
  EXPECT_EQ(reader.Wait(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(DescriptorsTest, ReadersAreNoWriters) {
  Client maker = Maker();
  Client taker = Taker();
  Opened out = maker.Create("one");
  Opened in = taker.Open("one", O_RDONLY);
  ASSERT_NE(in.file, nullptr);
  EXPECT_EQ(capio_will_write(in.file, 0), -EBADF);
  EXPECT_EQ(capio_wrote(in.file, 0, 1), -EBADF);
  EXPECT_EQ(Client::Write(out, "abc"), 3);
  Opened copy = Duplicate(in);
  int64_t result = 0;
  EXPECT_EQ(Client::Read(in, 1, &result), "a");
  EXPECT_EQ(Client::Read(copy, 1, &result), "b");
  EXPECT_EQ(Client::Close(in), 0);
  EXPECT_EQ(Client::Read(copy, 1, &result), "c");
  EXPECT_EQ(Client::Close(copy), 0);
  EXPECT_EQ(Client::Close(out), 0);
  EXPECT_EQ(taker.End(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(DescriptorsTest, AChangeNobodySawIsWrittenBackAndIsNoClose) {
  Client maker = Maker();
  const std::string two = dir + "/two";
  const std::string one = dir + "/one";
  EXPECT_EQ(maker.Make("two", "x"), 0);
  EXPECT_EQ(capio_notice_change(maker.session(), two.data(), two.size()), 0);
  EXPECT_EQ(maker.Make("one", "before"), 0);
  char path[4096];
  ASSERT_GT(capio_resolve(maker.session(), one.data(), one.size(), CAPIO_FOR_LOOKUP, path, 4096),
            0);
  Spill(path, "after!!");
  EXPECT_EQ(capio_notice_change(maker.session(), one.data(), one.size()), 0);
  Client taker = Taker();
  Opened look = taker.Open("two", O_RDONLY);
  ASSERT_NE(look.file, nullptr);
  EXPECT_FALSE(Committed(look));
  EXPECT_EQ(Client::Close(look), 0);
  const std::string gone = dir + "/gone";
  EXPECT_EQ(capio_notice_change(maker.session(), gone.data(), gone.size()), -ENOENT);
  EXPECT_EQ(capio_notice_change(maker.session(), "/", 1), CAPIO_UNMANAGED);
  EXPECT_EQ(taker.End(), 0);
  EXPECT_EQ(maker.End(), 0);
  for (pid_t pid : Servers()) EXPECT_TRUE(AwaitEnd(pid));
  EXPECT_EQ(Slurp(one), "after!!");
}

}  // namespace
}  // namespace capio::test
