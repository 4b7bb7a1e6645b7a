// SPDX-License-Identifier: MIT
#include "ring_stream.hpp"
#include "side_stream.hpp"

#include <ramferry/tunnel/tunnel.hpp>

#include <array>
#include <atomic>
#include <map>
#include <utility>

namespace ramferry::tunnel {
namespace {

/// Dials one after another, in the order in which the streams were opened: a QEMU before 8.0 takes the first
/// connection that comes for its main one. Thread-safe.
class DialLine {
 public:
  explicit DialLine(Dial dial) : dial_(std::move(dial)) {}

  bool dials() const noexcept { return dial_ != nullptr; }
  /// The next place in the line, and the call that waits there and dials. It must be made.
  Dial join() {
    return [this, place = joined_++]() -> Result<std::unique_ptr<ByteStream>> {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return dialled_ == place; });
      const bool wanted = !closed_;
      lock.unlock();
      Result<std::unique_ptr<ByteStream>> plain = fail(errc::cancelled, "dialling");
      if (wanted) plain = dial_();
      lock.lock();
      ++dialled_;
      changed_.notify_all();
      return plain;
    };
  }
  /// Whoever still waits is not to dial.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }

 private:
  const Dial dial_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t joined_ = 0;  ///< by the session's thread alone
  std::uint64_t dialled_ = 0;
  bool closed_ = false;
};

}  // namespace

class Session::Impl {
 public:
  Impl(std::unique_ptr<Channel> fabric, Options options, Dial dial, Log& log)
      : fabric_(std::move(fabric)),
        sides_(dynamic_cast<SideStreams*>(fabric_.get())),
        options_(options),
        line_(std::move(dial)),
        uplink_(*fabric_, log) {
    if (sides_ != nullptr && line_.dials()) sides_->admit_sides(options_.most_streams);
  }
  ~Impl() {
    fabric_->cancel();
    drop_all();
  }

  Result<> open(std::unique_ptr<ByteStream> plain);
  Result<> run();
  Result<> wait_until_idle(Deadline deadline);
  Result<> finish(Deadline deadline) { return fabric_->finish(deadline); }
  void cancel() noexcept;
  Stats stats() const;
  StreamStats fabric_stats() const noexcept { return fabric_->stats(); }

 private:
  Result<> serve();
  Result<> handle(const Message& message);
  Result<> accept(const Message& message);
  Result<> check_opening(const Message& message) const;
  Result<Rings*> rings_of(std::uint32_t number);
  void drop_all();

  std::unique_ptr<Channel> fabric_;
  SideStreams* const sides_;  ///< the fabric too, if it can do that
  const Options options_;
  DialLine line_;
  Uplink uplink_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::atomic<bool> cancelled_ = false;
  std::uint64_t opened_ = 0;
  std::uint32_t last_side_ = 0;
  std::map<std::uint32_t, std::unique_ptr<Rings>> rings_;
  std::map<std::uint32_t, std::unique_ptr<Stream>> streams_;  ///< destroyed before the rings
};

Result<Rings*> Session::Impl::rings_of(std::uint32_t number) {
  std::unique_ptr<Rings>& rings = rings_[number];
  if (!rings) {
    RAMFERRY_TRY_ASSIGN(RingMemory in, RingMemory::make(options_.ring_bytes));
    RAMFERRY_TRY_ASSIGN(RingMemory out, RingMemory::make(options_.ring_bytes));
    rings = std::make_unique<Rings>(std::move(in), std::move(out));
    RAMFERRY_TRY(fabric_->expose(SlotId{number}, rings->landing));
  }
  return rings.get();
}

Result<> Session::Impl::open(std::unique_ptr<ByteStream> plain) {
  if (line_.dials())
    return fail(errc::wrong_state, "opening a tunnel stream: this end answers, it does not open");
  const bool beside = sides_ != nullptr && sides_->offers_sides();
  std::unique_ptr<Stream> stream;  // the one that is replaced is joined outside the lock
  std::uint32_t number = 1;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return fail(errc::peer_gone, "opening a tunnel stream: the session has ended");
    for (; number <= options_.most_streams; ++number) {
      const auto taken = streams_.find(number);
      if (taken == streams_.end() || taken->second->over()) break;
    }
    if (number > options_.most_streams)
      return fail(errc::in_use,
                  "opening a tunnel stream: all " + std::to_string(options_.most_streams) + " are in use");
    if (beside) {
      // Before there is the stream, which may end, and say so, at once. What is answered waits for the lock.
      RAMFERRY_TRY(uplink_.send({MessageType::open_beside, number, ++last_side_}));
      stream = std::make_unique<SideStream>(number, uplink_, std::move(plain), Dial{}, *sides_, last_side_);
    } else {
      RAMFERRY_TRY_ASSIGN(Rings * rings, rings_of(number));
      stream = std::make_unique<RingStream>(number, *rings, uplink_, std::move(plain), Dial{});
    }
    stream.swap(streams_[number]);
    ++opened_;
  }
  if (beside) return {};
  // Not under the lock: the other end answers this in the thread in which it takes messages in, and that must
  // not have to wait for ours. Until then a stream with rings says nothing.
  return uplink_.send({MessageType::open, number, options_.ring_bytes});
}

Result<> Session::Impl::check_opening(const Message& message) const {
  const std::string what = "tunnel stream " + std::to_string(message.stream);
  if (!line_.dials()) return fail(errc::protocol_mismatch, what + " was opened by the wrong end");
  if (message.stream == 0 || message.stream > options_.most_streams)
    return fail(errc::protocol_mismatch, what + " is out of range");
  if (message.type == MessageType::open_beside && sides_ == nullptr)
    return fail(errc::protocol_mismatch, what + " is beside a channel that has no side streams");
  if (message.type == MessageType::open && message.value != options_.ring_bytes)
    return fail(errc::unsupported, what + " has rings of " + std::to_string(message.value) + " bytes, not " +
                                       std::to_string(options_.ring_bytes));
  const auto taken = streams_.find(message.stream);
  if (taken != streams_.end() && !taken->second->over())
    return fail(errc::protocol_mismatch, what + " is open");
  return {};
}

