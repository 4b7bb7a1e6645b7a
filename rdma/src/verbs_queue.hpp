// SPDX-License-Identifier: MIT
// A reliable connection on real verbs.
#pragma once

#include "fabric.hpp"
#include "posting_pool.hpp"
#include "verbs.hpp"

#include <memory>

namespace ramferry::rdma {

class VerbsDomain;

class VerbsQueue final : public QueuePair {
 public:
  /// Makes the queue pair on `id`, whose device is the domain's, and posts the receives.
  static Result<std::unique_ptr<VerbsQueue>> make(VerbsDomain& domain, CmIdPtr id, QueueShape shape,
                                                  std::span<const Receive> receives);
  ~VerbsQueue() override;

  Posted post(std::span<const WorkRequest> list) noexcept override;
  Posted post_receives(std::span<const Receive> list) noexcept override;
  void to_error() noexcept override;
  void disconnect() noexcept override;

  rdma_cm_id* id() const noexcept { return id_.get(); }

 private:
  VerbsQueue(VerbsDomain& domain, CmIdPtr id);
  Posted post_now(std::span<const WorkRequest> list) noexcept;

  VerbsDomain& domain_;
  CmIdPtr id_;
  std::unique_ptr<PostingQueue> posting_;  // null: posting costs little here
};

}  // namespace ramferry::rdma
