// SPDX-License-Identifier: MIT
#include "machine_state.hpp"

#include "format.hpp"
#include "state_description.hpp"

#include <ramferry/migration/savevm.hpp>

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
/// How often all of a state may be looked at for descriptions that turn out not to be its own. A guest cannot
/// tell where its bytes are cut into pieces; where that goes against it this often, somebody cuts on purpose.
constexpr std::uint64_t kMostInVain = 64, kAlwaysInVain = 64U << 20;

}  // namespace

Result<> StateCollector::add(ConstBytes bytes) {
  std::vector<std::byte>& all = state_.bytes;
  if (bytes.size() > format::kMostState - all.size())
    return fail(
        errc::unsupported,
        "reading the machine's state: more than " + format_size(format::kMostState) + " of device state",
        "detach the devices with the most state, such as passed-through ones");
  all.insert(all.end(), bytes.begin(), bytes.end());
  state_.description_at = state_.description_length = 0;
  problem_.clear();
  look_for_candidates();
  for (const Candidate& candidate : candidates_) {
    if (candidate.end == all.size() && !complete()) RAMFERRY_TRY(judge(candidate));
  }
  return {};
}

void StateCollector::look_for_candidates() {
  const std::vector<std::byte>& all = state_.bytes;
  constexpr std::array kPattern = {kEnd, kDescription};
  for (;; ++looked_) {
    const auto found = std::search(all.begin() + static_cast<std::ptrdiff_t>(looked_), all.end(),
                                   kPattern.begin(), kPattern.end());
    const auto at = static_cast<std::size_t>(found - all.begin());
    looked_ = std::min(at, all.size() - std::min<std::size_t>(all.size(), 1));
    if (at + kDescriptionHead + 1 > all.size()) return;
    WireReader in(ConstBytes(all).subspan(at + 2));
    const std::uint64_t length = in.u32();
    const bool begins = all[at + kDescriptionHead] == std::byte{'{'} &&
                        (at == 0 || (at >= kFooterBytes && all[at - kFooterBytes] == kFooter));
    if (!begins || length < 2 || length > kMostDescription) continue;
    std::erase_if(candidates_, [&](const Candidate& older) { return older.at + kDescriptionHead <= at; });
    candidates_.push_back({at, at + kDescriptionHead + length});
  }
}

std::string_view StateCollector::text(const Candidate& candidate) const noexcept {
  const auto* const all = reinterpret_cast<const char*>(state_.bytes.data());
  return {all + candidate.at + kDescriptionHead, candidate.end - candidate.at - kDescriptionHead};
}

/// Of a candidate that ends with the last byte.
Result<> StateCollector::judge(const Candidate& candidate) {
  const std::string_view description = text(candidate);
  Agreement agreement = compare(description, ConstBytes(state_.bytes).first(candidate.at));
  if (agreement.agrees()) {
    state_.description_at = candidate.at + kDescriptionHead;
    state_.description_length = description.size();
    return {};
  }
  problem_ = std::move(agreement.problem);
  looked_in_vain_ += agreement.looked;
  if (looked_in_vain_ <= kMostInVain * state_.bytes.size() + kAlwaysInVain) return {};
  return fail(errc::protocol_mismatch,
              "reading the machine's state: it has one end after another that is none; the last: " + problem_,
              "its source, or one of its devices, is out to keep this one busy");
}

bool StateCollector::may_end() const noexcept {
  const std::vector<std::byte>& all = state_.bytes;
  if (all.empty() || all.back() != kEnd) return false;
  return all.size() == 1 || (all.size() > kFooterBytes && all[all.size() - 1 - kFooterBytes] == kFooter);
}

Failure StateCollector::shortfall(std::uint64_t consumed) const {
  if (contradicts())
    return fail(errc::protocol_mismatch,
                "reading the machine's state: the description at its end does not fit: " + problem_,
                "migrate again; if it stays so, report it, with what the source's 'migrate \"exec:cat "
                ">FILE\"' writes");
  for (const Candidate& candidate : candidates_) {
    if (candidate.end < state_.bytes.size() &&
        compare(text(candidate), ConstBytes(state_.bytes).first(candidate.at)).agrees())
      return fail(errc::protocol_mismatch,
                  "reading the machine's state: " + std::to_string(state_.bytes.size() - candidate.end) +
                      " bytes follow its description");
  }
  return fail(errc::peer_gone, "the stream ended in the middle of the machine's state, after " +
                                   std::to_string(consumed) + " bytes");
}

namespace {

/// How long the next byte is waited for.
Deadline patience(const StateCollector& collector, const StateOptions& options) {
  if (collector.complete()) return Deadline::after(*options.close_timeout);
  const bool may_be_over = options.stays_open && (collector.may_end() || collector.contradicts());
  return may_be_over ? Deadline::after(options.silence) : Deadline::never();
}

}  // namespace

Result<MachineState> read_state(StreamInput& in, const StateOptions& options) {
  StateCollector collector;
  std::uint64_t so_far = 0;
  bool silent = false;
  while (!collector.complete() || options.close_timeout) {
    in.set_deadline(patience(collector, options));
    auto bytes = in.some();
    in.set_deadline(Deadline::never());
    silent = !bytes && bytes.error().is(errc::timed_out);
    const bool gone = !bytes && bytes.error().is(errc::peer_gone) && collector.complete();
    if (!bytes && !silent && !gone) return Failure(std::move(bytes).error());
    if (silent || gone || bytes->empty()) {
      if (!collector.complete() && !collector.may_end()) return collector.shortfall(in.consumed());
      break;
    }
    so_far += bytes->size();
    if (options.make_room) RAMFERRY_TRY(options.make_room(so_far));
    RAMFERRY_TRY(collector.add(*bytes));
  }
  MachineState state = std::move(collector).take();
  state.still_open = silent && state.description_length != 0;
  return state;
}

}  // namespace ramferry::checkpoint
