// SPDX-License-Identifier: MIT
// How links come to be, and the catalogue of the transports that a program speaks.
#pragma once

#include <ramferry/channel.hpp>
#include <ramferry/check.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/endpoint.hpp>
#include <ramferry/log.hpp>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry {

class Listener {
 public:
  virtual ~Listener() = default;
  /// With the real port where 0 was asked for.
  virtual Endpoint local() const = 0;
  /// The next link. Strangers (wrong first bytes, too slow, gone again) are logged and skipped, never
  /// returned. errc::timed_out leaves the listener as it was.
  virtual Result<Link> accept(Deadline deadline) = 0;
  /// Any thread. Pending and later accepts return errc::cancelled.
  virtual void cancel() noexcept = 0;
};

/// One way to reach a peer. Any thread; `log` given at its making outlives it and all that it makes.
///
/// Common option `dialect`: native (a Channel), qemu (a ByteStream), or auto: a listener then looks at the
/// first bytes, a connecting end means native. Byte-only transports (exec, fd, file) always give a
/// ByteStream.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::span<const std::string_view> schemes() const noexcept = 0;
  virtual std::span<const OptionSpec> options() const noexcept = 0;
  /// Can this machine do it? If not: why, and what would help.
  virtual Result<> probe() const = 0;
  /// The same at length: all that this transport finds on this machine, and with an endpoint, whether the way
  /// there works: resolve, route, connect. It begins no migration and does not disturb a peer of ours; what
  /// it may disturb (a QEMU takes the first connection that comes) it leaves alone under `dialect=qemu`. May
  /// take seconds. The default is probe() as one check, and does not try the way.
  virtual std::vector<Check> examine(const Endpoint* to) const;
  /// The options were checked. Returns once the link is usable: for a Channel, the peer's transport has
  /// answered. `session` names the migration; nil lets the transport draw one.
  virtual Result<Link> connect(const Endpoint& to, SessionId session, Deadline deadline) = 0;
  virtual Result<std::unique_ptr<Listener>> listen(const Endpoint& at) = 0;
};

/// Filled by hand where the program is put together: reading that place tells what it speaks.
class TransportCatalog {
 public:
  void add(std::unique_ptr<Transport> transport);
  /// errc::invalid_argument listing the known schemes, if this one is not.
  Result<Transport*> find(std::string_view scheme) const;
  std::vector<std::string> schemes() const;

  /// Parse, find, check options, then connect or listen.
  Result<Link> connect(std::string_view uri, SessionId session, Deadline deadline) const;
  Result<std::unique_ptr<Listener>> listen(std::string_view uri) const;

 private:
  std::vector<std::unique_ptr<Transport>> transports_;
};

}  // namespace ramferry
