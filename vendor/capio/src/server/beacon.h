// CAPIO_DIR/.capio/<workflow>/where: which store serves a workflow of this directory. Two live
// stores of one workflow (containers with a /dev/shm each, nodes without a transport) would each
// show half of the files; the beacon makes the second one an error that names both.
//
// A server holds flock(2) on it, which says that it is alive to everybody under the same kernel,
// and touches it every few seconds for those on other nodes.
#ifndef CAPIO_SERVER_BEACON_H_
#define CAPIO_SERVER_BEACON_H_

#include <string>

#include "store/store.h"

namespace capio {

class Beacon {
 public:
  static constexpr int kBeatMs = 10'000;

  explicit Beacon(const Store* store);
  // EADDRINUSE: another live store serves the workflow here; the sentence names both. Ok without a
  // beacon where none can be: in a directory that may not be written to, or while another server
  // of this very store is there.
  Status Claim();
  // A sign of life. Claims the beacon if it could not be had before.
  void Beat();
  // At the end of the workflow, together with directories that are empty then.
  void Remove();

 private:
  [[nodiscard]] std::string Describe(const std::string& text) const;
  [[nodiscard]] std::string Unnamed() const;
  [[nodiscard]] Fd Make(const std::string& text) const;

  const Store* store_;
  std::string directory_;  // below CAPIO_DIR
  std::string path_;
  std::string place_;  // of our store: what a server of the same store has, too
  Fd fd_;
};

}  // namespace capio

#endif  // CAPIO_SERVER_BEACON_H_
