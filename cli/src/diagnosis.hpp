// SPDX-License-Identifier: MIT
// What `ramferry doctor` finds: whether this machine can migrate guests, and whether a way to a peer works.
//
// One thread. Looking changes nothing on the machine and may take seconds: trackers are tried on a page of
// memory, sockets on the loopback interface, and a way by asking for a connection that is given up at once.
#pragma once

#include <ramferry/check.hpp>
#include <ramferry/system_files.hpp>
#include <ramferry/transport.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ramferry::cli {

struct CheckGroup {
  /// What of it has to work for the whole to work.
  enum class Need : std::uint8_t { nothing, any, all };

  std::string title;
  std::vector<Check> checks;
  Need need = Need::nothing;

  bool works() const noexcept;
};

struct Diagnosis {
  std::string uri;  ///< what was asked for; empty: whether this machine can migrate at all
  std::vector<CheckGroup> groups;

  bool works() const noexcept;
};

/// Processor, kernel, memory, limits, huge pages, clock.
CheckGroup diagnose_machine(const SystemFiles& files);
CheckGroup diagnose_huge_pages(const SystemFiles& files);
/// The trackers are tried; who may use userfaultfd, and KVM's log, are read from `files`.
CheckGroup diagnose_tracking(const SystemFiles& files);

/// With a URI, its transport has to work and the others are left out; without, sockets and one tracker have
/// to. errc::invalid_argument for a URI that no transport understands.
Result<Diagnosis> diagnose(const TransportCatalog& catalog, const SystemFiles& files, const std::string& uri);

/// For a terminal: aligned, a fix below each finding that has one, and the verdict in the last line.
std::string to_text(const Diagnosis& diagnosis);
/// {"uri", "works", "groups": [{"title", "need", "works", "checks": [{"name", "verdict", "value", "fix"}]}]}
nlohmann::ordered_json to_json(const Diagnosis& diagnosis);

}  // namespace ramferry::cli
