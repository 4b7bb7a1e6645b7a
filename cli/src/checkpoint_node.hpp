// SPDX-License-Identifier: MIT
// Listens, and keeps the VMs that arrive: one, or one after another and several at once.
//
// The owner's thread calls everything; the node has a thread for accepting and one for each VM that is
// arriving.
#pragma once

#include "doorbell.hpp"

#include <ramferry/checkpoint/receiver.hpp>
#include <ramferry/log.hpp>
#include <ramferry/transport.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace ramferry::cli {

class CheckpointNode {
 public:
  struct Progress {
    std::size_t arriving = 0, kept = 0, failed = 0;
    std::uint64_t ram_bytes = 0, seen_bytes = 0, stream_bytes = 0;  ///< of those that are arriving
  };
  /// Told of each VM that was kept, or why not. On some thread of the node's, one call at a time.
  using Finished = std::function<void(const Result<checkpoint::ReceiveReport>&)>;

  /// `once`: the first VM is the only one.
  CheckpointNode(std::unique_ptr<Listener> listener, checkpoint::ReceiveOptions options, bool once, Log& log,
                 Finished finished);
  ~CheckpointNode();

  Progress progress();
  /// Whether nothing will happen any more.
  bool idle() const noexcept { return done_accepting_ && progress_free(); }
  /// Rings when idle() may have become true.
  Doorbell& change() noexcept { return change_; }
  /// Takes no further VM, and gives up those that are arriving.
  void stop();
  /// Why it stopped to listen; nothing if it was meant to.
  std::optional<Error> error();

 private:
  struct Arrival {
    std::unique_ptr<checkpoint::Receiver> receiver;
    std::thread thread;
    bool over = false;
  };
  void accept_all();
  void take(Link link);
  void run(Arrival& arrival);
  void reap();
  bool progress_free() const;

  checkpoint::ReceiveOptions options_;
  bool once_;
  Log& log_;
  Finished finished_;
  std::unique_ptr<Listener> listener_;
  Doorbell change_;
  std::atomic<bool> done_accepting_ = false;
  mutable std::mutex mutex_;  ///< all below
  std::vector<std::unique_ptr<Arrival>> arrivals_;
  std::size_t kept_ = 0, failed_ = 0;
  bool stopping_ = false;
  std::optional<Error> error_;
  std::mutex telling_;
  std::thread acceptor_;
};

}  // namespace ramferry::cli
