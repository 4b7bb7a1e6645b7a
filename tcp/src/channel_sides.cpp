// SPDX-License-Identifier: MIT
// The side streams of a SocketChannel: connections of their own, which neither frames nor heartbeats use.
#include "channel.hpp"
#include "socket_stream.hpp"

namespace ramferry::tcp {

Result<std::unique_ptr<ByteStream>> SocketChannel::open_side(std::uint32_t number, Deadline deadline) {
  RAMFERRY_TRY(usable());
  if (!setup_.open_side)
    return fail(errc::unsupported, "opening a side stream to " + peer_ + ": it does not take any");
  RAMFERRY_TRY_ASSIGN(UniqueFd socket, setup_.open_side(number, deadline));
  return std::make_unique<SocketStream>(std::move(socket), setup_.own_timeout);
}

void SocketChannel::admit_sides(std::size_t most) {
  if (setup_.door) setup_.door->admit(most);
}

bool SocketChannel::expect_side(std::uint32_t number) {
  return setup_.door && setup_.door->expect(number);
}

Result<std::unique_ptr<ByteStream>> SocketChannel::take_side(std::uint32_t number, Deadline deadline) {
  if (!setup_.door)
    return fail(errc::wrong_state, "waiting for a side stream: this end opens them, it does not take them");
  RAMFERRY_TRY_ASSIGN(UniqueFd socket, setup_.door->take(number, deadline));
  return std::make_unique<SocketStream>(std::move(socket), setup_.own_timeout);
}

void SocketChannel::abandon_side(std::uint32_t number) noexcept {
  if (setup_.door) setup_.door->abandon(number);
}

}  // namespace ramferry::tcp