Result<> Session::Impl::accept(const Message& message) {
  const bool beside = message.type == MessageType::open_beside;
  Rings* rings = nullptr;
  {
    const std::lock_guard lock(mutex_);
    RAMFERRY_TRY(check_opening(message));
    if (!beside) {
      RAMFERRY_TRY_ASSIGN(rings, rings_of(message.stream));
    } else if (!sides_->expect_side(message.value)) {
      return fail(errc::protocol_mismatch, "tunnel stream " + std::to_string(message.stream) +
                                               " is beside the channel as number " +
                                               std::to_string(message.value) + ", which is not a new one");
    }
  }
  // Before there is the stream, which may fail, and say so, at once.
  if (!beside) RAMFERRY_TRY(uplink_.send({MessageType::opened, message.stream, 0}));
  std::unique_ptr<Stream> stream;  // the one that is replaced is joined outside the lock
  const std::lock_guard lock(mutex_);
  if (beside) {
    stream =
        std::make_unique<SideStream>(message.stream, uplink_, nullptr, line_.join(), *sides_, message.value);
  } else {
    stream = std::make_unique<RingStream>(message.stream, *rings, uplink_, nullptr, line_.join());
    RAMFERRY_TRY(stream->on_opened());  // the opener's ring was exposed before it asked
  }
  stream.swap(streams_[message.stream]);
  ++opened_;
  return {};
}

Result<> Session::Impl::handle(const Message& message) {
  if (message.type == MessageType::open || message.type == MessageType::open_beside) return accept(message);
  const std::lock_guard lock(mutex_);  // open() may replace a stream that is over
  const auto found = streams_.find(message.stream);
  if (found == streams_.end())
    return fail(errc::protocol_mismatch, "tunnel stream " + std::to_string(message.stream) + " is not open");
  Stream* const stream = found->second.get();
  switch (message.type) {
    case MessageType::opened: return stream->on_opened();
    case MessageType::data: return stream->on_data(message.value);
    case MessageType::credit: return stream->on_credit(message.value);
    case MessageType::end: return stream->on_end();
    case MessageType::reset: stream->on_reset(); return {};
    case MessageType::closed: {
      RAMFERRY_TRY(stream->on_closed());
      changed_.notify_all();
      return {};
    }
    case MessageType::open:
    case MessageType::open_beside: break;
  }
  return {};
}

Result<> Session::Impl::serve() {
  std::array<std::byte, kMessageBytes> buffer{};
  while (true) {
    RAMFERRY_TRY_ASSIGN(const std::size_t got, fabric_->receive(buffer, Deadline::never()));
    if (got == 0) return {};
    RAMFERRY_TRY(receive_exactly(*fabric_, std::span(buffer).subspan(got), Deadline::never()));
    RAMFERRY_TRY_ASSIGN(const Message message, decode(buffer));
    RAMFERRY_TRY(handle(message));
  }
}

Result<> Session::Impl::run() {
  Result<> served = serve();
  if (!served) fabric_->cancel();
  drop_all();
  const std::lock_guard lock(uplink_.error_mutex);
  if (!served && served.error().is(errc::cancelled) && uplink_.first_error && !cancelled_)
    return Failure(*uplink_.first_error);
  return served;
}

void Session::Impl::drop_all() {
  std::map<std::uint32_t, std::unique_ptr<Stream>> streams;
  line_.close();
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    streams.swap(streams_);
    changed_.notify_all();
  }
  for (auto& [number, stream] : streams) stream->abort();
}

Result<> Session::Impl::wait_until_idle(Deadline deadline) {
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      bool idle = opened_ > 0;
      for (const auto& [number, stream] : streams_) idle = idle && stream->over();
      if (idle || ended_) return {};
    }
    if (deadline.passed()) return fail(errc::timed_out, "waiting for the tunnel's streams to end");
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, deadline.left(std::chrono::milliseconds(50)));
  }
}

void Session::Impl::cancel() noexcept {
  cancelled_ = true;  // without the lock, under which open() may be waiting for the fabric
  fabric_->cancel();
}

Stats Session::Impl::stats() const {
  const std::lock_guard lock(mutex_);
  Stats stats{.streams_opened = opened_,
              .streams_failed = uplink_.failed_streams,
              .bytes_in = uplink_.bytes_in,
              .bytes_out = uplink_.bytes_out};
  for (const auto& [number, stream] : streams_) stats.open_now += stream->over() ? 0 : 1;
  return stats;
}

Session::Session(std::unique_ptr<Channel> fabric, Options options, Dial dial, Log& log)
    : impl_(std::make_unique<Impl>(std::move(fabric), options, std::move(dial), log)) {}
Session::~Session() = default;
Result<> Session::open(std::unique_ptr<ByteStream> plain) {
  return impl_->open(std::move(plain));
}
Result<> Session::run() {
  return impl_->run();
}
Result<> Session::wait_until_idle(Deadline deadline) {
  return impl_->wait_until_idle(deadline);
}
Result<> Session::finish(Deadline deadline) {
  return impl_->finish(deadline);
}
void Session::cancel() noexcept {
  impl_->cancel();
}
Stats Session::stats() const {
  return impl_->stats();
}
StreamStats Session::fabric_stats() const noexcept {
  return impl_->fabric_stats();
}

}  // namespace ramferry::tunnel
