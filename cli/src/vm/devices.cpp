// SPDX-License-Identifier: MIT
#include "vm/devices.hpp"

#include <nlohmann/json.hpp>

#include <limits>
#include <utility>

namespace ramferry::vm {
namespace {

Result<> check_version(const migration::SectionId& id, std::uint32_t version) {
  if (version == id.version) return {};
  return fail(errc::unsupported, "loading '" + id.name + "': version " + std::to_string(version) +
                                     " is not known, only " + std::to_string(id.version) + " is");
}

}  // namespace

void ClockDevice::start() {
  const std::lock_guard lock(mutex_);
  if (!since_) since_ = SteadyClock::now();
}

void ClockDevice::stop() {
  const std::lock_guard lock(mutex_);
  if (since_) elapsed_ += SteadyClock::now() - *since_;
  since_.reset();
}

std::chrono::nanoseconds ClockDevice::elapsed() const {
  const std::lock_guard lock(mutex_);
  return since_ ? elapsed_ + (SteadyClock::now() - *since_) : elapsed_;
}

Result<> ClockDevice::finish(migration::SectionWriter& writer) {
  return writer.u64(static_cast<std::uint64_t>(elapsed().count()));
}

Result<> ClockDevice::load(migration::SectionReader& reader, std::uint32_t version,
                           migration::SectionPart /*part*/) {
  RAMFERRY_TRY(check_version(id(), version));
  RAMFERRY_TRY_ASSIGN(const std::uint64_t elapsed, reader.u64());
  if (elapsed > std::numeric_limits<std::int64_t>::max() / 2)
    return fail(errc::protocol_mismatch, "loading 'ramferry/clock': it ran for centuries");
  const std::lock_guard lock(mutex_);
  elapsed_ = std::chrono::nanoseconds(static_cast<std::int64_t>(elapsed));
  return {};
}

void ClockDevice::describe(nlohmann::json& device) const {
  device["vmsd_name"] = "ramferry/clock";
  device["fields"] = {{{"name", "elapsed_ns"}, {"type", "uint64"}, {"size", 8}}};
}

void SerialDevice::write(std::string line) {
  line.resize(std::min(line.size(), kMostLineBytes));
  const std::lock_guard lock(mutex_);
  lines_.push_back(std::move(line));
  if (lines_.size() > kMostLines) lines_.pop_front();
  ++written_;
}

std::deque<std::string> SerialDevice::lines() const {
  const std::lock_guard lock(mutex_);
  return lines_;
}

Result<> SerialDevice::finish(migration::SectionWriter& writer) {
  const std::lock_guard lock(mutex_);
  RAMFERRY_TRY(writer.u64(written_));
  RAMFERRY_TRY(writer.u32(static_cast<std::uint32_t>(lines_.size())));
  for (const std::string& line : lines_) RAMFERRY_TRY(writer.text8(line));
  return {};
}

Result<> SerialDevice::load(migration::SectionReader& reader, std::uint32_t version,
                            migration::SectionPart /*part*/) {
  RAMFERRY_TRY(check_version(id(), version));
  RAMFERRY_TRY_ASSIGN(const std::uint64_t written, reader.u64());
  RAMFERRY_TRY_ASSIGN(const std::uint32_t count, reader.u32());
  if (count > kMostLines)
    return fail(errc::protocol_mismatch,
                "loading 'ramferry/serial': " + std::to_string(count) + " lines, more than it can hold");
  std::deque<std::string> lines;
  for (std::uint32_t i = 0; i < count; ++i) {
    RAMFERRY_TRY_ASSIGN(std::string line, reader.text8());
    lines.push_back(std::move(line));
  }
  const std::lock_guard lock(mutex_);
  written_ = written;
  lines_ = std::move(lines);
  return {};
}

}  // namespace ramferry::vm
