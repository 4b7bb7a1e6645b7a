// SPDX-License-Identifier: MIT
#include "ram_loader.hpp"

#include <ramferry/migration/ram_wire.hpp>

namespace ramferry::migration {

RamSection::Loader::Loader(const RamLayout& layout, SlotLink* link, const RamOptions& options)
    : layout_(layout),
      decompressors_([coding = options.coding] { return coding ? coding().decompress_threads : 2U; }) {
  const auto content = options.blank ? MemoryLanding::Content::blank : MemoryLanding::Content::unknown;
  for (const RamBlock& block : layout.blocks())
    landings_.push_back(
        std::make_unique<GuestLanding>(block.host, block.page_bytes, content, decompressors_));
  source_ = link != nullptr ? make_native_source(landings_, *link)
                            : make_inline_source(layout, landings_, decompressors_);
}

Result<> RamSection::Loader::load(SectionReader& in, SectionPart part) {
  if (part == SectionPart::start) RAMFERRY_TRY(check_blocks(in));
  return source_->load(in, part);
}

Result<> RamSection::Loader::check_blocks(SectionReader& in) const {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t word, in.u64());
  if ((word & ram_wire::kFlagMask) != ram_wire::kMemSize)
    return fail(errc::protocol_mismatch, "it does not begin with the list of RAM blocks");
  std::uint64_t left = word & ~ram_wire::kFlagMask;
  std::vector<bool> seen(layout_.blocks().size());
  while (left != 0) {
    RAMFERRY_TRY_ASSIGN(const std::string name, in.text8());
    RAMFERRY_TRY_ASSIGN(const std::uint64_t size, in.u64());
    const std::string block = "RAM block '" + name + "'";
    const auto number = layout_.find(name);
    if (!number) return fail(errc::not_found, block + ": this machine does not have it");
    if (seen[*number]) return fail(errc::protocol_mismatch, block + ": it is listed twice");
    const std::uint64_t ours = layout_[*number].host.size();
    if (size != ours)
      return fail(errc::invalid_argument,
                  block + ": it has " + std::to_string(size) + " bytes at the source and " +
                      std::to_string(ours) + " here",
                  "start the destination with the same memory");
    if (size > left) return fail(errc::protocol_mismatch, block + ": the list is longer than its total says");
    seen[*number] = true;
    left -= size;
  }
  for (std::size_t number = 0; number < seen.size(); ++number) {
    if (!seen[number])
      return fail(errc::invalid_argument,
                  "RAM block '" + layout_.blocks()[number].name + "', which the source does not have",
                  "start the destination with the same memory");
  }
  return {};
}

}  // namespace ramferry::migration
