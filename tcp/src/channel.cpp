// SPDX-License-Identifier: MIT
// The calls of a SocketChannel's user, and its end. What its threads do is in channel_threads.cpp.
#include "channel.hpp"

#include "socket.hpp"
#include "waiting.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace ramferry::tcp {
namespace {

constexpr std::chrono::milliseconds kLastLanding{100};  ///< to finish a landing once the channel has ended

std::string slot_text(SlotId slot) {
  return std::to_string(static_cast<std::uint32_t>(slot));
}

Result<> check_placement(const Placement& placement) {
  const bool raw = placement.encoding == kRawEncoding;
  const bool wraps = placement.length > UINT64_MAX - placement.offset;
  const bool fits = raw ? placement.length == placement.bytes.size()
                        : placement.length <= std::numeric_limits<std::uint32_t>::max() &&
                              placement.bytes.size() <= kMostEncodedBytes && placement.length != 0 &&
                              !placement.bytes.empty();
  if (fits && !wraps) return {};
  return fail(errc::invalid_argument, "placing " + std::to_string(placement.bytes.size()) + " bytes as " +
                                          std::to_string(placement.length) + " in slot " +
                                          slot_text(placement.slot));
}

}  // namespace

SocketChannel::SocketChannel(ChannelSetup setup, Log& log)
    : setup_(std::move(setup)), log_(log), peer_(peer_address(setup_.sockets.front().get())) {
  Counters::add(counters_.wire_bytes_sent, setup_.preamble_bytes_sent);
  Counters::add(counters_.wire_bytes_received, setup_.preamble_bytes_received);
  const bool several = setup_.sockets.size() > 1;
  LaneOwner& owner = *this;
  for (UniqueFd& socket : setup_.sockets) {
    lanes_.push_back(
        std::make_unique<Lane>(lanes_.size(), std::move(socket), owner, slots_, progress_, counters_));
    packers_.emplace_back(several);
  }
  readers_ = lanes_.size();
  for (const auto& lane : lanes_) {
    lane->receiving = std::thread([this, &each = *lane] { receive_on(each); });
    if (several) lane->sending = std::thread([this, &each = *lane] { send_on(each); });
  }
  beating_ = std::thread([this] { beat(); });
}

SocketChannel::~SocketChannel() {
  say_goodbye();
  end(Error{make_error_code(errc::wrong_state), "the channel was closed here", {}}, Ending::at_once);
  shut(SHUT_RDWR);
  {
    const std::lock_guard lock(beat_mutex_);
    stop_beating_ = true;
    beat_wanted_.notify_all();
  }
  beating_.join();
  for (const auto& lane : lanes_) {
    lane->receiving.join();
    if (lane->sending.joinable()) lane->sending.join();
  }
}

void SocketChannel::say_goodbye() {
  const Deadline deadline = Deadline::after(setup_.own_timeout);
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
    OutFrame frame;
    encode_goodbye(frame.head);
    if (!usable() || !post(lane, frame)) return;
  }
  for (const auto& lane : lanes_)
    if (lanes_.size() > 1 && !lane->queue.drain(deadline)) return;
  shut(SHUT_WR);
  // Closing a socket that has, or gets, unread input resets the connection and discards what is still on its
  // way.
  std::unique_lock lock(mutex_);
  for (auto pause = std::chrono::milliseconds(1); !deadline.passed() && !all_arrived();
       pause = std::min(pause * 2, std::chrono::milliseconds(20)))
    changed_.wait_for(lock, pause, [&] { return readers_ == 0; });
}

bool SocketChannel::all_arrived() const {
  return readers_ == 0 || std::all_of(lanes_.begin(), lanes_.end(),
                                      [](const auto& lane) { return unacknowledged_bytes(lane->fd()) == 0; });
}

// --- bytes ---

Result<> SocketChannel::check_unfinished() const {
  const std::lock_guard lock(mutex_);
  if (finished_) return fail(errc::wrong_state, "sending after finish");
  return {};
}

Result<> SocketChannel::send(ConstBytes bytes) {
  RAMFERRY_TRY(check_unfinished());
  while (!bytes.empty()) {
    RAMFERRY_TRY_ASSIGN(const std::size_t room, claim_window(std::min(bytes.size(), kMaxMessageBytes)));
    const ConstBytes piece = bytes.first(room);
    frame_.clear();
    encode_bytes(piece.size(), frame_.head);
    if (lanes_.size() == 1)
      frame_.append(piece);
    else
      frame_.append_copy(piece);
    RAMFERRY_TRY(post(0, frame_));
    Counters::add(counters_.message_bytes_sent, piece.size());
    bytes = bytes.subspan(room);
  }
  return {};
}

Result<std::size_t> SocketChannel::claim_window(std::size_t bytes) {
  std::unique_lock lock(mutex_);
  const auto room = [&] { return setup_.peer_window - (claimed_ - peer_consumed_); };
  changed_.wait(lock, [&] { return failure_ || room() > 0; });
  if (failure_) return Failure(*failure_);
  const std::size_t granted = std::min<std::size_t>(bytes, room());
  claimed_ += granted;
  return granted;
}

