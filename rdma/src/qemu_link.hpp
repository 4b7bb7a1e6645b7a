// SPDX-License-Identifier: MIT
// One connection of QEMU's RDMA protocol, either role: messages under its credit rule, writes, and when they
// are done.
//
// The rule: who wants the next message says `ready`; who has it waits for that word and sends one. Answers
// (results) go without. Writes need no word. See docs/protocol-rdma.md.
//
// One thread, but cancel() and the counters, which are for any. Nothing happens between calls: every call
// that waits looks after everything that arrives meanwhile.
#pragma once

#include "core.hpp"
#include "qemu_message.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace ramferry::rdma::qemu {

class QemuLink {
 public:
  static constexpr std::uint32_t kReceives = 4;  ///< stock ends post three
  static constexpr std::uint32_t kSendBuffers = 3;
  static constexpr std::uint32_t kMostWrites = 512;  ///< work requests; the device may have fewer

  static std::uint32_t completions() noexcept { return kReceives + kSendBuffers + kMostWrites + 8; }
  static Result<std::unique_ptr<QemuLink>> make(Log& log, std::unique_ptr<Domain> domain);
  ~QemuLink();

  Domain& domain() const noexcept { return *domain_; }
  QueueShape shape() const noexcept;
  /// To be posted before the connection is made.
  std::vector<Receive> receives() const;
  void attach(std::unique_ptr<QueuePair> queue) { queue_ = std::move(queue); }
  /// An accepted connection: whether the peer has confirmed it. Looks, and does not wait.
  Result<bool> is_confirmed();

  /// From now on, a peer that says nothing for so long while we wait is asked for a sign of life, by a write
  /// of no bytes, which only its device sees: one whose host is gone or cut off fails the connection then.
  void look_after_peer(std::chrono::milliseconds silence) noexcept;

  /// Answers and `ready`: goes at once.
  Result<> send(MessageType type, std::uint32_t repeat, ConstBytes data);
  /// Waits until the peer is ready for it.
  Result<> send_when_ready(MessageType type, std::uint32_t repeat, ConstBytes data);
  bool may_send() const noexcept { return credits_ > 0; }
  /// The peer's next message but `ready`; none if the peer has hung up. Its data stay until the next call.
  /// errc::peer_failed for `error`, errc::timed_out.
  Result<std::optional<Message>> next(Deadline deadline);
  /// Whether next() would return at once.
  bool has_message() const noexcept { return !inbox_.empty(); }

  /// Posts writes in order; signaled ones are told to on_written() by their id, which is below 2^32. Blocks
  /// while the queue is full.
  Result<> write(std::span<const WorkRequest> list);
  void on_written(std::function<void(std::uint64_t)> call) { written_ = std::move(call); }
  /// Looks after what arrives until `ready()`.
  Result<> wait_until(const std::function<bool()>& ready, Deadline deadline, const std::string& doing);

  /// Whether anything has gone wrong so far; does not wait.
  Result<> check();
  /// Until the peer has all messages.
  Result<> drain(Deadline deadline);
  /// Tells the peer that we have given up, if it can still be told.
  void tell_failure() noexcept;
  bool hung_up() const noexcept { return hung_up_; }
  /// Any thread.
  void cancel() noexcept;

  Result<std::unique_ptr<PinnedRegion>> pin(Bytes memory, Rights rights, std::uint64_t base = 0);
  Counters& counters() noexcept { return counters_; }

 private:
  QemuLink(Log& log, std::unique_ptr<Domain> domain);
  Result<> pump(Deadline deadline);
  Result<bool> take_events();
  Result<> poll();
  Result<> complete(const Completion& completion);
  void suspect(const Error& error);
  Result<> arrived(std::size_t buffer, std::uint32_t bytes);
  Result<> recycle(std::size_t buffer);
  Result<> look();
  Bytes send_buffer(std::size_t index) const noexcept;
  Bytes receive_buffer(std::size_t index) const noexcept;
  Receive receive_into(std::size_t index) const noexcept;

  struct Waiting {
    std::size_t buffer = 0;
    Message message;
  };

  Log& log_;
  Counters counters_;
  std::unique_ptr<Domain> domain_;
  std::vector<std::byte> buffers_;
  std::unique_ptr<PinnedRegion> region_;
  std::unique_ptr<QueuePair> queue_;
  std::vector<std::size_t> free_sends_;
  std::deque<Waiting> inbox_;
  std::optional<std::size_t> lent_;  ///< the buffer of the message that next() returned
  std::uint32_t credits_ = 0;
  std::function<void(std::uint64_t)> written_;
  std::optional<Error> failure_;
  std::optional<Error> suspected_;  ///< a failure, unless it turns out that the peer hung up
  std::chrono::steady_clock::time_point suspected_until_;
  std::optional<std::chrono::milliseconds> look_after_;
  std::chrono::steady_clock::time_point next_look_;
  bool looking_ = false;  ///< a sign of life is on its way
  bool broken_ = false;   ///< the connection can carry nothing more
  bool hung_up_ = false, progress_ = false;
  std::atomic<bool> cancelled_ = false;
};

}  // namespace ramferry::rdma::qemu
