// SPDX-License-Identifier: MIT
// A client of a VM's monitor, ours or a QEMU's. One thread.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>
#include <ramferry/transport.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

namespace ramferry::cli {

class QmpClient {
 public:
  /// Connects to `address` (unix:PATH or tcp:HOST:PORT), reads the greeting and negotiates.
  static Result<QmpClient> connect(const TransportCatalog& transports, const std::string& address,
                                   Deadline deadline);

  /// The command's "return". An error of the VM's is errc::peer_failed (errc::unsupported for a command it
  /// does not have) with its words. Events that come meanwhile are kept.
  Result<nlohmann::json> execute(const std::string& command,
                                 nlohmann::json arguments = nlohmann::json::object());
  /// The next event; errc::timed_out if none came.
  Result<nlohmann::json> event(Deadline deadline);

 private:
  QmpClient(std::unique_ptr<ByteStream> stream, std::string address)
      : stream_(std::move(stream)), address_(std::move(address)) {}
  Result<nlohmann::json> receive(Deadline deadline);

  std::unique_ptr<ByteStream> stream_;
  std::string address_, text_;
  std::deque<nlohmann::json> events_;
  std::uint64_t requests_ = 0;
};

}  // namespace ramferry::cli