Result<std::size_t> SocketChannel::receive(Bytes into, Deadline deadline) {
  if (into.empty()) return fail(errc::invalid_argument, "receiving into no memory");
  std::unique_lock lock(mutex_);
  std::array<ConstBytes, 2> pieces;
  const auto ended = [&] { return peer_finished_ && inbox_.empty(); };
  const bool ready = wait_until(readable_, lock, deadline, [&] {
    pieces = inbox_.readable(passed_, into.size());
    return cancelled_ || !pieces[0].empty() || ended() || over();
  });
  if (!ready) return fail(errc::timed_out, "receiving from " + peer_);
  if (cancelled_ || (pieces[0].empty() && !ended())) return Failure(*failure_);
  if (pieces[0].empty()) return std::size_t{0};
  lock.unlock();
  std::size_t bytes = 0;
  for (const ConstBytes piece : pieces) {
    if (!piece.empty()) std::memcpy(into.data() + bytes, piece.data(), piece.size());
    bytes += piece.size();
  }
  lock.lock();
  inbox_.take(bytes);
  progress_.consumed = inbox_.taken();
  const bool tell = inbox_.taken() - status_consumed_ >= kWindow / 4;
  if (tell) status_consumed_ = inbox_.taken();
  lock.unlock();
  changed_.notify_all();  // a crowded inbox has room again
  Counters::add(counters_.message_bytes_received, bytes);
  if (tell) send_status();
  return bytes;
}

Result<> SocketChannel::finish(Deadline deadline) {
  {
    const std::lock_guard lock(mutex_);
    if (finished_) return failure_ ? Result<>(Failure(*failure_)) : Result<>();
    finished_ = true;
  }
  frame_.clear();
  encode_finish(frame_.head);
  RAMFERRY_TRY(post(0, frame_));
  if (lanes_.size() == 1) return {};
  for (const auto& lane : lanes_) {
    if (lane->queue.drain(deadline)) continue;
    RAMFERRY_TRY(usable());
    return fail(errc::timed_out, "finishing the bytes to " + peer_);
  }
  return usable();
}

void SocketChannel::cancel() noexcept {
  end(Error{make_error_code(errc::cancelled), "using the channel to " + peer_, {}}, Ending::cancelled);
}

Facts SocketChannel::facts() const {
  const int fd = lanes_.front()->fd();
  return {{"lanes", std::to_string(lanes_.size())},
          {"local", local_address(fd)},
          {"remote", peer_},
          {"send-buffer", std::to_string(buffer_size(fd, SO_SNDBUF))},
          {"receive-buffer", std::to_string(buffer_size(fd, SO_RCVBUF))}};
}

// --- placements ---

std::size_t SocketChannel::lane_of(SlotId slot, std::uint64_t offset) const noexcept {
  const std::size_t lanes = lanes_.size();
  if (lanes == 1) return 0;
  // Each group of as many stripes as there are lanes uses every lane once, in an order that differs from
  // group to group: sequential bulk is balanced, and no stride of dirty stripes falls on one lane.
  const std::uint64_t stripe = offset / kStripeBytes;
  const std::uint64_t group = stripe / lanes + (std::uint64_t{static_cast<std::uint32_t>(slot)} << 40);
  const std::uint64_t turn = (group * 0x9e3779b97f4a7c15ULL) >> 32;
  return static_cast<std::size_t>((stripe + turn) % lanes);
}

Result<> SocketChannel::usable() const {
  const std::lock_guard lock(mutex_);
  if (failure_) return Failure(*failure_);
  return {};
}

Result<> SocketChannel::post(std::size_t lane, OutFrame& frame) {
  if (lanes_.size() == 1) {
    const Result<> written = lanes_[0]->writer.write(frame);
    if (!written) return explain(written.error());
    return {};
  }
  if (!lanes_[lane]->queue.push(std::move(frame))) return usable();
  return {};
}

Result<> SocketChannel::post_packed(std::size_t lane) {
  FramePacker& packer = packers_[lane];
  if (packer.empty()) return {};
  const Result<> posted = post(lane, packer.seal());
  packer.clear();
  return posted;
}

Result<> SocketChannel::place(std::span<const Placement> batch) {
  RAMFERRY_TRY(usable());
  for (const Placement& each : batch) RAMFERRY_TRY(check_placement(each));
  for (const Placement& each : batch) {
    RAMFERRY_TRY(pack(each));
    Counters::add(counters_.placed_bytes_sent, each.length);
    if (each.encoding != kRawEncoding && lanes_.size() > 1)
      Counters::add(counters_.copied_bytes, each.bytes.size());
  }
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane) RAMFERRY_TRY(post_packed(lane));
  return {};
}

