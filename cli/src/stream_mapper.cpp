// SPDX-License-Identifier: MIT
#include "stream_mapper.hpp"

#include <ramferry/migration/savevm.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>

namespace ramferry::cli {
namespace {

using migration::savevm::Mark;
using nlohmann::json;

constexpr std::size_t kFooterBytes = 5;

std::uint64_t big_endian(ConstBytes bytes) noexcept {
  std::uint64_t value = 0;
  for (const std::byte byte : bytes) value = value << 8 | std::to_integer<std::uint64_t>(byte);
  return value;
}

/// A member of a description, which may be anything that a peer made up.
std::optional<std::uint64_t> number_in(const json& object, const char* name) {
  if (!object.is_object() || !object.contains(name) || !object[name].is_number_unsigned())
    return std::nullopt;
  return object[name].get<std::uint64_t>();
}

/// Bytes of a described field with all of its elements; nothing if it does not say.
std::optional<std::uint64_t> field_bytes(const json& field) {
  const auto size = number_in(field, "size");
  if (!size) return std::nullopt;
  return *size * number_in(field, "array_len").value_or(1);
}

bool is_page_size(std::uint64_t bytes) {
  return bytes >= 1024 && bytes <= 65536 && (bytes & (bytes - 1)) == 0;
}

/// The JSON text without what is nested absurdly deep; not an object if it is none.
json parse_description(const char* first, const char* end) {
  constexpr int kDeepest = 64;
  const auto shallow = [](int depth, json::parse_event_t, json&) { return depth < kDeepest; };
  return json::parse(first, end, shallow, false);
}

}  // namespace

Failure StreamMapper::broken(const std::string& what) const {
  return fail(errc::protocol_mismatch, "reading the stream at byte " + std::to_string(at_) + ": " + what);
}

Result<std::uint64_t> StreamMapper::field(std::size_t bytes) {
  if (!has(bytes)) return broken("it ends in the middle of a field");
  const std::uint64_t value = big_endian(stream_.subspan(at_, bytes));
  at_ += bytes;
  return value;
}

Result<std::string> StreamMapper::text(std::size_t length) {
  if (!has(length)) return broken("it ends in the middle of a name");
  std::string value(reinterpret_cast<const char*>(stream_.data() + at_), length);
  at_ += length;
  return value;
}

Result<std::string> StreamMapper::text8() {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t length, field(1));
  return text(length);
}

Result<> StreamMapper::skip(std::uint64_t count) {
  if (count > stream_.size() - at_)
    return broken("it ends " + std::to_string(count - (stream_.size() - at_)) + " bytes too early");
  at_ += count;
  return {};
}

Result<StreamMap> StreamMapper::run() {
  map_.bytes = stream_.size();
  RAMFERRY_TRY(header());
  find_description();
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const bool more, record());
    if (!more) return std::move(map_);
  }
}

Result<> StreamMapper::header() {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t magic, field(4));
  if (magic != migration::savevm::kMagic) return broken("it does not begin with 'QEVM'");
  RAMFERRY_TRY_ASSIGN(const std::uint64_t version, field(4));
  map_.version = static_cast<std::uint32_t>(version);
  if (version != migration::savevm::kVersion)
    return broken("version " + std::to_string(version) + ", only 3 is known");
  return {};
}

/// It is the last thing in the stream, and says what sections hold: so it is looked for before they are read.
void StreamMapper::find_description() {
  constexpr std::size_t kFarthest = 16 << 20;
  const std::size_t size = stream_.size();
  const std::size_t first = size > kFarthest ? size - kFarthest : 0;
  for (std::size_t at = first; at + 7 <= size; ++at) {
    if (std::to_integer<std::uint8_t>(stream_[at]) != static_cast<std::uint8_t>(Mark::vm_description))
      continue;
    if (big_endian(stream_.subspan(at + 1, 4)) != size - at - 5 || stream_[at + 5] != std::byte{'{'})
      continue;
    const auto* text = reinterpret_cast<const char*>(stream_.data());
    json description = parse_description(text + at + 5, text + size);
    if (!description.is_object()) continue;
    const auto page = number_in(description, "page_size").value_or(0);
    if (is_page_size(page)) map_.page_bytes = page;
    map_.description = std::move(description);
    return;
  }
}

