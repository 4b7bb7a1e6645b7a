// SPDX-License-Identifier: MIT
// The harmless faults, which any channel may show, must break no promise; nor must the wrapper itself.
#include "contract/channel_contract.hpp"
#include "support/faulty_channel.hpp"
#include "support/loopback_channel.hpp"

#include <atomic>

namespace ramferry::test {
namespace {

Result<ChannelPair> connect(SessionId session) {
  static std::atomic<std::uint64_t> seed{1};
  ChannelPair pair = make_loopback_pair({.session = session, .queue_depth = 3, .seed = ++seed});
  for (std::unique_ptr<Channel>* end : {&pair.source, &pair.destination})
    *end = std::make_unique<FaultyChannel>(
        std::move(*end),
        FaultPlan{.most_delay = std::chrono::microseconds(20), .most_received = 3000, .seed = ++seed});
  return pair;
}

INSTANTIATE_TEST_SUITE_P(Faulty, ChannelContract,
                         ::testing::Values(ContractSubject{"harmless_faults", connect}), subject_name);

}  // namespace
}  // namespace ramferry::test
