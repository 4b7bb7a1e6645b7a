// SPDX-License-Identifier: MIT
#include "contract/channel_contract.hpp"
#include "support/loopback_channel.hpp"

namespace ramferry::test {
namespace {

Result<ChannelPair> connect(SessionId session) {
  static std::atomic<std::uint64_t> seed{1};
  return make_loopback_pair({.session = session, .seed = seed++});
}

INSTANTIATE_TEST_SUITE_P(Loopback, ChannelContract, ::testing::Values(ContractSubject{"loopback", connect}),
                         subject_name);

}  // namespace
}  // namespace ramferry::test
