// SPDX-License-Identifier: MIT
#include <ramferry/migration/savevm.hpp>

#include <algorithm>
#include <array>
#include <cstdio>

namespace ramferry::migration {
namespace {

using savevm::Mark;

constexpr std::size_t kMostMachineName = 256;
constexpr std::uint32_t kMostCapabilities = 256;
constexpr std::uint32_t kMostDescription = 16 * 1024 * 1024;
constexpr std::uint16_t kMostCommandData = 4096;
constexpr std::size_t kMostSections = 65536;

std::string hex(std::uint32_t value) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "0x%x", static_cast<unsigned>(value));
  return text.data();
}

std::string_view name_of(SectionPart part) noexcept {
  switch (part) {
    case SectionPart::start: return "start";
    case SectionPart::part: return "part";
    case SectionPart::end: return "end";
    case SectionPart::full: return "state";
  }
  return "?";
}

/// Reads a text of `length` bytes, which the caller has bounded; memory grows with what arrives.
Result<std::string> read_text(StreamReader& in, std::uint32_t length) {
  std::string text;
  while (text.size() < length) {
    const std::size_t have = text.size(), step = std::min<std::size_t>(length - have, kStreamBuffer);
    text.resize(have + step);
    RAMFERRY_TRY(in.get(std::as_writable_bytes(std::span(text).subspan(have))));
  }
  return text;
}

}  // namespace

SavevmReader::SavevmReader(StreamReader& in, const SectionRegistry& sections)
    : in_(in), sections_(sections) {}

Result<> SavevmReader::load(std::string_view machine) {
  const auto reading_head = [&]() -> Result<> {
    RAMFERRY_TRY_ASSIGN(const std::uint32_t magic, in_.u32());
    if (magic != savevm::kMagic)
      return fail(errc::protocol_mismatch, "it begins with " + hex(magic) + ", not with 'QEVM'");
    RAMFERRY_TRY_ASSIGN(const std::uint32_t version, in_.u32());
    if (version != savevm::kVersion)
      return fail(errc::unsupported, "savevm version " + std::to_string(version),
                  "version 3 is the only one known");
    return {};
  };
  if (auto head = reading_head(); !head)
    return within(std::move(head).error(), "reading the head of the migration stream");

  for (bool first = true;; first = false) {
    RAMFERRY_TRY_ASSIGN(const std::uint8_t mark, in_.u8());
    if (first && mark != static_cast<std::uint8_t>(Mark::configuration))
      return fail(errc::protocol_mismatch, "reading the migration stream: it has no configuration");
    switch (static_cast<Mark>(mark)) {
      case Mark::configuration:
        if (!first)
          return fail(errc::protocol_mismatch, "reading the migration stream: a second configuration");
        RAMFERRY_TRY(configuration(machine));
        break;
      case Mark::start:
      case Mark::full: RAMFERRY_TRY(head(static_cast<Mark>(mark))); break;
      case Mark::part:
      case Mark::end: RAMFERRY_TRY(more(static_cast<Mark>(mark))); break;
      case Mark::command: RAMFERRY_TRY(command()); break;
      case Mark::eof: RAMFERRY_TRY(check_complete()); return read_description();
      default:
        return fail(errc::protocol_mismatch, "reading the migration stream: unknown section type " +
                                                 hex(mark) + " at byte " +
                                                 std::to_string(in_.consumed() - 1));
    }
  }
}

Result<> SavevmReader::configuration(std::string_view machine) {
  const auto reading = [&]() -> Result<> {
    RAMFERRY_TRY_ASSIGN(const std::uint32_t length, in_.u32());
    if (length > kMostMachineName)
      return fail(errc::protocol_mismatch, "a machine name of " + std::to_string(length) + " bytes");
    RAMFERRY_TRY_ASSIGN(machine_, read_text(in_, length));
    for (;;) {
      RAMFERRY_TRY_ASSIGN(const auto next, in_.peek());
      if (next != static_cast<std::uint8_t>(Mark::subsection)) return {};
      RAMFERRY_TRY(configuration_subsection());
    }
  };
  if (auto read = reading(); !read)
    return within(std::move(read).error(), "reading the stream's configuration");
  if (machine_ != machine)
    return fail(errc::invalid_argument,
                "loading machine '" + machine_ + "' into machine '" + std::string(machine) + "'",
                "start the destination as the same machine");
  return {};
}

Result<> SavevmReader::configuration_subsection() {
  RAMFERRY_TRY(in_.u8());
  RAMFERRY_TRY_ASSIGN(const std::string name, in_.text8());
  RAMFERRY_TRY(in_.u32());
  if (name == "configuration/target-page-bits") return in_.skip(4);
  if (name == "configuration/uuid") return in_.skip(16);
  if (name == "configuration/capabilities") return capabilities();
  return fail(errc::unsupported, "subsection '" + name + "'");
}

Result<> SavevmReader::capabilities() {
  RAMFERRY_TRY_ASSIGN(const std::uint32_t count, in_.u32());
  if (count > kMostCapabilities)
    return fail(errc::protocol_mismatch, std::to_string(count) + " capabilities");
  for (std::uint32_t i = 0; i < count; ++i) {
    RAMFERRY_TRY_ASSIGN(const std::string name, in_.text8());
    if (name == "x-ignore-shared" || name == "mapped-ram")
      return fail(errc::unsupported, "a stream written with capability '" + name + "'",
                  "switch it off at the source");
  }
  return {};
}

