// How servers of one workflow reach each other. One node needs none; MPI will be another entry of
// the table.
#ifndef CAPIO_TRANSPORT_TRANSPORT_H_
#define CAPIO_TRANSPORT_TRANSPORT_H_

#include <memory>
#include <string>
#include <string_view>

#include "os/status.h"

namespace capio {

class Transport {
 public:
  virtual ~Transport() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  // Other servers that this one reaches.
  [[nodiscard]] virtual int peers() const = 0;
};

// ENOSYS: known but not built in. EINVAL: not known; the sentence lists what is.
Result<std::unique_ptr<Transport>> MakeTransport(std::string_view backend);

}  // namespace capio

#endif  // CAPIO_TRANSPORT_TRANSPORT_H_
