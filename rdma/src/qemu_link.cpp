// SPDX-License-Identifier: MIT
#include "qemu_link.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace ramferry::rdma::qemu {
namespace {

constexpr std::uint64_t kSendId = 1ULL << 32, kReceiveId = 2ULL << 32, kLookId = 4ULL << 32,
                        kNumber = kSendId - 1;
constexpr std::uint32_t kMostCredits = 64;  // stock ends give one at a time
constexpr auto kFarewell = std::chrono::seconds(2);
constexpr auto kFullTick = std::chrono::milliseconds(1);
/// A peer that hangs up takes in nothing more, and says so a little later.
constexpr auto kHangUpTime = std::chrono::seconds(2);

std::string doing_with(std::string_view what, MessageType type) {
  return std::string(what) + " a message of QEMU's RDMA protocol (" + std::string(to_string(type)) + ")";
}

}  // namespace

QemuLink::QemuLink(Log& log, std::unique_ptr<Domain> domain) : log_(log), domain_(std::move(domain)) {}

Result<std::unique_ptr<QemuLink>> QemuLink::make(Log& log, std::unique_ptr<Domain> domain) {
  std::unique_ptr<QemuLink> link(new QemuLink(log, std::move(domain)));
  link->buffers_.resize((kSendBuffers + kReceives) * kMostMessageBytes);
  RAMFERRY_TRY_ASSIGN(link->region_, link->pin(link->buffers_, Rights::receive_into));
  for (std::size_t i = 0; i < kSendBuffers; ++i) link->free_sends_.push_back(i);
  return link;
}

QemuLink::~QemuLink() {
  queue_.reset();  // nothing arrives in memory that is given up below
}

QueueShape QemuLink::shape() const noexcept {
  const std::uint32_t sends = std::min(kMostWrites + kSendBuffers, domain_->device().max_queue_depth);
  return {sends, kReceives};
}

Bytes QemuLink::send_buffer(std::size_t index) const noexcept {
  return region_->memory().subspan(index * kMostMessageBytes, kMostMessageBytes);
}

Bytes QemuLink::receive_buffer(std::size_t index) const noexcept {
  return region_->memory().subspan((kSendBuffers + index) * kMostMessageBytes, kMostMessageBytes);
}

Receive QemuLink::receive_into(std::size_t index) const noexcept {
  const Bytes into = receive_buffer(index);
  return {into.data(), static_cast<std::uint32_t>(into.size()), region_->local_key(), kReceiveId | index};
}

std::vector<Receive> QemuLink::receives() const {
  std::vector<Receive> all;
  for (std::size_t i = 0; i < kReceives; ++i) all.push_back(receive_into(i));
  return all;
}

Result<bool> QemuLink::is_confirmed() {
  if (domain_->confirmed() > 0) return true;
  RAMFERRY_TRY(pump(Deadline::after(std::chrono::milliseconds(0))));
  RAMFERRY_TRY(check());
  if (hung_up_) return fail(FabricErrc::disconnected, "accepting a connection");
  return domain_->confirmed() > 0;
}

Result<std::unique_ptr<PinnedRegion>> QemuLink::pin(Bytes memory, Rights rights, std::uint64_t base) {
  RAMFERRY_TRY_ASSIGN(auto region, domain_->register_memory(memory, rights, base));
  return std::make_unique<PinnedRegion>(std::move(region), memory, counters_);
}

Result<> QemuLink::send(MessageType type, std::uint32_t repeat, ConstBytes data) {
  const std::string doing = doing_with("sending", type);
  RAMFERRY_TRY(wait_until([this] { return !free_sends_.empty(); }, Deadline::never(), doing));
  const std::size_t buffer = free_sends_.back();
  free_sends_.pop_back();
  const Bytes into = send_buffer(buffer);
  const std::size_t bytes = encode(type, repeat, data, into);
  const WorkRequest request{.kind = WorkRequest::Kind::send,
                            .signaled = true,
                            .local = into.data(),
                            .length = static_cast<std::uint32_t>(bytes),
                            .local_key = region_->local_key(),
                            .id = kSendId | buffer};
  RAMFERRY_TRY(write({&request, 1}));
  counters_.wire_bytes_sent.add(bytes);
  return {};
}

