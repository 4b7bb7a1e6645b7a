// SPDX-License-Identifier: MIT
// Where diagnostics go. Injected, never global; every implementation may be called from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

namespace ramferry {

enum class LogLevel : std::uint8_t {
  error,  ///< the asked-for thing did not happen
  warn,   ///< odd, but fine
  info,   ///< at most a line per phase or round
  debug,  ///< free; `key=value` tails
};
std::string_view to_string(LogLevel level) noexcept;

class Log {
 public:
  virtual ~Log() = default;
  virtual bool wants(LogLevel level) const noexcept = 0;
  virtual void write(LogLevel level, std::string_view line) noexcept = 0;

  void error(std::string_view line) noexcept { put(LogLevel::error, line); }
  void warn(std::string_view line) noexcept { put(LogLevel::warn, line); }
  void info(std::string_view line) noexcept { put(LogLevel::info, line); }
  void debug(std::string_view line) noexcept { put(LogLevel::debug, line); }

 private:
  void put(LogLevel level, std::string_view line) noexcept {
    if (wants(level)) write(level, line);
  }
};

/// Says nothing.
class NullLog final : public Log {
 public:
  bool wants(LogLevel /*level*/) const noexcept override { return false; }
  void write(LogLevel /*level*/, std::string_view /*line*/) noexcept override {}
};

/// Lines on standard error: "ramferry: warn: …".
class StderrLog final : public Log {
 public:
  explicit StderrLog(LogLevel most = LogLevel::warn) noexcept : most_(most) {}
  void set_level(LogLevel most) noexcept { most_ = most; }
  bool wants(LogLevel level) const noexcept override { return level <= most_; }
  void write(LogLevel level, std::string_view line) noexcept override;

 private:
  std::atomic<LogLevel> most_;
};

}  // namespace ramferry
