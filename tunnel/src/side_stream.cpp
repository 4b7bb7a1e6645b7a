// SPDX-License-Identifier: MIT
#include "side_stream.hpp"

#include <string>
#include <utility>

namespace ramferry::tunnel {
namespace {

constexpr std::chrono::seconds kConnectPatience{10};
constexpr std::chrono::seconds kTakePatience{20};  ///< longer than the other end's for connecting
constexpr std::chrono::seconds kReasonPatience{2};

}  // namespace

SideStream::SideStream(std::uint32_t number, Uplink& uplink, std::unique_ptr<ByteStream> plain, Dial dial,
                       SideStreams& sides, std::uint32_t side)
    : Stream(number, uplink, std::move(plain), std::move(dial)),
      sides_(sides),
      number_beside_(side),
      taking_(dials()) {
  start();
}

Result<> SideStream::prepare() {
  auto side = taking_ ? sides_.take_side(number_beside_, Deadline::after(kTakePatience))
                      : sides_.open_side(number_beside_, Deadline::after(kConnectPatience));
  if (!side) return Failure(side.error());
  const std::lock_guard lock(mutex_);
  side_ = std::move(*side);
  if (aborted_) side_->cancel();
  return {};
}

void SideStream::on_abort() noexcept {
  if (side_)
    side_->cancel();
  else if (taking_)
    sides_.abandon_side(number_beside_);
}

void SideStream::wind_up() noexcept {
  std::unique_ptr<ByteStream> side;  // dropped outside the lock: it may wait for its last bytes to arrive
  const std::lock_guard lock(mutex_);
  side.swap(side_);
}

Result<> SideStream::explain(const Error& error) {
  std::unique_lock lock(mutex_);
  arriving_.wait_for(lock, kReasonPatience, [&] { return aborted_; });
  return within(error, "the connection beside the channel");
}

Result<> SideStream::pump_in() {
  const Conveyed done = convey(*plain_, *side_, &uplink_.bytes_in, nullptr);
  if (done.sink) return explain(*done.sink);
  if (done.source) return Failure(*done.source);
  if (const Result<> finished = side_->finish(Deadline::after(kSettleTimeout)); !finished)
    return explain(finished.error());
  uplink_.tell({MessageType::end, number_, 0});
  return {};
}

Result<> SideStream::pump_out() {
  const Conveyed done = convey(*side_, *plain_, nullptr, &uplink_.bytes_out);
  if (done.source) return explain(*done.source);
  if (done.sink) return Failure(*done.sink);
  {
    // A connection ends the same way when its process is killed: it counts when the other end says so.
    std::unique_lock lock(mutex_);
    const bool told = arriving_.wait_for(lock, kSettleTimeout, [&] { return peer_ended_ || aborted_; });
    if (aborted_) return {};
    if (!told) return fail(errc::peer_gone, "the connection beside the channel ended too early");
  }
  return plain_->finish(Deadline::after(kSettleTimeout));
}

}  // namespace ramferry::tunnel
