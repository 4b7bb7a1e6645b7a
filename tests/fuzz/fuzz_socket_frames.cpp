// SPDX-License-Identifier: MIT
// The receiving half of a socket connection: whatever a peer sends, nothing is written outside the slots that
// were exposed, nothing is stored for longer than was announced, and no more bytes are taken than were
// granted.
//
// The first byte of the input says in what pieces the connection delivers the rest.
#include "../../tcp/src/inbox.hpp"
#include "../../tcp/src/lane_reader.hpp"
#include "../../tcp/src/multifd_hello.hpp"
#include "../../tcp/src/preamble.hpp"
#include "fuzz/replay.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

using namespace ramferry;
using namespace ramferry::tcp;

namespace {

constexpr std::size_t kSlotBytes = 8192, kGuardBytes = 4096, kWindow = 1024;
constexpr std::byte kGuard{0xa5};

class InputSource final : public ByteSource {
 public:
  InputSource(ConstBytes input, std::size_t most) : rest_(input), most_(most) {}
  Result<std::size_t> read(std::span<iovec> pieces) override {
    std::size_t done = 0;
    for (const iovec& piece : pieces) {
      const std::size_t bytes = std::min({piece.iov_len, rest_.size(), most_ - done});
      if (bytes > 0) std::memcpy(piece.iov_base, rest_.data(), bytes);
      rest_ = rest_.subspan(bytes);
      done += bytes;
      if (done == most_ || rest_.empty()) break;
    }
    return done;
  }

 private:
  ConstBytes rest_;
  const std::size_t most_;
};

class CountingLanding final : public Landing {
 public:
  std::uint64_t size() const noexcept override { return 1ULL << 40; }
  Bytes window(std::uint64_t, std::uint64_t) noexcept override { return {}; }
  void note_written(std::uint64_t, std::uint64_t) noexcept override {}
  Result<> store(std::uint64_t offset, std::uint64_t length, Encoding encoding, ConstBytes bytes) override {
    RAMFERRY_FUZZ_CHECK(length <= size() && offset <= size() - length);
    RAMFERRY_FUZZ_CHECK(encoding != kRawEncoding || bytes.size() == length);
    RAMFERRY_FUZZ_CHECK(bytes.size() <= kMaxPlaceBytes);
    return {};
  }
  Result<> zero(std::uint64_t offset, std::uint64_t length) override {
    RAMFERRY_FUZZ_CHECK(length <= size() && offset <= size() - length);
    return {};
  }
};

/// What a channel does with it, without its threads.
class Events final : public LaneEvents {
 public:
  ~Events() override { RAMFERRY_FUZZ_CHECK(landing_ == 0); }
  Result<> begin_landing() override {
    RAMFERRY_FUZZ_CHECK(++landing_ == 1);
    return {};
  }
  void end_landing() noexcept override { --landing_; }
  Result<std::array<Bytes, 2>> room_for(std::size_t bytes) override {
    const auto room = inbox_.free(bytes);
    if (room[0].empty()) return fail(errc::protocol_mismatch, "more bytes than were granted");
    return room;
  }
  void bytes_arrived(std::size_t bytes) override { inbox_.add(bytes, 0); }
  Result<> fence_arrived(Epoch) override { return {}; }
  Result<> status_arrived(Epoch, std::uint64_t) override { return {}; }
  Result<> finish_arrived() override { return {}; }

 private:
  int landing_ = 0;
  Inbox inbox_{kWindow};
};

/// What a connection may begin with: a lane's preamble, or a QEMU's multifd channel.
void read_preamble(ConstBytes input) {
  if (const auto hello = decode_multifd_hello(input.first(std::min(input.size(), kMultifdHelloBytes)))) {
    std::vector<std::byte> again;
    encode_multifd_hello(*hello, again);
    RAMFERRY_FUZZ_CHECK(decode_multifd_hello(again).has_value());
  }
  if (input.size() < kPreamblePrefix) return;
  const auto size =
      decode_preamble_size(std::span<const std::byte, kPreamblePrefix>(input.data(), kPreamblePrefix));
  if (!size) return;
  RAMFERRY_FUZZ_CHECK(*size > kPreamblePrefix && *size <= kMaxPreambleBytes);
  const auto preamble = decode_preamble(input.first(std::min(*size, input.size())));
  if (preamble && preamble->kind != PreambleKind::refused)
    RAMFERRY_FUZZ_CHECK(preamble->lane < preamble->lanes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ConstBytes all = fuzz::input(data, size);
  if (all.empty()) return 0;
  const std::size_t most =
      std::to_integer<std::size_t>(all[0]) % 5 == 0 ? 1 + std::to_integer<std::size_t>(all[0]) : size;
  all = all.subspan(1);
  read_preamble(all);

  std::vector<std::byte> memory(kSlotBytes + 2 * kGuardBytes, kGuard);
  MemoryLanding plain(Bytes(memory).subspan(kGuardBytes, kSlotBytes), MemoryLanding::Content::unknown);
  CountingLanding storing;
  SlotTable slots;
  (void)slots.add(SlotId{1}, plain);
  (void)slots.add(SlotId{2}, storing);
  InputSource source(all, most);
  Events events;
  Counters counters;
  LaneReader reader(source, slots, events, counters);
  (void)reader.run();
  const auto intact = [](ConstBytes bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte each) { return each == kGuard; });
  };
  RAMFERRY_FUZZ_CHECK(intact(ConstBytes(memory).first(kGuardBytes)));
  RAMFERRY_FUZZ_CHECK(intact(ConstBytes(memory).last(kGuardBytes)));
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  std::vector<Input> all;
  const auto add = [&](auto encode, std::size_t payload) {
    for (const int pieces : {1, 5, 10}) {  // at once, and in pieces
      Input input{static_cast<std::byte>(pieces)};
      encode(input);
      input.resize(input.size() + payload, std::byte{0x55});
      encode_fence(1, input);
      all.push_back(input);
    }
  };
  add(
      [](Input& i) {
        encode_place(std::vector<Extent>{{.slot = SlotId{1}, .offset = 4000, .length = 300, .bytes = 300}},
                     i);
      },
      300);
  add(
      [](Input& i) {
        encode_place(
            std::vector<Extent>{{.slot = SlotId{1}, .offset = 8190, .length = 2, .bytes = 2},
                                {.slot = SlotId{2}, .offset = 9, .length = 4096, .bytes = 20, .encoding = 3},
                                {.slot = SlotId{2}, .offset = 1ULL << 39, .length = 30, .bytes = 30},
                                {.slot = SlotId{1}, .offset = 0, .length = 8, .bytes = 8}},
            i);
      },
      60);
  add(
      [](Input& i) {
        encode_zero(std::vector<ZeroRun>{{SlotId{1}, 0, 8192}, {SlotId{2}, 5, 1ULL << 30}}, i);
      },
      0);
  add([](Input& i) { encode_bytes(200, i); }, 200);
  add(
      [](Input& i) {
        encode_finish(i);
        encode_error("no space left", i);
      },
      0);
  add(
      [](Input& i) {
        const auto status = encode_status(7, 4096);
        i.insert(i.end(), status.begin(), status.end());
        encode_goodbye(i);
      },
      0);
  add(
      [](Input& i) {
        encode_preamble({.session = SessionId{{std::byte{1}}},
                         .lanes = 2,
                         .window = 65536,
                         .peer_timeout_ms = 1000,
                         .reason = "why"},
                        i);
      },
      0);
  add([](Input& i) { encode_multifd_hello({.channel = 3}, i); }, 0);
  return all;
}
