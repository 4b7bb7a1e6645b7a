// SPDX-License-Identifier: MIT
// Reads a savevm stream, QEMU's or ours, as somebody who does not have the machine: the frame and the RAM
// section are understood, the state of devices is kept as it is.
//
// That RAM comes first, and all of it, is what makes this possible: after the END of the RAM section only
// opaque bytes follow. docs/qemu.md has the format's facts. One thread.
#pragma once

#include "machine_state.hpp"
#include "stream_input.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/migration/section.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ramferry::checkpoint {

/// How the RAM section's parts carry the pages.
enum class RamBody : std::uint8_t {
  records,  ///< in the stream, as QEMU writes them
  placed,   ///< past it; a part has the epoch of its fence
  multifd,  ///< over channels beside it, in order by StreamEvents::sync(); zero pages may be in it
};

/// Records of the RAM section, by kind. Compressed and delta records count as such.
struct RecordCounts {
  std::uint64_t page = 0, zero = 0, delta = 0, compressed = 0;
  std::uint64_t parts = 0;  ///< PARTs and the END
};

/// What a stream says, in its order. Blocks and offsets were checked against the list of blocks; pages are
/// kPageBytes long.
class StreamEvents {
 public:
  virtual ~StreamEvents() = default;
  /// The bytes up to the first section, and the machine's name in them.
  virtual Result<> head(ConstBytes bytes, const std::string& machine) = 0;
  /// A command to the destination that a plain precopy may have.
  virtual Result<> command(std::uint16_t id, ConstBytes data) = 0;
  virtual Result<> ram_begins(std::uint32_t section, std::vector<BlockInfo> blocks) = 0;
  /// The whole START has been read.
  virtual Result<> ram_begun() { return {}; }
  /// A part of a live section beside RAM whose layout is known, with its frame.
  virtual Result<> beside_ram(ConstBytes frame) = 0;
  /// RamBody::records: `bytes` are valid until flush(), or until the second age().
  virtual Result<> page(std::uint32_t block, std::uint64_t offset, ConstBytes bytes) = 0;
  virtual Result<> fill(std::uint32_t block, std::uint64_t offset, std::uint8_t value) = 0;
  virtual Result<> delta(std::uint32_t block, std::uint64_t offset, ConstBytes delta) = 0;
  /// Decompressed; valid during the call.
  virtual Result<> unpacked(std::uint32_t block, std::uint64_t offset, ConstBytes bytes) = 0;
  virtual Result<> flush() = 0;
  /// What was valid before the last call of it is valid no more after this one.
  virtual Result<> age() { return flush(); }
  /// RamBody::records: RAM travels past the stream from here until this returns.
  virtual Result<> hook();
  /// RamBody::multifd: all that was sent over the channels until now comes before what follows.
  virtual Result<> sync() { return {}; }
  /// The last part of the RAM section begins; the source's guest has stopped.
  virtual Result<> last_part() { return {}; }
};

class SavevmParser {
 public:
  SavevmParser(StreamInput& in, StreamEvents& events, RamBody body);

  /// Everything up to the first section or command.
  Result<> read_head();
  /// Everything up to the end of the RAM section, the head included unless it was read. errc::unsupported
  /// names what we cannot keep, errc::protocol_mismatch what breaks the format.
  Result<> read_ram();
  const RecordCounts& counts() const noexcept { return counts_; }

 private:
  Result<> configuration_subsection(std::vector<std::byte>& raw);
  Result<> command();
  Result<> start();
  Result<> more(bool last);
  Result<> footer(std::uint32_t section);
  Result<> table_part(std::uint8_t mark, bool first);
  Result<> block_list();
  Result<> records();
  Result<> flush_mark(std::uint64_t word);
  Result<> record(std::uint64_t word);
  Result<> find_block(bool same);
  Result<> delta_record(std::uint64_t offset);
  Result<> compressed_record(std::uint64_t offset);
  Result<> placed_part();

  StreamInput& in_;
  StreamEvents& events_;
  RamBody body_;
  bool head_read_ = false, ram_ended_ = false;
  std::vector<BlockInfo> blocks_;
  std::optional<std::uint32_t> ram_;    ///< the RAM section's number, once started
  std::optional<std::uint32_t> table_;  ///< the number of our own VM's page table, once started
  std::optional<std::uint32_t> block_;  ///< of the record before
  std::uint64_t epoch_ = 0;
  /// multifd: machine types up to 8.0 sync at the end of each part, later ones say where.
  bool started_ = false, says_where_ = false;
  RecordCounts counts_;
};

}  // namespace ramferry::checkpoint