Result<bool> StreamMapper::record() {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t mark, field(1));
  switch (static_cast<Mark>(mark)) {
    case Mark::eof: {
      RAMFERRY_TRY(end_of_stream());
      return false;
    }
    case Mark::configuration: RAMFERRY_TRY(configuration()); return true;
    case Mark::subsection: RAMFERRY_TRY(configuration_subsection()); return true;
    case Mark::start: RAMFERRY_TRY(head(true)); return true;
    case Mark::full: RAMFERRY_TRY(head(false)); return true;
    case Mark::part:
    case Mark::end: RAMFERRY_TRY(more()); return true;
    case Mark::command: RAMFERRY_TRY(command()); return true;
    case Mark::vm_description:
    case Mark::footer: break;
  }
  --at_;
  return broken("no record begins with " + std::to_string(mark));
}

Result<> StreamMapper::configuration() {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t length, field(4));
  if (length > 255) return broken("a machine name of " + std::to_string(length) + " bytes");
  RAMFERRY_TRY_ASSIGN(map_.machine, text(length));
  return {};
}

Result<> StreamMapper::configuration_subsection() {
  RAMFERRY_TRY_ASSIGN(const std::string name, text8());
  RAMFERRY_TRY(field(4));
  map_.configuration.push_back(name);
  if (name == "configuration/target-page-bits") return skip(4);
  if (name == "configuration/uuid") return skip(16);
  if (name != "configuration/capabilities")
    return broken("unknown subsection '" + name + "' of the configuration");
  RAMFERRY_TRY_ASSIGN(const std::uint64_t count, field(4));
  for (std::uint64_t i = 0; i < count; ++i) RAMFERRY_TRY(text8());
  return {};
}

Result<> StreamMapper::head(bool live) {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t number, field(4));
  MappedSection section{.number = static_cast<std::uint32_t>(number), .live = live};
  RAMFERRY_TRY_ASSIGN(section.name, text8());
  RAMFERRY_TRY_ASSIGN(const std::uint64_t instance, field(4));
  RAMFERRY_TRY_ASSIGN(const std::uint64_t version, field(4));
  section.instance = static_cast<std::uint32_t>(instance);
  section.version = static_cast<std::uint32_t>(version);
  if (by_number_.count(section.number) != 0)
    return broken("section " + std::to_string(number) + " begins twice");
  by_number_[section.number] = map_.sections.size();
  map_.sections.push_back(std::move(section));
  return payload(map_.sections.size() - 1);
}

Result<> StreamMapper::more() {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t number, field(4));
  const auto at = by_number_.find(static_cast<std::uint32_t>(number));
  if (at == by_number_.end())
    return broken("a part of section " + std::to_string(number) + ", which never began");
  return payload(at->second);
}

Result<> StreamMapper::command() {
  ++map_.commands;
  RAMFERRY_TRY(field(2));
  RAMFERRY_TRY_ASSIGN(const std::uint64_t length, field(2));
  return skip(length);
}

Result<> StreamMapper::end_of_stream() {
  if (at_ == stream_.size()) return {};
  RAMFERRY_TRY_ASSIGN(const std::uint64_t mark, field(1));
  if (static_cast<Mark>(mark) != Mark::vm_description) return broken("bytes behind the end");
  RAMFERRY_TRY_ASSIGN(const std::uint64_t length, field(4));
  RAMFERRY_TRY(skip(length));
  if (at_ != stream_.size()) return broken("bytes behind the description");
  return {};
}

Result<> StreamMapper::footer(std::uint32_t number) {
  if (!footer_at(at_, number)) {
    if (at_ == stream_.size() || record_at(at_)) return {};  // a machine too old for footers
    return broken("section " + std::to_string(number) + " does not end with its footer");
  }
  at_ += kFooterBytes;
  return {};
}

