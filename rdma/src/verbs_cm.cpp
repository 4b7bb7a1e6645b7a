// SPDX-License-Identifier: MIT
#include "verbs_cm.hpp"

#include "verbs_advice.hpp"
#include "verbs_async.hpp"
#include "verbs_check.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace ramferry::rdma {
namespace {

using std::chrono::milliseconds;

constexpr const char* kNoDeviceAdvice =
    "see docs/soft-roce.md for a software RDMA device; `rdma link` lists what there is";

constexpr const char* kNoAnswerAdvice =
    "see that the peer is up and answers a ping by this network; `ramferry doctor URI` looks at each step";

int milliseconds_left(Deadline deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline.left(std::chrono::hours(1)));
  return static_cast<int>(left.count());
}

/// One more step towards the target: the address, then the route. True when it is resolved.
Result<bool> resolve_further(const rdma_cm_event& event, const LinkTuning& tuning, int wait,
                             const std::string& doing) {
  switch (event.event) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      if (event.id->verbs == nullptr) return fail(FabricErrc::no_device, doing, kNoDeviceAdvice);
      RAMFERRY_TRY(check_cm(rdma_resolve_route(event.id, wait), doing));
      return false;
    case RDMA_CM_EVENT_ROUTE_RESOLVED: RAMFERRY_TRY(set_ack_timeout(event.id, tuning)); return true;
    default: break;
  }
  if (event.event == RDMA_CM_EVENT_ADDR_ERROR && event.status == -ENODEV)
    return fail(FabricErrc::no_device, doing, kNoDeviceAdvice);
  const std::error_code error = to_error_code(event.event);
  return fail(error ? error : make_error_code(FabricErrc::local_operation),
              doing + ": " + rdma_event_str(event.event), kNoAnswerAdvice);
}

}  // namespace

Result<std::vector<SocketAddress>> resolve_name(const Address& address, const std::string& doing) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (address.host.empty() ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  const int error =
      ::getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) return fail(errc::not_found, doing + ": " + ::gai_strerror(error));
  const std::unique_ptr<addrinfo, Destroy<::freeaddrinfo>> owner(found);
  std::vector<SocketAddress> all;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    SocketAddress& address_found = all.emplace_back();
    std::memcpy(&address_found.storage, each->ai_addr,
                std::min<std::size_t>(each->ai_addrlen, sizeof address_found.storage));
  }
  return all;
}

std::string to_text(const sockaddr* address) {
  std::array<char, NI_MAXHOST> host{};
  const socklen_t length = address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (::getnameinfo(address, length, host.data(), host.size(), nullptr, 0, NI_NUMERICHOST) != 0) return "?";
  return host.data();
}

Result<EventChannelPtr> make_event_channel() {
  const std::string doing = "opening the RDMA connection manager";
  auto made = check_pointer(rdma_create_event_channel(), doing);
  if (!made) {
    made.error().advice = opening_advice(made.error().code);
    return Failure(std::move(made.error()));
  }
  EventChannelPtr channel(*made);
  RAMFERRY_TRY(set_nonblocking(channel->fd, doing));
  return channel;
}

Result<UniqueFd> make_wake_fd() {
  UniqueFd fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!fd) return fail_errno(errno, "making an eventfd");
  return fd;
}

void signal_wake_fd(const UniqueFd& fd) noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(::write(fd.get(), &one, sizeof one));  // fails only when it is signalled already
}

bool clear_wake_fd(const UniqueFd& fd) noexcept {
  std::uint64_t count = 0;
  return ::read(fd.get(), &count, sizeof count) == static_cast<ssize_t>(sizeof count);
}

Result<CmEventPtr> take_cm_event(rdma_event_channel* channel) {
  rdma_cm_event* event = nullptr;
  if (rdma_get_cm_event(channel, &event) == 0) return CmEventPtr(event);
  if (errno == EAGAIN || errno == EINTR) return CmEventPtr();
  return fail_errno(errno, "reading RDMA connection events");
}

Result<bool> wait_readable(int fd, int other, Deadline deadline, const std::string& doing) {
  std::array<pollfd, 2> watched{pollfd{fd, POLLIN, 0}, pollfd{other, POLLIN, 0}};
  while (true) {
    const int ready = ::poll(watched.data(), watched.size(), milliseconds_left(deadline));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return fail_errno(errno, doing);
    if (deadline.passed()) return false;
  }
}

Result<CmIdPtr> make_id(rdma_event_channel* channel, const std::string& doing) {
  rdma_cm_id* id = nullptr;
  RAMFERRY_TRY(check_cm(rdma_create_id(channel, &id, nullptr, RDMA_PS_TCP), doing));
  return CmIdPtr(id);
}

Result<> set_ack_timeout(rdma_cm_id* id, const LinkTuning& tuning) {
  std::uint8_t value = tuning.ack_timeout;
  return check_cm(rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &value, sizeof value),
                  "setting the ACK timeout to " + std::to_string(value));
}

Result<> resolve_routes(std::span<rdma_cm_id* const> ids, const SocketAddress& target,
                        const LinkTuning& tuning, Deadline deadline) {
  const std::string doing = "finding the RDMA route to " + to_text(target.get());
  const int wait = std::max(1, milliseconds_left(deadline));
  for (rdma_cm_id* const id : ids) {
    auto resolving = check_cm(rdma_resolve_addr(id, nullptr, target.get(), wait), doing);
    if (!resolving && (errno == ENODEV || errno == ENOENT))
      return fail(FabricErrc::no_device, doing, kNoDeviceAdvice);
    RAMFERRY_TRY(std::move(resolving));
  }
  for (std::size_t left = ids.size(); left > 0;) {
    rdma_event_channel* const channel = ids.front()->channel;
    RAMFERRY_TRY_ASSIGN(const CmEventPtr event, take_cm_event(channel));
    if (event) {
      if (std::find(ids.begin(), ids.end(), event->id) == ids.end()) continue;
      RAMFERRY_TRY_ASSIGN(const bool resolved, resolve_further(*event, tuning, wait, doing));
      if (resolved) --left;
      continue;
    }
    RAMFERRY_TRY_ASSIGN(const bool ready, wait_readable(channel->fd, -1, deadline, doing));
    if (!ready) return fail(errc::timed_out, doing, kNoAnswerAdvice);
  }
  return {};
}

Result<> resolve_route(rdma_cm_id* id, const SocketAddress& target, const LinkTuning& tuning,
                       Deadline deadline) {
  return resolve_routes({&id, 1}, target, tuning, deadline);
}

}  // namespace ramferry::rdma