Result<> SocketChannel::pack(Placement placement) {
  while (!placement.bytes.empty()) {
    const std::size_t lane = lane_of(placement.slot, placement.offset);
    Placement piece = placement;
    if (lanes_.size() > 1 && placement.encoding == kRawEncoding)
      piece.bytes = piece.bytes.first(
          std::min<std::uint64_t>(piece.bytes.size(), kStripeBytes - placement.offset % kStripeBytes));
    const std::size_t taken = packers_[lane].add(piece);
    if (taken == 0 || packers_[lane].full()) RAMFERRY_TRY(post_packed(lane));
    placement.bytes = placement.bytes.subspan(taken);
    placement.offset += taken;
  }
  return {};
}

Result<> SocketChannel::zero(std::span<const ZeroRun> runs) {
  RAMFERRY_TRY(usable());
  for (const ZeroRun& run : runs)
    if (run.length > UINT64_MAX - run.offset)
      return fail(errc::invalid_argument, "zeroing " + std::to_string(run.length) + " bytes at " +
                                              std::to_string(run.offset) + " of slot " + slot_text(run.slot));
  std::vector<std::vector<ZeroRun>> by_lane(lanes_.size());
  for (ZeroRun run : runs) {
    Counters::add(counters_.zero_bytes_sent, run.length);
    while (run.length > 0) {
      const std::size_t lane = lane_of(run.slot, run.offset);
      const std::uint64_t length =
          lanes_.size() == 1 ? run.length : std::min(run.length, kStripeBytes - run.offset % kStripeBytes);
      by_lane[lane].push_back({.slot = run.slot, .offset = run.offset, .length = length});
      if (by_lane[lane].size() == kMaxEntries) RAMFERRY_TRY(post_zeros(lane, by_lane[lane]));
      run.offset += length;
      run.length -= length;
    }
  }
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane) RAMFERRY_TRY(post_zeros(lane, by_lane[lane]));
  return {};
}

Result<> SocketChannel::post_zeros(std::size_t lane, std::vector<ZeroRun>& runs) {
  if (runs.empty()) return {};
  frame_.clear();
  encode_zero(runs, frame_.head);
  runs.clear();
  return post(lane, frame_);
}

Result<Epoch> SocketChannel::fence() {
  RAMFERRY_TRY(usable());
  const Epoch epoch = ++fenced_;
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
    frame_.clear();
    encode_fence(epoch, frame_.head);
    RAMFERRY_TRY(post(lane, frame_));
  }
  Counters::add(counters_.fences, 1);
  return epoch;
}

Result<Epoch> SocketChannel::place_and_tell(const Placement& placement, ConstBytes message) {
  if (lanes_.size() > 1 || placement.encoding != kRawEncoding || message.empty() ||
      placement.bytes.size() > FramePacker::kFrameBytes || message.size() > kMaxMessageBytes)
    return Channel::place_and_tell(placement, message);
  RAMFERRY_TRY(check_unfinished());
  RAMFERRY_TRY(check_placement(placement));
  RAMFERRY_TRY_ASSIGN(const std::size_t room, claim_window(message.size()));
  packers_[0].add(placement);
  OutFrame& frame = packers_[0].seal();
  const Epoch epoch = ++fenced_;
  tail_.clear();
  encode_fence(epoch, tail_);
  encode_bytes(room, tail_);
  tail_.insert(tail_.end(), message.begin(), message.begin() + static_cast<std::ptrdiff_t>(room));
  frame.append(tail_);
  const Result<> posted = post(0, frame);
  packers_[0].clear();
  RAMFERRY_TRY(posted);
  Counters::add(counters_.placed_bytes_sent, placement.length);
  Counters::add(counters_.fences, 1);
  Counters::add(counters_.message_bytes_sent, room);
  if (room < message.size()) RAMFERRY_TRY(send(message.subspan(room)));
  return epoch;
}

Result<> SocketChannel::settle(Epoch epoch, Deadline deadline) {
  if (epoch > fenced_ && usable())
    return fail(errc::invalid_argument,
                "settling epoch " + std::to_string(epoch) + ", which no fence has had yet");
  std::unique_lock lock(mutex_);
  const bool done =
      wait_until(changed_, lock, deadline, [&] { return settled_ >= epoch || cancelled_ || over(); });
  if (settled_ >= epoch) return {};
  if (done) return Failure(*failure_);
  return fail(errc::timed_out, "waiting for " + peer_ + " to acknowledge what was placed there");
}

Result<> SocketChannel::expose(SlotId slot, Landing& landing) {
  RAMFERRY_TRY(usable());
  return slots_.add(slot, landing);
}

Result<> SocketChannel::revoke(Deadline deadline) {
  slots_.revoke();
  std::unique_lock lock(landing_mutex_);
  windows_closed_ = true;
  const auto idle = [&] { return landing_ == 0; };
  if (wait_until(landed_, lock, deadline, idle)) return {};
  lock.unlock();
  const std::string doing = "closing the windows: " + peer_ + " was still placing";
  end(Error{make_error_code(errc::timed_out), doing, {}}, Ending::at_once);
  lock.lock();
  // Reads have ended now. What is left is a landing of ours that takes its time.
  if (landed_.wait_for(lock, kLastLanding, idle)) return {};
  return fail(errc::timed_out, doing);
}

}  // namespace ramferry::tcp
