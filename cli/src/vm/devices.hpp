// SPDX-License-Identifier: MIT
// The reference VM's small devices: a clock that counts running time, and a serial port that remembers its
// last lines. Each is a versioned section.
#pragma once

#include <ramferry/migration/section.hpp>

#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>

namespace ramferry::vm {

/// start() and stop() by whoever resumes and pauses the VM; elapsed() from any thread.
class ClockDevice final : public migration::SectionHandler {
 public:
  void start();
  void stop();
  /// How long the guest has run, on all hosts together.
  std::chrono::nanoseconds elapsed() const;

  migration::SectionId id() const override { return {.name = "ramferry/clock", .instance = 0, .version = 1}; }
  Result<> finish(migration::SectionWriter& writer) override;
  Result<> load(migration::SectionReader& reader, std::uint32_t version,
                migration::SectionPart part) override;
  void describe(nlohmann::json& device) const override;

 private:
  using SteadyClock = std::chrono::steady_clock;
  mutable std::mutex mutex_;
  std::chrono::nanoseconds elapsed_{};
  std::optional<SteadyClock::time_point> since_;
};

/// Any thread.
class SerialDevice final : public migration::SectionHandler {
 public:
  void write(std::string line);
  std::deque<std::string> lines() const;

  migration::SectionId id() const override {
    return {.name = "ramferry/serial", .instance = 0, .version = 1};
  }
  Result<> finish(migration::SectionWriter& writer) override;
  Result<> load(migration::SectionReader& reader, std::uint32_t version,
                migration::SectionPart part) override;

 private:
  static constexpr std::size_t kMostLines = 32, kMostLineBytes = 200;
  mutable std::mutex mutex_;
  std::deque<std::string> lines_;
  std::uint64_t written_ = 0;  ///< lines ever
};

}  // namespace ramferry::vm
