// Files that are moved from memory to disk while others use them.
#include "server/evict.h"

#include <sys/mman.h>

#include <thread>

#include "client/file.h"
#include "client/namespace.h"
#include "client/session.h"
#include "faulty_os.h"
#include "process_harness.h"
#include "server/server.h"
#include "store/probe.h"

namespace capio::test {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

constexpr char kConfig[] = R"({"name": "wf", "IO_Graph": [
  {"name": "maker", "input_stream": [], "output_stream": ["c*", "u*", "keep*", "t*"],
   "streaming": [{"name": ["c*", "keep*"], "committed": "on_close", "mode": "no_update"},
                 {"name": ["u*"], "committed": "on_close", "mode": "update"}]},
  {"name": "reader", "input_stream": ["c*", "u*", "keep*", "t*"], "output_stream": []}],
  "permanent": ["keep*"]})";

std::string Pattern(char seed, size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(seed + i % 251);
  return text;
}

// Runs a hook before the first call of one kind.
class HookedOs : public Os {
 public:
  enum Call { kCopy, kRename, kUnlink };
  HookedOs(Call call, std::function<void()> hook)
      : call_(call), hook_(std::move(hook)), before_(SetOs(this)) {}
  ~HookedOs() override { (void)SetOs(before_); }
  HookedOs(const HookedOs&) = delete;
  HookedOs& operator=(const HookedOs&) = delete;

  ssize_t CopyRange(int from, int to, off_t offset, size_t n) override {
    Reach(kCopy);
    return Os::CopyRange(from, to, offset, n);
  }
  int RenameAt(int from_dir, const char* from, int to_dir, const char* to) override {
    Reach(kRename);
    return Os::RenameAt(from_dir, from, to_dir, to);
  }
  int UnlinkAt(int dir, const char* path, int flags) override {
    if (std::string_view(path) == "moving") return Os::UnlinkAt(dir, path, flags);
    Reach(kUnlink);
    if (unlink_fails && call_ == kUnlink) return -EIO;
    return Os::UnlinkAt(dir, path, flags);
  }
  bool unlink_fails = false;

 private:
  void Reach(Call call) {
    if (call == call_ && !reached_.exchange(true) && hook_) hook_();
  }
  const Call call_;
  const std::function<void()> hook_;
  std::atomic<bool> reached_{false};
  Os* before_;
};

