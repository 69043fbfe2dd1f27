// exec(2): the process is a client until the program that it has become ends.
//
// That program is this test again, where it runs Second.DISABLED_Image only.
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

#include <sstream>

#include "client/exec.h"
#include "process_harness.h"

namespace capio::test {
namespace {

constexpr const char* kWhat = "CAPIO_TEST_SECOND";

class ExecTest : public WorkflowTest {
 protected:
  void SetUp() override {
    WorkflowTest::SetUp();
    Spill(config, R"({"name": "wf", "IO_Graph": [
      {"name": "producer", "input_stream": [], "output_stream": ["end", "close", "log", "second"],
       "streaming": [{"name": ["close", "log"], "committed": "on_close"}]},
      {"name": "consumer", "input_stream": ["end", "close", "log", "second"],
       "output_stream": []}]})");
  }

  // A child that is a client, does `first`, and becomes the second image. orders: see Image.
  std::unique_ptr<Child> Becoming(const std::string& orders,
                                  std::function<void(Client&)> first = nullptr) {
    const bool attaches = orders.substr(0, 4) == "take" || orders.substr(0, 6) == "should";
    return std::make_unique<Child>([this, orders, first, attaches](Channel& parent) {
      Client me(dir, "producer", "wf", config);
      if (me.Make("end", "by the first") != 0) return 9;
      if (first) first(me);
      char handover[256];
      if (capio_session_exec(me.session(), attaches ? 1 : 0, handover, sizeof handover) <= 0)
        return 8;
      std::ostringstream what;
      what << parent.KeepOverExec() << " " << dir << " " << config << " " << handover << " "
           << orders;
      ::setenv(kWhat, what.str().c_str(), 1);
      ::execl("/proc/self/exe", "capi_exec_test", "--gtest_also_run_disabled_tests",
              "--gtest_filter=Second.DISABLED_Image", "--gtest_brief=1", nullptr);
      return 7;
    });
  }

  // What a consumer gets of a file that is there, or "" if it would have to wait.
  static std::string Now(Client& consumer, const std::string& dir, const std::string& name) {
    Opened opened = OpenPath(consumer.session(), dir + "/" + name, O_RDONLY | CAPIO_OPEN_NOWAIT);
    if (opened.fd < 0) return opened.fd == -EAGAIN ? "" : "error " + std::to_string(-opened.fd);
    int64_t result = 0;
    std::string text = Client::ReadToEnd(opened, &result);
    (void)Client::Close(opened);
    return text;
  }
};

// orders: "take" over, or "should" have, "spoil" the handover first, "make" a file, "wait" for a
// word; then how to end.
TEST(Second, DISABLED_Image) {
  const char* what = ::getenv(kWhat);
  ASSERT_NE(what, nullptr);
  ::alarm(100);
  std::istringstream words(what);
  int in = 0;
  int out = 0;
  std::string dir;
  std::string config;
  std::string handover;
  words >> in >> out >> dir >> config >> handover;
  Channel parent(in, out);
  std::unique_ptr<Client> client;
  for (std::string word; words >> word;) {
    if (word == "spoil") handover = handover.substr(0, handover.rfind(':')) + ":0";
    if (word == "take") {
      client =
          std::make_unique<Client>(dir, "producer", "wf", config, CAPIO_SESSION_TEARDOWN, handover);
      if (!client->ok()) ::exit(20);
      capio_file* file = nullptr;
      for (int fd = 0; (fd = capio_session_inherited(client->session(), &file)) >= 0;) {
        parent.Say("inherited " + std::to_string(fd));
      }
    }
    if (word == "make" && client->Make("second", "by the second") != 0) ::exit(21);
    if (word == "wait") {
      parent.Say("second");
      (void)parent.Hear();
    }
    if (word == "exit") ::exit(0);
    if (word == "fail") ::exit(3);
    if (word == "die") ::kill(::getpid(), SIGKILL);
  }
  ::exit(22);
}

TEST_F(ExecTest, ALiveClientUntilTheProgramEnds) {
  auto producer = Becoming("wait fail");
  ASSERT_EQ(producer->Hear(), "second");
  Client consumer(dir, "consumer", "wf", config);
  EXPECT_EQ(Now(consumer, dir, "end"), "");
  producer->Say("end");
  // It knows nothing of us: however it ends, that is a good end.
  EXPECT_EQ(consumer.Content("end"), "by the first");
  EXPECT_EQ(producer->Wait(), 3);
  EXPECT_EQ(consumer.End(), 0);
}

TEST_F(ExecTest, TakenOver) {
  auto producer = Becoming("take make wait exit");
  ASSERT_EQ(producer->Hear(), "second");
  Client consumer(dir, "consumer", "wf", config);
  EXPECT_EQ(Now(consumer, dir, "end"), "");
  EXPECT_EQ(Now(consumer, dir, "second"), "");
  producer->Say("end");
  EXPECT_EQ(consumer.Content("end"), "by the first");
  EXPECT_EQ(consumer.Content("second"), "by the second");
  EXPECT_EQ(producer->Wait(), 0);
  EXPECT_EQ(consumer.End(), 0);
}

TEST_F(ExecTest, TakenOverItsEndCounts) {
  for (const char* end : {"fail", "die"}) {
    auto producer = Becoming(std::string("take wait ") + end);
    ASSERT_EQ(producer->Hear(), "second");
    Client consumer(dir, "consumer", "wf", config);
    producer->Say("end");
    EXPECT_EQ(consumer.Content("end"), "error " + std::to_string(EOWNERDEAD)) << end;
    EXPECT_EQ(producer->Wait(), std::string(end) == "fail" ? 3 : 128 + SIGKILL);
    EXPECT_EQ(consumer.End(), 0);
  }
}

