// SPDX-License-Identifier: MIT
// Takes the pages that come over the channels of QEMU's multifd, while the main stream is parsed.
//
// Every channel has a thread. What orders them is SYNC: a channel that was told to waits there until all have
// come so far and the main stream has, too.
#pragma once

#include "multifd_packet.hpp"
#include "stream_saver.hpp"

#include <ramferry/stream_bundle.hpp>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>
#include <vector>

namespace ramferry::checkpoint {

class MultifdReceiver {
 public:
  /// Both borrowed. A channel that fails cancels all streams; error() says why.
  MultifdReceiver(StreamBundle& streams, StreamSaver& saver) : streams_(streams), saver_(saver) {}
  /// Cancels the streams if the threads are still reading.
  ~MultifdReceiver();

  /// When the blocks are known. The saver's blocks are not changed any more.
  void start();
  /// The main stream is where all channels must come to; returns when they are there, and lets them go on.
  Result<> sync();
  /// After the last sync(): a page that comes now is not stored.
  void close();
  /// Why a channel failed, if one did.
  std::optional<Error> error() const;

 private:
  void run(ByteStream& channel);
  Result<> read_packets(ByteStream& channel);
  Result<> store(const MultifdPacket& packet, ConstBytes pages);
  Result<> end();
  Result<> wait_at_sync();
  void failed(Error error);

  StreamBundle& streams_;
  StreamSaver& saver_;
  std::vector<std::thread> threads_;

  std::shared_mutex storing_;  ///< shared by those who store a packet
  bool closed_ = false;

  mutable std::mutex mutex_;  ///< all below
  std::condition_variable changed_;
  std::size_t waiting_ = 0, ended_ = 0;  ///< channels at SYNC, and at their end
  std::uint64_t syncs_ = 0;
  std::optional<Error> error_;
};

}  // namespace ramferry::checkpoint
