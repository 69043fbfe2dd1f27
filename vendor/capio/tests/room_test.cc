// How much room there is: cgroups of both versions, the file system, CAPIO_MEMORY_LIMIT.
#include "store/room.h"

#include <linux/magic.h>

#include <cstring>
#include <map>

#include "os/os.h"
#include "process_harness.h"
#include "store/memory_cgroup.h"

namespace capio::test {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

// A kernel with the cgroups and the file systems that the test wants.
class FakeKernel : public Os {
 public:
  FakeKernel() : before_(SetOs(this)) {}
  ~FakeKernel() override { (void)SetOs(before_); }
  FakeKernel(const FakeKernel&) = delete;
  FakeKernel& operator=(const FakeKernel&) = delete;

  int OpenAt(int dir, const char* path, int flags, mode_t mode) override {
    auto file = files.find(path);
    if (file != files.end()) {
      int fd = Os::OpenAt(AT_FDCWD, "/tmp", O_TMPFILE | O_RDWR, 0600);
      (void)Os::Pwrite(fd, file->second.data(), file->second.size(), 0);
      return fd;
    }
    bool faked = strncmp(path, "/sys/fs/cgroup", 14) == 0 || strncmp(path, "/proc/self/", 11) == 0;
    return faked ? -ENOENT : Os::OpenAt(dir, path, flags, mode);
  }
  int64_t FsType(int fd) override { return fd == memory ? TMPFS_MAGIC : 0xef53; }
  int StatFs(int fd, struct statfs* st) override {
    (void)fd;
    *st = {};
    st->f_bsize = 4096;
    st->f_blocks = size / 4096;
    st->f_bavail = left / 4096;
    return 0;
  }
  int Fstat(int fd, struct stat* st) override {
    int error = Os::Fstat(fd, st);
    if (fd == memory) st->st_dev ^= 1;
    return error;
  }

  std::map<std::string, std::string> files;
  int memory = -1;  // the descriptor that is on tmpfs
  uint64_t size = 64 * kGiB;
  uint64_t left = 64 * kGiB;

