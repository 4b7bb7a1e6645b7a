// SPDX-License-Identifier: MIT
// Two ends of an RDMA channel over a fabric model, in one process.
#pragma once

#include "fabric_model.hpp"
#include "support/channel_pair.hpp"

#include <ramferry/transport.hpp>

#include <memory>
#include <string>

namespace ramferry::rdma::testing {

/// Connects through a listener; both ends get `options`, the destination those of `at_destination` if given.
Result<test::ChannelPair> connect_pair(Transport& transport, const std::string& host, SessionId session,
                                       const std::string& options, const std::string& at_destination = {});

/// The same over `net`.
Result<test::ChannelPair> make_pair_on(ModelNet& net, SessionId session, const std::string& options,
                                       const std::string& at_destination = {});

/// The same over a net of its own, which ends with the pair.
Result<test::ChannelPair> make_model_pair(const ModelPlan& plan, SessionId session,
                                          const std::string& options);

}  // namespace ramferry::rdma::testing
