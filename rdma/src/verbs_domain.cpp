// SPDX-License-Identifier: MIT
#include "verbs_domain.hpp"

#include "verbs_advice.hpp"
#include "verbs_check.hpp"
#include "verbs_queue.hpp"

#include <ramferry/system_files.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

namespace ramferry::rdma {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr std::size_t kStash = 64;
constexpr unsigned int kAcknowledgeEvery = 64;
constexpr int kRefusedByProgram = 28;  // "consumer reject" of the InfiniBand specification
constexpr auto kSpin = microseconds(50);
constexpr unsigned kMostPosters = 8;

std::uint64_t lockable_bytes() {
  const LockLimit limit = lock_limit(SystemFiles());
  return limit.exempt ? kUnlimited : limit.soft;
}

std::string gid_text(const ibv_gid& gid) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return ::inet_ntop(AF_INET6, gid.raw, text.data(), text.size()) == nullptr ? "" : text.data();
}

Result<DeviceFacts> describe(rdma_cm_id* id) {
  DeviceFacts facts;
  facts.name = ibv_get_device_name(id->verbs->device);
  facts.gid = gid_text(id->route.addr.addr.ibaddr.sgid);
  ibv_device_attr device{};
  RAMFERRY_TRY(check_verb(ibv_query_device(id->verbs, &device), "querying " + facts.name));
  ibv_port_attr port{};
  RAMFERRY_TRY(
      check_verb(ibv_query_port(id->verbs, id->port_num, &port), "querying a port of " + facts.name));
  const unsigned mtu =  // IBV_MTU_256 is 1; of a path, the upper bits say how it compares
      id->route.num_paths > 0 ? id->route.path_rec[0].mtu & 0x3FU : static_cast<unsigned>(port.active_mtu);
  facts.mtu = 128U << mtu;
  facts.max_region_bytes = device.max_mr_size;
  facts.max_regions = static_cast<std::uint64_t>(std::max(device.max_mr, 1));
  facts.max_queue_depth = static_cast<std::uint32_t>(std::max(device.max_qp_wr, 1));
  facts.lockable_bytes = lockable_bytes();
  return facts;
}

/// Software devices need the core that a spinning thread would take from them.
bool worth_spinning(bool software) {
  return std::thread::hardware_concurrency() > 2 && !software;
}

class VerbsRegion final : public Region {
 public:
  explicit VerbsRegion(MemoryRegionPtr region) noexcept : region_(std::move(region)) {}
  std::uint32_t local_key() const noexcept override { return region_->lkey; }
  std::uint32_t remote_key() const noexcept override { return region_->rkey; }

 private:
  MemoryRegionPtr region_;
};

unsigned int access_flags(Rights rights) noexcept {
  switch (rights) {
    case Rights::read: return 0;
    case Rights::receive_into: return IBV_ACCESS_LOCAL_WRITE;
    case Rights::remote_write: break;
  }
  return IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_RELAXED_ORDERING;
}

}  // namespace

VerbsDomain::VerbsDomain(std::shared_ptr<AsyncEvents> events, const LinkTuning& tuning) noexcept
    : events_(std::move(events)), tuning_(tuning) {}

Result<std::unique_ptr<VerbsDomain>> VerbsDomain::make(std::shared_ptr<AsyncEvents> events,
                                                       EventChannelPtr channel, rdma_cm_id* id,
                                                       const LinkTuning& tuning, std::uint32_t completions) {
  std::unique_ptr<VerbsDomain> domain(new VerbsDomain(std::move(events), tuning));
  domain->channel_ = std::move(channel);
  RAMFERRY_TRY(domain->open(id, completions));
  return domain;
}

Result<> VerbsDomain::open(rdma_cm_id* id, std::uint32_t completions) {
  context_ = id->verbs;
  RAMFERRY_TRY_ASSIGN(device_, describe(id));
  if (!tuning_.device.empty() && tuning_.device != device_.name)
    return fail(errc::not_found,
                "using RDMA device " + tuning_.device + ": this address is reached by " + device_.name,
                "use an address of " + tuning_.device + "'s network");
  const std::string doing = "opening " + device_.name;
  RAMFERRY_TRY_ASSIGN(wake_, make_wake_fd());
  RAMFERRY_TRY_ASSIGN(ibv_pd * pd, check_pointer(ibv_alloc_pd(context_), doing));
  domain_.reset(pd);
  RAMFERRY_TRY_ASSIGN(ibv_comp_channel * completion_channel,
                      check_pointer(ibv_create_comp_channel(context_), doing));
  completion_channel_.reset(completion_channel);
  RAMFERRY_TRY(set_nonblocking(completion_channel->fd, doing));
  ibv_cq* const queue =
      ibv_create_cq(context_, static_cast<int>(completions), nullptr, completion_channel, 0);
  if (queue == nullptr)
    return Failure(making_failed(errno, doing + ": a queue of " + std::to_string(completions), "max_cq"));
  queue_.reset(queue);
  stash_.reserve(kStash);
  const bool software = is_software(SystemFiles(), device_.name);
  spins_ = worth_spinning(software);
  if (const unsigned processors = std::thread::hardware_concurrency(); software && processors > 1)
    pool_ = std::make_unique<PostingPool>(std::min(processors, kMostPosters), [this](std::error_code error) {
      report({error, "posting", false});
      wake();
    });
  RAMFERRY_TRY(set_nonblocking(context_->async_fd, doing));
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return fail_errno(errno, doing);
  for (const int fd : {channel_->fd, completion_channel->fd, context_->async_fd, wake_.get()}) {
    epoll_event interest{};
    interest.events = EPOLLIN;
    interest.data.fd = fd;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &interest) != 0) return fail_errno(errno, doing);
  }
  events_->add(context_, queue, this, [this](LinkEvent event) {
    report(std::move(event));
    wake();
  });
  return {};
}