 private:
  Os* before_;
};

constexpr char kMountsV1[] =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "34 31 0:31 / /sys/fs/cgroup/cpuset rw shared:5 - cgroup cgroup rw,cpuset\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw shared:6 master:2 - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
constexpr char kMountsV2[] = "35 31 0:32 / /sys/fs/cgroup rw shared:6 - cgroup2 cgroup2 rw\n";

TEST(MemoryCgroup, IsFoundInBothVersions) {
  auto v1 = FindMemoryCgroup("9:cpuset:/a\n4:hugetlb,memory:/job/step\n0::/init\n", kMountsV1);
  ASSERT_TRUE(v1);
  EXPECT_FALSE(v1->v2);
  EXPECT_EQ(v1->mount, "/sys/fs/cgroup/memory");
  EXPECT_EQ(v1->directory, "/sys/fs/cgroup/memory/job/step");
  auto v2 = FindMemoryCgroup("0::/user.slice/job\n", kMountsV2);
  ASSERT_TRUE(v2);
  EXPECT_TRUE(v2->v2);
  EXPECT_EQ(v2->directory, "/sys/fs/cgroup/user.slice/job");
  // Both mounted, the memory controller with neither named: version 2 is asked.
  auto hybrid = FindMemoryCgroup("9:cpuset:/a\n0::/job\n", kMountsV1);
  ASSERT_TRUE(hybrid);
  EXPECT_TRUE(hybrid->v2);
  EXPECT_EQ(hybrid->directory, "/sys/fs/cgroup/unified/job");
}

TEST(MemoryCgroup, InAContainerOnlyAPartIsMounted) {
  std::string mounts =
      "35 31 0:32 /docker/4f5 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
  auto own = FindMemoryCgroup("4:memory:/docker/4f5\n", mounts);
  ASSERT_TRUE(own);
  EXPECT_EQ(own->directory, own->mount);
  auto below = FindMemoryCgroup("4:memory:/docker/4f5/inner\n", mounts);
  ASSERT_TRUE(below);
  EXPECT_EQ(below->directory, "/sys/fs/cgroup/memory/inner");
  // Of another namespace: what is mounted is the nearest that can be seen.
  auto above = FindMemoryCgroup("0::/../../other\n", kMountsV2);
  ASSERT_TRUE(above);
  EXPECT_EQ(above->directory, "/sys/fs/cgroup");
  auto blank = FindMemoryCgroup("0::/a b\n", "1 2 0:3 / /mnt/c\\040g rw - cgroup2 none rw\n");
  ASSERT_TRUE(blank);
  EXPECT_EQ(blank->directory, "/mnt/c g/a b");
}

TEST(MemoryCgroup, NothingMountedOrNothingReadable) {
  EXPECT_FALSE(FindMemoryCgroup("", kMountsV1));
  EXPECT_FALSE(FindMemoryCgroup("4:memory:/job\n", ""));
  EXPECT_FALSE(FindMemoryCgroup("garbage\n:::\n\n", "garbage\n - \n1 2 - cgroup\n"));
  FakeKernel kernel;
  EXPECT_TRUE(MemoryCgroups::OfThisProcess().Limits().empty());
}

TEST(MemoryCgroup, TheWholeChainLimits) {
  FakeKernel kernel;
  kernel.files["/proc/self/cgroup"] = "0::/job/step/task\n";
  kernel.files["/proc/self/mountinfo"] = kMountsV2;
  const std::string root = "/sys/fs/cgroup";
  kernel.files[root + "/job/memory.max"] = "1073741824\n";
  kernel.files[root + "/job/memory.current"] = "1048576\n";
  kernel.files[root + "/job/step/memory.max"] = "max\n";
  kernel.files[root + "/job/step/memory.current"] = "1048576\n";
  kernel.files[root + "/job/step/task/memory.max"] = "104857600\n";
  kernel.files[root + "/job/step/task/memory.high"] = "94371840\n";
  kernel.files[root + "/job/step/task/memory.current"] = "62914560\n";
  kernel.files[root + "/job/step/task/memory.stat"] =
      "anon 1\nfile 2\ninactive_file 10485760\nactive_file 5242880\nfile_dirty 4194304\n"
      "file_writeback 1048576\nslab_reclaimable 0\ninactive_file_x 7\n";
  auto limits = MemoryCgroups::OfThisProcess().Limits();
  ASSERT_EQ(limits.size(), 2u);
  EXPECT_EQ(limits[0].directory, root + "/job/step/task");
  EXPECT_EQ(limits[0].limit, 90 * kMiB);
  // 90 - 60 that are free, and 15 of cache but for 5 that must be written first.
  EXPECT_EQ(limits[0].left, 40 * kMiB);
  EXPECT_EQ(limits[1].limit, 1024 * kMiB);
  EXPECT_EQ(limits[1].left, 1023 * kMiB);
}

TEST(MemoryCgroup, Version1) {
  FakeKernel kernel;
  kernel.files["/proc/self/cgroup"] = "4:memory:/job\n0::/\n";
  kernel.files["/proc/self/mountinfo"] = kMountsV1;
  const std::string job = "/sys/fs/cgroup/memory/job";
  kernel.files[job + "/memory.limit_in_bytes"] = "67108864\n";
  kernel.files[job + "/memory.usage_in_bytes"] = "67000000\n";
  kernel.files[job + "/memory.stat"] =
      "inactive_file 999999999\ntotal_inactive_file 1000000\ntotal_active_file 500000\n"
      "total_dirty 2000000\n";
  kernel.files["/sys/fs/cgroup/memory/memory.limit_in_bytes"] = "9223372036854771712\n";
  kernel.files["/sys/fs/cgroup/memory/memory.usage_in_bytes"] = "500000000\n";
  auto limits = MemoryCgroups::OfThisProcess().Limits();
  ASSERT_EQ(limits.size(), 1u);
  // More is dirty than is cached: nothing comes back at once.
  EXPECT_EQ(limits[0].left, 67108864u - 67000000u);
  // Over its limit for a moment.
  kernel.files[job + "/memory.usage_in_bytes"] = "70000000\n";
  kernel.files[job + "/memory.stat"] = "";
  EXPECT_EQ(MemoryCgroups::OfThisProcess().Limits()[0].left, 0u);
}

TEST(Room, MarksOnTheWayDown) {
  auto level = [](RoomBound bound, uint64_t limit, uint64_t left) {
    Room room;
    room.Add(bound, limit, left);
    return room.level;
  };
  EXPECT_EQ(level(RoomBound::kFileSystem, 100 * kGiB, 16 * kGiB), RoomLevel::kPlenty);
  EXPECT_EQ(level(RoomBound::kFileSystem, 100 * kGiB, 14 * kGiB), RoomLevel::kShort);
  EXPECT_EQ(level(RoomBound::kFileSystem, 100 * kGiB, 5 * kGiB), RoomLevel::kLow);
  EXPECT_EQ(level(RoomBound::kFileSystem, 100 * kGiB, 256 * kMiB), RoomLevel::kFull);
  EXPECT_EQ(level(RoomBound::kFileSystem, 8 * kMiB, 2 * kMiB), RoomLevel::kPlenty);
  EXPECT_EQ(level(RoomBound::kFileSystem, 8 * kMiB, kMiB), RoomLevel::kFull);
  // Where the kernel kills more is kept back.
  EXPECT_EQ(level(RoomBound::kCgroup, 64 * kMiB, 25 * kMiB), RoomLevel::kPlenty);
  EXPECT_EQ(level(RoomBound::kCgroup, 64 * kMiB, 16 * kMiB), RoomLevel::kFull);
  EXPECT_EQ(level(RoomBound::kSetting, 0, 0), RoomLevel::kFull);
  Room room;
  room.Add(RoomBound::kFileSystem, 100 * kGiB, 50 * kGiB);
  EXPECT_EQ(room.wanted, 0u);
  room.Add(RoomBound::kCgroup, 10 * kGiB, kGiB - kMiB);
  EXPECT_EQ(room.bound, RoomBound::kCgroup);
  EXPECT_EQ(room.spare, 511 * kMiB);
  EXPECT_GT(room.wanted, 0u);
  room.Add(RoomBound::kSetting, 100 * kGiB, 90 * kGiB);
  EXPECT_EQ(room.bound, RoomBound::kCgroup);
}

class RoomReaderTest : public WorkflowTest {
 protected:
  void SetUp() override {
    WorkflowTest::SetUp();
    std::filesystem::create_directory(root + "/tree");
    tree_ = Fd(os().OpenAt(AT_FDCWD, (root + "/tree").c_str(), O_RDONLY | O_DIRECTORY, 0));
    real_ = Fd(os().OpenAt(AT_FDCWD, dir.c_str(), O_RDONLY | O_DIRECTORY, 0));
    header_ = std::make_unique<Header>();
  }
  void TearDown() override {
    tree_.reset();
    real_.reset();
    WorkflowTest::TearDown();
  }
  Fd tree_;
  Fd real_;
  std::unique_ptr<Header> header_;
};

TEST_F(RoomReaderTest, TheSmallestCounts) {
  FakeKernel kernel;
  kernel.memory = tree_.get();
  kernel.files["/proc/self/cgroup"] = "0::/job\n";
  kernel.files["/proc/self/mountinfo"] = kMountsV2;
  kernel.files["/sys/fs/cgroup/job/memory.max"] = "8589934592\n";
  kernel.files["/sys/fs/cgroup/job/memory.current"] = "1073741824\n";
  RoomReader reader(tree_.get(), real_.get(), header_.get());
  EXPECT_TRUE(reader.CanMove());
  Room room = reader.Read();
  EXPECT_EQ(room.bound, RoomBound::kCgroup);
  EXPECT_EQ(room.cgroup, "/sys/fs/cgroup/job");
  EXPECT_EQ(room.left, 7 * kGiB);
  EXPECT_NE(room.Describe().find("7.0 GiB of 8.0 GiB"), std::string::npos) << room.Describe();
  kernel.left = kGiB;
  EXPECT_EQ(reader.Read().bound, RoomBound::kFileSystem);
  header_->memory_limit.store(100 * kMiB);
  room = reader.Read();
  EXPECT_EQ(room.bound, RoomBound::kSetting);
  EXPECT_EQ(room.left, 100 * kMiB);
  EXPECT_NE(room.Describe().find("CAPIO_MEMORY_LIMIT"), std::string::npos);
}

TEST_F(RoomReaderTest, WhereNothingIsGainedByMoving) {
  FakeKernel kernel;
  // Store and CAPIO_DIR on one disk: its own ENOSPC will do.
  RoomReader disk(tree_.get(), real_.get(), header_.get());
  kernel.left = 0;
  EXPECT_EQ(disk.Read().bound, RoomBound::kNone);
  EXPECT_EQ(disk.Read().level, RoomLevel::kPlenty);
  EXPECT_TRUE(disk.CanMove());
  // CAPIO_DIR is in memory, too.
  kernel.memory = real_.get();
  EXPECT_FALSE(RoomReader(tree_.get(), real_.get(), header_.get()).CanMove());
}

TEST_F(RoomReaderTest, TheTreeIsCountedWhenItMatters) {
  RoomReader reader(tree_.get(), real_.get(), header_.get());
  header_->memory_limit.store(8 * kMiB);
  std::filesystem::create_directory(root + "/tree/d");
  Spill(root + "/tree/d/f", std::string(2 * kMiB, 'x'));
  Room room = reader.Read();
  EXPECT_GE(room.left, 5 * kMiB);
  EXPECT_LE(room.left, 6 * kMiB);
  // Not again at once, unless it has to be exact.
  header_->tree_bytes.store(7 * kMiB);
  EXPECT_EQ(reader.Read().left, kMiB);
  room = reader.Read(true);
  EXPECT_GE(room.left, 5 * kMiB);
}

TEST(Bytes, AreParsedAndRefused) {
  EXPECT_EQ(*ParseBytes("8000000"), 8000000u);
  EXPECT_EQ(*ParseBytes("64k"), 64u << 10);
  EXPECT_EQ(*ParseBytes("512M"), 512 * kMiB);
  EXPECT_EQ(*ParseBytes("2G"), 2 * kGiB);
  EXPECT_EQ(*ParseBytes("2GiB"), 2 * kGiB);
  EXPECT_EQ(*ParseBytes("1T"), kGiB << 10);
  for (const char* wrong : {"", "M", "-1", " 1", "0", "1.5G", "1X", "1GG", "12 M", "99999999999T",
                            "18446744073709551616", "half"}) {
    EXPECT_EQ(ParseBytes(wrong).code(), EINVAL) << wrong;
  }
  EXPECT_EQ(FormatBytes(3 * kMiB), "3.0 MiB");
  EXPECT_EQ(FormatBytes(1536 * kGiB), "1.5 TiB");
  EXPECT_EQ(FormatBytes(0), "0.0 KiB");
}

TEST(Bytes, TheSmallestLimitOfAllProcessesHolds) {
  auto header = std::make_unique<Header>();
  LowerMemoryLimit(header.get(), 0);
  EXPECT_EQ(header->memory_limit.load(), 0u);
  LowerMemoryLimit(header.get(), 100);
  LowerMemoryLimit(header.get(), 200);
  LowerMemoryLimit(header.get(), 0);
  EXPECT_EQ(header->memory_limit.load(), 100u);
  LowerMemoryLimit(header.get(), 50);
  EXPECT_EQ(header->memory_limit.load(), 50u);
}

}  // namespace
}  // namespace capio::test
