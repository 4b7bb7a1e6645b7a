// SPDX-License-Identifier: MIT
#include "machine_state.hpp"

#include "format.hpp"

#include <ramferry/migration/savevm.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace ramferry::checkpoint {
namespace {

using migration::savevm::Mark;

constexpr std::byte kFooter{static_cast<unsigned char>(Mark::footer)};
constexpr std::byte kEnd{static_cast<unsigned char>(Mark::eof)};
constexpr std::byte kDescription{static_cast<unsigned char>(Mark::vm_description)};
constexpr std::size_t kFooterBytes = 5;
constexpr std::size_t kDescriptionHead = 6;  // the end mark, the description's mark, its length
constexpr std::uint32_t kMostDescription = 64U << 20;

bool is_description(std::string_view text) {
  if (text.empty() || text.front() != '{' || text.back() != '}') return false;
  const auto json = nlohmann::json::parse(text, nullptr, false);
  return json.is_object() && json.contains("devices");
}

}  // namespace

Result<> StateCollector::add(ConstBytes bytes) {
  if (complete_ && !bytes.empty())
    return fail(errc::protocol_mismatch, "reading the machine's state: " + std::to_string(bytes.size()) +
                                             " bytes behind its description");
  if (bytes.size() > format::kMostState - state_.bytes.size())
    return fail(errc::unsupported, "reading the machine's state: more than " +
                                       format_size(format::kMostState) + " of device state");
  state_.bytes.insert(state_.bytes.end(), bytes.begin(), bytes.end());
  look_for_end();
  if (complete_ && state_.description_at + state_.description_length != state_.bytes.size())
    return fail(errc::protocol_mismatch, "reading the machine's state: bytes follow its description");
  return {};
}

void StateCollector::look_for_end() {
  const std::vector<std::byte>& all = state_.bytes;
  constexpr std::array kPattern = {kEnd, kDescription};
  while (!complete_) {
    const auto found = std::search(all.begin() + static_cast<std::ptrdiff_t>(looked_), all.end(),
                                   kPattern.begin(), kPattern.end());
    const auto at = static_cast<std::size_t>(found - all.begin());
    if (at + kDescriptionHead > all.size()) {
      looked_ = std::min(at, all.size() - std::min<std::size_t>(all.size(), 1));
      return;
    }
    WireReader in(ConstBytes(all).subspan(at + 2));
    const std::uint64_t length = in.u32();
    const std::uint64_t end = at + kDescriptionHead + length;
    const bool begins =
        (at + kDescriptionHead == all.size() || all[at + kDescriptionHead] == std::byte{'{'}) &&
        at >= kFooterBytes && all[at - kFooterBytes] == kFooter;
    if (begins && length >= 2 && length <= kMostDescription) {
      if (end > all.size()) {
        looked_ = at;
        return;  // the rest of it, if it is one, is yet to come
      }
      state_.description_at = at + kDescriptionHead;
      state_.description_length = length;
      const auto* text = reinterpret_cast<const char*>(all.data()) + state_.description_at;
      complete_ = is_description({text, length});
      if (complete_) return;
      state_.description_at = state_.description_length = 0;
    }
    looked_ = at + 1;
  }
}

bool StateCollector::may_end() const noexcept {
  const std::vector<std::byte>& all = state_.bytes;
  if (all.empty() || all.back() != kEnd) return false;
  return all.size() == 1 || (all.size() > kFooterBytes && all[all.size() - 1 - kFooterBytes] == kFooter);
}

Result<MachineState> read_state(StreamInput& in, const StateOptions& options) {
  StateCollector collector;
  std::uint64_t so_far = 0;
  while (!collector.complete()) {
    in.set_deadline(options.stays_open && collector.may_end() ? Deadline::after(options.silence)
                                                              : Deadline::never());
    auto bytes = in.some();
    in.set_deadline(Deadline::never());
    const bool silent = !bytes && bytes.error().is(errc::timed_out);
    if (!bytes && !silent) return Failure(std::move(bytes).error());
    if (silent || bytes->empty()) {
      if (collector.may_end()) break;
      return fail(errc::peer_gone, "the stream ended in the middle of the machine's state, after " +
                                       std::to_string(in.consumed()) + " bytes");
    }
    so_far += bytes->size();
    if (options.make_room) RAMFERRY_TRY(options.make_room(so_far));
    RAMFERRY_TRY(collector.add(*bytes));
  }
  return std::move(collector).take();
}

}  // namespace ramferry::checkpoint
