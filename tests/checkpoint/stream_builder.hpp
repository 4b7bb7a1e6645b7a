// SPDX-License-Identifier: MIT
// Migration streams as QEMU writes them, made by hand; a stream that plays bytes; folders that go away.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/bytes.hpp>

#include <stdlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace ramferry::test {

inline constexpr std::size_t kPage = 4096;
using Page = std::array<std::byte, kPage>;

/// A page whose content is told by a number, never all zeros.
inline Page page_of(std::uint32_t seed) {
  Page page;
  for (std::size_t i = 0; i < kPage; ++i)
    page[i] = static_cast<std::byte>(std::size_t{seed} * 31 + i * 7 + 1);
  return page;
}

class StreamBuilder {
 public:
  enum Flag : std::uint64_t {
    zero = 0x02,
    mem_size = 0x04,
    page = 0x08,
    end = 0x10,
    same = 0x20,
    delta = 0x40,
    compressed = 0x100,
    flush = 0x200
  };

  StreamBuilder& head(std::string_view machine = "pc-test") {
    out_.u32(0x5145564d).u32(3).u8(7).u32(static_cast<std::uint32_t>(machine.size())).raw(as_bytes(machine));
    return *this;
  }
  StreamBuilder& command(std::uint16_t id, ConstBytes data = {}) {
    out_.u8(8).u16(id).u16(static_cast<std::uint16_t>(data.size())).raw(data);
    return *this;
  }
  StreamBuilder& section(std::uint8_t mark, std::uint32_t number, std::string_view name,
                         std::uint32_t version) {
    out_.u8(mark).u32(number).text8(name).u32(0).u32(version);
    return *this;
  }
  StreamBuilder& start(const std::vector<std::pair<std::string, std::uint64_t>>& blocks) {
    section(1, 2, "ram", 4);
    std::uint64_t total = 0;
    for (const auto& [name, bytes] : blocks) total += bytes;
    out_.u64(total | mem_size);
    for (const auto& [name, bytes] : blocks) out_.text8(name).u64(bytes);
    return finish();
  }
  StreamBuilder& part(std::uint8_t mark = 2) {
    out_.u8(mark).u32(2);
    return *this;
  }
  StreamBuilder& word(std::uint64_t value) {
    out_.u64(value);
    return *this;
  }
  StreamBuilder& record(std::uint64_t offset, std::uint64_t flags, std::string_view block = {}) {
    out_.u64(offset | flags | (block.empty() ? std::uint64_t{same} : 0));
    if (!block.empty()) out_.text8(block);
    return *this;
  }
  StreamBuilder& filled(std::uint64_t offset, const Page& content, std::string_view block = {}) {
    record(offset, page, block);
    out_.raw(content);
    return *this;
  }
  StreamBuilder& zeroed(std::uint64_t offset, std::string_view block = {}, std::uint8_t value = 0) {
    record(offset, zero, block);
    out_.u8(value);
    return *this;
  }
  /// The end of a part: its mark and footer.
  StreamBuilder& finish() {
    out_.u64(end).u8(0x7e).u32(2);
    return *this;
  }
  StreamBuilder& raw(ConstBytes bytes) {
    out_.raw(bytes);
    return *this;
  }
  StreamBuilder& u8(std::uint8_t value) {
    out_.u8(value);
    return *this;
  }
  StreamBuilder& u16(std::uint16_t value) {
    out_.u16(value);
    return *this;
  }
  StreamBuilder& u32(std::uint32_t value) {
    out_.u32(value);
    return *this;
  }
  /// One device with four bytes of state and a subsection, the end mark, the description.
  StreamBuilder& devices(bool described = true) {
    section(4, 5, "clock", 2).u32(0x01020304);
    u8(5);
    out_.text8("clock/alarm").u32(1);
    u16(0x0506);
    out_.u8(0x7e).u32(5).u8(0);
    if (!described) return *this;
    const std::string text =
        R"({"page_size": 4096, "devices": [{"name": "clock", "instance_id": 0, "vmsd_name": "clock", "version": 2, )"
        R"("fields": [{"name": "bytes", "array_len": 4, "type": "uint8", "size": 1}], "subsections": )"
        R"([{"vmsd_name": "clock/alarm", "version": 1, "fields": [{"name": "at", "type": "uint16", "size": 2}]}]}]})";
    out_.u8(6).u32(static_cast<std::uint32_t>(text.size())).raw(as_bytes(text));
    return *this;
  }
  const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  WireWriter out_{bytes_};
};

/// A machine of two blocks; page 1 of "ram" came twice, page 3 became zero, and "rom" has one page.
inline StreamBuilder small_machine() {
  StreamBuilder stream;
  stream.head().start({{"ram", 4 * kPage}, {"rom", kPage}});
  stream.part().zeroed(0, "ram").filled(kPage, page_of(1)).zeroed(2 * kPage).filled(3 * kPage, page_of(3));
  stream.filled(0, page_of(9), "rom").finish();
  stream.part().filled(kPage, page_of(11), "ram").finish();
  stream.part(3).zeroed(3 * kPage, "ram").finish();
  stream.devices();
  return stream;
}

/// Plays bytes, a few at a time, then ends; keeps what is sent.
class PlayedStream final : public ByteStream {
 public:
  explicit PlayedStream(std::vector<std::byte> bytes, std::size_t most = 1U << 20)
      : bytes_(std::move(bytes)), most_(most) {}
  Result<> send(ConstBytes bytes) override {
    sent_.insert(sent_.end(), bytes.begin(), bytes.end());
    return {};
  }
  Result<std::size_t> receive(Bytes into, Deadline /*deadline*/) override {
    const std::size_t count = std::min({into.size(), bytes_.size() - at_, most_});
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(at_), count, into.begin());
    at_ += count;
    return count;
  }
  Result<> finish(Deadline /*deadline*/) override { return {}; }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }
  const std::vector<std::byte>& sent() const noexcept { return sent_; }

 private:
  std::vector<std::byte> bytes_, sent_;
  std::size_t at_ = 0, most_;
};

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "ramferry-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  std::size_t files() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace ramferry::test
