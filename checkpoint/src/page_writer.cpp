// SPDX-License-Identifier: MIT
#include "page_writer.hpp"

#include <utility>

namespace ramferry::checkpoint {

PageWriter::~PageWriter() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

Result<> PageWriter::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !busy_; });
  return std::exchange(result_, Result<>{});
}

Result<> PageWriter::submit(std::vector<Piece>& lot) {
  RAMFERRY_TRY(wait());
  if (lot.empty()) return {};
  const std::lock_guard lock(mutex_);
  lot_.swap(lot);  // both keep their memory
  busy_ = true;
  changed_.notify_all();
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  return {};
}

void PageWriter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return busy_ || over_; });
    if (!busy_) return;
    lock.unlock();
    Result<> stored = pages_.write(lot_);
    lock.lock();
    lot_.clear();
    result_ = std::move(stored);
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace ramferry::checkpoint