VerbsDomain::~VerbsDomain() {
  if (context_ != nullptr) events_->remove(this);
  if (queue_ && unacknowledged_ > 0) ibv_ack_cq_events(queue_.get(), unacknowledged_);
}

Result<std::unique_ptr<Region>> VerbsDomain::register_memory(Bytes memory, Rights rights,
                                                             std::uint64_t base) {
  // Requests of ours name local memory by its address, the peer's name it as we told them.
  const std::uint64_t start =
      rights == Rights::remote_write ? base : reinterpret_cast<std::uintptr_t>(memory.data());
  errno = 0;
  MemoryRegionPtr region(
      ibv_reg_mr_iova2(domain_.get(), memory.data(), memory.size(), start, access_flags(rights)));
  if (region) return std::make_unique<VerbsRegion>(std::move(region));
  const int error = errno;
  return Failure(registering_failed(error, memory.size(), pinned_bytes(SystemFiles()), device_));
}

Result<std::vector<CmIdPtr>> VerbsDomain::ids_towards_target(std::size_t count, Deadline deadline) {
  std::vector<CmIdPtr> ids;
  if (first_ && count > 0) ids.push_back(std::move(first_));
  std::vector<rdma_cm_id*> unresolved;
  while (ids.size() < count) {
    RAMFERRY_TRY_ASSIGN(CmIdPtr id, make_id(channel_.get(), "making another connection"));
    unresolved.push_back(id.get());
    ids.push_back(std::move(id));
  }
  RAMFERRY_TRY(resolve_routes(unresolved, target_, tuning_, deadline));
  for (const CmIdPtr& id : ids) {
    if (id->verbs != context_)
      return fail(errc::unsupported, "making another connection: it would use another device");
  }
  return ids;
}

Result<std::vector<Connected>> VerbsDomain::connect_all(std::span<const Dial> dials, Deadline deadline) {
  RAMFERRY_TRY_ASSIGN(auto ids, ids_towards_target(dials.size(), deadline));
  std::vector<Call> calls;
  calls.reserve(dials.size());
  for (std::size_t i = 0; i < dials.size(); ++i) {
    RAMFERRY_TRY_ASSIGN(Call made, call(std::move(ids[i]), dials[i]));
    calls.push_back(std::move(made));
  }
  RAMFERRY_TRY(await_answers(calls, deadline));
  std::vector<Connected> connected;
  connected.reserve(calls.size());
  for (Call& each : calls) connected.push_back(std::move(each.made));
  return connected;
}

Result<VerbsDomain::Call> VerbsDomain::call(CmIdPtr id, const Dial& dial) {
  rdma_cm_id* const raw = id.get();
  RAMFERRY_TRY_ASSIGN(auto queue, VerbsQueue::make(*this, std::move(id), dial.shape, dial.receives));
  rdma_conn_param wanted{};
  wanted.private_data = dial.hello.data();
  wanted.private_data_len = static_cast<std::uint8_t>(dial.hello.size());
  wanted.responder_resources = wanted.initiator_depth = 1;
  wanted.retry_count = tuning_.retries;
  wanted.rnr_retry_count = tuning_.retries;
  RAMFERRY_TRY(check_cm(rdma_connect(raw, &wanted), "connecting"));
  return Call{raw, {std::move(queue), {}}, false};
}

Result<> VerbsDomain::await_answers(std::span<Call> calls, Deadline deadline) {
  for (std::size_t left = calls.size(); left > 0;) {
    RAMFERRY_TRY_ASSIGN(const CmEventPtr event, take_cm_event(channel_.get()));
    if (!event) {
      RAMFERRY_TRY_ASSIGN(const bool ready, wait_readable(channel_->fd, -1, deadline, "connecting"));
      if (!ready)
        return fail(errc::timed_out, "connecting",
                    "nobody answered: the other end may be down, or in another migration");
      continue;
    }
    const auto of = std::find_if(calls.begin(), calls.end(),
                                 [&](const Call& each) { return each.id == event->id && !each.answered; });
    if (of == calls.end()) {
      if (const std::error_code error = to_error_code(event->event))
        report({error, rdma_event_str(event->event)});
      continue;
    }
    RAMFERRY_TRY(take_answer(*of, *event));
    if (of->answered) --left;
  }
  return {};
}

