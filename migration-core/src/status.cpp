// SPDX-License-Identifier: MIT
#include <ramferry/migration/status.hpp>

namespace ramferry::migration {

std::string_view to_string(State state) noexcept {
  switch (state) {
    case State::none: return "none";
    case State::setup: return "setup";
    case State::active: return "active";
    case State::pre_switchover: return "pre-switchover";
    case State::device: return "device";
    case State::completed: return "completed";
    case State::failed: return "failed";
    case State::cancelling: return "cancelling";
    case State::cancelled: return "cancelled";
  }
  return "unknown";
}

bool may_follow(State from, State to) noexcept {
  const bool under_way =
      from == State::setup || from == State::active || from == State::pre_switchover || from == State::device;
  switch (to) {
    case State::none: return false;
    case State::setup: return from == State::none;
    case State::active: return from == State::setup;
    case State::pre_switchover: return from == State::active;
    case State::device: return from == State::active || from == State::pre_switchover;
    // A cancel may come too late for a file that is being put in its place.
    case State::completed: return from == State::device || from == State::cancelling;
    case State::failed:
    case State::cancelling: return under_way;
    case State::cancelled: return from == State::cancelling;
  }
  return false;
}

std::string_view to_string(HandOver hand_over) noexcept {
  switch (hand_over) {
    case HandOver::none: return "none";
    case HandOver::prepared: return "prepared";
    case HandOver::committed: return "committed";
    case HandOver::running: return "running";
    case HandOver::unknown: return "unknown";
  }
  return "unknown";
}

}  // namespace ramferry::migration
