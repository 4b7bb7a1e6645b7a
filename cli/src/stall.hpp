// SPDX-License-Identifier: MIT
// For tests: holds a migration still at a chosen phase, so that something can be done to it there.
#pragma once

#include <ramferry/migration/section.hpp>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>

namespace ramferry::cli {

enum class StallPhase : std::uint8_t {
  setup,       ///< source: before its first section; destination: as it arrives
  active,      ///< while pages move
  switchover,  ///< source: the guest is paused, the rest is not sent yet; destination: as the rest arrives
  prepared,    ///< destination: all is loaded, the source does not know yet
  committed,   ///< destination: the source has let go, and does not know yet that we run
};
Result<StallPhase> parse_stall_phase(std::string_view text);
std::string_view to_string(StallPhase phase) noexcept;

/// Holds the thread that comes to the chosen phase, once, until release(). Any thread.
class Stall {
 public:
  void arm(StallPhase phase) { armed_ = phase; }
  /// Called when somebody is held. Before the migration.
  void when_held(std::function<void(StallPhase)> callback) { when_held_ = std::move(callback); }
  void reach(StallPhase phase);
  void release();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<StallPhase> armed_;
  std::function<void(StallPhase)> when_held_;
  bool released_ = false;
};

/// A live section that stalls on its way to the one it stands for.
class StallingSection final : public migration::SectionHandler {
 public:
  StallingSection(migration::SectionHandler& inner, Stall& stall) : inner_(inner), stall_(stall) {}

  migration::SectionId id() const override { return inner_.id(); }
  bool live() const noexcept override { return inner_.live(); }
  bool needed() const override { return inner_.needed(); }
  bool required() const override { return inner_.required(); }
  Result<> attach(migration::SlotLink* link) override { return inner_.attach(link); }
  Result<> begin(migration::SectionWriter& writer) override {
    stall_.reach(StallPhase::setup);
    return inner_.begin(writer);
  }
  Result<migration::Pending> iterate(migration::SectionWriter& writer,
                                     const migration::Budget& budget) override {
    stall_.reach(StallPhase::active);
    return inner_.iterate(writer, budget);
  }
  Result<migration::Pending> pending(bool exact) override { return inner_.pending(exact); }
  Result<> finish(migration::SectionWriter& writer) override {
    stall_.reach(StallPhase::switchover);
    return inner_.finish(writer);
  }
  void report(migration::Progress& into) const override { inner_.report(into); }
  void cleanup() noexcept override { inner_.cleanup(); }
  void cancel() noexcept override { inner_.cancel(); }
  Result<> load(migration::SectionReader& reader, std::uint32_t version,
                migration::SectionPart part) override {
    stall_.reach(part == migration::SectionPart::start  ? StallPhase::setup
                 : part == migration::SectionPart::part ? StallPhase::active
                                                        : StallPhase::switchover);
    return inner_.load(reader, version, part);
  }
  void describe(nlohmann::json& device) const override { inner_.describe(device); }

 private:
  migration::SectionHandler& inner_;
  Stall& stall_;
};

}  // namespace ramferry::cli
