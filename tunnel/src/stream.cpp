// SPDX-License-Identifier: MIT
#include "stream.hpp"

#include "conveyor.hpp"

#include <string>
#include <utility>

namespace ramferry::tunnel {

// --- Uplink ---

Result<> Uplink::send(const Message& message) {
  const std::lock_guard lock(sending_);
  return channel_.send(encode(message));
}

void Uplink::tell(const Message& message) noexcept {
  if (const auto sent = send(message); !sent) broke(sent.error());
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

// --- what the other end says ---

Result<> Stream::no_ring() const {
  return fail(errc::protocol_mismatch, "tunnel stream " + std::to_string(number_) + " has no ring");
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
  on_abort();
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
  uplink_.tell({MessageType::reset, number_, 0});
}

// --- its own thread ---

Result<> Stream::connect() {
  if (dial_) {
    RAMFERRY_TRY_ASSIGN(std::unique_ptr<ByteStream> plain, dial_());
    const std::lock_guard lock(mutex_);
    plain_ = std::move(plain);
    if (aborted_) plain_->cancel();
  }
  return prepare();
}

void Stream::pump() {
  std::thread out([this] {
    hold_back_sigpipe();
    if (const auto done = pump_out(); !done) reset(done.error());
  });
  if (const auto done = pump_in(); !done) reset(done.error());
  out.join();
}

void Stream::serve() {
  hold_back_sigpipe();
  if (const Result<> connected = connect())
    pump();
  else
    reset(connected.error());
  wind_up();
  {
    std::unique_ptr<ByteStream> plain;  // dropped outside the lock: it may wait for its last bytes to arrive
    const std::lock_guard lock(mutex_);
    plain.swap(plain_);
  }
  // The opener may use the number again when it has said this, and heard it; so the other end is done before.
  if (dials()) note_closed();
  uplink_.tell({MessageType::closed, number_, 0});
  if (!dials()) note_closed();
}

void Stream::note_closed() {
  const std::lock_guard lock(mutex_);
  we_closed_ = true;
}

}  // namespace ramferry::tunnel
