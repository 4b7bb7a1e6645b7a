// SPDX-License-Identifier: MIT
#include <ramferry/migration/savevm.hpp>

#include <algorithm>

namespace ramferry::migration {
namespace {

using savevm::Mark;

std::uint8_t mark_of(SectionPart part) noexcept {
  switch (part) {
    case SectionPart::start: return static_cast<std::uint8_t>(Mark::start);
    case SectionPart::part: return static_cast<std::uint8_t>(Mark::part);
    case SectionPart::end: return static_cast<std::uint8_t>(Mark::end);
    case SectionPart::full: return static_cast<std::uint8_t>(Mark::full);
  }
  return 0;
}

}  // namespace

SavevmWriter::SavevmWriter(ByteStream& stream, const SectionRegistry& sections)
    : out_(stream), sections_(sections) {}

Result<> SavevmWriter::begin(std::string_view machine) {
  RAMFERRY_TRY(out_.u32(savevm::kMagic));
  RAMFERRY_TRY(out_.u32(savevm::kVersion));
  RAMFERRY_TRY(out_.u8(static_cast<std::uint8_t>(Mark::configuration)));
  RAMFERRY_TRY(out_.u32(static_cast<std::uint32_t>(machine.size())));
  return out_.put(as_bytes(machine));
}

std::uint32_t SavevmWriter::number_of(const SectionHandler& section) const noexcept {
  const auto all = sections_.in_order();
  return static_cast<std::uint32_t>(std::find(all.begin(), all.end(), &section) - all.begin());
}

template <class Body>
Result<> SavevmWriter::framed(const Frame& frame, Body body) {
  const SectionId id = frame.section->id();
  const std::uint32_t number = number_of(*frame.section);
  const auto write = [&]() -> Result<> {
    RAMFERRY_TRY(out_.u8(mark_of(frame.part)));
    RAMFERRY_TRY(out_.u32(number));
    if (frame.part == SectionPart::start || frame.part == SectionPart::full) {
      RAMFERRY_TRY(out_.text8(id.name));
      RAMFERRY_TRY(out_.u32(id.instance));
      RAMFERRY_TRY(out_.u32(id.version));
    }
    RAMFERRY_TRY(body());
    RAMFERRY_TRY(out_.u8(static_cast<std::uint8_t>(Mark::footer)));
    return out_.u32(number);
  };
  if (auto written = write(); !written)
    return within(std::move(written).error(), "saving section '" + id.name + "'");
  return {};
}

Result<> SavevmWriter::start_all() {
  for (SectionHandler* section : sections_.in_order()) {
    if (!section->live() || !section->needed()) continue;
    RAMFERRY_TRY(framed({section, SectionPart::start}, [&] { return section->begin(out_); }));
    started_.push_back(section);
  }
  return out_.flush();
}

Result<Pending> SavevmWriter::iterate(SectionHandler& section, const Budget& budget) {
  Pending pending;
  const auto body = [&]() -> Result<> {
    RAMFERRY_TRY_ASSIGN(pending, section.iterate(out_, budget));
    return {};
  };
  RAMFERRY_TRY(framed({&section, SectionPart::part}, body));
  RAMFERRY_TRY(out_.flush());
  return pending;
}

Result<> SavevmWriter::finish_all() {
  for (SectionHandler* section : started_)
    RAMFERRY_TRY(framed({section, SectionPart::end}, [&] { return section->finish(out_); }));
  for (SectionHandler* section : sections_.in_order()) {
    if (section->live() || !section->needed()) continue;
    const SectionId id = section->id();
    std::uint64_t bytes = 0;
    const auto body = [&]() -> Result<> {
      const std::uint64_t before = out_.written();
      RAMFERRY_TRY(section->finish(out_));
      bytes = out_.written() - before;
      return {};
    };
    RAMFERRY_TRY(framed({section, SectionPart::full}, body));
    nlohmann::json device = {{"name", id.name}, {"instance_id", id.instance}, {"version", id.version}};
    section->describe(device);
    if (!device.contains("fields")) device["fields"] = nlohmann::json::array();
    device["x-ramferry-bytes"] = bytes;
    devices_.push_back(std::move(device));
  }
  return {};
}

Result<> SavevmWriter::end() {
  const nlohmann::json description = {{"page_size", 4096}, {"devices", std::move(devices_)}};
  const std::string text = description.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  RAMFERRY_TRY(out_.u8(static_cast<std::uint8_t>(Mark::eof)));
  RAMFERRY_TRY(out_.u8(static_cast<std::uint8_t>(Mark::vm_description)));
  RAMFERRY_TRY(out_.u32(static_cast<std::uint32_t>(text.size())));
  RAMFERRY_TRY(out_.put(as_bytes(text)));
  return out_.flush();
}

}  // namespace ramferry::migration
