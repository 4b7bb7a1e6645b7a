// SPDX-License-Identifier: MIT
// The small parts: clock, log, descriptors, session ids, and what every byte stream can do.
#include <ramferry/byte_stream.hpp>
#include <ramferry/channel.hpp>
#include <ramferry/clock.hpp>
#include <ramferry/log.hpp>
#include <ramferry/session_id.hpp>
#include <ramferry/timeline.hpp>
#include <ramferry/unique_fd.hpp>

#include <sys/random.h>
#include <unistd.h>

#include <cstdio>
#include <random>
#include <thread>

namespace ramferry {

void SystemClock::sleep_until(Time when) {
  std::this_thread::sleep_until(when);
}

std::string_view to_string(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::error: return "error";
    case LogLevel::warn: return "warn";
    case LogLevel::info: return "info";
    case LogLevel::debug: return "debug";
  }
  return "?";
}

void StderrLog::write(LogLevel level, std::string_view line) noexcept {
  const std::string_view name = to_string(level);
  std::fprintf(stderr, "ramferry: %.*s: %.*s\n", static_cast<int>(name.size()), name.data(),
               static_cast<int>(line.size()), line.data());
}

void log_step(Log& log, const Clock& clock, std::string_view of, std::string_view name) {
  if (!log.wants(LogLevel::debug)) return;
  const auto at = std::chrono::duration_cast<std::chrono::microseconds>(clock.now().time_since_epoch());
  log.debug(std::string(of) + " step=" + std::string(name) + " at_us=" + std::to_string(at.count()));
}

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

SessionId SessionId::random() {
  SessionId id;
  if (::getrandom(id.value.data(), id.value.size(), 0) != static_cast<ssize_t>(id.value.size())) {
    std::random_device device;
    for (std::byte& each : id.value) each = static_cast<std::byte>(device());
  }
  return id;
}

std::string SessionId::to_string() const {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte each : value) {
    text += kDigits[std::to_integer<unsigned>(each) >> 4];
    text += kDigits[std::to_integer<unsigned>(each) & 15];
  }
  return text;
}

Result<> receive_exactly(ByteStream& from, Bytes into, Deadline deadline) {
  while (!into.empty()) {
    RAMFERRY_TRY_ASSIGN(const std::size_t got, from.receive(into, deadline));
    if (got == 0)
      return fail(errc::peer_gone,
                  "receiving: the stream ended " + std::to_string(into.size()) + " bytes before it should");
    into = into.subspan(got);
  }
  return {};
}

ByteStream& bytes_of(const Link& link) noexcept {
  return std::visit([](const auto& each) -> ByteStream& { return *each; }, link);
}

}  // namespace ramferry
