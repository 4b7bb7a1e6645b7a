// SPDX-License-Identifier: MIT
#include "qemu_message.hpp"

#include <gmock/gmock.h>

#include <array>

namespace ramferry::rdma::qemu {
namespace {

struct Sample {
  MessageType type;
  std::uint32_t repeat;
  std::vector<std::byte> data;
};

std::vector<Sample> one_of_each() {
  const std::array blocks{Block{1ULL << 40, 0, 64ULL << 20, 7}, Block{2ULL << 40, 64ULL << 20, 4096, 0}};
  const std::array results{RegisterResult{9, 1ULL << 40}};
  return {{MessageType::error, 1, {}},
          {MessageType::ready, 1, {}},
          {MessageType::stream, 1, std::vector<std::byte>(kMostStreamBytes, std::byte{5})},
          {MessageType::blocks_request, 1, {}},
          {MessageType::blocks_result, 2, records(blocks)},
          {MessageType::zero, 1, records(Zero{0, 1, 4096, 1ULL << 33})},
          {MessageType::register_request, 1, records(RegisterRequest{5ULL << 20, 2, 63})},
          {MessageType::register_result, 1, records(results)},
          {MessageType::round_over, 1, {}},
          {MessageType::unregister_request, 1, records(RegisterRequest{5ULL << 20, 2, 0})},
          {MessageType::unregister_result, 1, {}}};
}

std::vector<std::byte> encoded(const Sample& sample) {
  std::vector<std::byte> bytes(kMostMessageBytes);
  bytes.resize(encode(sample.type, sample.repeat, sample.data, bytes));
  return bytes;
}

TEST(QemuMessage, IsReadAsItWasWritten) {
  for (const Sample& sample : one_of_each()) {
    const auto bytes = encoded(sample);
    const auto read = decode(bytes);
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(read->type, sample.type);
    EXPECT_TRUE(std::equal(read->data.begin(), read->data.end(), sample.data.begin(), sample.data.end()));
  }
}

/// The layout, in numbers: a peer that we did not write reads it.
TEST(QemuMessage, HasTheLayoutThatAStockQemuReads) {
  std::vector<std::byte> expected;
  WireWriter out(expected);
  out.u32(24).u32(7).u32(1).u32(0);           // bytes of data, type, repeat, padding
  out.u64(5ULL << 20).u32(2).u32(0).u64(63);  // where, block, padding, further chunks
  EXPECT_EQ(encoded({MessageType::register_request, 1, records(RegisterRequest{5ULL << 20, 2, 63})}),
            expected);
  expected.clear();
  out.u32(24).u32(6).u32(1).u32(0);
  out.u32(0).u32(1).u64(4096).u64(8192);  // value, block, where, length
  EXPECT_EQ(encoded({MessageType::zero, 1, records(Zero{0, 1, 4096, 8192})}), expected);
  expected.clear();
  out.u32(32).u32(5).u32(1).u32(0);
  out.u64(1).u64(2).u64(3).u32(4).u32(0);  // address, offset, length, key, padding
  const std::array blocks{Block{1, 2, 3, 4}};
  EXPECT_EQ(encoded({MessageType::blocks_result, 1, records(blocks)}), expected);
  expected.clear();
  out.u32(16).u32(8).u32(1).u32(0);
  out.u32(9).u32(0).u64(10);  // key, padding, address
  const std::array results{RegisterResult{9, 10}};
  EXPECT_EQ(encoded({MessageType::register_result, 1, records(results)}), expected);
}

TEST(QemuMessage, GivesItsRecordsBack) {
  for (const Sample& sample : one_of_each()) {
    const auto bytes = encoded(sample);
    const auto read = decode(bytes);
    ASSERT_TRUE(read);
    std::vector<std::byte> again;
    switch (sample.type) {
      case MessageType::blocks_result: again = records(blocks_of(*read)); break;
      case MessageType::zero: again = records(zero_of(*read)); break;
      case MessageType::register_request:
      case MessageType::unregister_request: again = records(requests_of(*read).at(0)); break;
      case MessageType::register_result: again = records(results_of(*read)); break;
      default: continue;
    }
    EXPECT_EQ(again, sample.data) << to_string(sample.type);
  }
  EXPECT_TRUE(blocks_of({MessageType::zero, {}}).empty());
}

TEST(QemuMessage, IsRefusedIfCutOrLong) {
  for (const Sample& sample : one_of_each()) {
    auto bytes = encoded(sample);
    for (const std::size_t cut : {std::size_t{1}, kHeaderBytes - 1, bytes.size() - 1})
      EXPECT_FALSE(decode(ConstBytes(bytes).first(cut))) << to_string(sample.type) << ", " << cut << " bytes";
    bytes.emplace_back();
    EXPECT_FALSE(decode(bytes)) << to_string(sample.type);
  }
}

TEST(QemuMessage, IsRefusedForTypesCountsAndPartsThatThereAreNot) {
  const auto refused = [](MessageType type, std::uint32_t repeat, std::size_t data) {
    const auto read = decode(encoded({type, repeat, std::vector<std::byte>(data)}));
    return !read && read.error().is(errc::protocol_mismatch);
  };
  EXPECT_TRUE(refused(MessageType::none, 1, 0));
  EXPECT_TRUE(refused(static_cast<MessageType>(12), 1, 0));
  EXPECT_TRUE(refused(MessageType::blocks_result, 1, 0));
  EXPECT_TRUE(refused(MessageType::blocks_result, 1, 33));
  EXPECT_TRUE(refused(MessageType::zero, 1, 23));
  EXPECT_TRUE(refused(MessageType::register_result, 1, 8));
  EXPECT_TRUE(refused(MessageType::register_request, 2, 24));
  EXPECT_TRUE(refused(MessageType::register_request, 0, 24));
  EXPECT_TRUE(refused(MessageType::register_request, kMostRequests + 1, 24 * (kMostRequests + 1)));
  EXPECT_FALSE(refused(MessageType::register_request, kMostRequests, 24 * kMostRequests));
}

TEST(QemuMessage, ReadsWhatItsPeersSayWhileConnecting) {
  for (const bool pin_all : {false, true}) {
    auto bytes = encode(Greeting{.pin_all = pin_all});
    EXPECT_EQ(bytes.size(), 8U);
    bytes.resize(56);  // the connection manager pads
    const auto read = decode_greeting(bytes);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->pin_all, pin_all);
  }
  EXPECT_TRUE(decode_greeting({}).error().is(errc::protocol_mismatch));
  for (const std::uint32_t version : {0U, 2U}) {
    std::vector<std::byte> bytes;
    WireWriter(bytes).u32(version).u32(0);
    EXPECT_TRUE(decode_greeting(bytes).error().is(errc::unsupported));
  }
}

}  // namespace
}  // namespace ramferry::rdma::qemu
