// SPDX-License-Identifier: MIT
// The promises of byte_stream.hpp, one function each, for whatever has a sending and a receiving end: a test
// of the channel contract, or of plain byte streams, calls them by name. Also what those tests are made of.
#pragma once

#include "support/outcome.hpp"
#include "support/test_memory.hpp"

#include <ramferry/byte_stream.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace ramferry::test {

struct ContractTraits {
  /// Within this every pending call ends after a cancel, or after the peer was destroyed.
  std::chrono::milliseconds prompt{5000};
  /// More than all buffers between the two ends together hold.
  std::size_t bulk_bytes = 32U << 20;
  /// Rounds of what races on purpose.
  unsigned races = 2000;
  /// Connections made and broken by each test that cancels or destroys at random moments.
  unsigned breaks = 40;
};

/// A call in a thread of its own. It must end within the subject's patience: a call that hangs ends the
/// program with a message, for there is no way to take a hanging thread down. If nobody asks for the value
/// any more (an assertion failed), `give_up` is called so that it ends.
template <class T>
class Pending {
 public:
  Pending(std::chrono::milliseconds patience, std::function<void()> give_up, std::function<T()> call)
      : patience_(patience),
        give_up_(std::move(give_up)),
        future_(std::async(std::launch::async, std::move(call))) {}
  Pending(Pending&&) noexcept = default;
  ~Pending() {
    if (!future_.valid() || is_over()) return;
    give_up_();
    get();
  }
  bool is_over() const { return future_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }
  /// The value, once it is there.
  T get() {
    if (future_.wait_for(patience_) != std::future_status::ready) {
      std::fprintf(stderr, "a call did not end in time\n");
      std::abort();
    }
    return future_.get();
  }

 private:
  std::chrono::milliseconds patience_;
  std::function<void()> give_up_;
  std::future<T> future_;
};

/// The outcome of `pending` when `end_it` is called, after which it must end promptly.
template <class End>
Result<> outcome_of(Pending<Result<>> pending, End end_it, const ContractTraits& traits) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // makes it likely that it is inside the call
  const auto before = std::chrono::steady_clock::now();
  end_it();
  Result<> outcome = pending.get();
  EXPECT_LT(std::chrono::steady_clock::now() - before, traits.prompt);
  return outcome;
}

/// What is sent into `source` is received at `destination`.
struct ByteEnds {
  ByteStream& source;
  ByteStream& destination;
  ContractTraits traits{};

  Deadline soon() const { return Deadline::after(traits.prompt); }
  template <class Call>
  auto start(Call call) const {
    const auto give_up = [first = &source, second = &destination] {
      first->cancel();
      second->cancel();
    };
    return Pending<decltype(call())>(traits.prompt * 10, give_up, std::move(call));
  }
};

void bytes_arrive_complete_and_in_order(const ByteEnds& ends);
void sent_memory_is_the_callers_again(const ByteEnds& ends);
void send_blocks_while_nobody_receives(const ByteEnds& ends);
void receive_times_out_and_leaves_the_stream_as_it_was(const ByteEnds& ends);
void receive_ends_at_the_deadline_though_bytes_come_later(const ByteEnds& ends);
void finish_is_received_as_zero_after_all_bytes(const ByteEnds& ends);
void nothing_can_be_sent_after_finish(const ByteEnds& ends);
void message_bytes_are_counted_exactly(const ByteEnds& ends);
void cancel_ends_a_pending_receive(const ByteEnds& ends);
void cancel_ends_a_pending_send(const ByteEnds& ends);
void after_cancel_every_byte_call_is_cancelled(const ByteEnds& ends);

/// Sends `bytes` in pieces of random sizes, empty ones among them.
Result<> send_in_pieces(ByteStream& stream, ConstBytes bytes, std::uint64_t seed);
/// Receives bytes.size() bytes in pieces of random sizes.
Result<> receive_in_pieces(ByteStream& stream, Bytes bytes, std::uint64_t seed);
Result<std::byte> receive_byte(ByteStream& stream, Deadline deadline);
/// Receives until the other end finished.
Result<std::vector<std::byte>> receive_all(ByteStream& stream, Deadline deadline);

}  // namespace ramferry::test
