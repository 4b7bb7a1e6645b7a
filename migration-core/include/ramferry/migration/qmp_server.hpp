// SPDX-License-Identifier: MIT
// A monitor in QEMU's protocol (QMP) on any listener that gives plain byte streams.
//
// Greeting, framing, errors, negotiation and events are QEMU 7.2's; there is no out-of-band execution.
// Several clients at once, up to a bound. Each has a thread that reads and one that writes, so that one that
// never reads harms nobody: when its queue is full it is disconnected.
#pragma once

#include <ramferry/log.hpp>
#include <ramferry/migration/qmp_command.hpp>
#include <ramferry/transport.hpp>

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace ramferry::migration {

/// What the greeting and query-version say. The numbers are those of the QEMU whose dialect this is.
struct QmpVersion {
  int major = 7, minor = 2, micro = 0;
  std::string package = "ramferry";
};
nlohmann::json to_json(const QmpVersion& version);

struct QmpSettings {
  QmpVersion version{};
  std::size_t most_clients = 16;
  std::size_t most_queued_bytes = 1 << 20;  ///< per client
};

class QmpServer {
 public:
  /// Serves until destroyed. Table and log outlive it; the table does not change any more.
  QmpServer(std::unique_ptr<Listener> listener, const QmpCommandTable& table, QmpSettings settings, Log& log);
  /// Gives each client a moment to take what is queued for it.
  ~QmpServer();
  QmpServer(const QmpServer&) = delete;
  QmpServer& operator=(const QmpServer&) = delete;

  /// Any thread, also from within a command: tells every client that has negotiated. Never blocks.
  void emit(std::string_view event, const nlohmann::json& data);
  Endpoint local() const;

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace ramferry::migration