TEST_F(ExecTest, WithoutItsLockItIsANewProcess) {
  auto producer = Becoming("spoil take make wait exit");
  ASSERT_EQ(producer->Hear(), "second");
  Client consumer(dir, "consumer", "wf", config);
  EXPECT_EQ(Now(consumer, dir, "end"), "");
  producer->Say("end");
  EXPECT_EQ(consumer.Content("end"), "by the first");
  EXPECT_EQ(consumer.Content("second"), "by the second");
  EXPECT_EQ(producer->Wait(), 0);
  EXPECT_EQ(consumer.End(), 0);
}

TEST_F(ExecTest, ExecIsACloseOfWhatItCloses) {
  for (const char* orders : {"wait exit", "take wait exit"}) {
    auto producer = Becoming(orders, [](Client& me) {
      Opened file = me.Create("close");
      (void)Client::Write(file, "left open");
    });
    ASSERT_EQ(producer->Hear(), "second") << orders;
    Client consumer(dir, "consumer", "wf", config);
    EXPECT_EQ(consumer.Content("close"), "left open") << orders;
    EXPECT_EQ(Now(consumer, dir, "end"), "") << orders;
    producer->Say("end");
    EXPECT_EQ(producer->Wait(), 0) << orders;
    EXPECT_EQ(consumer.End(), 0);
  }
}

TEST_F(ExecTest, WhatIsInheritedIsOpen) {
  const auto inherit = [](Client& me) {
    Opened log = me.Create("log");
    (void)Client::Write(log, "half");
    (void)capio_expose(log.file);
    (void)::fcntl(log.fd, F_SETFD, 0);
  };
  {
    auto producer = Becoming("wait exit", inherit);
    ASSERT_EQ(producer->Hear(), "second");
    Client consumer(dir, "consumer", "wf", config);
    EXPECT_EQ(Now(consumer, dir, "log"), "");
    producer->Say("end");
    EXPECT_EQ(consumer.Content("log"), "half");
    EXPECT_EQ(producer->Wait(), 0);
    EXPECT_EQ(consumer.End(), 0);
  }
  for (const char* end : {"exit", "die"}) {
    auto producer = Becoming(std::string("take wait ") + end, inherit);
    ASSERT_EQ(producer->Hear().substr(0, 10), "inherited ");
    ASSERT_EQ(producer->Hear(), "second");
    Client consumer(dir, "consumer", "wf", config);
    EXPECT_EQ(Now(consumer, dir, "log"), "");
    producer->Say("end");
    const std::string died = "error " + std::to_string(EOWNERDEAD);
    EXPECT_EQ(consumer.Content("log"), std::string(end) == "die" ? died : "half");
    EXPECT_EQ(producer->Wait(), std::string(end) == "die" ? 128 + SIGKILL : 0);
    EXPECT_EQ(consumer.End(), 0);
  }
}

TEST_F(ExecTest, TakenBack) {
  for (int attaches : {0, 1}) {
    Client producer(dir, "producer", "wf", config);
    Opened file = producer.Create("close");
    EXPECT_EQ(Client::Write(file, "before "), 7);
    char handover[256];
    EXPECT_GT(capio_session_exec(producer.session(), attaches, handover, sizeof handover), 0);
    Client consumer(dir, "consumer", "wf", config);
    EXPECT_EQ(Now(consumer, dir, "close"), "");
    EXPECT_EQ(capio_session_goodbye(producer.session(), CAPIO_END_TAKEN_BACK), 0);
    EXPECT_EQ(Now(consumer, dir, "close"), "");
    EXPECT_EQ(Client::Write(file, "after"), 5);
    EXPECT_EQ(Client::Close(file), 0);
    EXPECT_EQ(consumer.Content("close"), "before after");
    EXPECT_EQ(producer.End(), 0);
    EXPECT_EQ(consumer.End(), 0);
  }
}

TEST_F(ExecTest, EndedBeforeItHasTakenOver) {
  auto producer = Becoming("should wait exit", [](Client& me) {
    (void)me.Make("close", "closed");
    Opened log = me.Create("log");
    (void)Client::Write(log, "half");
    (void)capio_expose(log.file);
    (void)::fcntl(log.fd, F_SETFD, 0);
  });
  ASSERT_EQ(producer->Hear(), "second");
  Client consumer(dir, "consumer", "wf", config);
  EXPECT_EQ(Now(consumer, dir, "log"), "");
  producer->Say("end");
  const std::string died = "error " + std::to_string(EOWNERDEAD);
  EXPECT_EQ(consumer.Content("log"), died);
  EXPECT_EQ(consumer.Content("end"), died);
  EXPECT_EQ(consumer.Content("close"), "closed");
  EXPECT_EQ(producer->Wait(), 0);
  EXPECT_EQ(consumer.End(), 0);
}

TEST_F(ExecTest, TooShortABufferChangesNothing) {
  Client producer(dir, "producer", "wf", config);
  char handover[4];
  EXPECT_EQ(capio_session_exec(producer.session(), 1, handover, sizeof handover), -ERANGE);
  EXPECT_EQ(producer.Make("close", "x"), 0);
  EXPECT_EQ(producer.End(), 0);
}

}  // namespace
}  // namespace capio::test
