// SPDX-License-Identifier: MIT
// The source's ear: a thread that hears what the destination says while the migration thread is busy sending.
//
// Any failure it hears of cancels the channel, so that a blocked send or placement returns; failure() then
// has the real reason. Constructed and destroyed, and all else, by the migration thread; interrupt() by any.
// The destructor cancels the channel.
#pragma once

#include <ramferry/channel.hpp>
#include <ramferry/migration/native_protocol.hpp>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

namespace ramferry::migration {

class PeerEar {
 public:
  explicit PeerEar(Channel& channel);
  ~PeerEar();
  PeerEar(const PeerEar&) = delete;
  PeerEar& operator=(const PeerEar&) = delete;

  /// What the destination may say next: at first only its reply. Before it is expected it is a protocol
  /// error.
  void expect(native::MessageType type, std::size_t times = 1);
  /// Waits for one message of `type`: hello_reply, slots_ready, prepared or running.
  Result<native::Message> await(native::MessageType type, Deadline deadline);
  /// Why the migration cannot go on, if the destination said so or the link broke.
  std::optional<Error> failure() const;
  /// The channel is cancelled when `most` has passed: bounds a send to a destination that may not listen.
  void limit(std::chrono::milliseconds most);
  /// Pending and later awaits return errc::cancelled; and limit(grace).
  void interrupt(std::chrono::milliseconds grace);

 private:
  void listen();
  Result<native::MessageType> hear(SectionReader& reader);
  bool over();
  void give_up(Error error);

  Channel& channel_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<native::Message> heard_;
  std::vector<native::MessageType> expected_;
  std::optional<Error> failure_;
  std::optional<Clock::Time> cancel_at_;
  bool interrupted_ = false, stop_ = false;
  std::thread thread_;
};

}  // namespace ramferry::migration
