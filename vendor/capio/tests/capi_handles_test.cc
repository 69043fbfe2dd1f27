// Handles that are closed while other threads use them, and those that come with an old one.
#include <atomic>
#include <thread>
#include <vector>

#include "process_harness.h"

namespace capio::test {
namespace {

constexpr char kConfig[] = R"({"name": "wf", "IO_Graph": [
  {"name": "maker", "input_stream": [], "output_stream": ["one"],
   "streaming": [{"name": ["one"], "committed": "on_close", "mode": "no_update"}]},
  {"name": "taker", "input_stream": ["one"], "output_stream": []}]})";

class HandlesTest : public WorkflowTest {
 protected:
  void SetUp() override {
    WorkflowTest::SetUp();
    Spill(config, kConfig);
  }
  Client Maker() { return Client(dir, "maker", "wf", config); }
  Client Taker() { return Client(dir, "taker", "wf", config); }

  static int Close(capio_file* file) {
    return capio_close(file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSE);
  }
};

TEST_F(HandlesTest, AClosedOneIsKnownForThat) {
  Client maker = Maker();
  Opened out = maker.Create("one");
  EXPECT_EQ(Close(out.file), 0);
  char byte = 0;
  auto check = [&] {
    EXPECT_EQ(capio_read(out.file, &byte, 1, -1, 0), -EBADF);
    EXPECT_EQ(capio_write(out.file, &byte, 1, -1), -EBADF);
    EXPECT_EQ(capio_lseek(out.file, 0, SEEK_SET), -EBADF);
    EXPECT_EQ(capio_truncate(out.file, 0), -EBADF);
    EXPECT_EQ(capio_will_write(out.file, 0), -EBADF);
    EXPECT_EQ(capio_wrote(out.file, 0, 1), -EBADF);
    EXPECT_EQ(capio_publish(out.file), -EBADF);
    EXPECT_EQ(capio_expose(out.file), -EBADF);
    EXPECT_EQ(capio_wait_commit(out.file), -EBADF);
    EXPECT_EQ(capio_file_status(out.file), -EBADF);
    EXPECT_EQ(capio_fd(out.file), -EBADF);
    capio_file* copy = nullptr;
    EXPECT_EQ(capio_duplicate(out.file, 0, &copy), -EBADF);
    EXPECT_EQ(copy, nullptr);
    EXPECT_EQ(Close(out.file), -EBADF);
    EXPECT_EQ(Close(nullptr), -EBADF);
  };
  check();
  Opened next = maker.Open("one", O_RDWR);
  EXPECT_NE(next.file, out.file);
  check();
  EXPECT_EQ(Client::Write(next, "ab"), 2);
  EXPECT_EQ(Close(next.file), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(HandlesTest, AWaitEndsWhenItsHandleIsClosed) {
  Client maker = Maker();
  Client taker = Taker();
  Opened out = maker.Create("one");
  Opened in = taker.Open("one", O_RDONLY);
  std::atomic<int> interruptions{0};
  int64_t result = 0;
  std::thread reader([&] {
    char byte = 0;
    do {
      result = capio_read(in.file, &byte, 1, -1, 0);
      interruptions.fetch_add(1);
      interruptions.notify_all();
    } while (result == -EINTR);
  });
  interruptions.wait(0);  // it has waited once, and goes on
  EXPECT_EQ(Close(in.file), 0);
  reader.join();
  EXPECT_EQ(result, -EBADF);
  // Who had only read takes nothing from the others.
  EXPECT_EQ(Client::Write(out, "ab"), 2);
  EXPECT_EQ(Close(out.file), 0);
  Opened again = taker.Open("one", O_RDONLY);
  EXPECT_EQ(Client::ReadToEnd(again, &result), "ab");
  EXPECT_EQ(Client::Close(again), 0);
  EXPECT_EQ(taker.End(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(HandlesTest, AWaitEndsWhenItsHandleIsToBeQuiet) {
  Client maker = Maker();
  Client taker = Taker();
  Opened out = maker.Create("one");
  Opened in = taker.Open("one", O_RDONLY);
  std::atomic<int> interruptions{0};
  int64_t result = 0;
  std::thread reader([&] {
    char byte = 0;
    do {
      result = capio_read(in.file, &byte, 1, -1, 0);
      interruptions.fetch_add(1);
      interruptions.notify_all();
    } while (result == -EINTR);
  });
  interruptions.wait(0);
  EXPECT_EQ(capio_quiesce(in.file), 0);
  reader.join();
  EXPECT_EQ(result, -EBADF);
  EXPECT_EQ(capio_quiesce(in.file), 0) << "once more changes nothing";
  EXPECT_EQ(Close(in.file), 0);
  EXPECT_EQ(capio_quiesce(in.file), -EBADF);
  EXPECT_EQ(Close(out.file), 0);
  EXPECT_EQ(taker.End(), 0);
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(HandlesTest, SeveralMayWantItQuietAtOnce) {
  Client maker = Maker();
  for (int round = 0; round < 300; ++round) {
    Opened file = maker.Open("one", O_RDWR | O_CREAT);
    std::atomic<int> started{0};
    std::atomic<int> ends{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        char bytes[16] = {};
        started.fetch_add(1);
        started.notify_all();
        for (int n; (n = started.load()) < 4;) started.wait(n);
        if (i == 0) {
          while (capio_write(file.file, bytes, sizeof bytes, 0) >= 0) {
          }
          return;
        }
        int rc = capio_quiesce(file.file);
        EXPECT_TRUE(rc == 0 || rc == -EBADF) << rc;
        EXPECT_EQ(capio_write(file.file, bytes, sizeof bytes, 0), -EBADF);
        rc = capio_close(file.file, CAPIO_CLOSE_COUNT, CAPIO_FD_KEEP);
        if (rc == 0) ends.fetch_add(1);
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(ends.load(), 1);
    ::close(file.fd);
  }
  EXPECT_EQ(maker.End(), 0);
}

// Whether the number is the caller's to close or the library's, whoever gets it next has it alone.
TEST_F(HandlesTest, NoCallComesToTheDescriptorOfTheNextFile) {
  Client maker = Maker();
  for (int round = 0; round < 300; ++round) {
    Opened file = maker.Open("one", O_RDWR | O_CREAT);
    int number = capio_fd(file.file);
    std::atomic<int> started{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        char bytes[16] = {};
        started.fetch_add(1);
        started.notify_all();
        for (int64_t rc = 0; rc != -EBADF;) {
          rc = i == 0   ? capio_write(file.file, bytes, sizeof bytes, 0)
               : i == 1 ? capio_lseek(file.file, 5, SEEK_SET)
                        : capio_truncate(file.file, 10);
          ASSERT_TRUE(rc >= 0 || rc == -EBADF) << rc;
        }
      });
    }
    for (int n; (n = started.load()) < 3;) started.wait(n);
    const bool own = round % 2 == 0;
    if (own) {
      ASSERT_EQ(capio_quiesce(file.file), 0);
      ASSERT_EQ(::close(number), 0);
    } else {
      ASSERT_EQ(Close(file.file), 0);
    }
    // Nothing else opens files here: it has the lowest number that is free.
    int next = ::open("/tmp", O_TMPFILE | O_RDWR, 0600);
    ASSERT_GE(next, 0);
    if (own) {
      EXPECT_EQ(next, number);
      ASSERT_EQ(capio_close(file.file, CAPIO_CLOSE_COUNT, CAPIO_FD_CLOSED), 0);
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(::lseek(next, 0, SEEK_CUR), 0);
    EXPECT_EQ(::lseek(next, 0, SEEK_END), 0);
    ::close(next);
  }
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(HandlesTest, TheCloseOfOneInUseCountsOnce) {
  Client maker = Maker();
  for (int round = 0; round < 200; ++round) {
    Opened file = maker.Open("one", O_RDWR | O_CREAT);
    std::atomic<int> started{0};
    std::atomic<int> ends{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        char bytes[16] = {};
        started.fetch_add(1);
        started.notify_all();
        int64_t rc = 0;
        // Its descriptor stays, so that no other file has the number.
        for (int n = 0; rc != -EBADF; ++n) {
          rc = (n + i) % 3 == 0   ? capio_read(file.file, bytes, sizeof bytes, 0, 0)
               : (n + i) % 3 == 1 ? capio_write(file.file, bytes, sizeof bytes, 0)
                                  : capio_lseek(file.file, 0, SEEK_CUR);
          ASSERT_TRUE(rc >= 0 || rc == -EBADF) << rc;
        }
      });
    }
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        for (int n; (n = started.load()) < 3;) started.wait(n);
        int rc = capio_close(file.file, CAPIO_CLOSE_COUNT, CAPIO_FD_KEEP);
        if (rc == 0) ends.fetch_add(1);
        EXPECT_TRUE(rc == 0 || rc == -EBADF) << rc;
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(ends.load(), 1);
    ::close(file.fd);
  }
  EXPECT_EQ(maker.End(), 0);
}

TEST_F(HandlesTest, AChildClosesWhatAThreadOfItsParentUses) {
  Client maker = Maker();
  Client taker = Taker();
  Opened out = maker.Create("one");
  Opened in = taker.Open("one", O_RDONLY);
  std::atomic<int> interruptions{0};
  std::thread reader([&] {
    char byte = 0;
    int64_t rc = 0;
    do {
      rc = capio_read(in.file, &byte, 1, -1, 0);
      interruptions.fetch_add(1);
      interruptions.notify_all();
    } while (rc == -EINTR);
    EXPECT_EQ(rc, 1);
  });
  interruptions.wait(0);
  pid_t child = ::fork();
  if (child == 0) {
    bool closed = Close(in.file) == 0 && Close(in.file) == -EBADF;
    ::_exit(closed ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Client::Write(out, "a"), 1);
  reader.join();
  EXPECT_EQ(Close(in.file), 0);
  EXPECT_EQ(Close(out.file), 0);
  EXPECT_EQ(taker.End(), 0);
  EXPECT_EQ(maker.End(), 0);
}

}  // namespace
}  // namespace capio::test