Result<> StreamMapper::payload(std::size_t index) {
  const std::size_t began = at_;
  {
    MappedSection& section = map_.sections[index];
    ++section.parts;
    if (section.name == "ram") {
      section.sized_by = "format";
      RAMFERRY_TRY(ram());
    } else {
      RAMFERRY_TRY_ASSIGN(const std::size_t length, opaque_length(section));
      section.sized_by = described_length(section) == length ? "description" : "footer";
      if (section.name == "globalstate") RAMFERRY_TRY(run_state(length));
      at_ = began + length;
    }
  }
  MappedSection& section = map_.sections[index];
  section.bytes += at_ - began;
  return footer(section.number);
}

Result<> StreamMapper::run_state(std::uint64_t length) {
  if (length < 4) return broken("a 'globalstate' of " + std::to_string(length) + " bytes");
  const auto* name = reinterpret_cast<const char*>(stream_.data() + at_ + 4);
  map_.run_state.assign(name, strnlen(name, length - 4));
  return {};
}

std::optional<std::uint64_t> StreamMapper::described_length(const MappedSection& section) const {
  const auto devices = map_.description.find("devices");
  if (!map_.description.is_object() || devices == map_.description.end() || !devices->is_array())
    return std::nullopt;
  for (const json& device : *devices) {
    if (!device.is_object() || device.value("name", json()) != section.name ||
        number_in(device, "instance_id") != section.instance)
      continue;
    if (!device.contains("fields") || !device["fields"].is_array() || device.contains("subsections"))
      return std::nullopt;
    std::uint64_t sum = 0;
    for (const json& field : device["fields"]) {
      const auto bytes = field_bytes(field);
      if (!bytes) return std::nullopt;
      sum += *bytes;
    }
    return sum;
  }
  return std::nullopt;
}

Result<std::size_t> StreamMapper::opaque_length(const MappedSection& section) const {
  const std::size_t left = stream_.size() - at_;
  if (const auto length = described_length(section);
      length && *length <= left && footer_at(at_ + *length, section.number))
    return static_cast<std::size_t>(*length);
  for (std::size_t length = 0; length + kFooterBytes <= left; ++length) {
    if (footer_at(at_ + length, section.number) && record_at(at_ + length + kFooterBytes)) return length;
  }
  return broken("the end of section '" + section.name + "' cannot be found");
}

bool StreamMapper::footer_at(std::size_t at, std::uint32_t number) const noexcept {
  return at + kFooterBytes <= stream_.size() &&
         std::to_integer<std::uint8_t>(stream_[at]) == static_cast<std::uint8_t>(Mark::footer) &&
         big_endian(stream_.subspan(at + 1, 4)) == number;
}

/// Whether the bytes there look like the beginning of a record.
bool StreamMapper::record_at(std::size_t at) const noexcept {
  if (at >= stream_.size()) return false;
  const ConstBytes rest = stream_.subspan(at);
  const auto mark = static_cast<Mark>(std::to_integer<std::uint8_t>(rest[0]));
  switch (mark) {
    case Mark::eof:
      return rest.size() == 1 ||
             std::to_integer<std::uint8_t>(rest[1]) == static_cast<std::uint8_t>(Mark::vm_description);
    case Mark::start:
    case Mark::full: {
      const std::size_t length = rest.size() > 5 ? std::to_integer<std::size_t>(rest[5]) : 0;
      if (length == 0 || rest.size() < 6 + length + 8) return false;
      const ConstBytes name = rest.subspan(6, length);
      return std::all_of(name.begin(), name.end(),
                         [](std::byte c) { return std::isprint(std::to_integer<int>(c)) != 0; });
    }
    case Mark::part:
    case Mark::end:
      return rest.size() >= 5 &&
             by_number_.count(static_cast<std::uint32_t>(big_endian(rest.subspan(1, 4)))) != 0;
    case Mark::command: return rest.size() >= 5 && big_endian(rest.subspan(1, 2)) <= 32;
    default: return false;
  }
}

}  // namespace ramferry::cli
