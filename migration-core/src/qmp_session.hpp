// SPDX-License-Identifier: MIT
// One client of the monitor: reads requests, runs commands, writes answers and events.
#pragma once

#include "json_framer.hpp"

#include <ramferry/byte_stream.hpp>
#include <ramferry/log.hpp>
#include <ramferry/migration/qmp_command.hpp>
#include <ramferry/migration/qmp_server.hpp>

#include <nlohmann/json.hpp>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace ramferry::migration {

/// What all sessions of a server share.
struct QmpShared {
  const QmpCommandTable& table;
  QmpSettings settings;
  Log& log;
  std::mutex commands;  ///< one command at a time
};

class QmpSession {
 public:
  QmpSession(std::unique_ptr<ByteStream> stream, QmpShared& shared);
  /// Writes what is queued, for a moment, then disconnects.
  ~QmpSession();
  QmpSession(const QmpSession&) = delete;
  QmpSession& operator=(const QmpSession&) = delete;

  /// Any thread. Only after negotiation; `line` is a whole JSON text.
  void event(const std::string& line);
  bool over() const noexcept { return over_; }
  /// Any thread but the session's own: lets the request under way be answered, then takes no more.
  void dismiss();

 private:
  void read();
  void write();
  void keep(UniqueFd fd);
  void handle(const JsonFramer::Piece& piece);
  nlohmann::json answer(const nlohmann::json& request);
  QmpResult execute(const std::string& command, const nlohmann::json& arguments);
  QmpResult negotiate(const nlohmann::json& arguments);
  void queue(std::string line);
  void close();  ///< nothing more is queued; what is queued goes out

  QmpShared& shared_;
  QmpCaller caller_;  ///< reading thread
  const std::unique_ptr<ByteStream> stream_;
  std::atomic<bool> negotiated_ = false, over_ = false;
  std::mutex handling_;  ///< held while a request is carried out and answered; before mutex_
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> queue_;
  std::size_t queued_bytes_ = 0;
  bool closing_ = false, written_ = false;
  Deadline farewell_ = Deadline::never();  ///< once closing: until then the rest may go out
  std::thread reader_, writer_;
};

}  // namespace ramferry::migration
