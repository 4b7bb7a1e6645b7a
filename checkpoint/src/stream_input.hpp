// SPDX-License-Identifier: MIT
// Reads a ByteStream through two large buffers in turn and hands out views of them: a page is not copied
// before it is stored, and may be stored while the next ones are received.
//
// One thread. The stream is borrowed.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/migration/section.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace ramferry::checkpoint {

class StreamInput final : public migration::SectionReader {
 public:
  /// The largest view.
  static constexpr std::size_t kMostView = 64 * 1024;

  explicit StreamInput(ByteStream& stream, std::size_t buffer = 1U << 20);

  /// The next `count` bytes in one piece, at most kMostView. errc::peer_gone if the stream ends before. Every
  /// view is valid until before_refill was called twice.
  Result<ConstBytes> view(std::size_t count);
  Result<> get(Bytes into) override;
  /// The next byte, which stays; no value at the end of the stream.
  Result<std::optional<std::uint8_t>> peek();
  /// Whatever is there or comes next; nothing at the end of the stream.
  Result<ConstBytes> some();

  /// Called when a buffer is full, before the other one is used again: views that are older than its last
  /// call end. May be empty.
  void before_refill(std::function<Result<>()> call) { before_refill_ = std::move(call); }
  /// Called with everything as it arrives. May be empty.
  void tap(std::function<Result<>(ConstBytes)> call) { tap_ = std::move(call); }
  /// For every later read. Where it passes: errc::timed_out; nothing that arrived is lost for some() and
  /// peek().
  void set_deadline(Deadline deadline) noexcept { deadline_ = deadline; }
  /// Bytes handed out so far.
  std::uint64_t consumed() const noexcept { return consumed_; }

 private:
  Result<bool> fill();
  Result<> turn();

  ByteStream& stream_;
  const std::size_t buffer_bytes_;  ///< of each
  std::unique_ptr<std::byte[]> buffer_, other_;
  std::size_t begin_ = 0, end_ = 0;
  std::uint64_t consumed_ = 0;
  Deadline deadline_ = Deadline::never();
  std::function<Result<>()> before_refill_;
  std::function<Result<>(ConstBytes)> tap_;
};

}  // namespace ramferry::checkpoint
