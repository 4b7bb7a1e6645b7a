// SPDX-License-Identifier: MIT
// A byte stream in memory: what was sent is received again. For tests of formats; one thread.
#pragma once

#include <ramferry/byte_stream.hpp>

#include <algorithm>
#include <cstring>
#include <vector>

namespace ramferry::testing {

class MemoryStream final : public ByteStream {
 public:
  MemoryStream() = default;
  explicit MemoryStream(std::vector<std::byte> bytes) : content(std::move(bytes)) {}

  Result<> send(ConstBytes bytes) override {
    content.insert(content.end(), bytes.begin(), bytes.end());
    ++sends;
    return {};
  }
  Result<std::size_t> receive(Bytes into, Deadline /*deadline*/) override {
    const std::size_t count = std::min({into.size(), content.size() - at, most_at_once});
    if (count != 0) std::memcpy(into.data(), content.data() + at, count);
    at += count;
    return count;
  }
  Result<> finish(Deadline /*deadline*/) override { return {}; }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }

  std::vector<std::byte> content;
  std::size_t at = 0, sends = 0;
  std::size_t most_at_once = ~std::size_t{0};
};

}  // namespace ramferry::testing
