// SPDX-License-Identifier: MIT
// The connection manager's chores: events without blocking for ever, names to addresses, addresses to
// devices.
#pragma once

#include "fabric.hpp"
#include "verbs.hpp"

#include <ramferry/unique_fd.hpp>

#include <sys/socket.h>

#include <string>
#include <vector>

namespace ramferry::rdma {

struct SocketAddress {
  sockaddr_storage storage{};
  sockaddr* get() const noexcept {
    return reinterpret_cast<sockaddr*>(const_cast<sockaddr_storage*>(&storage));
  }
};

/// All addresses of a host; an empty host means every local one.
Result<std::vector<SocketAddress>> resolve_name(const Address& address, const std::string& doing);
/// "10.0.0.7" or "fe80::1".
std::string to_text(const sockaddr* address);

/// A new event channel, and an eventfd: neither blocks.
Result<EventChannelPtr> make_event_channel();
Result<UniqueFd> make_wake_fd();
void signal_wake_fd(const UniqueFd& fd) noexcept;
/// True if it had been signalled.
bool clear_wake_fd(const UniqueFd& fd) noexcept;

/// The next event, without waiting; null if there is none.
Result<CmEventPtr> take_cm_event(rdma_event_channel* channel);
/// Waits until one of the descriptors (-1: none) can be read; false at the deadline.
Result<bool> wait_readable(int fd, int other, Deadline deadline, const std::string& doing);

Result<CmIdPtr> make_id(rdma_event_channel* channel, const std::string& doing);
Result<> set_ack_timeout(rdma_cm_id* id, const LinkTuning& tuning);
/// Finds device and route to `target` and binds each of `ids`, of one channel, to them: all at once. Events
/// of other ids are dropped meanwhile.
Result<> resolve_routes(std::span<rdma_cm_id* const> ids, const SocketAddress& target,
                        const LinkTuning& tuning, Deadline deadline);
/// For one.
Result<> resolve_route(rdma_cm_id* id, const SocketAddress& target, const LinkTuning& tuning,
                       Deadline deadline);

}  // namespace ramferry::rdma
