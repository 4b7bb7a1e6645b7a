// SPDX-License-Identifier: MIT
// The reference VM's workload: threads that change pages at a set rate and note each change in the page
// table.
#pragma once

#include "vm/guest_memory.hpp"
#include "vm/page_table.hpp"
#include "vm/random.hpp"

#include <ramferry/error.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

namespace ramferry::vm {

/// Which pages are written.
enum class Pattern : std::uint8_t { uniform, zipf, sequential, second, hot };
std::string_view to_string(Pattern pattern) noexcept;
/// errc::invalid_argument listing the known ones.
Result<Pattern> parse_pattern(std::string_view text);

struct WorkloadSpec {
  std::uint64_t bytes_per_second = 0;  ///< whole pages written × page size; 0 = none
  Pattern pattern = Pattern::uniform;
  std::uint64_t change_bytes = 64;  ///< of a stamped page's content, per write
  unsigned writers = 1;
  std::uint64_t seed = 1;
};

/// pause(), resume() and throttle() from any one thread at a time. One write in 64 turns a page zero; a zero
/// page that is written again gets content; one write in 64 that would hit an untouched page touches it, the
/// others go elsewhere.
class Workload {
 public:
  /// Borrows memory and table. Starts paused.
  Workload(const GuestMemory& memory, PageTable& table, const WorkloadSpec& spec);
  ~Workload();
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  /// When it returns nobody writes guest memory.
  void pause();
  void resume();
  /// 0-99 % slower than the rate asked for.
  void throttle(std::uint8_t percent) noexcept { throttle_ = percent; }
  std::uint64_t pages_written() const noexcept { return written_; }

  /// Writes these pages now, content and all, on the calling thread, which is not the one that pauses.
  /// errc::wrong_state while paused (a pause that begins meanwhile ends it early), and where writers of its
  /// own are at work.
  Result<> write(std::span<const std::uint64_t> pages);

 private:
  struct Writer {
    std::uint64_t number = 0;  ///< writes the pages whose number modulo the writers is this
    Random random{0};
    std::uint64_t cursor = 0;
  };
  void run(Writer writer);
  /// Waits until running and until the next slice of time is due; false: stop for good.
  bool wait_for_turn(std::chrono::steady_clock::time_point due);
  void write_some(Writer& writer, std::uint64_t pages);
  std::uint64_t choose(Writer& writer) const noexcept;
  std::uint64_t draw(Writer& writer) const noexcept;
  void write_page(Writer& writer, std::uint64_t number) noexcept;
  void change_content(Bytes page, const migration::PageRun& at, Random& random) noexcept;

  const GuestMemory& memory_;
  PageTable& table_;
  const WorkloadSpec spec_;
  std::atomic<std::uint64_t> written_ = 0;
  std::atomic<std::uint8_t> throttle_ = 0;
  std::atomic<bool> paused_ = true;
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned writing_ = 0;  ///< writers outside wait_for_turn
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace ramferry::vm
