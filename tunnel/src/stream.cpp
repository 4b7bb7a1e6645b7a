// SPDX-License-Identifier: MIT
#include "stream.hpp"

#include <utility>

namespace ramferry::tunnel {
namespace {

constexpr std::uint64_t kMostPiece = 256 * 1024;  // a quarter of the default ring, so that both sides overlap
/// Less is not worth a message: a sender that waits for room has more than this on its way.
constexpr std::uint64_t kCreditsPerRing = 4;
constexpr std::chrono::seconds kSettleTimeout{30};

}  // namespace

// --- Uplink ---

Result<> Uplink::send(const Message& message) {
  const std::lock_guard lock(sending_);
  return channel_.send(encode(message));
}

Result<> Uplink::lend(std::uint32_t stream, ConstBytes ring) {
  const std::lock_guard lock(sending_);
  const Placement whole{SlotId{stream}, 0, ring};
  RAMFERRY_TRY(channel_.lend(std::span(&whole, 1)));
  return channel_.prepare(ring);
}

Result<Epoch> Uplink::put(std::uint32_t stream, std::uint64_t offset, ConstBytes bytes) {
  const std::lock_guard lock(sending_);
  return channel_.place_and_tell(
      {SlotId{stream}, offset, bytes},
      encode({MessageType::data, stream, static_cast<std::uint32_t>(bytes.size())}));
}

Result<> Uplink::settle(Epoch epoch) {
  if (channel_.settled() >= epoch) return {};
  const std::lock_guard lock(sending_);
  return channel_.settle(epoch, Deadline::after(kSettleTimeout));
}

void Uplink::broke(const Error& error) noexcept {
  {
    const std::lock_guard lock(error_mutex);
    if (!first_error) first_error = error;
  }
  channel_.cancel();
}

// --- Stream ---

Stream::Stream(std::uint32_t number, Rings& rings, Uplink& uplink, std::unique_ptr<ByteStream> plain,
               Dial dial)
    : number_(number), rings_(rings), uplink_(uplink) {
  thread_ = std::thread(
      [this, plain = std::move(plain), dial = std::move(dial)]() mutable { serve(std::move(plain), dial); });
}

Stream::~Stream() {
  thread_.join();
}

Result<> Stream::on_opened() {
  const std::lock_guard lock(mutex_);
  if (opened_)
    return fail(errc::protocol_mismatch, "tunnel stream " + std::to_string(number_) + " was opened twice");
  opened_ = true;
  sendable_.notify_all();
  return {};
}

Result<> Stream::on_data(std::uint32_t bytes) {
  std::unique_lock lock(mutex_);
  if (peer_ended_ || bytes > rings_.in.bytes().size() - (arrived_ - written_))
    return fail(errc::protocol_mismatch,
                "tunnel stream " + std::to_string(number_) + " got more data than fits");
  arrived_ += bytes;
  lock.unlock();
  arriving_.notify_all();
  return {};
}

Result<> Stream::on_credit(std::uint32_t bytes) {
  std::unique_lock lock(mutex_);
  if (bytes > sent_ - credited_)
    return fail(errc::protocol_mismatch,
                "tunnel stream " + std::to_string(number_) + " got more credit than sent");
  credited_ += bytes;
  lock.unlock();
  sendable_.notify_all();
  return {};
}

Result<> Stream::on_end() {
  const std::lock_guard lock(mutex_);
  if (peer_ended_)
    return fail(errc::protocol_mismatch, "tunnel stream " + std::to_string(number_) + " ended twice");
  peer_ended_ = true;
  arriving_.notify_all();
  return {};
}

void Stream::on_reset() {
  uplink_.log().warn("tunnel: the other end dropped stream " + std::to_string(number_));
  ++uplink_.failed_streams;
  abort();
}

Result<> Stream::on_closed() {
  const std::lock_guard lock(mutex_);
  if (peer_closed_)
    return fail(errc::protocol_mismatch, "tunnel stream " + std::to_string(number_) + " was closed twice");
  peer_closed_ = true;
  return {};
}

bool Stream::over() const {
  const std::lock_guard lock(mutex_);
  return we_closed_ && peer_closed_;
}

void Stream::abort() noexcept {
  const std::lock_guard lock(mutex_);
  aborted_ = true;
  if (plain_) plain_->cancel();
  sendable_.notify_all();
  arriving_.notify_all();
}

void Stream::reset(const Error& error) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) return;
  }
  uplink_.log().warn("tunnel: dropping stream " + std::to_string(number_) + ": " + error.message());
  ++uplink_.failed_streams;
  abort();
  if (const auto sent = uplink_.send({MessageType::reset, number_, 0}); !sent) uplink_.broke(sent.error());
}

void Stream::serve(std::unique_ptr<ByteStream> plain, const Dial& dial) {
  std::optional<Error> failed;
  if (!plain) {
    if (auto dialled = dial())
      plain = std::move(*dialled);
    else
      failed = dialled.error();
  }
  {
    const std::lock_guard lock(mutex_);
    plain_ = std::move(plain);
    if (aborted_ && plain_) plain_->cancel();
  }
  if (failed) {
    reset(*failed);
  } else {
    std::thread out([this] {
      if (const auto done = pump_out(); !done) reset(done.error());
    });
    if (const auto done = pump_in(); !done) reset(done.error());
    out.join();
  }
  // The ring may be used again only when nothing of it is in flight.
  if (!in_flight_.empty())
    if (const auto settled = uplink_.settle(in_flight_.back().epoch); !settled)
      uplink_.broke(settled.error());
  {
    const std::lock_guard lock(mutex_);
    plain_.reset();
  }
  if (const auto sent = uplink_.send({MessageType::closed, number_, 0}); !sent) uplink_.broke(sent.error());
  const std::lock_guard lock(mutex_);
  we_closed_ = true;
}

Result<> Stream::pump_in() {
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
  if (const auto sent = uplink_.send({MessageType::end, number_, 0}); !sent) uplink_.broke(sent.error());
  return {};
}

/// Room in the outgoing ring; empty when the stream was aborted.
Bytes Stream::wait_for_space() {
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
bool Stream::settle_up_to(std::uint64_t position) {
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

Bytes Stream::wait_for_bytes() {
  std::unique_lock lock(mutex_);
  arriving_.wait(lock, [&] { return arrived_ > written_ || peer_ended_ || aborted_; });
  if (aborted_ || arrived_ == written_) return {};
  return rings_.in.piece(written_, std::min(kMostPiece, arrived_ - written_));
}

Result<> Stream::pump_out() {
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
