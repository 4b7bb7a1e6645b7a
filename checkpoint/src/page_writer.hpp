// SPDX-License-Identifier: MIT
// Stores pages on a thread of its own, one lot at a time, while the caller receives the next ones.
//
// One calling thread. The store is borrowed.
#pragma once

#include "page_store.hpp"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace ramferry::checkpoint {

class PageWriter {
 public:
  explicit PageWriter(PageStore& pages) : pages_(pages) {}
  PageWriter(const PageWriter&) = delete;
  /// Waits for what was submitted.
  ~PageWriter();

  /// Waits until the lot before is stored, then begins with this one, and leaves `lot` empty. The bytes that
  /// the pieces point to stay as they are until the next submit() or wait() has returned. Fails if the lot
  /// before did.
  Result<> submit(std::vector<Piece>& lot);
  /// Until nothing is being stored.
  Result<> wait();

 private:
  void run();

  PageStore& pages_;
  std::thread thread_;  ///< begins with the first lot
  std::mutex mutex_;    ///< all below; a lot that is being stored is the thread's alone
  std::condition_variable changed_;
  std::vector<Piece> lot_;
  bool busy_ = false, over_ = false;
  Result<> result_;
};

}  // namespace ramferry::checkpoint
