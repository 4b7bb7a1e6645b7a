// SPDX-License-Identifier: MIT
// A stream whose bytes take a connection of their own beside the channel: the kernel passes them on from
// socket to socket. The channel says only when it opens, ends, fails and is closed.
#pragma once

#include "conveyor.hpp"
#include "stream.hpp"

#include <ramferry/side_streams.hpp>

namespace ramferry::tunnel {

class SideStream final : public Stream {
 public:
  /// `side` is the connection's number. With `dial` this end takes the connection, else it opens it.
  SideStream(std::uint32_t number, Uplink& uplink, std::unique_ptr<ByteStream> plain, Dial dial,
             SideStreams& sides, std::uint32_t side);
  ~SideStream() override { join(); }

 private:
  Result<> prepare() override;
  Result<> pump_in() override;
  Result<> pump_out() override;
  void wind_up() noexcept override;
  void on_abort() noexcept override;
  /// The connection beside the channel failed: whether the other end, or the channel's end, says why.
  Result<> explain(const Error& error);

  SideStreams& sides_;
  const std::uint32_t number_beside_;
  const bool taking_;
  std::unique_ptr<ByteStream> side_;
};

}  // namespace ramferry::tunnel
