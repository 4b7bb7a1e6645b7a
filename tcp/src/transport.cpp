// SPDX-License-Identifier: MIT
#include "connect.hpp"
#include "examine.hpp"
#include "listener.hpp"
#include "socket.hpp"
#include "socket_stream.hpp"

#include <ramferry/tcp/transport.hpp>

#include <array>
#include <memory>

namespace ramferry {
namespace {

class TcpTransport final : public Transport {
 public:
  explicit TcpTransport(Log& log) noexcept : log_(log) {}

  std::span<const std::string_view> schemes() const noexcept override {
    static constexpr std::array<std::string_view, 2> kSchemes = {"tcp", "unix"};
    return kSchemes;
  }
  std::span<const OptionSpec> options() const noexcept override { return tcp::known_options(); }
  Result<> probe() const override { return {}; }
  std::vector<Check> examine(const Endpoint* to) const override { return tcp::examine(SystemFiles(), to); }

  Result<Link> connect(const Endpoint& to, SessionId session, Deadline deadline) override {
    RAMFERRY_TRY_ASSIGN(const tcp::Settings settings, tcp::parse_settings(to));
    if (settings.connect_timeout.count() > 0)
      deadline = Deadline::at(std::min(deadline.when(), Deadline::after(settings.connect_timeout).when()));
    if (settings.dialect != tcp::Settings::Dialect::qemu) {
      if (settings.channels > 0)
        return fail(errc::invalid_argument,
                    "connecting to " + to.to_string() + ": channels need dialect=qemu");
      RAMFERRY_TRY_ASSIGN(auto channel, tcp::connect_channel(to, session, settings, deadline, log_));
      return Link(std::move(channel));
    }
    if (settings.lanes != 1)
      return fail(errc::invalid_argument, "connecting to " + to.to_string() + ": lanes need dialect=native");
    return tcp::connect_qemu(to, settings, deadline);
  }

  Result<std::unique_ptr<Listener>> listen(const Endpoint& at) override {
    RAMFERRY_TRY_ASSIGN(const tcp::Settings settings, tcp::parse_settings(at));
    return tcp::SocketListener::open(at, settings, log_);
  }

 private:
  Log& log_;
};

}  // namespace

std::unique_ptr<Transport> make_tcp_transport(Log& log) {
  return std::make_unique<TcpTransport>(log);
}

}  // namespace ramferry
