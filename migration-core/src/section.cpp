// SPDX-License-Identifier: MIT
#include <ramferry/migration/section.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace ramferry::migration {
namespace {

template <class T>
std::array<std::byte, sizeof(T)> to_big_endian(T value) noexcept {
  std::array<std::byte, sizeof(T)> bytes;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    bytes[i] = static_cast<std::byte>(value >> (8 * (sizeof(T) - 1 - i)));
  return bytes;
}

template <class T>
Result<T> get_big_endian(SectionReader& from) {
  std::array<std::byte, sizeof(T)> bytes;
  RAMFERRY_TRY(from.get(bytes));
  T value = 0;
  for (const std::byte each : bytes) value = static_cast<T>((value << 8) | std::to_integer<T>(each));
  return value;
}

std::string describe(const SectionId& id) {
  return "'" + id.name + "' instance " + std::to_string(id.instance);
}

}  // namespace

Result<> SectionWriter::u8(std::uint8_t value) {
  return put(to_big_endian(value));
}
Result<> SectionWriter::u32(std::uint32_t value) {
  return put(to_big_endian(value));
}
Result<> SectionWriter::u64(std::uint64_t value) {
  return put(to_big_endian(value));
}

Result<> SectionWriter::text8(std::string_view text) {
  if (text.size() > 0xff)
    return fail(errc::invalid_argument, "writing a name of " + std::to_string(text.size()) + " bytes",
                "names have at most 255");
  RAMFERRY_TRY(u8(static_cast<std::uint8_t>(text.size())));
  return put(as_bytes(text));
}

Result<std::uint8_t> SectionReader::u8() {
  return get_big_endian<std::uint8_t>(*this);
}
Result<std::uint16_t> SectionReader::u16() {
  return get_big_endian<std::uint16_t>(*this);
}
Result<std::uint32_t> SectionReader::u32() {
  return get_big_endian<std::uint32_t>(*this);
}
Result<std::uint64_t> SectionReader::u64() {
  return get_big_endian<std::uint64_t>(*this);
}

Result<std::string> SectionReader::text8() {
  RAMFERRY_TRY_ASSIGN(const std::uint8_t length, u8());
  std::string text(length, '\0');
  RAMFERRY_TRY(get(std::as_writable_bytes(std::span(text))));
  return text;
}

SectionRegistry::Registration::Registration(SectionRegistry& registry, SectionHandler& handler) noexcept
    : registry_(&registry), handler_(&handler) {}

SectionRegistry::Registration::Registration(Registration&& other) noexcept
    : registry_(std::exchange(other.registry_, nullptr)), handler_(std::exchange(other.handler_, nullptr)) {}

SectionRegistry::Registration& SectionRegistry::Registration::operator=(Registration&& other) noexcept {
  std::swap(registry_, other.registry_);
  std::swap(handler_, other.handler_);
  return *this;
}

SectionRegistry::Registration::~Registration() {
  if (registry_ != nullptr) std::erase(registry_->handlers_, handler_);
}

Result<SectionRegistry::Registration> SectionRegistry::add(SectionHandler& handler) {
  const SectionId id = handler.id();
  if (id.name.empty() || id.name.size() > 0xff)
    return fail(errc::invalid_argument, "adding section " + describe(id), "names have 1 to 255 bytes");
  if (holds_ != 0) return fail(errc::wrong_state, "adding section " + describe(id) + " during a migration");
  if (find(id.name, id.instance) != nullptr) return fail(errc::in_use, "adding section " + describe(id));
  handlers_.push_back(&handler);
  return Registration(*this, handler);
}

SectionHandler* SectionRegistry::find(std::string_view name, std::uint32_t instance) const noexcept {
  const auto match = [&](const SectionHandler* each) {
    const SectionId id = each->id();
    return id.name == name && id.instance == instance;
  };
  const auto found = std::find_if(handlers_.begin(), handlers_.end(), match);
  return found == handlers_.end() ? nullptr : *found;
}

}  // namespace ramferry::migration
