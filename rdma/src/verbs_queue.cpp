// SPDX-License-Identifier: MIT
#include "verbs_queue.hpp"

#include "verbs_advice.hpp"
#include "verbs_check.hpp"
#include "verbs_domain.hpp"

#include <algorithm>
#include <array>
#include <new>
#include <system_error>
#include <utility>

namespace ramferry::rdma {
namespace {

constexpr std::size_t kMostPerCall = 80;           // a list of the channel's and its fence fit
constexpr std::uint64_t kWorthAThread = 64 << 10;  // bytes; waking one costs as much as moving a few pages

std::uint64_t address_of(const std::byte* bytes) noexcept {
  return reinterpret_cast<std::uintptr_t>(bytes);
}

bool is_long(std::span<const WorkRequest> list) noexcept {
  std::uint64_t bytes = 0;
  for (const WorkRequest& each : list) bytes += each.length;
  return bytes >= kWorthAThread;
}

}  // namespace

VerbsQueue::VerbsQueue(VerbsDomain& domain, CmIdPtr id) : domain_(domain), id_(std::move(id)) {
  if (PostingPool* const pool = domain.posting_pool())
    posting_ = std::make_unique<PostingQueue>(
        *pool, [this](std::span<const WorkRequest> list) { return post_now(list); });
}

Result<std::unique_ptr<VerbsQueue>> VerbsQueue::make(VerbsDomain& domain, CmIdPtr id, QueueShape shape,
                                                     std::span<const Receive> receives) {
  ibv_qp_init_attr wanted{};
  wanted.send_cq = wanted.recv_cq = domain.completion_queue();
  wanted.cap.max_send_wr = shape.sends;
  wanted.cap.max_recv_wr = shape.receives;
  wanted.cap.max_send_sge = wanted.cap.max_recv_sge = 1;
  wanted.qp_type = IBV_QPT_RC;
  if (rdma_create_qp(id.get(), domain.protection_domain(), &wanted) != 0)
    return Failure(making_failed(errno,
                                 "making a queue pair with " + std::to_string(shape.sends) + " sends and " +
                                     std::to_string(shape.receives) + " receives",
                                 "max_qp"));
  std::unique_ptr<VerbsQueue> queue(new VerbsQueue(domain, std::move(id)));
  const Posted posted = queue->post_receives(receives);
  if (posted.error) return fail(posted.error, "posting the first receives");
  return queue;
}

VerbsQueue::~VerbsQueue() {
  posting_.reset();
  disconnect();
  rdma_destroy_qp(id_.get());
  domain_.bury(std::move(id_));
}

Posted VerbsQueue::post(std::span<const WorkRequest> list) noexcept {
  if (!posting_ || (posting_->is_idle() && !is_long(list))) return post_now(list);
  try {
    if (const auto added = posting_->add(list)) return *added;
  } catch (const std::bad_alloc&) {
    return {0, std::make_error_code(std::errc::not_enough_memory)};
  }
  return post_now(list);
}

Posted VerbsQueue::post_now(std::span<const WorkRequest> list) noexcept {
  std::array<ibv_send_wr, kMostPerCall> requests;
  std::array<ibv_sge, kMostPerCall> pieces;
  std::size_t done = 0;
  while (done < list.size()) {
    const std::size_t count = std::min(list.size() - done, kMostPerCall);
    for (std::size_t i = 0; i < count; ++i) {
      const WorkRequest& from = list[done + i];
      pieces[i] = ibv_sge{address_of(from.local), from.length, from.local_key};
      ibv_send_wr& to = requests[i];
      to = ibv_send_wr{};
      to.wr_id = from.id;
      to.next = i + 1 < count ? &requests[i + 1] : nullptr;
      to.sg_list = &pieces[i];
      to.num_sge = from.length == 0 ? 0 : 1;
      to.send_flags = from.signaled ? static_cast<unsigned int>(IBV_SEND_SIGNALED) : 0U;
      if (from.kind == WorkRequest::Kind::send) {
        to.opcode = IBV_WR_SEND;
      } else {
        to.opcode = IBV_WR_RDMA_WRITE;
        to.wr.rdma.remote_addr = from.remote_address;
        to.wr.rdma.rkey = from.remote_key;
      }
    }
    ibv_send_wr* bad = nullptr;
    const int error = ibv_post_send(id_->qp, requests.data(), &bad);
    if (error != 0) {
      const std::size_t taken = bad == nullptr ? 0 : static_cast<std::size_t>(bad - requests.data());
      return {done + taken, posting_error(error)};
    }
    done += count;
  }
  return {done, {}};
}

Posted VerbsQueue::post_receives(std::span<const Receive> list) noexcept {
  std::size_t done = 0;
  for (const Receive& from : list) {
    ibv_sge piece{address_of(from.into), from.length, from.local_key};
    ibv_recv_wr request{};
    request.wr_id = from.id;
    request.sg_list = &piece;
    request.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    if (const int error = ibv_post_recv(id_->qp, &request, &bad); error != 0)
      return {done, posting_error(error)};
    ++done;
  }
  return {done, {}};
}

void VerbsQueue::to_error() noexcept {
  ibv_qp_attr error_state{};
  error_state.qp_state = IBV_QPS_ERR;
  static_cast<void>(ibv_modify_qp(id_->qp, &error_state, IBV_QP_STATE));
}

void VerbsQueue::disconnect() noexcept {
  static_cast<void>(
      rdma_disconnect(id_.get()));  // fails where there is no connection (any more): then nobody to tell
  to_error();
}

}  // namespace ramferry::rdma
