// SPDX-License-Identifier: MIT
#include "ring_stream.hpp"

#include <utility>

namespace ramferry::tunnel {
namespace {

constexpr std::uint64_t kMostPiece =
    std::uint64_t{256} * 1024;  // a quarter of the default ring, so that both sides overlap
/// Less is not worth a message: a sender that waits for room has more than this on its way.
constexpr std::uint64_t kCreditsPerRing = 4;

}  // namespace

RingStream::RingStream(std::uint32_t number, Rings& rings, Uplink& uplink, std::unique_ptr<ByteStream> plain,
                       Dial dial)
    : Stream(number, uplink, std::move(plain), std::move(dial)), rings_(rings) {
  start();
}

Result<> RingStream::on_opened() {
  const std::lock_guard lock(mutex_);
  if (opened_)
    return fail(errc::protocol_mismatch, "tunnel stream " + std::to_string(number_) + " was opened twice");
  opened_ = true;
  sendable_.notify_all();
  return {};
}

Result<> RingStream::on_data(std::uint32_t bytes) {
  std::unique_lock lock(mutex_);
  if (peer_ended_ || bytes > rings_.in.bytes().size() - (arrived_ - written_))
    return fail(errc::protocol_mismatch,
                "tunnel stream " + std::to_string(number_) + " got more data than fits");
  arrived_ += bytes;
  lock.unlock();
  arriving_.notify_all();
  return {};
}

Result<> RingStream::on_credit(std::uint32_t bytes) {
  std::unique_lock lock(mutex_);
  if (bytes > sent_ - credited_)
    return fail(errc::protocol_mismatch,
                "tunnel stream " + std::to_string(number_) + " got more credit than sent");
  credited_ += bytes;
  lock.unlock();
  sendable_.notify_all();
  return {};
}

void RingStream::wind_up() noexcept {
  // The ring may be used again only when nothing of it is in flight.
  if (in_flight_.empty()) return;
  if (const auto settled = uplink_.settle(in_flight_.back().epoch); !settled) uplink_.broke(settled.error());
}

Result<> RingStream::pump_in() {
  {
    std::unique_lock lock(mutex_);
    sendable_.wait(lock, [&] { return opened_ || aborted_; });
    if (aborted_) return {};
  }
  if (!rings_.lent) {
    if (const auto lent = uplink_.lend(number_, rings_.out.bytes()); !lent) {
      uplink_.broke(lent.error());
      return {};
    }
    rings_.lent = true;
  }
  while (true) {
    const Bytes space = wait_for_space();
    if (space.empty()) return {};
    RAMFERRY_TRY_ASSIGN(const std::size_t got, plain_->receive(space, Deadline::never()));
    if (got == 0) break;
    uplink_.bytes_in += got;
    const std::uint64_t offset = sent_ % rings_.out.bytes().size();
    {
      const std::lock_guard lock(mutex_);
      sent_ += got;  // before it is announced: the credit may come at once
    }
    const auto epoch = uplink_.put(number_, offset, space.first(got));
    if (!epoch) {
      uplink_.broke(epoch.error());
      return {};
    }
    in_flight_.push_back({sent_, *epoch});
  }
  uplink_.tell({MessageType::end, number_, 0});
  return {};
}

/// Room in the outgoing ring; empty when the stream was aborted.
Bytes RingStream::wait_for_space() {
  const std::uint64_t ring = rings_.out.bytes().size();
  std::uint64_t credited = 0;
  {
    std::unique_lock lock(mutex_);
    sendable_.wait(lock, [&] { return sent_ - credited_ < ring || aborted_; });
    if (aborted_) return {};
    credited = credited_;
  }
  if (!settle_up_to(credited)) return {};
  return rings_.out.piece(sent_, std::min(kMostPiece, credited + ring - sent_));
}

/// Bytes that were credited have landed; their local copy is ours again once the fence behind them has
/// settled. False when the channel broke.
bool RingStream::settle_up_to(std::uint64_t position) {
  while (settled_ < position) {
    if (const auto settled = uplink_.settle(in_flight_.front().epoch); !settled) {
      uplink_.broke(settled.error());
      return false;
    }
    settled_ = in_flight_.front().end;
    in_flight_.pop_front();
  }
  return true;
}

Bytes RingStream::wait_for_bytes() {
  std::unique_lock lock(mutex_);
  arriving_.wait(lock, [&] { return arrived_ > written_ || peer_ended_ || aborted_; });
  if (aborted_ || arrived_ == written_) return {};
  return rings_.in.piece(written_, std::min(kMostPiece, arrived_ - written_));
}

Result<> RingStream::pump_out() {
  std::uint64_t credited = 0;
  while (true) {
    const Bytes bytes = wait_for_bytes();
    if (bytes.empty()) break;
    RAMFERRY_TRY(plain_->send(bytes));
    uplink_.bytes_out += bytes.size();
    {
      const std::lock_guard lock(mutex_);
      written_ += bytes.size();
    }
    const std::uint64_t owed = written_ - credited;
    if (owed < rings_.in.bytes().size() / kCreditsPerRing) continue;
    credited = written_;
    const Message credit{MessageType::credit, number_, static_cast<std::uint32_t>(owed)};
    if (const auto sent = uplink_.send(credit); !sent) {
      uplink_.broke(sent.error());
      return {};
    }
  }
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) return {};
  }
  return plain_->finish(Deadline::after(kSettleTimeout));
}

}  // namespace ramferry::tunnel
