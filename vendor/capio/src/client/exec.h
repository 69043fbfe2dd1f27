// exec(2): what a process hands to the program that it becomes, and what that takes over.
//
// The slot's lock is the process's, and lives through exec with the descriptor it was taken by. A
// program that knows nothing of it holds the slot until it ends; one that attaches takes it over.
#ifndef CAPIO_CLIENT_EXEC_H_
#define CAPIO_CLIENT_EXEC_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client/file.h"
#include "client/session.h"

namespace capio {

struct Handover {
  uint64_t control_id = 0;  // of the store
  pid_t pid = 0;
  uint32_t slot = 0;
  uint32_t epoch = 0;
  int locks = -1;  // the descriptor
};
std::string FormatHandover(const Handover& handover);
// Those that are meant for this very process; several may be joined by spaces.
std::vector<Handover> ParseHandovers(std::string_view text);

// For a session that has taken its slot over: settles what the process had open for writing before.
// What exec has closed counts as closed; what it has left open is returned, each with its
// descriptor.
std::vector<std::unique_ptr<File>> AdoptDescriptors(const std::shared_ptr<Session>& session);

}  // namespace capio

#endif  // CAPIO_CLIENT_EXEC_H_