class EvictTest : public WorkflowTest {
 protected:
  void SetUp() override {
    WorkflowTest::SetUp();
    Spill(config, kConfig);
    ASSERT_EQ(os().Pipe(broken), 0);
    (void)::signal(SIGURG, [](int) { (void)!::write(broken[1], "", 1); });
    maker_ = Open("maker");
    reader_ = Open("reader");
  }
  void TearDown() override {
    (void)::signal(SIGURG, SIG_DFL);
    for (int fd : broken) (void)os().Close(fd);
    for (auto* session : {&maker_, &reader_}) {
      (*session)->Finish();
      EXPECT_TRUE((*session)->AwaitSafe(30'000).ok());
      session->reset();
    }
    WorkflowTest::TearDown();
  }
  std::shared_ptr<Session> Open(const std::string& app) {
    SessionConfig c;
    c.capio_dir = dir;
    c.app = app;
    c.workflow = "wf";
    c.server_path = CAPIO_TEST_SERVER;
    c.config_path = config;
    c.await_server_ms = 30'000;
    c.flags = CAPIO_SESSION_TEARDOWN;
    auto session = Session::Open(c);
    EXPECT_TRUE(session.ok()) << session.status().text();
    return session.take();
  }
  std::unique_ptr<File> OpenFile(const std::string& name, int flags,
                                 std::shared_ptr<Session> session = nullptr) {
    std::unique_ptr<File> file;
    auto fd = File::Open(session == nullptr ? maker_ : session, name, flags, 0644, &file);
    EXPECT_TRUE(fd.ok()) << name << ": " << strerror(fd.code());
    return file;
  }
  void Make(const std::string& name, const std::string& text) {
    auto file = OpenFile(name, O_WRONLY | O_CREAT | O_TRUNC);
    ASSERT_TRUE(file->Write(text.data(), text.size(), -1).ok());
    ASSERT_TRUE(file->Close(CloseKind::kCount, FdFate::kClose).ok());
  }
  // Everything, as the app sees it; "error ERRNO".
  std::string Content(const std::string& name, std::shared_ptr<Session> session = nullptr) {
    if (session == nullptr) session = reader_;
    std::unique_ptr<File> file;
    Result<int> fd = 0;
    do {
      fd = File::Open(session, name, O_RDONLY, 0, &file);
    } while (fd.code() == EINTR);
    if (!fd.ok()) return "error " + std::to_string(fd.code());
    std::string text;
    if (file == nullptr) {
      Fd owned(*fd);
      char buf[1 << 14];
      for (ssize_t n = 0; (n = os().Read(owned.get(), buf, sizeof buf)) > 0;) text.append(buf, n);
    } else {
      text = ReadAll(file.get());
      (void)file->Close(CloseKind::kCount, FdFate::kClose);
    }
    return text;
  }
  static std::string ReadAll(File* file) {
    std::string text;
    char buf[1 << 14];
    for (;;) {
      auto n = file->Read(buf, sizeof buf, -1, false);
      if (n.code() == EINTR) continue;
      if (!n.ok()) return "error " + std::to_string(n.code());
      if (*n == 0) return text;
      text.append(buf, *n);
    }
  }
  Store& store() { return maker_->store(); }
  FileRecord* Record(const std::string& name) {
    struct stat st = {};
    auto layer = store().layers->Find(name, &st, false);
    return layer.ok() ? store().RecordAt(*layer, name) : nullptr;
  }
  // Where the store has it: "tree", "fs", "real", or "".
  std::string Place(const std::string& name) {
    struct stat st = {};
    auto layer = store().layers->Find(name, &st, false);
    if (!layer.ok()) return "";
    return *layer == Layer::kTree ? "tree" : *layer == Layer::kFs ? "fs" : "real";
  }
  // One round of making room. Returns how many files it has moved.
  uint64_t Evict(uint64_t wanted = uint64_t{1} << 40) {
    Fd done(os().EventFd());
    Evictor evictor(&store(), done.get());
    store().segment->header().room_wanted.store(wanted);
    evictor.Ask();
    int ready = 0;
    do {  // the signal of a broken lease may come meanwhile
      ready = os().Poll(done.get(), POLLIN, 60'000);
    } while (ready == -EINTR);
    EXPECT_GT(ready, 0);
    return evictor.TakeReport().files;
  }

  // Until somebody is held up by a lease of this process: the kernel signals it.
  static void AwaitBreaking() {
    char byte = 0;
    EXPECT_EQ(os().Read(broken[0], &byte, 1), 1);
  }
  static inline int broken[2];

  std::shared_ptr<Session> maker_;
  std::shared_ptr<Session> reader_;
};

TEST_F(EvictTest, ReadersDoNotNotice) {
  std::string text = Pattern('a', 3 * kMiB);
  Make("c1", text);
  FileRecord* record = Record("c1");
  ASSERT_NE(record, nullptr);
  std::unique_ptr<File> watched;
  auto fd = File::Open(reader_, "c1", O_RDONLY, 0, &watched);
  ASSERT_TRUE(fd.ok());
  Fd open(*fd);
  auto* mapped =
      static_cast<char*>(::mmap(nullptr, text.size(), PROT_READ, MAP_SHARED, open.get(), 0));
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_EQ(Evict(), 1u);
  EXPECT_EQ(Place("c1"), "fs");
  EXPECT_EQ(Record("c1"), record);
  EXPECT_EQ(std::string_view(mapped, text.size()), text);
  std::string read(text.size(), '\0');
  EXPECT_EQ(os().Pread(open.get(), read.data(), read.size(), 0), ssize_t(text.size()));
  EXPECT_EQ(read, text);
  EXPECT_EQ(Content("c1"), text);
  struct stat before = {};
  struct stat after = {};
  ASSERT_EQ(os().Fstat(open.get(), &before), 0);
  ASSERT_TRUE(Locate(reader_.get(), "c1", {Purpose::kContent, true, Patience::kWait}, &after).ok());
  EXPECT_EQ(before.st_size, after.st_size);
  EXPECT_EQ(before.st_mode, after.st_mode);
  EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
  auto entries = store().layers->List("");
  ASSERT_TRUE(entries.ok());
  EXPECT_EQ(std::count_if(entries->begin(), entries->end(),
                          [](const DirEntry& e) { return e.name == "c1"; }),
            1);
  (void)::munmap(mapped, text.size());
  EXPECT_EQ(Evict(), 0u);
}

TEST_F(EvictTest, WhatMayStillBeWrittenStays) {
  std::string text = Pattern('b', kMiB);
  auto growing = OpenFile("c-growing", O_WRONLY | O_CREAT);
  ASSERT_TRUE(growing->Write(text.data(), text.size(), -1).ok());
  // Mapped by whoever: no cell says so, the kernel does.
  auto exposed = OpenFile("c-mapped", O_RDWR | O_CREAT);
  ASSERT_TRUE(exposed->Write(text.data(), text.size(), -1).ok());
  auto fd = exposed->Expose();
  ASSERT_TRUE(fd.ok());
  void* mapped = ::mmap(nullptr, text.size(), PROT_READ | PROT_WRITE, MAP_SHARED, exposed->fd(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  ASSERT_TRUE(exposed->Close(CloseKind::kCount, FdFate::kClose).ok());
  EXPECT_EQ(Evict(), 0u);
  EXPECT_EQ(Place("c-growing"), "tree");
  EXPECT_EQ(Place("c-mapped"), "tree");
  static_cast<char*>(mapped)[0] = '!';
  (void)::munmap(mapped, text.size());
  ASSERT_TRUE(growing->Close(CloseKind::kCount, FdFate::kClose).ok());
  EXPECT_EQ(Evict(), 2u);
  EXPECT_EQ(Place("c-mapped"), "fs");
  EXPECT_EQ(Content("c-growing"), text);
  EXPECT_EQ(Content("c-mapped")[0], '!');
}

TEST_F(EvictTest, AClosedFileIsMovedOnlyWhileNobodyHasIt) {
  // Under on_termination: it may be appended to until its app ends.
  std::string text = Pattern('c', kMiB);
  Make("t1", text);
  FileRecord* record = Record("t1");
  {
    Fd held(os().OpenAt(store().tree.get(), "t1", O_RDONLY, 0));
    EXPECT_EQ(Evict(), 0u);
    EXPECT_EQ(Place("t1"), "tree");
  }
  EXPECT_EQ(Evict(), 1u);
  EXPECT_EQ(Place("t1"), "fs");
  EXPECT_EQ(Record("t1"), record);
  EXPECT_EQ(StateOf(record->status.load()), kGrowing);
  auto more = OpenFile("t1", O_WRONLY | O_APPEND);
  ASSERT_TRUE(more->Write("more", 4, -1).ok());
  ASSERT_TRUE(more->Close(CloseKind::kCount, FdFate::kClose).ok());
  EXPECT_EQ(Record("t1"), record);
  // The consumer waits for the end of the app, and sees all of it then.
  Child consumer([&](Channel& parent) {
    auto session = Open("reader");
    parent.Say("up");
    std::string all = Content("t1", session);
    session->Finish();
    (void)session->AwaitSafe(30'000);
    parent.Say(all == text + "more" ? "whole" : "got " + std::to_string(all.size()));
    return 0;
  });
  EXPECT_EQ(consumer.Hear(), "up");
  maker_->Finish();
  (void)maker_->AwaitSafe(30'000);
  EXPECT_EQ(consumer.Hear(), "whole");
  EXPECT_EQ(consumer.Wait(), 0);
  maker_ = Open("maker");
}

TEST_F(EvictTest, AWriterThatComesDuringTheCopyStopsIt) {
  std::string text = Pattern('d', 20 * kMiB);
  Make("c1", text);
  std::thread writer;
  std::unique_ptr<File> opened;
  {
    HookedOs hooked(HookedOs::kCopy, [&] {
      writer = std::thread([&] { opened = OpenFile("c1", O_WRONLY | O_APPEND); });
      // Until the kernel holds it up because of the lease, which is what ends the copy.
      AwaitBreaking();
    });
    EXPECT_EQ(Evict(), 0u);
    writer.join();
  }
  EXPECT_EQ(Place("c1"), "tree");
  ASSERT_TRUE(opened->Write("more", 4, -1).ok());
  ASSERT_TRUE(opened->Close(CloseKind::kCount, FdFate::kClose).ok());
  EXPECT_EQ(Content("c1"), text + "more");
}

TEST_F(EvictTest, AWriterThatComesAtTheVeryEndFindsTheMovedFile) {
  std::string text = Pattern('e', kMiB);
  Make("c1", text);
  std::thread writer;
  std::unique_ptr<File> opened;
  {
    HookedOs hooked(HookedOs::kUnlink, [&] {
      writer = std::thread([&] { opened = OpenFile("c1", O_RDWR); });
      AwaitBreaking();
    });
    EXPECT_EQ(Evict(), 1u);
    writer.join();
  }
  EXPECT_EQ(Place("c1"), "fs");
  ASSERT_TRUE(opened->Write("E", 1, 0).ok());
  ASSERT_TRUE(opened->Close(CloseKind::kCount, FdFate::kClose).ok());
  text[0] = 'E';
  EXPECT_EQ(Content("c1"), text);
}

TEST_F(EvictTest, WhoOpenedItBeforeReadsWhatItWas) {
  std::string text = Pattern('f', kMiB);
  auto writer = OpenFile("u1", O_WRONLY | O_CREAT);
  ASSERT_TRUE(writer->Write(text.data(), text.size(), -1).ok());
  auto before = OpenFile("u1", O_RDONLY, reader_);
  ASSERT_NE(before, nullptr);
  ASSERT_TRUE(writer->Close(CloseKind::kCount, FdFate::kClose).ok());
  EXPECT_EQ(Evict(), 1u);
  // A new generation, in place, of the moved file.
  auto change = OpenFile("u1", O_RDWR);
  ASSERT_TRUE(change->Write("changed", 7, 0).ok());
  EXPECT_EQ(ReadAll(before.get()), text);
  ASSERT_TRUE(change->Close(CloseKind::kCount, FdFate::kClose).ok());
  EXPECT_EQ(Content("u1"), "changed" + text.substr(7));
  (void)before->Close(CloseKind::kCount, FdFate::kClose);
}

TEST_F(EvictTest, WrittenBackIsTakenFromMemoryOnly) {
  std::string text = Pattern('g', 2 * kMiB);
  // An old modification time, as of a copy: an earlier run's file, to all appearances.
  auto file = OpenFile("keep1", O_WRONLY | O_CREAT);
  ASSERT_TRUE(file->Write(text.data(), text.size(), -1).ok());
  const struct timespec old[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(os().Futimens(file->fd(), old), 0);
  ASSERT_TRUE(file->Close(CloseKind::kCount, FdFate::kClose).ok());
  FileRecord* record = Record("keep1");
  // By then it has been written back.
  while (record->persisted.load() == 0) ASSERT_TRUE(maker_->AwaitSafe(0).ok());
  EXPECT_EQ(Evict(), 1u);
  EXPECT_EQ(Place("keep1"), "real");
  EXPECT_EQ(Record("keep1"), record);
  EXPECT_EQ(Content("keep1"), text);
  // Changed: it comes back into the store, and is written back anew.
  auto change = OpenFile("keep1", O_WRONLY | O_APPEND);
  ASSERT_TRUE(change->Write("more", 4, -1).ok());
  ASSERT_TRUE(change->Close(CloseKind::kCount, FdFate::kClose).ok());
  EXPECT_EQ(Content("keep1"), text + "more");
}

TEST_F(EvictTest, ATwinLeftBelowDoesNotComeToLight) {
  std::string text = Pattern('h', kMiB);
  Make("c1", text);
  {
    HookedOs hooked(HookedOs::kUnlink, nullptr);
    hooked.unlink_fails = true;  // a server killed between the two
    EXPECT_EQ(Evict(), 0u);
  }
  struct stat st = {};
  EXPECT_TRUE(store().layers->In(Layer::kFs, "c1", &st));
  EXPECT_EQ(Place("c1"), "tree");
  EXPECT_EQ(Content("c1"), text);
  Make("c1", "anew");
  EXPECT_EQ(Content("c1"), "anew");
  EXPECT_EQ(Evict(), 1u);
  EXPECT_EQ(Place("c1"), "fs");
  EXPECT_EQ(Content("c1"), "anew");
  ASSERT_TRUE(RemoveFile(maker_.get(), "c1").ok());
  EXPECT_EQ(Place("c1"), "");
}

TEST_F(EvictTest, WhatProgramsWereToldOfStays) {
  Make("c1", Pattern('i', kMiB));
  std::filesystem::create_directories(dir + "/.capio/wf");
  using std::string_literals::operator""s;
  Spill(dir + "/.capio/wf/links", "dsub\0pc1\0"s);
  EXPECT_EQ(Evict(), 0u);
  EXPECT_EQ(Place("c1"), "tree");
  std::filesystem::remove(dir + "/.capio/wf/links");
  EXPECT_EQ(Evict(), 1u);
}

TEST_F(EvictTest, HolesStayHoles) {
  auto file = OpenFile("c1", O_WRONLY | O_CREAT);
  constexpr off_t kFar = off_t{1} << 40;
  ASSERT_TRUE(file->Write("begin", 5, 0).ok());
  ASSERT_TRUE(file->Write("end", 3, kFar).ok());
  ASSERT_TRUE(file->Truncate(kFar + (off_t{1} << 30)).ok());
  ASSERT_TRUE(file->Close(CloseKind::kCount, FdFate::kClose).ok());
  EXPECT_EQ(Evict(), 1u);
  Fd moved(os().OpenAt(AT_FDCWD, (dir + "/.capio/wf/tree/c1").c_str(), O_RDONLY, 0));
  ASSERT_TRUE(moved.valid());
  struct stat st = {};
  ASSERT_EQ(os().Fstat(moved.get(), &st), 0);
  EXPECT_EQ(st.st_size, kFar + (off_t{1} << 30));
  EXPECT_LT(st.st_blocks, 1024);
  char buf[8] = {};
  EXPECT_EQ(os().Pread(moved.get(), buf, 5, 0), 5);
  EXPECT_STREQ(buf, "begin");
  EXPECT_EQ(os().Pread(moved.get(), buf, 5, kFar), 5);
  EXPECT_EQ(std::string(buf, 5), std::string("end\0\0", 5));
}

TEST_F(EvictTest, TheDiskIsFull) {
  // Whatever needs room on the disk fails, from the Nth such call on.
  class FullDisk : public Os {
   public:
    explicit FullDisk(int calls) : left_(calls), before_(SetOs(this)) {}
    ~FullDisk() override { (void)SetOs(before_); }
    int OpenAt(int dir, const char* path, int flags, mode_t mode) override {
      bool full = (flags & O_CREAT) != 0 && Full();
      return full ? -ENOSPC : Os::OpenAt(dir, path, flags, mode);
    }
    int MkdirAt(int dir, const char* path, mode_t mode) override {
      return Full() ? -ENOSPC : Os::MkdirAt(dir, path, mode);
    }
    ssize_t CopyRange(int from, int to, off_t offset, size_t n) override {
      return Full() ? -ENOSPC : Os::CopyRange(from, to, offset, n);
    }
    int Fsync(int fd) override { return Full() ? -ENOSPC : Os::Fsync(fd); }
    int RenameAt(int from_dir, const char* from, int to_dir, const char* to) override {
      return Full() ? -ENOSPC : Os::RenameAt(from_dir, from, to_dir, to);
    }

   private:
    bool Full() { return left_-- <= 0; }
    std::atomic<int> left_;
    Os* before_;
  };
  std::filesystem::create_directory(dir + "/d");
  Make("c1", Pattern('j', kMiB));
  for (int calls = 0;; ++calls) {
    ASSERT_LT(calls, 100);
    uint64_t moved = 0;
    {
      FullDisk full(calls);
      moved = Evict();
    }
    SCOPED_TRACE("call " + std::to_string(calls));
    EXPECT_EQ(store().segment->header().evict_error.load(), moved > 0 ? 0 : ENOSPC);
    EXPECT_EQ(Place("c1"), moved > 0 ? "fs" : "tree");
    EXPECT_EQ(Content("c1"), Pattern('j', kMiB));
    if (moved > 0 || HasFailure()) break;
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir + "/.capio/wf/scratch"));
}

// The server is no more from its call N on, counted from when it begins to move a file: what it
// was about is whole, and the next one goes on.
TEST_F(EvictTest, AServerThatDiesAtAnyCallOfAMoveIsReplaced) {
  class DyingOs : public Os {
   public:
    explicit DyingOs(int call) : left_(call) {}
    int Fcntl(int fd, int command, intptr_t argument) override {
      if (command == F_SETLEASE) mover_ = ThreadId();
      Step();
      return Os::Fcntl(fd, command, argument);
    }
    int OpenAt(int dir, const char* path, int flags, mode_t mode) override {
      Step();
      return Os::OpenAt(dir, path, flags, mode);
    }
    int MkdirAt(int dir, const char* path, mode_t mode) override {
      Step();
      return Os::MkdirAt(dir, path, mode);
    }
    ssize_t CopyRange(int from, int to, off_t offset, size_t n) override {
      Step();
      return Os::CopyRange(from, to, offset, n);
    }
    int Fsync(int fd) override {
      Step();
      return Os::Fsync(fd);
    }
    int RenameAt(int from_dir, const char* from, int to_dir, const char* to) override {
      Step();
      return Os::RenameAt(from_dir, from, to_dir, to);
    }
    int UnlinkAt(int dir, const char* path, int flags) override {
      Step();
      return Os::UnlinkAt(dir, path, flags);
    }
    int Close(int fd) override {
      Step();
      return Os::Close(fd);
    }

   private:
    void Step() {
      if (mover_ == ThreadId() && left_-- == 0) ::_exit(77);
    }
    std::atomic<int32_t> mover_{0};
    std::atomic<int> left_;
  };
  for (auto* session : {&maker_, &reader_}) {
    (*session)->Finish();
    ASSERT_TRUE((*session)->AwaitSafe(30'000).ok());
    session->reset();
  }
  for (pid_t pid : Servers()) ASSERT_TRUE(AwaitEnd(pid));
  ::setenv("CAPIO_MEMORY_LIMIT", "8M", 1);
  bool ended = false;
  for (int call = 0; !ended; ++call) {
    ASSERT_LT(call, 200);
    SCOPED_TRACE("call " + std::to_string(call));
    Child server([&, this](Channel& parent) {
      (void)SetOs(new DyingOs(call));
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
    ASSERT_EQ(server.Hear(), "serving");
    maker_ = Open("maker");
    reader_ = Open("reader");
    std::string text = Pattern('l', 5 * kMiB / 2);
    for (const char* name : {"c1", "c2", "keep1"}) {
      auto file = OpenFile(name, O_WRONLY | O_CREAT | O_TRUNC);
      size_t done = 0;
      while (done < text.size()) {
        auto n = file->Write(text.data() + done, text.size() - done, -1);
        ASSERT_TRUE(n.ok() || n.code() == EINTR) << n.code() << " " << n.status().text();
        if (n.ok()) done += *n;
      }
      ASSERT_TRUE(file->Close(CloseKind::kCount, FdFate::kClose).ok());
    }
    for (const char* name : {"c1", "c2", "keep1"}) EXPECT_EQ(Content(name), text) << name;
    for (auto* session : {&maker_, &reader_}) {
      (*session)->Finish();
      Status safe = (*session)->AwaitSafe(30'000);
      EXPECT_TRUE(safe.ok()) << safe.text();
      session->reset();
    }
    int status = server.Wait();
    EXPECT_TRUE(status == 77 || status == 0) << status;
    ended = status == 0;
    for (pid_t pid : Servers()) ASSERT_TRUE(AwaitEnd(pid, 20'000)) << LogOf();
    EXPECT_EQ(Slurp(dir + "/keep1"), text);
    EXPECT_FALSE(std::filesystem::exists(dir + "/.capio")) << Listing(dir);
    std::filesystem::remove_all(dir + "/.capio");
    std::filesystem::remove(dir + "/keep1");
    if (HasFailure()) break;
  }
  ::unsetenv("CAPIO_MEMORY_LIMIT");
  maker_ = Open("maker");
  reader_ = Open("reader");
}

}  // namespace
}  // namespace capio::test
