// SPDX-License-Identifier: MIT
// One session's share of a real device.
#pragma once

#include "fabric.hpp"
#include "posting_pool.hpp"
#include "verbs.hpp"
#include "verbs_async.hpp"
#include "verbs_cm.hpp"

#include <ramferry/unique_fd.hpp>

#include <atomic>
#include <deque>
#include <mutex>

namespace ramferry::rdma {

class VerbsDomain final : public Domain {
 public:
  /// On the device that `id` is bound to. `channel` will carry the events of this domain's connections.
  static Result<std::unique_ptr<VerbsDomain>> make(std::shared_ptr<AsyncEvents> events,
                                                   EventChannelPtr channel, rdma_cm_id* id,
                                                   const LinkTuning& tuning, std::uint32_t completions);
  ~VerbsDomain() override;

  const DeviceFacts& device() const noexcept override { return device_; }
  Result<std::unique_ptr<Region>> register_memory(Bytes memory, Rights rights, std::uint64_t base) override;
  Result<std::vector<Connected>> connect_all(std::span<const Dial> dials, Deadline deadline) override;
  Result<std::size_t> poll(std::span<Completion> into) override;
  std::optional<LinkEvent> next_event() override;
  std::size_t confirmed() const noexcept override { return confirmed_; }
  void wait(Deadline deadline) override;
  void wake() noexcept override;

  /// Where connect() goes to. `resolved` leads there and serves the first connection.
  void set_target(CmIdPtr resolved, const SocketAddress& target) {
    first_ = std::move(resolved);
    target_ = target;
  }
  rdma_event_channel* channel() const noexcept { return channel_.get(); }
  ibv_context* context() const noexcept { return context_; }
  ibv_cq* completion_queue() const noexcept { return queue_.get(); }
  ibv_pd* protection_domain() const noexcept { return domain_.get(); }
  /// Null where the device does the work, and not whoever posts it.
  PostingPool* posting_pool() const noexcept { return pool_.get(); }
  /// Keeps an id that has lost its queue pair until the domain goes: the last id of a removed device closes
  /// it.
  void bury(CmIdPtr id) noexcept;

 private:
  VerbsDomain(std::shared_ptr<AsyncEvents> events, const LinkTuning& tuning) noexcept;
  Result<> open(rdma_cm_id* id, std::uint32_t completions);
  /// A connection in the making.
  struct Call {
    const rdma_cm_id* id = nullptr;
    Connected made;
    bool answered = false;
  };
  Result<std::vector<CmIdPtr>> ids_towards_target(std::size_t count, Deadline deadline);
  Result<Call> call(CmIdPtr id, const Dial& dial);
  Result<> await_answers(std::span<Call> calls, Deadline deadline);
  Result<> take_answer(Call& call, const rdma_cm_event& event);
  bool spin();
  void take_cm_events();
  void take_completion_event();
  void report(LinkEvent event);

  std::shared_ptr<AsyncEvents> events_;
  LinkTuning tuning_;
  DeviceFacts device_;
  EventChannelPtr channel_;
  ibv_context* context_ = nullptr;  // librdmacm's
  std::mutex graves_mutex_;
  std::vector<CmIdPtr> graves_;
  CmIdPtr first_;
  SocketAddress target_;
  UniqueFd wake_, epoll_;
  ProtectionDomainPtr domain_;
  CompletionChannelPtr completion_channel_;
  CompletionQueuePtr queue_;
  unsigned int unacknowledged_ = 0;  // completion events taken and not acknowledged yet
  bool spins_ = false;
  std::size_t confirmed_ = 0;
  std::vector<ibv_wc> stash_;  // polled by wait(), for poll() to return
  std::size_t stash_used_ = 0;
  std::mutex reported_mutex_;
  std::deque<LinkEvent> reported_;
  std::unique_ptr<PostingPool> pool_;
};

}  // namespace ramferry::rdma
