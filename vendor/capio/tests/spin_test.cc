// Looking before sleeping: when, for how long, and how rarely after looks in vain.
#include "client/spin.h"

#include <gtest/gtest.h>

#include <thread>

namespace capio {
namespace {

// Time that passes with every look at the clock.
class TickingOs : public Os {
 public:
  int64_t MonotonicNs() override { return now_ += 10'000; }

 private:
  int64_t now_ = 0;
};

class SpinTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!SpinningPays()) GTEST_SKIP() << "with one processor nobody looks";
    SetOs(&os_);
  }
  void TearDown() override {
    CancelWaits(false);
    SetOs(nullptr);
  }
  // In a thread of its own, which has no history.
  template <typename Body>
  static void Fresh(const Body& body) {
    std::thread(body).join();
  }

  TickingOs os_;
};

TEST_F(SpinTest, ALookEndsWithTheChange) {
  Fresh([] {
    int looks = 0;
    EXPECT_TRUE(SpinUntil(kWaitingBytes, [&] { return ++looks == 3; }));
    EXPECT_EQ(looks, 3);
  });
}

TEST_F(SpinTest, ALookInVainEndsAndMakesTheNextOnesRarer) {
  Fresh([] {
    int looked = 0;
    auto wait = [&] {
      bool looking = false;
      EXPECT_FALSE(SpinUntil(kWaitingBytes, [&] {
        looking = true;
        return false;
      }));
      looked += looking ? 1 : 0;
    };
    // It looks at the 1st wait, the 3rd, the 7th, the 15th, the 31st, the 63rd, then every 64th.
    for (int n = 1; n <= 63; ++n) wait();
    EXPECT_EQ(looked, 6);
    for (int n = 0; n < 640; ++n) wait();
    EXPECT_EQ(looked, 16);
  });
}

TEST_F(SpinTest, LooksInTimeMakeItLookAgain) {
  Fresh([] {
    SpinHistory history;
    for (int n = 0; n < 10; ++n) history.InVain();
    while (!history.Look()) {
    }
    for (int n = 0; n < 4; ++n) history.InTime();
    EXPECT_TRUE(history.Look());
    history.InVain();
    EXPECT_FALSE(history.Look());
    EXPECT_TRUE(history.Look());
  });
}

TEST_F(SpinTest, KindsOfWaitsHaveTheirOwnHistory) {
  Fresh([] {
    EXPECT_FALSE(SpinUntil(kWaitingCommit, [] { return false; }));
    EXPECT_FALSE(SpinUntil(kWaitingCommit, [] { return true; })) << "it does not look this time";
    EXPECT_TRUE(SpinUntil(kWaitingBytes, [] { return true; }));
  });
}

TEST_F(SpinTest, CancelledWaitsDoNotLookOn) {
  CancelWaits(true);
  Fresh([] {
    int looks = 0;
    EXPECT_FALSE(SpinUntil(kWaitingBytes, [&] {
      ++looks;
      return false;
    }));
    EXPECT_LE(looks, 64);
  });
}

}  // namespace
}  // namespace capio
