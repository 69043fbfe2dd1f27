// What the user is told when a run has ended: what became of its files, and which of the declared
// ones never came to be.
#ifndef CAPIO_SERVER_SUMMARY_H_
#define CAPIO_SERVER_SUMMARY_H_

#include <set>
#include <string>
#include <vector>

#include "store/store.h"

namespace capio {

// Names of files, relative to CAPIO_DIR.
struct Leftovers {
  std::set<std::string> incomplete;  // kept in the salvage directory
  std::set<std::string> unwritten;   // could not be written to CAPIO_DIR
};

// A few lines; to be called when nobody is a client any more and the store is still there.
std::vector<std::string> SummaryOf(Store* store, const Leftovers& leftovers);

// A sentence about declared outputs that no process has made in this run; "" if there is none.
std::string UnmadeOutputs(Store* store);

}  // namespace capio

#endif  // CAPIO_SERVER_SUMMARY_H_
