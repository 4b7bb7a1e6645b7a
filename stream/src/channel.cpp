// SPDX-License-Identifier: MIT
#include <ramferry/channel.hpp>

namespace ramferry {

Result<Epoch> Channel::place_and_tell(const Placement& placement, ConstBytes message) {
  RAMFERRY_TRY(place(std::span(&placement, 1)));
  RAMFERRY_TRY_ASSIGN(const Epoch epoch, fence());
  RAMFERRY_TRY(send(message));
  return epoch;
}

}  // namespace ramferry
