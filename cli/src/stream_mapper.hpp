// SPDX-License-Identifier: MIT
// The reader behind map_stream(): a cursor over the stream, and one function per kind of record.
#pragma once

#include "stream_map.hpp"

#include <cstddef>
#include <map>
#include <optional>
#include <string>

namespace ramferry::cli {

class StreamMapper {
 public:
  explicit StreamMapper(ConstBytes stream) : stream_(stream) {}
  Result<StreamMap> run();

 private:
  // fields
  bool has(std::size_t count) const noexcept { return count <= stream_.size() - at_; }
  Result<std::uint64_t> field(std::size_t bytes);
  Result<std::string> text(std::size_t length);
  Result<std::string> text8();
  Result<> skip(std::uint64_t count);
  Failure broken(const std::string& what) const;

  // the frame
  Result<> header();
  Result<> configuration();
  Result<> configuration_subsection();
  Result<bool> record();  ///< false at the end of the stream
  Result<> head(bool live);
  Result<> more();
  Result<> command();
  Result<> end_of_stream();
  Result<> footer(std::uint32_t number);
  void find_description();

  // payloads
  Result<> payload(std::size_t section);
  Result<> run_state(std::uint64_t length);
  Result<std::size_t> opaque_length(const MappedSection& section) const;
  std::optional<std::uint64_t> described_length(const MappedSection& section) const;
  bool footer_at(std::size_t at, std::uint32_t number) const noexcept;
  bool record_at(std::size_t at) const noexcept;

  // RAM
  Result<> ram();
  Result<bool> ram_record();  ///< false at the end of the section's part
  Result<> ram_blocks(std::uint64_t total);
  Result<std::size_t> ram_block(std::uint64_t word);

  ConstBytes stream_;
  std::size_t at_ = 0;
  StreamMap map_;
  std::map<std::uint32_t, std::size_t> by_number_;
  std::optional<std::size_t> ram_block_;  ///< of the record before; a part goes on where the last one stopped
};

}  // namespace ramferry::cli
