// SPDX-License-Identifier: MIT
// A section's payload in memory: what one handler writes, another can read.
#pragma once

#include <ramferry/migration/section.hpp>

#include <cstring>
#include <vector>

namespace ramferry::test {

class MemoryWriter final : public migration::SectionWriter {
 public:
  Result<> put(ConstBytes bytes) override {
    content.insert(content.end(), bytes.begin(), bytes.end());
    return {};
  }
  Result<> flush() override { return {}; }
  std::uint64_t written() const noexcept override { return content.size(); }
  std::vector<std::byte> content;
};

class MemoryReader final : public migration::SectionReader {
 public:
  explicit MemoryReader(std::vector<std::byte> content) : content_(std::move(content)) {}
  Result<> get(Bytes into) override {
    if (into.size() > left()) return fail(errc::peer_gone, "reading past the end");
    std::memcpy(into.data(), content_.data() + at_, into.size());
    at_ += into.size();
    return {};
  }
  std::size_t left() const noexcept { return content_.size() - at_; }

 private:
  std::vector<std::byte> content_;
  std::size_t at_ = 0;
};

}  // namespace ramferry::test
