// SPDX-License-Identifier: MIT
// The source's side of the native conversation: hello, slots, and the hand-over's messages.
#pragma once

#include "peer_ear.hpp"

#include <ramferry/migration/native_protocol.hpp>
#include <ramferry/migration/section.hpp>

#include <chrono>
#include <string>

namespace ramferry::migration {

/// Migration thread, but interrupt(). The channel is borrowed.
class SourcePeer final : public SlotLink {
 public:
  struct Waits {
    std::chrono::milliseconds hello, answer;
  };
  /// `slot_sections` is the most often that the destination may say that slots are ready.
  SourcePeer(Channel& channel, Waits waits, std::size_t slot_sections);

  /// The session is filled in here.
  Result<> greet(native::Hello hello);
  Result<> await_prepared();
  /// Says COMMIT, and hears RUNNING; both together take no longer than Waits::answer.
  Result<> commit();
  void expect(native::MessageType type) { ear_.expect(type); }
  Result<> say(native::MessageType type, ConstBytes payload = {});
  /// What the destination, or the link, did to us; else `otherwise`.
  Error reason(Error otherwise) const;
  void interrupt(std::chrono::milliseconds grace) { ear_.interrupt(grace); }
  /// How long the destination took to answer the hello.
  std::chrono::nanoseconds round_trip() const noexcept { return round_trip_; }

  Channel& channel() noexcept override { return channel_; }
  bool blank_destination() const noexcept override { return blank_; }
  Result<> slots_ready() override;
  Result<> await_slots() override;

 private:
  Channel& channel_;
  const Waits waits_;
  PeerEar ear_;
  bool blank_ = false;
  std::chrono::nanoseconds round_trip_{};
};

}  // namespace ramferry::migration
