// SPDX-License-Identifier: MIT
// What some channels and transports are beside what all of them are. Asked for by dynamic_cast.
#pragma once

#include <span>
#include <string_view>

namespace ramferry {

/// A channel whose medium writes placements into the peer's memory without the peer's processor, or a
/// transport that makes such channels. Encoded placements still arrive, but as messages: who encodes to save
/// bytes gives that up.
class PlacesDirectly {
 public:
  virtual ~PlacesDirectly() = default;
};

/// A capability of a monitor that stands for an option of an address: while it is on, addresses that do not
/// give the option get it.
struct SwitchSpec {
  std::string_view capability, option, value;
};

/// A transport that brings capabilities with it.
class HasSwitches {
 public:
  virtual ~HasSwitches() = default;
  virtual std::span<const SwitchSpec> switches() const noexcept = 0;
};

}  // namespace ramferry
