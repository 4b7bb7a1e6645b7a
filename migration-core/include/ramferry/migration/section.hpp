// SPDX-License-Identifier: MIT
// Sections: the parts of a VM's state that are saved and loaded one after another, RAM being one of them.
// The bytes around them (headers, footers, end of file, description) are savevm.hpp's.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace ramferry::migration {

struct SectionId {
  std::string name;  ///< "ram", "globalstate", "ramferry/table"; 1-255 bytes
  std::uint32_t instance = 0;
  std::uint32_t version = 1;
};

/// What one call of iterate() may spend.
struct Budget {
  std::uint64_t bytes = 0;
  Deadline until = Deadline::never();
};

/// What is left to send. Zero bytes: nothing to say until the guest is paused.
struct Pending {
  std::uint64_t bytes = 0;
};

/// Where a section writes its payload: buffered, in stream order.
class SectionWriter {
 public:
  virtual ~SectionWriter() = default;
  virtual Result<> put(ConstBytes bytes) = 0;
  Result<> u8(std::uint8_t value);
  Result<> u32(std::uint32_t value);
  Result<> u64(std::uint64_t value);
  /// u8 length, then the text.
  Result<> text8(std::string_view text);
  /// All that was put so far is handed to the stream. Needed only before waiting for an answer.
  virtual Result<> flush() = 0;
  virtual std::uint64_t written() const noexcept = 0;
};

/// Where a section reads its payload. Bytes come from a peer or a file: check every value.
class SectionReader {
 public:
  virtual ~SectionReader() = default;
  virtual Result<> get(Bytes into) = 0;
  Result<std::uint8_t> u8();
  Result<std::uint16_t> u16();
  Result<std::uint32_t> u32();
  Result<std::uint64_t> u64();
  Result<std::string> text8();
};

/// Which part of a section is being loaded. `full` is the only part of a section that is not live.
enum class SectionPart : std::uint8_t { start, part, end, full };

/// Anything that migrates. Called on the migration thread only. Owner and registry outlive the migration.
class SectionHandler {
 public:
  virtual ~SectionHandler() = default;
  virtual SectionId id() const = 0;
  /// Live sections are begun and iterated while the guest runs; others are saved whole, paused.
  virtual bool live() const noexcept { return false; }
  /// A section that is not needed now is left out.
  virtual bool needed() const { return true; }

  virtual Result<> begin(SectionWriter&) { return {}; }                                 // guest runs
  virtual Result<Pending> iterate(SectionWriter&, const Budget&) { return Pending{}; }  // guest runs
  /// An estimate for the verdict. `exact` harvests first, so that it costs something.
  virtual Result<Pending> pending(bool /*exact*/) { return Pending{}; }  // guest runs
  virtual Result<> finish(SectionWriter&) = 0;                           // guest is paused
  /// The migration ended without success, or after it: give back what begin() took. Also after success.
  virtual void cleanup() noexcept {}
  /// The migration was cancelled, before cleanup().
  virtual void cancel() noexcept {}

  virtual Result<> load(SectionReader&, std::uint32_t version, SectionPart part) = 0;  // destination
  /// QEMU's JSON description of the section's fields; an object. Empty members are fine.
  virtual void describe(nlohmann::json& /*device*/) const {}
};

/// The sections of one VM; the order of adding is the order on the wire.
class SectionRegistry {
 public:
  /// Removes the handler when dropped.
  class Registration {
   public:
    Registration() noexcept = default;
    Registration(Registration&& other) noexcept;
    Registration& operator=(Registration&& other) noexcept;
    ~Registration();

   private:
    friend class SectionRegistry;
    Registration(SectionRegistry& registry, SectionHandler& handler) noexcept;
    SectionRegistry* registry_ = nullptr;
    SectionHandler* handler_ = nullptr;
  };
  /// errc::in_use if (name, instance) is taken, errc::wrong_state while a migration holds the list.
  Result<Registration> add(SectionHandler& handler);
  std::span<SectionHandler* const> in_order() const noexcept { return handlers_; }
  SectionHandler* find(std::string_view name, std::uint32_t instance) const noexcept;

 private:
  std::vector<SectionHandler*> handlers_;
};

}  // namespace ramferry::migration