Result<> VerbsDomain::take_answer(Call& call, const rdma_cm_event& event) {
  const std::string doing = "connecting";
  const bool refused = event.event == RDMA_CM_EVENT_REJECTED && event.status == kRefusedByProgram;
  if (event.event != RDMA_CM_EVENT_ESTABLISHED && !refused) {
    if (event.event == RDMA_CM_EVENT_REJECTED)
      return fail(FabricErrc::rejected, doing, "start the destination first, and check the port");
    if (const std::error_code error = to_error_code(event.event))
      return fail(error, doing + ": " + rdma_event_str(event.event));
    return {};
  }
  const rdma_conn_param& given = event.param.conn;
  const auto* bytes = static_cast<const std::byte*>(given.private_data);
  call.made.answer.assign(bytes, bytes + (bytes == nullptr ? 0 : given.private_data_len));
  if (refused) call.made.queue.reset();
  call.answered = true;
  return {};
}

Result<std::size_t> VerbsDomain::poll(std::span<Completion> into) {
  std::array<ibv_wc, kStash> fresh;
  std::size_t count = 0;
  const auto put = [&](const ibv_wc& from) {
    into[count++] =
        Completion{from.wr_id, from.status == IBV_WC_SUCCESS ? from.byte_len : 0, to_error_code(from.status)};
  };
  while (count < into.size() && stash_used_ < stash_.size()) put(stash_[stash_used_++]);
  if (count == into.size()) return count;
  const int room = static_cast<int>(std::min(into.size() - count, fresh.size()));
  RAMFERRY_TRY_ASSIGN(const std::size_t polled,
                      check_poll(ibv_poll_cq(queue_.get(), room, fresh.data()), "polling for completions"));
  for (std::size_t i = 0; i < polled; ++i) put(fresh[i]);
  return count;
}

void VerbsDomain::report(LinkEvent event) {
  const std::lock_guard lock(reported_mutex_);
  reported_.push_back(std::move(event));
}

std::optional<LinkEvent> VerbsDomain::next_event() {
  const std::lock_guard lock(reported_mutex_);
  if (reported_.empty()) return std::nullopt;
  LinkEvent event = std::move(reported_.front());
  reported_.pop_front();
  return event;
}

void VerbsDomain::take_cm_events() {
  while (true) {
    auto event = take_cm_event(channel_.get());
    if (!event) report({event.error().code, event.error().doing});
    if (!event || !*event) return;
    if ((*event)->event == RDMA_CM_EVENT_ESTABLISHED) ++confirmed_;
    if (const std::error_code error = to_error_code((*event)->event))
      report({error, rdma_event_str((*event)->event)});
  }
}

void VerbsDomain::take_completion_event() {
  ibv_cq* of = nullptr;
  void* unused = nullptr;
  while (ibv_get_cq_event(completion_channel_.get(), &of, &unused) == 0) ++unacknowledged_;
  if (unacknowledged_ < kAcknowledgeEvery) return;
  ibv_ack_cq_events(queue_.get(), std::exchange(unacknowledged_, 0U));  // takes a lock: not for each
}

bool VerbsDomain::spin() {
  const auto until = std::chrono::steady_clock::now() + kSpin;
  do {
    stash_.resize(kStash);
    const int polled = ibv_poll_cq(queue_.get(), static_cast<int>(kStash), stash_.data());
    stash_.resize(polled > 0 ? static_cast<std::size_t>(polled) : 0);
    stash_used_ = 0;
    if (polled != 0) return true;  // an error shows again in poll()
  } while (spins_ && std::chrono::steady_clock::now() < until);
  return false;
}

void VerbsDomain::wait(Deadline deadline) {
  if (stash_used_ < stash_.size()) return;
  // Arm first, then look once more: what completed in between would otherwise go unnoticed.
  if (spins_ && spin()) return;
  if (ibv_req_notify_cq(queue_.get(), 0) != 0)
    report({FabricErrc::device_failed, "arming the completion queue"});
  const bool spins = std::exchange(spins_, false);
  const bool found = spin();
  spins_ = spins;
  if (found) return;
  std::array<epoll_event, 4> ready{};
  const auto left = std::chrono::ceil<milliseconds>(deadline.left(std::chrono::hours(1)));
  const int count = ::epoll_wait(epoll_.get(), ready.data(), ready.size(), static_cast<int>(left.count()));
  for (int i = 0; i < count; ++i) {
    const int fd = ready[static_cast<std::size_t>(i)].data.fd;
    if (fd == wake_.get()) clear_wake_fd(wake_);
    if (fd == channel_->fd) take_cm_events();
    if (fd == completion_channel_->fd) take_completion_event();
    if (fd == context_->async_fd) events_->drain(context_);
  }
}

void VerbsDomain::wake() noexcept {
  signal_wake_fd(wake_);
}

void VerbsDomain::bury(CmIdPtr id) noexcept {
  const std::lock_guard lock(graves_mutex_);
  graves_.push_back(std::move(id));
}

}  // namespace ramferry::rdma
