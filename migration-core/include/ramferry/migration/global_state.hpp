// SPDX-License-Identifier: MIT
// The section "globalstate": the run state that the guest had at the source ("running", "paused", …), so that
// the destination enters the same. The VMM adds one to its registry. Migration thread; run_state() after the
// load.
#pragma once

#include <ramferry/log.hpp>
#include <ramferry/migration/section.hpp>

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace ramferry::migration {

class GlobalStateSection final : public SectionHandler {
 public:
  /// `current` gives the VMM's run state; asked right before the guest is paused. `log` is told what goes
  /// and comes.
  GlobalStateSection(std::function<std::string()> current, Log& log)
      : current_(std::move(current)), log_(log) {}

  /// The section is left out when the guest was running or paused, for machines that never knew it.
  void set_optional(bool optional) noexcept { optional_ = optional; }
  /// Whether QEMU has a run state of this name.
  static bool is_known(std::string_view run_state) noexcept;
  /// What was loaded; nothing if the stream had none.
  const std::optional<std::string>& loaded() const noexcept { return loaded_; }

  SectionId id() const override { return {"globalstate", 0, 1}; }
  bool needed() const override;
  bool required() const override { return false; }
  Result<> attach(SlotLink* link) override;
  void about_to_pause() override { noted_ = current_(); }
  /// errc::invalid_argument if the name is too long for the wire.
  Result<> finish(SectionWriter& out) override;
  Result<> load(SectionReader& in, std::uint32_t version, SectionPart part) override;
  void describe(nlohmann::json& device) const override;

 private:
  std::function<std::string()> current_;
  Log& log_;
  bool optional_ = false;
  std::string noted_;
  std::optional<std::string> loaded_;
};

}  // namespace ramferry::migration
