// SPDX-License-Identifier: MIT
// Control messages, lane fences, hellos and answers of the RDMA transport: what is read can be written again,
// and reads the same.
#include "fuzz/replay.hpp"
#include "hello.hpp"
#include "message.hpp"
#include "rdma/sample_messages.hpp"

using namespace ramferry;
using namespace ramferry::rdma;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ConstBytes input = fuzz::input(data, size);
  if (const auto frame = decode(input)) {
    const std::vector<std::byte> again = encode(frame->message);
    RAMFERRY_FUZZ_CHECK(again.size() <= input.size());
    RAMFERRY_FUZZ_CHECK(frame->data_bytes <= input.size());
    RAMFERRY_FUZZ_CHECK(decode(again).has_value());
  }
  if (const auto fence = decode_lane_fence(input)) {
    std::vector<std::byte> again(kLaneFenceBytes);
    encode(*fence, again);
    RAMFERRY_FUZZ_CHECK(std::equal(again.begin(), again.end(), input.begin(), input.end()));
  }
  if (const auto hello = decode_hello(input)) {
    RAMFERRY_FUZZ_CHECK(hello->lanes >= 1 && hello->lanes <= 64 && hello->lane < hello->lanes);
    RAMFERRY_FUZZ_CHECK(decode_hello(encode(*hello)).has_value());
  }
  if (const auto answer = decode_answer(input))
    RAMFERRY_FUZZ_CHECK(decode_answer(encode(*answer)).has_value());
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  std::vector<Input> all;
  for (const Message& message : one_of_each()) all.push_back(encode(message));
  all.emplace_back(kLaneFenceBytes);
  encode(LaneFence{1, 2, 3}, all.back());
  all.push_back(
      encode(Hello{.lanes = 4, .session = SessionId::random(), .peer_timeout_ms = 1000, .receives = 64}));
  all.push_back(encode(Answer{.token = 1, .peer_timeout_ms = 2000, .receives = 9}));
  return all;
}
