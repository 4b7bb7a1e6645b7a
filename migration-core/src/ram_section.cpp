// SPDX-License-Identifier: MIT
#include "ram_loader.hpp"
#include "ram_saver.hpp"

#include <ramferry/migration/ram_section.hpp>

namespace ramferry::migration {

RamSection::RamSection(const RamLayout& layout, RamOptions options, Log& log)
    : layout_(layout), options_(std::move(options)), log_(log) {}

RamSection::~RamSection() = default;

Result<> RamSection::attach(SlotLink* link) {
  link_ = link;
  saver_.reset();
  loader_.reset();
  return {};
}

Result<> RamSection::begin(SectionWriter& out) {
  if (!options_.tracker)
    return fail(errc::wrong_state, "saving RAM without a dirty tracker", "give RamOptions::tracker");
  RAMFERRY_TRY_ASSIGN(auto tracker, options_.tracker());
  auto sink = link_ != nullptr ? make_native_sink(layout_, *link_) : make_inline_sink(layout_);
  saver_ = std::make_unique<Saver>(layout_, std::move(sink), std::move(tracker), options_);
  return saver_->begin(out);
}

Result<Pending> RamSection::iterate(SectionWriter& out, const Budget& budget) {
  return saver_->iterate(out, budget);
}

Result<Pending> RamSection::pending(bool exact) {
  return saver_->pending(exact);
}

Result<bool> RamSection::await_arrival(Deadline deadline) {
  return saver_->await_arrival(deadline);
}

Result<> RamSection::finish(SectionWriter& out) {
  return saver_->finish(out);
}

Result<> RamSection::load(SectionReader& in, std::uint32_t version, SectionPart part) {
  if (version != 4)
    return fail(errc::unsupported, "version " + std::to_string(version) + " of the RAM section",
                "version 4 is the only one known");
  if (part == SectionPart::start) {
    loader_ = std::make_unique<Loader>(layout_, link_, options_);
    options_.blank = false;
  }
  return loader_->load(in, part);
}

void RamSection::report(Progress& into) const {
  if (saver_) {
    saver_->report(into);
    return;
  }
  into.bytes_total += layout_.bytes();
  if (!layout_.blocks().empty()) into.page_bytes = layout_.blocks().front().page_bytes;
}

// The loader stays until the next migration: its landings are in use until the channel is gone.
void RamSection::cleanup() noexcept {
  saver_.reset();
  link_ = nullptr;
}

}  // namespace ramferry::migration
