// SPDX-License-Identifier: MIT
// What is in a savevm stream, found by reading it from end to end without being any VM: header,
// configuration, sections, RAM blocks and their pages by kind, device description.
//
// Every length is checked against the bytes that are there. The payload of a section that nobody here knows
// is skipped by what the stream's own description says of its size, or else up to its footer.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ramferry::cli {

struct MappedBlock {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t normal = 0, zero = 0, xbzrle = 0, compressed = 0;  ///< records; a page may come several times
  std::uint64_t distinct = 0;                                      ///< pages that come at least once
  std::vector<bool> seen;
};

struct MappedSection {
  std::string name;
  std::uint32_t number = 0, instance = 0, version = 0;
  bool live = false;
  std::uint64_t parts = 0, bytes = 0;  ///< payloads, without headers and footers
  std::string sized_by;                ///< "format", "description" or "footer": how its end was found
};

struct StreamMap {
  std::uint32_t version = 0;
  std::string machine;
  std::vector<std::string> configuration;  ///< its subsections
  std::string run_state;                   ///< empty if the stream does not tell
  std::vector<MappedSection> sections;     ///< in the order of their first appearance
  std::vector<MappedBlock> blocks;
  std::uint64_t page_bytes = 4096, commands = 0, bytes = 0;
  nlohmann::json description;  ///< null if there is none
};

/// errc::protocol_mismatch with the place where the bytes stop making sense.
Result<StreamMap> map_stream(ConstBytes stream);

nlohmann::json to_json(const StreamMap& map);
std::string describe(const StreamMap& map);

}  // namespace ramferry::cli
