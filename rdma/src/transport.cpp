// SPDX-License-Identifier: MIT
#include "examine.hpp"
#include "transport_parts.hpp"
#include "verbs_fabric.hpp"

#include <ramferry/rdma/transport.hpp>
#include <ramferry/traits.hpp>

#include <array>
#include <utility>

namespace ramferry::rdma {
namespace {

constexpr std::array<std::string_view, 1> kSchemes{"rdma"};
constexpr std::array<SwitchSpec, 1> kSwitches{SwitchSpec{"rdma-pin-all", "pin", "all"}};

class RdmaTransport final : public Transport, public HasSwitches, public PlacesDirectly {
 public:
  RdmaTransport(Log& log, std::unique_ptr<Fabric> fabric) : log_(log), fabric_(std::move(fabric)) {}

  std::span<const std::string_view> schemes() const noexcept override { return kSchemes; }
  std::span<const OptionSpec> options() const noexcept override { return option_specs(); }
  std::span<const SwitchSpec> switches() const noexcept override { return kSwitches; }
  Result<> probe() const override { return fabric_->probe(); }
  std::vector<Check> examine(const Endpoint* to) const override { return rdma::examine(SystemFiles(), to); }

  Result<Link> connect(const Endpoint& to, SessionId session, Deadline deadline) override {
    RAMFERRY_TRY_ASSIGN(const Options options, parse_options(to));
    if (options.dialect == Dialect::qemu) {
      RAMFERRY_TRY_ASSIGN(auto stream, connect_qemu(log_, *fabric_, to, options, deadline));
      return Link(std::move(stream));
    }
    RAMFERRY_TRY_ASSIGN(auto channel, connect_channel(log_, *fabric_, to, options, session, deadline));
    return Link(std::move(channel));
  }

  Result<std::unique_ptr<Listener>> listen(const Endpoint& at) override {
    RAMFERRY_TRY_ASSIGN(const Options options, parse_options(at));
    RAMFERRY_TRY_ASSIGN(auto acceptor, fabric_->listen({at.host, at.port}, options.link));
    return make_listener(log_, std::move(acceptor), at, options);
  }

 private:
  Log& log_;
  std::unique_ptr<Fabric> fabric_;
};

}  // namespace

std::unique_ptr<Transport> make_transport_over(Log& log, std::unique_ptr<Fabric> fabric) {
  return std::make_unique<RdmaTransport>(log, std::move(fabric));
}

}  // namespace ramferry::rdma

namespace ramferry {

std::unique_ptr<Transport> make_rdma_transport(Log& log) {
  return rdma::make_transport_over(log, rdma::make_verbs_fabric());
}

}  // namespace ramferry