Result<> QemuLink::send_when_ready(MessageType type, std::uint32_t repeat, ConstBytes data) {
  RAMFERRY_TRY(wait_until([this] { return credits_ > 0; }, Deadline::never(), doing_with("sending", type)));
  RAMFERRY_TRY(send(type, repeat, data));
  --credits_;
  return {};
}

Result<std::optional<Message>> QemuLink::next(Deadline deadline) {
  if (lent_) RAMFERRY_TRY(recycle(*std::exchange(lent_, std::nullopt)));
  while (inbox_.empty()) {
    if (hung_up_ && !failure_) return std::nullopt;
    if (failure_) return Failure(*failure_);
    if (cancelled_) return fail(errc::cancelled, "waiting for the peer");
    if (deadline.passed()) return fail(errc::timed_out, "waiting for the peer");
    auto pumped = pump(deadline);
    if (!pumped && inbox_.empty()) return Failure(std::move(pumped).error());
  }
  const Waiting waiting = inbox_.front();
  inbox_.pop_front();
  lent_ = waiting.buffer;
  if (waiting.message.type != MessageType::error) return waiting.message;
  failure_ =
      fail(errc::peer_failed, "waiting for the peer: it reports an error", "its own messages say which")
          .value();
  return Failure(*failure_);
}

Result<> QemuLink::write(std::span<const WorkRequest> list) {
  while (!list.empty()) {
    if (failure_) return Failure(*failure_);
    const Posted posted = queue_->post(list);
    counters_.work_requests.add(posted.count);
    counters_.doorbells.add(1);
    list = list.subspan(posted.count);
    if (!posted.error) continue;
    if (posted.error != std::errc::not_enough_memory) {
      broken_ = true;
      failure_ = Error{posted.error, "posting to the device", {}};
      return Failure(*failure_);
    }
    progress_ = false;
    auto room = wait_until([this] { return progress_; }, Deadline::after(kFullTick), "posting to the device");
    if (!room && !room.error().is(errc::timed_out)) return room;
  }
  return {};
}

Result<> QemuLink::wait_until(const std::function<bool()>& ready, Deadline deadline,
                              const std::string& doing) {
  while (!ready()) {
    if (failure_) return within(*failure_, doing);
    if (hung_up_) return fail(FabricErrc::disconnected, doing);
    if (cancelled_) return fail(errc::cancelled, doing);
    // What the peer says instead of what we wait for: it matters more if it is a failure.
    if (!inbox_.empty() && inbox_.back().message.type == MessageType::error)
      return fail(errc::peer_failed, doing + ": the peer reports an error", "its own messages say which");
    if (deadline.passed()) return fail(errc::timed_out, doing);
    if (auto pumped = pump(deadline); !pumped) return within(std::move(pumped).error(), doing);
  }
  return {};
}

/// Takes what has completed; else sleeps once.
Result<> QemuLink::pump(Deadline deadline) {
  progress_ = false;
  RAMFERRY_TRY(poll());
  if (progress_) return {};
  RAMFERRY_TRY_ASSIGN(const bool news, take_events());
  if (news) return {};
  if (suspected_ && !hung_up_) {
    if (std::chrono::steady_clock::now() >= suspected_until_ && !failure_) failure_ = suspected_;
    if (failure_) return {};
    deadline = Deadline::at(std::min(deadline.when(), suspected_until_));
  }
  RAMFERRY_TRY(look());
  if (look_after_ && !looking_) deadline = Deadline::at(std::min(deadline.when(), next_look_));
  domain_->wait(deadline);
  return {};
}

/// Whether there were any.
Result<bool> QemuLink::take_events() {
  bool news = false, lost = false;
  std::optional<Error> broken;
  while (auto event = domain_->next_event()) {
    news = true;
    if (event->error == FabricErrc::disconnected) {
      hung_up_ = true;
      continue;
    }
    lost = lost || event->connection_lost;
    if (!broken) broken = Error{event->error, "on the connection: " + event->what, {}};
  }
  if (!news) return false;
  RAMFERRY_TRY(poll());  // what came before the event counts
  broken_ = broken_ || lost;
  if (broken && !failure_) failure_ = std::move(broken);
  return true;
}

Result<> QemuLink::check() {
  if (auto taken = take_events(); !taken) return Failure(std::move(taken).error());
  return failure_ ? Result<>(Failure(*failure_)) : Result<>();
}

