#include "transport/transport.h"

namespace capio {
namespace {

class NoTransport final : public Transport {
 public:
  [[nodiscard]] std::string_view name() const override { return "none"; }
  [[nodiscard]] int peers() const override { return 0; }
};

}  // namespace

Result<std::unique_ptr<Transport>> MakeTransport(std::string_view backend) {
  if (backend == "none") return std::unique_ptr<Transport>(std::make_unique<NoTransport>());
  if (backend == "mpi") {
    return Status::Error(ENOSYS, "backend 'mpi' is not built in; use --backend none");
  }
  return Status::Error(EINVAL,
                       "unknown backend '" + std::string(backend) + "'; allowed are none and mpi");
}

}  // namespace capio
