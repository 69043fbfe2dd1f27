// Who serves a workflow, said in CAPIO_DIR.
#include "server/beacon.h"

#include <array>
#include <barrier>
#include <fstream>
#include <thread>

#include "os/host.h"
#include "process_harness.h"

namespace capio::test {
namespace {

class BeaconTest : public WorkflowTest {
 protected:
  // A store of the same workflow in another place, as in another container.
  std::shared_ptr<Store> StoreIn(const std::string& place) {
    ::setenv("CAPIO_STORE", (root + "/" + place).c_str(), 1);
    SegmentSpec spec;
    spec.capio_dir = dir;
    spec.workflow = "wf";
    auto made = Store::Create("wf", spec);
    EXPECT_TRUE(made.ok()) << made.status().text();
    return made.ok() ? made.take() : nullptr;
  }
  std::string Where() const { return dir + "/.capio/wf/where"; }
  void LeaveDeadOne() const {
    std::filesystem::create_directories(dir + "/.capio/wf");
    std::ofstream(Where()) << "host here\nboot " << BootId() << "\nplace " << BootId()
                           << " 0:1\nstore /dead\ncontrol 1\npid 1\nrun \n";
  }
};

TEST_F(BeaconTest, OfTwoThatComeAtOnceOneServes) {
  const std::array<std::shared_ptr<Store>, 2> stores = {StoreIn("one"), StoreIn("two")};
  ASSERT_NE(stores[0], nullptr);
  ASSERT_NE(stores[1], nullptr);
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds; ++round) {
    // In every other round there is one to be taken over.
    const bool dead = round % 2 == 0;
    if (dead) LeaveDeadOne();
    std::array<std::unique_ptr<Beacon>, 2> beacons;
    std::array<Status, 2> claimed;
    std::barrier start(2);
    std::array<std::thread, 2> threads;
    for (size_t i = 0; i < 2; ++i) {
      threads[i] = std::thread([&, i] {
        beacons[i] = std::make_unique<Beacon>(stores[i].get());
        start.arrive_and_wait();
        claimed[i] = beacons[i]->Claim();
      });
    }
    for (std::thread& thread : threads) thread.join();
    const size_t winner = claimed[0].ok() ? 0 : 1;
    ASSERT_TRUE(claimed[winner].ok()) << claimed[winner].text();
    ASSERT_EQ(claimed[1 - winner].code(), EADDRINUSE) << "round " << round;
    // The error names both, and not the one that is no more.
    const std::string said = claimed[1 - winner].text();
    EXPECT_NE(said.find(root + "/one"), std::string::npos) << said;
    EXPECT_NE(said.find(root + "/two"), std::string::npos) << said;
    EXPECT_EQ(said.find("/dead"), std::string::npos) << said;
    EXPECT_NE(Slurp(Where()).find("store " + stores[winner]->path), std::string::npos);
    EXPECT_EQ(Listing(dir + "/.capio").find(".new-"), std::string::npos);
    beacons[winner]->Remove();
    EXPECT_FALSE(std::filesystem::exists(dir + "/.capio"));
  }
}

TEST_F(BeaconTest, TheSameStoreMayBeClaimedTwice) {
  const auto store = StoreIn("one");
  ASSERT_NE(store, nullptr);
  Beacon first(store.get());
  Beacon second(store.get());
  EXPECT_TRUE(first.Claim().ok());
  EXPECT_TRUE(second.Claim().ok());
  // Only who has it takes it away.
  second.Remove();
  EXPECT_TRUE(std::filesystem::exists(Where()));
  first.Remove();
  EXPECT_FALSE(std::filesystem::exists(Where()));
}

TEST_F(BeaconTest, AServerThatEndsIsNotInTheWayOfTheNext) {
  const auto old = StoreIn("one");
  ASSERT_NE(old, nullptr);
  Beacon ending(old.get());
  ASSERT_TRUE(ending.Claim().ok());
  ASSERT_TRUE(old->Publish().ok());
  ASSERT_TRUE(old->Remove().ok());
  // It has still to take its beacon away. A directory that is made anew gets none of the numbers
  // that have become free.
  for (int i = 0; i < 64; ++i) std::filesystem::create_directory(root + "/" + std::to_string(i));
  const auto next = StoreIn("one");
  ASSERT_NE(next, nullptr);
  Beacon beginning(next.get());
  Status claimed = beginning.Claim();
  EXPECT_TRUE(claimed.ok()) << claimed.text();
  ASSERT_TRUE(next->Publish().ok());
  ending.Remove();
  old->LeavePlace();
  EXPECT_FALSE(std::filesystem::exists(Where()));
  beginning.Beat();
  EXPECT_NE(Slurp(Where()).find("store " + next->path), std::string::npos);
  beginning.Remove();
  ASSERT_TRUE(next->Remove().ok());
  next->LeavePlace();
  EXPECT_EQ(Listing(root + "/one"), "");
}

}  // namespace
}  // namespace capio::test