void QemuLink::look_after_peer(std::chrono::milliseconds silence) noexcept {
  look_after_ = silence;
  next_look_ = std::chrono::steady_clock::now() + silence;
}

/// A write of no bytes needs no key, and no program at the other end: the device acknowledges it, or is gone.
Result<> QemuLink::look() {
  if (!look_after_ || looking_ || broken_ || hung_up_ || std::chrono::steady_clock::now() < next_look_)
    return {};
  next_look_ = std::chrono::steady_clock::now() + *look_after_;
  const WorkRequest nothing{
      .signaled = true, .local = region_->memory().data(), .local_key = region_->local_key(), .id = kLookId};
  const Posted posted = queue_->post({&nothing, 1});
  if (posted.error == std::errc::not_enough_memory) return {};  // what fills the queue tells as much
  if (posted.error) return fail(posted.error, "posting to the device");
  looking_ = true;
  return {};
}

Result<> QemuLink::poll() {
  std::array<Completion, 64> done;
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const std::size_t count, domain_->poll(done));
    if (count == 0) return {};
    progress_ = true;
    if (look_after_) next_look_ = std::chrono::steady_clock::now() + *look_after_;
    counters_.completions.add(count);
    for (std::size_t i = 0; i < count; ++i) RAMFERRY_TRY(complete(done[i]));
  }
}

Result<> QemuLink::complete(const Completion& completion) {
  const auto number = static_cast<std::size_t>(completion.id & kNumber);
  const bool is_receive = (completion.id & kReceiveId) != 0, is_send = (completion.id & kSendId) != 0;
  if (completion.error) {
    // A receive that comes back only tells that the connection is over; why, something else tells.
    if (is_receive && completion.error == FabricErrc::flushed) return {};
    broken_ = true;
    const Error error{completion.error, is_send ? "sending a message" : "on the connection", {}};
    // How the last word to a peer fails that is tearing its end down depends on how far it has got.
    if (is_send || error.is(errc::peer_gone))
      suspect(error);
    else if (!failure_)
      failure_ = error;
    return {};
  }
  if (is_receive) return arrived(number, completion.bytes);
  if ((completion.id & kLookId) != 0)
    looking_ = false;
  else if (is_send)
    free_sends_.push_back(number);
  else if (written_)
    written_(number);
  return {};
}

/// A failure that a peer explains who has hung up: it is one only if nothing says so for a while.
void QemuLink::suspect(const Error& error) {
  if (suspected_) return;
  suspected_ = error;
  suspected_until_ = std::chrono::steady_clock::now() + kHangUpTime;
}

Result<> QemuLink::arrived(std::size_t buffer, std::uint32_t bytes) {
  counters_.wire_bytes_received.add(bytes);
  auto message = decode(receive_buffer(buffer).first(std::min<std::size_t>(bytes, kMostMessageBytes)));
  if (!message) {
    failure_ = std::move(message).error();
    return Failure(*failure_);
  }
  log_.debug("rdma: QEMU's protocol: got " + std::string(to_string(message->type)) + ", " +
             std::to_string(message->data.size()) + " bytes");
  if (message->type != MessageType::ready) {
    inbox_.push_back({buffer, *message});
    return {};
  }
  if (++credits_ > kMostCredits) {
    failure_ = Error{make_error_code(errc::protocol_mismatch), "the peer is ready for too many messages", {}};
    return Failure(*failure_);
  }
  return recycle(buffer);
}

Result<> QemuLink::recycle(std::size_t buffer) {
  const Receive again = receive_into(buffer);
  const Posted posted = queue_->post_receives({&again, 1});
  if (posted.error && !hung_up_) return fail(posted.error, "posting a receive");
  return {};
}

void QemuLink::tell_failure() noexcept {
  if (!queue_ || broken_ || hung_up_ || cancelled_) return;
  const auto why = std::exchange(failure_, std::nullopt);  // it is not the connection's
  inbox_.clear();
  if (send(MessageType::error, 1, {})) static_cast<void>(drain(Deadline::after(kFarewell)));
  if (why) failure_ = why;
}

Result<> QemuLink::drain(Deadline deadline) {
  return wait_until([this] { return free_sends_.size() == kSendBuffers; }, deadline,
                    "sending the last message");
}

void QemuLink::cancel() noexcept {
  cancelled_ = true;
  domain_->wake();
}

}  // namespace ramferry::rdma::qemu
