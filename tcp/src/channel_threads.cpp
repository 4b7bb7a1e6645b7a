// SPDX-License-Identifier: MIT
// What a SocketChannel's own threads do: take in frames, send, beat, and end the channel when something
// fails.
#include "channel.hpp"
#include "socket.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

namespace ramferry::tcp {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLongestBeat{1000};
constexpr milliseconds kStuckRetry{2};  ///< between attempts to send a status into a full socket
constexpr milliseconds kLastWords{
    500};  ///< to get at the socket, to tell the peer why, or to hear it from it
constexpr milliseconds kDrainGrace{1000};  ///< for the other lanes, after one of them has ended

}  // namespace

// --- receiving ---

void SocketChannel::receive_on(Lane& lane) {
  const Result<LaneReader::End> ended = lane.reader.run();
  if (!ended) {
    const bool theirs =
        lane.source.failed() || ended.error().is(errc::peer_gone) || ended.error().is(errc::peer_failed);
    end(within(ended.error(), "channel to " + peer_).value(), theirs ? Ending::by_peer : Ending::breach);
  } else {
    const char* const what = *ended == LaneReader::End::goodbye
                                 ? " has closed the channel"
                                 : " closed the connection, or its process ended";
    end(Error{make_error_code(errc::peer_gone), peer_ + what, {}}, Ending::by_peer);
  }
  const std::lock_guard lock(mutex_);
  --readers_;
  changed_.notify_all();
  readable_.notify_all();
}

Result<> SocketChannel::begin_landing() {
  const std::lock_guard lock(landing_mutex_);
  if (windows_closed_) return fail(errc::protocol_mismatch, "the peer placed after its windows were closed");
  ++landing_;
  return {};
}

void SocketChannel::end_landing() noexcept {
  const std::lock_guard lock(landing_mutex_);
  if (--landing_ == 0 && windows_closed_) landed_.notify_all();
}

Result<std::array<Bytes, 2>> SocketChannel::room_for(std::size_t lane, std::size_t bytes) {
  if (lane != 0) return fail(errc::protocol_mismatch, "the peer sent bytes on lane " + std::to_string(lane));
  std::unique_lock lock(mutex_);
  if (peer_finished_) return fail(errc::protocol_mismatch, "the peer sent bytes after the last ones");
  // Fences of other lanes are awaited; they come whether or not this lane is read.
  changed_.wait(lock, [&] { return failure_ || !inbox_.crowded(passed_); });
  const auto room = inbox_.free(bytes);
  if (room[0].empty()) return fail(errc::protocol_mismatch, "the peer sent more bytes than it was granted");
  return room;
}

void SocketChannel::bytes_arrived(std::size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    inbox_.add(bytes, lanes_[0]->passed);
  }
  readable_.notify_all();
}

Result<> SocketChannel::fence_arrived(std::size_t lane, Epoch epoch) {
  bool waiting = false;
  {
    const std::lock_guard lock(mutex_);
    Epoch& passed = lanes_[lane]->passed;
    if (epoch != passed + 1)
      return fail(errc::protocol_mismatch, "the peer's fence " + std::to_string(epoch) +
                                               " follows its fence " + std::to_string(passed));
    passed = epoch;
    const auto slowest = std::min_element(lanes_.begin(), lanes_.end(),
                                          [](const auto& a, const auto& b) { return a->passed < b->passed; });
    if ((*slowest)->passed == passed_) return {};
    passed_ = (*slowest)->passed;
    progress_.in_place = passed_;
    waiting = !inbox_.empty();
  }
  changed_.notify_all();
  if (waiting) readable_.notify_all();
  send_status();
  return {};
}

Result<> SocketChannel::status_arrived(Epoch in_place, std::uint64_t consumed) {
  std::unique_lock lock(mutex_);
  if (in_place > fenced_ || consumed > claimed_)
    return fail(errc::protocol_mismatch, "the peer acknowledges what was never sent");
  // Several lanes carry these: a late one may be older than what is known.
  if (in_place > settled_) settled_ = in_place;
  peer_consumed_ = std::max(peer_consumed_, consumed);
  lock.unlock();
  changed_.notify_all();
  return {};
}

Result<> SocketChannel::finish_arrived(std::size_t lane) {
  const std::lock_guard lock(mutex_);
  if (lane != 0 || peer_finished_) return fail(errc::protocol_mismatch, "the peer finished its bytes twice");
  peer_finished_ = true;
  readable_.notify_all();
  return {};
}

