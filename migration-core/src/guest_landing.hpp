// SPDX-License-Identifier: MIT
// Where a RAM block's pages land: guest memory, which also takes pages that come encoded.
#pragma once

#include "worker_pool.hpp"

#include <ramferry/slot.hpp>

#include <functional>
#include <memory>
#include <mutex>

namespace ramferry::migration {

/// Threads that decompress, made when the first compressed page comes. Any thread.
class Decompressors {
 public:
  /// `threads` says how many; asked once.
  explicit Decompressors(std::function<unsigned()> threads) : threads_(std::move(threads)) {}
  WorkerPool& pool();

 private:
  std::function<unsigned()> threads_;
  std::mutex mutex_;
  std::unique_ptr<WorkerPool> pool_;
};

class GuestLanding final : public Landing {
 public:
  /// Borrows all.
  GuestLanding(Bytes memory, std::uint64_t page_bytes, MemoryLanding::Content content,
               Decompressors& decompressors)
      : memory_(memory, content), page_bytes_(page_bytes), decompressors_(decompressors) {}

  std::uint64_t size() const noexcept override { return memory_.size(); }
  Bytes window(std::uint64_t offset, std::uint64_t length) noexcept override {
    return memory_.window(offset, length);
  }
  void note_written(std::uint64_t offset, std::uint64_t length) noexcept override {
    memory_.note_written(offset, length);
  }
  Result<> store(std::uint64_t offset, std::uint64_t length, Encoding encoding, ConstBytes bytes) override;
  Result<> zero(std::uint64_t offset, std::uint64_t length) override { return memory_.zero(offset, length); }

 private:
  Result<> store_compressed(Encoding method, ConstBytes payload, Bytes into);

  MemoryLanding memory_;
  const std::uint64_t page_bytes_;
  Decompressors& decompressors_;
};

}  // namespace ramferry::migration
