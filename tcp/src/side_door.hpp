// SPDX-License-Identifier: MIT
// Where a listener leaves the side connections of a channel that it made. Any thread.
#pragma once

#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>

namespace ramferry::tcp {

/// What it remembers is bounded: numbers that were announced and not taken or abandoned yet, and at most so
/// many early connections as admit() says. The numbers rise, so that what comes late is known from what comes
/// early.
class SideDoor {
 public:
  /// So many may come before their numbers are announced; none until this is called.
  void admit(std::size_t most_early);
  /// The peer announced `number`. False unless it is greater than all before.
  bool expect(std::uint32_t number);
  /// Whether it was wanted; if not, `socket` is the caller's still.
  bool put(std::uint32_t number, UniqueFd& socket);
  /// Of a number that was announced, once; errc::cancelled if it was not, or is abandoned.
  Result<UniqueFd> take(std::uint32_t number, Deadline deadline);
  void abandon(std::uint32_t number) noexcept;
  /// For good.
  void close() noexcept;
  /// How many numbers and connections it remembers.
  std::size_t remembered() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t most_early_ = 0;
  bool closed_ = false;
  std::uint32_t newest_ = 0;                   ///< number that was announced
  std::set<std::uint32_t> expected_;           ///< announced, and neither taken nor abandoned
  std::map<std::uint32_t, UniqueFd> waiting_;  ///< of these, and early ones: their numbers are newer
};

}  // namespace ramferry::tcp
