// SPDX-License-Identifier: MIT
// QEMU's savevm stream, version 3: the frame around sections, written and read. Both dialects use it.
//
//   magic version CONFIGURATION  START*  PART*  END*  FULL*  EOF VMDESCRIPTION
//
// The order on the wire is the registry's. See docs/protocol.md and, for the facts, docs/qemu.md.
#pragma once

#include <ramferry/migration/section.hpp>
#include <ramferry/migration/section_stream.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry::migration {

namespace savevm {
inline constexpr std::uint32_t kMagic = 0x5145564d;  // "QEVM"
inline constexpr std::uint32_t kVersion = 3;
enum class Mark : std::uint8_t {
  eof = 0,
  start = 1,
  part = 2,
  end = 3,
  full = 4,
  subsection = 5,
  vm_description = 6,
  configuration = 7,
  command = 8,
  footer = 0x7e,
};
}  // namespace savevm

/// Writes the frame. Migration thread.
class SavevmWriter {
 public:
  SavevmWriter(ByteStream& stream, const SectionRegistry& sections);

  /// Magic, version and the configuration with the machine's name.
  Result<> begin(std::string_view machine);
  /// START of every live section that is needed now, then flushes.
  Result<> start_all();
  /// One PART, flushed.
  Result<Pending> iterate(SectionHandler& section, const Budget& budget);
  /// END of every started section, then FULL of every other that is needed. Guest paused.
  Result<> finish_all();
  /// EOF and the description, flushed: after it the peer has everything.
  Result<> end();

  /// The sections that were started, in order.
  const std::vector<SectionHandler*>& started() const noexcept { return started_; }
  std::uint64_t written() const noexcept { return out_.written(); }

 private:
  struct Frame {
    SectionHandler* section;
    SectionPart part;
  };
  template <class Body>
  Result<> framed(const Frame& frame, Body body);
  std::uint32_t number_of(const SectionHandler& section) const noexcept;

  StreamWriter out_;
  const SectionRegistry& sections_;
  std::vector<SectionHandler*> started_;
  nlohmann::json devices_ = nlohmann::json::array();
};

/// Reads the frame and hands each part to its section. Every failure names the section it happened in.
class SavevmReader {
 public:
  SavevmReader(StreamReader& in, const SectionRegistry& sections);

  /// Reads everything up to the end of the description. errc::protocol_mismatch for bytes that break the
  /// format, errc::not_found for a section that this VM does not have, errc::unsupported for a version of it,
  /// a command or a configuration that it cannot take, errc::invalid_argument for another machine.
  Result<> load(std::string_view machine);

  /// The name in the stream's configuration; empty before it was read.
  const std::string& machine() const noexcept { return machine_; }
  /// The JSON text at the end of the stream; empty if there was none.
  const std::string& description() const noexcept { return description_; }
  /// Parts loaded so far.
  std::uint64_t parts() const noexcept { return parts_; }

 private:
  enum class Progress : std::uint8_t { started, done };
  struct Loaded {
    SectionHandler* section;
    std::uint32_t version;
    Progress progress;
    std::string name;
  };

  Result<> configuration(std::string_view machine);
  Result<> configuration_subsection();
  Result<> capabilities();
  Result<> head(savevm::Mark mark);
  Result<> more(savevm::Mark mark);
  Result<> body(std::uint32_t number, Loaded& section, SectionPart part);
  Result<> command();
  Result<> check_complete() const;
  Result<> read_description();

  StreamReader& in_;
  const SectionRegistry& sections_;
  std::map<std::uint32_t, Loaded> loaded_;  ///< by section number
  std::string machine_, description_;
  std::uint64_t parts_ = 0;
};

}  // namespace ramferry::migration
