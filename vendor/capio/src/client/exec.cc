#include "client/exec.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <map>

namespace capio {
namespace {

struct Open {
  int fd;
  int flags;
};

// The descriptors of this process that regular files can be written through.
std::vector<Open> WritableDescriptors() {
  std::vector<Open> found;
  auto entries = ListDirectory(AT_FDCWD, "/proc/self/fd", Layer::kReal);
  if (!entries.ok()) return found;
  for (const DirEntry& entry : *entries) {
    int fd = ::atoi(entry.name.c_str());
    int flags = os().Fcntl(fd, F_GETFL, 0);
    struct stat st = {};
    if (flags < 0 || (flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_RDONLY ||
        os().Fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
      continue;
    }
    found.push_back({fd, flags});
  }
  std::sort(found.begin(), found.end(), [](Open a, Open b) { return a.fd < b.fd; });
  return found;
}

}  // namespace

std::string FormatHandover(const Handover& handover) {
  char text[128];
  snprintf(text, sizeof text, "%" PRIx64 ":%d:%u:%u:%d", handover.control_id,
           static_cast<int>(handover.pid), handover.slot, handover.epoch, handover.locks);
  return text;
}

std::vector<Handover> ParseHandovers(std::string_view text) {
  std::vector<Handover> found;
  std::string rest(text);
  for (size_t at = 0; at < rest.size();) {
    size_t end = std::min(rest.find(' ', at), rest.size());
    Handover one;
    int pid = 0;
    int used = 0;
    const std::string word = rest.substr(at, end - at);
    if (sscanf(word.c_str(), "%" SCNx64 ":%d:%u:%u:%d%n", &one.control_id, &pid, &one.slot,
               &one.epoch, &one.locks, &used) == 5 &&
        static_cast<size_t>(used) == word.size() && pid == ::getpid() && one.slot > 0 &&
        one.slot < kMaxClients && one.locks >= 0) {
      one.pid = pid;
      found.push_back(one);
    }
    at = end + 1;
  }
  return found;
}

std::vector<std::unique_ptr<File>> AdoptDescriptors(const std::shared_ptr<Session>& session) {
  Store& store = session->store();
  std::map<FileRecord*, std::vector<Open>> open;
  for (Open descriptor : WritableDescriptors()) {
    struct stat st = {};
    FileIdentity id;
    if (store.layers->identities().Look(descriptor.fd, &st, &id) < 0) continue;
    if (FileRecord* record = store.records->Find(id)) open[record].push_back(descriptor);
  }
  std::vector<std::unique_ptr<File>> files;
  std::vector<FileRecord*> touched;
  store.records->ForEachCellOf(&store.segment->header().clients[session->slot()], [&](Cell* cell) {
    uint64_t word = cell->word.load(std::memory_order_acquire);
    const uint32_t opens = OpensOf(word);
    const uint32_t left_open = opens - std::min(opens, ClosesOf(word));
    if (left_open == 0 && cell->duplicates.load(std::memory_order_acquire) == 0) return;
    FileRecord* record = store.records->At(cell->record);
    // A child may have them, too.
    record->flags.fetch_or(kFileNeedsProbe);
    std::vector<Open>& here = open[record];
    const auto kept = std::min<uint32_t>(left_open, static_cast<uint32_t>(here.size()));
    const auto further = static_cast<uint32_t>(here.size()) - kept;
    for (uint32_t i = 0; i < here.size(); ++i) {
      files.push_back(File::Adopt(session, record, cell, here[i].fd, here[i].flags, i >= kept));
    }
    here.clear();
    cell->duplicates.store(further, std::memory_order_seq_cst);
    cell->word.store(uint64_t{opens} << 32 | (opens - kept), std::memory_order_seq_cst);
    touched.push_back(record);
  });
  session->GoOn(touched);
  return files;
}

}  // namespace capio
