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

class SideDoor {
 public:
  /// Closed until this is called.
  void admit(std::size_t most);
  /// Whether it was wanted; if not, `socket` is the caller's still.
  bool put(std::uint32_t number, UniqueFd& socket);
  Result<UniqueFd> take(std::uint32_t number, Deadline deadline);
  void abandon(std::uint32_t number) noexcept;
  /// For good.
  void close() noexcept;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t most_ = 0;
  bool closed_ = false;
  std::map<std::uint32_t, UniqueFd> waiting_;
  std::set<std::uint32_t> abandoned_;
};

}  // namespace ramferry::tcp
