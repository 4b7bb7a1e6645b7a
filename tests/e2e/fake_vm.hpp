// SPDX-License-Identifier: MIT
// A VM inside the test program: RAM blocks, threads that write to them all the time, and a run state.
//
// What the writers do is drawn from the seed: single words, whole pages, pages made zero again, in a hot set
// or all over; part of the memory is never touched.
#pragma once

#include "support/test_memory.hpp"

#include <ramferry/migration/guest.hpp>
#include <ramferry/migration/ram_block.hpp>

#include <atomic>
#include <functional>
#include <optional>
#include <random>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

namespace ramferry::test {

class FakeVm final : public migration::GuestControl {
 public:
  struct Options {
    std::vector<std::size_t> pages = {4096, 64, 1};  ///< of each block
    std::uint64_t seed = 1;
    unsigned writers = 0;
    std::uint64_t writes_per_second = 20'000;  ///< of all writers together
    double hot_share = 1.0;                    ///< of the memory that the writers go to
  };
  /// Told of each write, after it: for a tracker that cannot see stores.
  using Report = std::function<void(std::uint32_t block, std::uint64_t offset, std::uint64_t length)>;

  /// A destination: blank memory of the same shape.
  explicit FakeVm(const std::vector<std::size_t>& pages);
  /// A source: memory filled by the seed, paused.
  explicit FakeVm(const Options& options);
  ~FakeVm() override;

  const migration::RamLayout& layout() const noexcept { return *layout_; }
  void report_writes(Report report) { report_ = std::move(report); }

  Result<> pause() override;
  Result<> resume() override;
  bool running() const noexcept override { return running_; }
  void throttle(std::uint8_t percent) override { throttles_.push_back(percent); }
  /// All percentages that it was told; after the migration.
  const std::vector<int>& throttles() const noexcept { return throttles_; }
  int pauses() const noexcept { return pauses_; }
  int resumes() const noexcept { return resumes_; }

 private:
  void fill();
  void write_all_the_time(unsigned writer);
  void write_once(std::mt19937_64& random);

  Options options_;
  std::vector<TestMemory> memory_;
  std::optional<migration::RamLayout> layout_;
  Report report_;
  std::shared_mutex cpus_;  ///< shared by the writers, exclusive to change running_
  std::atomic<bool> running_ = false, stop_ = false;
  std::vector<int> throttles_;
  std::atomic<int> pauses_ = 0, resumes_ = 0;
  std::vector<std::thread> writers_;
};

/// A guest writes whole pages, also while they are being sent.
void guest_writes(Bytes to, ConstBytes content) noexcept;

/// "block 0 page 17", the first page that is not the same in both; nothing if all are. Also while they
/// change.
std::optional<std::string> first_difference(const migration::RamLayout& one,
                                            const migration::RamLayout& other);

}  // namespace ramferry::test