Result<> SavevmReader::head(Mark mark) {
  const SectionPart part = mark == Mark::start ? SectionPart::start : SectionPart::full;
  RAMFERRY_TRY_ASSIGN(const std::uint32_t number, in_.u32());
  RAMFERRY_TRY_ASSIGN(const std::string name, in_.text8());
  RAMFERRY_TRY_ASSIGN(const std::uint32_t instance, in_.u32());
  RAMFERRY_TRY_ASSIGN(const std::uint32_t version, in_.u32());
  const std::string loading = "loading section '" + name + "' instance " + std::to_string(instance);

  SectionHandler* const section = sections_.find(name, instance);
  if (section == nullptr)
    return fail(errc::not_found, loading + ": this machine has no such section",
                "start the destination with the same devices");
  if (version > section->id().version)
    return fail(errc::unsupported, loading + ": version " + std::to_string(version) + " is newer than " +
                                       std::to_string(section->id().version));
  if ((part == SectionPart::start) != section->live())
    return fail(errc::protocol_mismatch, loading + (section->live() ? ": it is not live in the stream"
                                                                    : ": it is live in the stream"));
  const auto same = [&](const auto& each) { return each.second.section == section; };
  if (std::any_of(loaded_.begin(), loaded_.end(), same))
    return fail(errc::protocol_mismatch, loading + ": it comes twice");
  if (loaded_.size() >= kMostSections) return fail(errc::protocol_mismatch, loading + ": too many sections");
  const auto [entry, added] = loaded_.try_emplace(number, Loaded{section, version, Progress::started, name});
  if (!added)
    return fail(errc::protocol_mismatch, loading + ": its number " + std::to_string(number) +
                                             " is taken by '" + entry->second.name + "'");
  return body(number, entry->second, part);
}

Result<> SavevmReader::more(Mark mark) {
  RAMFERRY_TRY_ASSIGN(const std::uint32_t number, in_.u32());
  const auto found = loaded_.find(number);
  if (found == loaded_.end())
    return fail(errc::protocol_mismatch, "reading the migration stream: a part of section number " +
                                             std::to_string(number) + ", which was not started");
  if (found->second.progress == Progress::done)
    return fail(errc::protocol_mismatch,
                "loading section '" + found->second.name + "': a part after its end");
  return body(number, found->second, mark == Mark::part ? SectionPart::part : SectionPart::end);
}

Result<> SavevmReader::body(std::uint32_t number, Loaded& section, SectionPart part) {
  const auto reading = [&]() -> Result<> {
    RAMFERRY_TRY(section.section->load(in_, section.version, part));
    RAMFERRY_TRY_ASSIGN(const std::uint8_t mark, in_.u8());
    if (mark != static_cast<std::uint8_t>(Mark::footer))
      return fail(errc::protocol_mismatch, hex(mark) + " where its footer should be",
                  "both ends must agree on the section's layout");
    RAMFERRY_TRY_ASSIGN(const std::uint32_t again, in_.u32());
    if (again != number)
      return fail(errc::protocol_mismatch,
                  "its footer says section " + std::to_string(again) + ", not " + std::to_string(number));
    return {};
  };
  if (auto read = reading(); !read)
    return within(std::move(read).error(),
                  "loading section '" + section.name + "' (" + std::string(name_of(part)) + ")");
  if (part == SectionPart::end || part == SectionPart::full) section.progress = Progress::done;
  ++parts_;
  return {};
}

Result<> SavevmReader::command() {
  enum : std::uint16_t { open_return_path = 1, ping = 2, switchover_start = 11 };
  RAMFERRY_TRY_ASSIGN(const std::uint16_t id, in_.u16());
  RAMFERRY_TRY_ASSIGN(const std::uint16_t length, in_.u16());
  const std::string reading = "reading command " + std::to_string(id) + " of the migration stream";
  const bool known = (id == ping && length == 4) || (id == switchover_start && length == 0);
  if (id == open_return_path)
    return fail(errc::unsupported, reading + ": the source wants a return path",
                "switch its capability 'return-path' off");
  if (!known || length > kMostCommandData)
    return fail(errc::unsupported, reading + " with " + std::to_string(length) + " bytes");
  return in_.skip(length);
}

Result<> SavevmReader::check_complete() const {
  for (const auto& [number, section] : loaded_) {
    if (section.progress != Progress::done)
      return fail(errc::protocol_mismatch,
                  "loading section '" + section.name + "': the stream ends before it does");
  }
  for (SectionHandler* each : sections_.in_order()) {
    const auto same = [&](const auto& entry) { return entry.second.section == each; };
    if (each->required() && std::none_of(loaded_.begin(), loaded_.end(), same))
      return fail(errc::protocol_mismatch,
                  "loading section '" + each->id().name + "': the stream does not have it",
                  "start the destination with the same devices");
  }
  return {};
}

Result<> SavevmReader::read_description() {
  RAMFERRY_TRY_ASSIGN(const auto next, in_.peek());
  if (next != static_cast<std::uint8_t>(Mark::vm_description)) return {};
  const auto reading = [&]() -> Result<> {
    RAMFERRY_TRY(in_.u8());
    RAMFERRY_TRY_ASSIGN(const std::uint32_t length, in_.u32());
    if (length > kMostDescription)
      return fail(errc::protocol_mismatch, std::to_string(length) + " bytes of it");
    RAMFERRY_TRY_ASSIGN(description_, read_text(in_, length));
    return {};
  };
  if (auto read = reading(); !read)
    return within(std::move(read).error(), "reading the description of the machine");
  return {};
}

}  // namespace ramferry::migration
