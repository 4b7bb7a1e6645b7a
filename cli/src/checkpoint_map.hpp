// SPDX-License-Identifier: MIT
// What is in a checkpoint, for people and programs.
#pragma once

#include "stream_map.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace ramferry::cli {

struct CheckpointMap {
  const checkpoint::CheckpointFile* file = nullptr;  ///< borrowed
  std::vector<std::uint64_t> stored;                 ///< pages with content, by block
  StreamMap stream;                                  ///< everything but the pages
};

/// errc::protocol_mismatch if the machine's state makes no sense.
Result<CheckpointMap> map_checkpoint(const checkpoint::CheckpointFile& file);

nlohmann::json to_json(const CheckpointMap& map);
std::string describe(const CheckpointMap& map);

}  // namespace ramferry::cli
