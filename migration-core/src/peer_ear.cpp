// SPDX-License-Identifier: MIT
#include "peer_ear.hpp"

#include <ramferry/migration/section_stream.hpp>

#include <algorithm>

namespace ramferry::migration {

using native::Message;
using native::MessageType;

namespace {

constexpr auto kTick = std::chrono::milliseconds(50);
/// A message is sent whole; only a broken peer lets its rest wait.
constexpr auto kRestOfMessage = std::chrono::seconds(5);

}  // namespace

PeerEar::PeerEar(Channel& channel)
    : channel_(channel), expected_{MessageType::hello_reply}, thread_([this] { listen(); }) {}

PeerEar::~PeerEar() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  channel_.cancel();  // it is over, and the ear need not wait for its next tick
  thread_.join();
}

void PeerEar::expect(MessageType type, std::size_t times) {
  const std::lock_guard lock(mutex_);
  expected_.insert(expected_.end(), times, type);
}

Result<Message> PeerEar::await(MessageType type, Deadline deadline) {
  std::unique_lock lock(mutex_);
  const auto match = [&](const Message& message) { return message.type == type; };
  const auto find = [&] { return std::find_if(heard_.begin(), heard_.end(), match); };
  const auto ready = [&] { return failure_ || interrupted_ || find() != heard_.end(); };
  const std::string waiting = "waiting for the destination's '" + std::string(to_string(type)) + "'";
  if (deadline.is_never())
    changed_.wait(lock, ready);
  else if (!changed_.wait_until(lock, deadline.when(), ready))
    return fail(errc::timed_out, waiting);
  if (const auto message = find(); message != heard_.end()) {
    Message found = std::move(*message);
    heard_.erase(message);
    return found;
  }
  if (failure_) return within(*failure_, waiting);
  return fail(errc::cancelled, waiting);
}

std::optional<Error> PeerEar::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void PeerEar::limit(std::chrono::milliseconds most) {
  const std::lock_guard lock(mutex_);
  cancel_at_ = Clock::Time::clock::now() + most;
}

void PeerEar::interrupt(std::chrono::milliseconds grace) {
  limit(grace);
  const std::lock_guard lock(mutex_);
  interrupted_ = true;
  changed_.notify_all();
}

bool PeerEar::over() {
  const std::lock_guard lock(mutex_);
  if (cancel_at_ && Clock::Time::clock::now() >= *cancel_at_) {
    channel_.cancel();
    return true;
  }
  return stop_;
}

void PeerEar::listen() {
  StreamReader reader(channel_);
  while (!over()) {
    reader.set_deadline(Deadline::after(kTick));
    const auto next = reader.peek();
    if (!next && next.error().is(errc::timed_out)) continue;
    if (!next) return give_up(next.error());
    if (!next->has_value())
      return give_up({make_error_code(errc::peer_gone), "the destination closed the connection", {}});
    reader.set_deadline(Deadline::after(kRestOfMessage));
    const auto heard = hear(reader);
    if (!heard) return give_up(heard.error());
    if (*heard == MessageType::running) return;  // its last word
  }
}

Result<MessageType> PeerEar::hear(SectionReader& reader) {
  RAMFERRY_TRY_ASSIGN(auto message, native::read_message(reader));
  if (message.type == MessageType::failed)
    return Failure(native::decode_failed(message.payload, "the destination"));
  const std::lock_guard lock(mutex_);
  const auto expected = std::find(expected_.begin(), expected_.end(), message.type);
  if (expected == expected_.end())
    return fail(errc::protocol_mismatch,
                "the destination said '" + std::string(to_string(message.type)) + "' out of turn");
  expected_.erase(expected);
  const MessageType type = message.type;
  heard_.push_back(std::move(message));
  changed_.notify_all();
  return type;
}

void PeerEar::give_up(Error error) {
  {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(error);
    changed_.notify_all();
  }
  channel_.cancel();
}

}  // namespace ramferry::migration
