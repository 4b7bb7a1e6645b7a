// SPDX-License-Identifier: MIT
#include "stream_map.hpp"

#include "stream_mapper.hpp"

#include <ramferry/endpoint.hpp>

#include <fmt/format.h>

namespace ramferry::cli {
namespace {

using nlohmann::json;

std::uint64_t pages_of(const MappedBlock& block) {
  return block.seen.size();
}

json block_json(const MappedBlock& block) {
  return {{"name", block.name},
          {"bytes", block.bytes},
          {"pages", pages_of(block)},
          {"records",
           {{"normal", block.normal},
            {"zero", block.zero},
            {"xbzrle", block.xbzrle},
            {"compressed", block.compressed}}},
          {"distinct-pages", block.distinct}};
}

json section_json(const MappedSection& section) {
  return {{"id", section.number},       {"name", section.name},        {"instance", section.instance},
          {"version", section.version}, {"live", section.live},        {"parts", section.parts},
          {"bytes", section.bytes},     {"sized-by", section.sized_by}};
}

}  // namespace

Result<StreamMap> map_stream(ConstBytes stream) {
  return StreamMapper(stream).run();
}

json to_json(const StreamMap& map) {
  json blocks = json::array(), sections = json::array();
  for (const MappedBlock& block : map.blocks) blocks.push_back(block_json(block));
  for (const MappedSection& section : map.sections) sections.push_back(section_json(section));
  return {{"bytes", map.bytes},
          {"version", map.version},
          {"machine", map.machine},
          {"configuration", map.configuration},
          {"run-state", map.run_state},
          {"page-bytes", map.page_bytes},
          {"commands", map.commands},
          {"blocks", std::move(blocks)},
          {"sections", std::move(sections)},
          {"description", map.description}};
}

std::string describe(const StreamMap& map) {
  std::string text = fmt::format("stream      {}, savevm version {}, machine '{}'\n", format_size(map.bytes),
                                 map.version, map.machine);
  if (!map.run_state.empty()) text += fmt::format("run state   {}\n", map.run_state);
  text += fmt::format("description {}\n",
                      map.description.is_null()
                          ? "none"
                          : fmt::format("{} devices", map.description.value("devices", json()).size()));
  text += fmt::format("\n{:<24} {:>12} {:>10} {:>10} {:>10} {:>10}\n", "RAM block", "size", "normal", "zero",
                      "encoded", "not sent");
  for (const MappedBlock& block : map.blocks)
    text += fmt::format("{:<24} {:>12} {:>10} {:>10} {:>10} {:>10}\n", block.name, format_size(block.bytes),
                        block.normal, block.zero, block.xbzrle + block.compressed,
                        pages_of(block) - block.distinct);
  text += fmt::format("\n{:>4} {:<28} {:>8} {:>7} {:>6} {:>12}  {}\n", "id", "section", "instance", "version",
                      "parts", "bytes", "end by");
  for (const MappedSection& section : map.sections)
    text += fmt::format("{:>4} {:<28} {:>8} {:>7} {:>6} {:>12}  {}\n", section.number, section.name,
                        section.instance, section.version, section.parts, section.bytes, section.sized_by);
  return text;
}

}  // namespace ramferry::cli
