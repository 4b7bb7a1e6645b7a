// SPDX-License-Identifier: MIT
// The RDMA channel on a fabric that delays and reorders all that the specification lets it.
#include "contract/channel_contract.hpp"
#include "rdma/fabric_model.hpp"
#include "rdma/model_pair.hpp"

#include <atomic>

namespace ramferry::test {
namespace {

using rdma::testing::ModelPlan;

ContractSubject subject(std::string name, std::string options, ModelPlan plan = {}) {
  return {std::move(name), [=](SessionId session) {
            static std::atomic<std::uint64_t> seed{1};
            ModelPlan seeded = plan;
            seeded.seed = ++seed;
            return rdma::testing::make_model_pair(seeded, session, options);
          }};
}

ModelPlan with_slow(unsigned connection, double partial_posts) {
  ModelPlan plan;
  plan.slow_connection = connection;
  plan.partial_posts = partial_posts;
  return plan;
}

// Connection 0 is the control connection, then come the lanes.
INSTANTIATE_TEST_SUITE_P(
    RdmaModel, ChannelContract,
    ::testing::Values(subject("one_lane", "lanes=1"), subject("slow_lane", "lanes=3", with_slow(2, 0.2)),
                      subject("slow_control", "lanes=2&chunk=64K&window=256K", with_slow(0, 0)),
                      subject("pin_on_demand", "lanes=2&pin=demand&pin-budget=64M")),
    subject_name);

}  // namespace
}  // namespace ramferry::test
