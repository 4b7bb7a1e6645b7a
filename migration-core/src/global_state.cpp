// SPDX-License-Identifier: MIT
#include <ramferry/migration/global_state.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace ramferry::migration {
namespace {

// be32 length with the final NUL, then 100 bytes: the name in 32, two flags about suspension, padding.
constexpr std::size_t kNameField = 32, kField = 100;

constexpr std::array<std::string_view, 16> kRunStates = {
    "debug",     "inmigrate",      "internal-error", "io-error", "paused",  "postmigrate",
    "prelaunch", "finish-migrate", "restore-vm",     "running",  "save-vm", "shutdown",
    "suspended", "watchdog",       "guest-panicked", "colo"};

}  // namespace

bool GlobalStateSection::is_known(std::string_view run_state) noexcept {
  return std::find(kRunStates.begin(), kRunStates.end(), run_state) != kRunStates.end();
}

bool GlobalStateSection::needed() const {
  return !optional_ || (noted_ != "running" && noted_ != "paused");
}

Result<> GlobalStateSection::attach(SlotLink* /*link*/) {
  noted_ = current_();
  loaded_.reset();
  return {};
}

Result<> GlobalStateSection::finish(SectionWriter& out) {
  if (noted_.size() >= kNameField)
    return fail(errc::invalid_argument, "saving the run state '" + noted_ + "', whose name is too long");
  std::array<std::byte, kField> field{};
  std::transform(noted_.begin(), noted_.end(), field.begin(),
                 [](char c) { return static_cast<std::byte>(c); });
  log_.debug("migration global state saved=" + noted_);
  RAMFERRY_TRY(out.u32(static_cast<std::uint32_t>(noted_.size() + 1)));
  return out.put(field);
}

Result<> GlobalStateSection::load(SectionReader& in, std::uint32_t /*version*/, SectionPart /*part*/) {
  RAMFERRY_TRY_ASSIGN(const std::uint32_t size, in.u32());
  std::array<std::byte, kField> field;
  RAMFERRY_TRY(in.get(field));
  const auto end = std::find(field.begin(), field.end(), std::byte{0});
  if (size > kField || end == field.end())
    return fail(errc::protocol_mismatch, "a run state whose name does not end");
  std::string name(reinterpret_cast<const char*>(field.data()),
                   static_cast<std::size_t>(end - field.begin()));
  if (!is_known(name)) return fail(errc::unsupported, "the unknown run state '" + name + "'");
  log_.debug("migration global state loaded=" + name);
  loaded_ = std::move(name);
  return {};
}

void GlobalStateSection::describe(nlohmann::json& device) const {
  device["vmsd_name"] = "globalstate";
  device["fields"] = nlohmann::json::array({{{"name", "size"}, {"type", "uint32"}, {"size", 4}},
                                            {{"name", "runstate"}, {"type", "buffer"}, {"size", kField}}});
}

}  // namespace ramferry::migration
