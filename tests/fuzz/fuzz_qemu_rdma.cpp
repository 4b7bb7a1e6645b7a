// SPDX-License-Identifier: MIT
// Messages of QEMU's RDMA protocol: what is read can be written again, and reads the same.
#include "fuzz/replay.hpp"
#include "qemu_message.hpp"

#include <array>

using namespace ramferry;
using namespace ramferry::rdma::qemu;

namespace {

fuzz::Input message(MessageType type, std::uint32_t repeat, ConstBytes data) {
  fuzz::Input bytes(kHeaderBytes + data.size());
  encode(type, repeat, data, bytes);
  return bytes;
}

template <class Records>
void check_same(const Message& read, const Records& again) {
  RAMFERRY_FUZZ_CHECK(again.size() == read.data.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ConstBytes input = fuzz::input(data, size);
  static_cast<void>(decode_greeting(input));
  const auto read = decode(input);
  if (!read) return 0;
  RAMFERRY_FUZZ_CHECK(read->data.size() + kHeaderBytes == input.size());
  RAMFERRY_FUZZ_CHECK(!to_string(read->type).empty());
  check_same(*read, read->type == MessageType::blocks_result ? records(blocks_of(*read))
                    : read->type == MessageType::register_result
                        ? records(results_of(*read))
                        : std::vector<std::byte>(read->data.begin(), read->data.end()));
  const auto requests = requests_of(*read);
  RAMFERRY_FUZZ_CHECK(requests.size() <= kMostRequests);
  const Zero zero = zero_of(*read);
  RAMFERRY_FUZZ_CHECK(read->type == MessageType::zero || zero == Zero{});
  const auto again = decode(message(read->type, static_cast<std::uint32_t>(requests.size()), read->data));
  RAMFERRY_FUZZ_CHECK(again.has_value() && again->type == read->type);
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  const std::array blocks{Block{1ULL << 40, 0, 64ULL << 20, 7}, Block{2ULL << 40, 64ULL << 20, 4096, 0}};
  const std::array results{RegisterResult{9, 1ULL << 40}};
  const std::vector<std::byte> some(100, std::byte{5});
  auto requests = records(RegisterRequest{1, 2, 3});
  const auto more = records(RegisterRequest{4, 5, 6});
  requests.insert(requests.end(), more.begin(), more.end());
  return {message(MessageType::error, 1, {}),
          message(MessageType::ready, 1, {}),
          message(MessageType::stream, 1, some),
          message(MessageType::blocks_request, 1, {}),
          message(MessageType::blocks_result, 2, records(blocks)),
          message(MessageType::zero, 1, records(Zero{0, 1, 4096, 1ULL << 33})),
          message(MessageType::register_request, 2, requests),
          message(MessageType::register_result, 1, records(results)),
          message(MessageType::round_over, 1, {}),
          message(MessageType::unregister_request, 1, more),
          message(MessageType::unregister_result, 1, {}),
          encode(Greeting{.pin_all = true})};
}
