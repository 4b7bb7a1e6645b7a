// SPDX-License-Identifier: MIT
// Two connected ends in one process.
#pragma once

#include <ramferry/channel.hpp>

#include <memory>

namespace ramferry::test {

struct ChannelPair {
  std::unique_ptr<Channel> source, destination;
};

}  // namespace ramferry::test
