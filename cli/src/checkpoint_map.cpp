// SPDX-License-Identifier: MIT
#include "checkpoint_map.hpp"

#include <ramferry/endpoint.hpp>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace ramferry::cli {
namespace {

using checkpoint::kPageBytes;
using nlohmann::json;

std::string_view origin_of(const CheckpointMap& map) {
  return map.file->head().origin == checkpoint::Origin::native ? "ramferry" : "qemu";
}

}  // namespace

Result<CheckpointMap> map_checkpoint(const checkpoint::CheckpointFile& file) {
  CheckpointMap map;
  map.file = &file;
  map.stored.resize(file.head().blocks.size());
  for (const checkpoint::StoredRun& run : file.runs()) map.stored[run.block] += run.count;
  RAMFERRY_TRY_ASSIGN(map.stream, map_stream(checkpoint::stream_without_pages(file.head())));
  return map;
}

json to_json(const CheckpointMap& map) {
  json result = to_json(map.stream);
  json blocks = json::array();
  for (std::size_t i = 0; i < map.stored.size(); ++i) {
    const checkpoint::BlockInfo& block = map.file->head().blocks[i];
    const std::uint64_t pages = block.bytes / kPageBytes;
    blocks.push_back({{"name", block.name},
                      {"bytes", block.bytes},
                      {"pages", pages},
                      {"stored-pages", map.stored[i]},
                      {"zero-pages", pages - map.stored[i]}});
  }
  result["blocks"] = std::move(blocks);
  result["format"] = "checkpoint";
  result["bytes"] = map.file->file_bytes();
  result["origin"] = origin_of(map);
  result["taken"] = map.file->head().taken;
  result["session"] = map.file->head().session.to_string();
  result["state-bytes"] = map.file->head().state.size();
  return result;
}

std::string describe(const CheckpointMap& map) {
  const checkpoint::CheckpointHead& head = map.file->head();
  std::string text = fmt::format("checkpoint  {}, machine '{}', taken {:%Y-%m-%d %H:%M:%S} UTC from {}\n",
                                 format_size(map.file->file_bytes()), head.machine,
                                 fmt::gmtime(static_cast<std::time_t>(head.taken)), origin_of(map));
  if (!map.stream.run_state.empty()) text += fmt::format("run state   {}\n", map.stream.run_state);
  text += fmt::format("memory      {}, {} pages with content\n", format_size(map.file->ram_bytes()),
                      map.file->stored_pages());
  text += fmt::format("\n{:<24} {:>12} {:>10} {:>10}\n", "RAM block", "size", "stored", "zero");
  for (std::size_t i = 0; i < map.stored.size(); ++i)
    text +=
        fmt::format("{:<24} {:>12} {:>10} {:>10}\n", head.blocks[i].name, format_size(head.blocks[i].bytes),
                    map.stored[i], head.blocks[i].bytes / kPageBytes - map.stored[i]);
  text += fmt::format("\n{:>4} {:<28} {:>8} {:>7} {:>12}  {}\n", "id", "section", "instance", "version",
                      "bytes", "end by");
  for (const MappedSection& section : map.stream.sections) {
    if (!section.live)
      text += fmt::format("{:>4} {:<28} {:>8} {:>7} {:>12}  {}\n", section.number, section.name,
                          section.instance, section.version, section.bytes, section.sized_by);
  }
  return text;
}

}  // namespace ramferry::cli
