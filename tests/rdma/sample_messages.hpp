// SPDX-License-Identifier: MIT
// One control message of each kind, with fields that differ.
#pragma once

#include "message.hpp"

#include <vector>

namespace ramferry::rdma {

inline std::vector<Message> one_of_each() {
  static const std::vector<std::byte> some(100, std::byte{7});
  return {Start{3},
          Welcome{},
          BytesMessage{some},
          ZeroMessage{{{SlotId{1}, 4096, 8192}, {SlotId{2}, 0, 1}}},
          StoreMessage{SlotId{1}, 5, 4096, 9, true, some},
          Finish{},
          WantMessage{true, {{SlotId{1}, 1, 2, 3}}},
          GrantMessage{{{SlotId{1}, 1, 2, 3, 4, 5}}},
          ByMessage{SlotId{7}, 8},
          Reclaim{123},
          ReleaseMessage{{{SlotId{1}, 2, 3}}},
          FenceMessage{1, 2, 3, 4},
          Settled{5},
          Revoked{true},
          Heartbeat{},
          Farewell{"why"}};
}

}  // namespace ramferry::rdma