// --- sending ---

void SocketChannel::send_on(Lane& lane) {
  while (std::optional<OutFrame> frame = lane.queue.pop()) {
    const Result<> written = lane.writer.write(*frame);
    if (written) continue;
    explain(written.error());
    return;
  }
}

void SocketChannel::send_status() {
  if (lanes_[0]->writer.send_status()) return;
  const std::lock_guard lock(beat_mutex_);
  status_stuck_ = true;
  beat_wanted_.notify_all();
}

milliseconds SocketChannel::beat_interval() const noexcept {
  return std::min(kLongestBeat, std::min(setup_.own_timeout, setup_.peer_timeout) / 4);
}

void SocketChannel::beat() {
  const milliseconds interval = beat_interval();
  auto next = Clock::now() + interval;
  std::unique_lock lock(beat_mutex_);
  while (!stop_beating_) {
    const auto until = status_stuck_ ? std::min(next, Clock::now() + kStuckRetry) : next;
    beat_wanted_.wait_until(lock, until, [&] { return stop_beating_ || (until == next && status_stuck_); });
    if (stop_beating_) return;
    const bool stuck = std::exchange(status_stuck_, false);
    lock.unlock();
    const bool still_stuck = stuck && !lanes_[0]->writer.push_status();
    if (Clock::now() >= next) {
      beat_once();
      next = Clock::now() + interval;
    }
    lock.lock();
    status_stuck_ = status_stuck_ || still_stuck;
  }
}

void SocketChannel::beat_once() {
  // Silence is counted in beats, not by the clock: a machine or process that was itself stopped for a while
  // does not take its peer for dead. A lane whose thread is busy landing hears nothing, and so does not
  // count.
  const milliseconds interval = beat_interval();
  bool silent = false;
  for (const auto& lane : lanes_) {
    if (!lane->writer.was_busy()) lane->writer.send_status();
    const std::uint64_t received = lane->source.received();
    const bool heard = received != lane->last_received || !lane->source.waiting();
    lane->last_received = received;
    lane->silent_ticks = heard ? 0 : lane->silent_ticks + 1;
    silent = silent || lane->silent_ticks * interval >= setup_.own_timeout;
  }
  if (silent) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(setup_.own_timeout).count();
    end(Error{make_error_code(errc::peer_gone),
              "nothing heard from " + peer_ + " for " + std::to_string(seconds) + " s",
              "its process may be stopped, or the network down; see the option peer-timeout"},
        Ending::at_once);
  }
  bool overdue = false;
  {
    const std::lock_guard lock(mutex_);
    overdue = Clock::now() >= shut_at_;
  }
  if (overdue) shut(SHUT_RDWR);
}

// --- ending ---

void SocketChannel::end(Error error, Ending ending) {
  const bool cancelled = ending == Ending::cancelled;
  const bool at_once = cancelled || ending == Ending::at_once;
  {
    const std::lock_guard lock(mutex_);
    if (cancelled_ || (failure_ && !cancelled)) return;
    failure_ = error;
    cancelled_ = cancelled;
    draining_ = ending == Ending::by_peer;
    if (!at_once) shut_at_ = Clock::now() + kDrainGrace;
    changed_.notify_all();
    readable_.notify_all();
  }
  if (setup_.door) setup_.door->close();
  for (const auto& lane : lanes_) lane->queue.close();
  if (ending == Ending::breach) tell_peer(error);
  shut(at_once ? SHUT_RDWR : SHUT_WR);
}

void SocketChannel::tell_peer(const Error& error) {
  log_.warn(error.message());
  std::vector<std::byte> frame;
  encode_error(error.message(), frame);
  // On every lane, because the peer may see any of them end first.
  const Deadline deadline = Deadline::after(kLastWords);
  for (const auto& lane : lanes_) lane->writer.write_at_last(frame, deadline);
}

Failure SocketChannel::explain(Error error) {
  // A failed write says little; the receiving side may be about to read the peer's reason.
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kLastWords, [&] { return failure_.has_value(); });
  }
  end(Error{error.code, "sending to " + peer_, {}}, Ending::by_peer);
  const std::lock_guard lock(mutex_);
  return Failure(*failure_);
}

void SocketChannel::shut(int how) noexcept {
  for (const auto& lane : lanes_) ::shutdown(lane->fd(), how);
}

}  // namespace ramferry::tcp
