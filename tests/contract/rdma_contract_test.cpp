// SPDX-License-Identifier: MIT
// The RDMA channel on a real device.
#include "contract/channel_contract.hpp"
#include "rdma/model_pair.hpp"
#include "rdma/rdma_host.hpp"

#include <ramferry/rdma/transport.hpp>

namespace ramferry::test {
namespace {

ContractSubject subject(std::string name, std::string options) {
  ContractTraits traits;
  // The device may be emulated in software on an emulated machine.
  traits.prompt = std::chrono::seconds(20);
  traits.races = 100;
  traits.breaks = 8;
  return {std::move(name),
          [=](SessionId session) -> Result<ChannelPair> {
            static StderrLog log;
            static const auto transport = make_rdma_transport(log);
            const auto address = rdma::testing::rdma_address();
            if (!address) return fail(errc::not_found, "looking for an RDMA device");
            return rdma::testing::connect_pair(*transport, *address, session, options);
          },
          traits};
}

/// None without a device: then the suite of the model is what there is.
std::vector<ContractSubject> subjects() {
  if (!rdma::testing::rdma_address()) return {};
  return {subject("rdma", "lanes=2"), subject("rdma_on_demand", "lanes=1&pin=demand&pin-budget=64M")};
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ChannelContract);
INSTANTIATE_TEST_SUITE_P(Rdma, ChannelContract, ::testing::ValuesIn(subjects()), subject_name);

TEST(RdmaContract, HasADeviceToRunOn) {
  RAMFERRY_NEED_RDMA();
}

}  // namespace
}  // namespace ramferry::test
