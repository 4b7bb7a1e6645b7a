// SPDX-License-Identifier: MIT
// The destination's half of the RAM section: checks the source's blocks against our own, then lets pages
// land.
#pragma once

#include "guest_landing.hpp"

#include <ramferry/migration/page_sink.hpp>
#include <ramferry/migration/ram_section.hpp>

#include <memory>
#include <vector>

namespace ramferry::migration {

class RamSection::Loader {
 public:
  /// `link` is null where pages come in the stream.
  Loader(const RamLayout& layout, SlotLink* link, const RamOptions& options);
  Result<> load(SectionReader& in, SectionPart part);

 private:
  Result<> check_blocks(SectionReader& in) const;

  const RamLayout& layout_;
  Decompressors decompressors_;
  std::vector<std::unique_ptr<GuestLanding>> landings_;
  std::unique_ptr<PageSource> source_;
};

}  // namespace ramferry::migration
