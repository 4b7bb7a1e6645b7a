// SPDX-License-Identifier: MIT
// Sections: the parts of a VM's state that are saved and loaded one after another, RAM being one of them.
// The bytes around them (headers, footers, end of file, description) are savevm.hpp's.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/channel.hpp>
#include <ramferry/clock.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>

#include <nlohmann/json_fwd.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
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
  std::uint64_t bytes_per_second = 0;  ///< the limit behind `bytes`; 0 = none
};

/// What is left to send. Zero bytes: nothing to say until the guest is paused.
struct Pending {
  std::uint64_t bytes = 0;
  bool finishable = true;  ///< false: not before another iterate(), however long the downtime may be
};

/// Pages by what became of them.
struct PageCounts {
  std::uint64_t normal = 0, zero = 0, untouched = 0, deferred = 0;
};

/// Pages sent as changes to what was sent before; bytes are those on the wire. See xbzrle.hpp.
struct XbzrleCounts {
  std::uint64_t cache_bytes = 0, bytes = 0, pages = 0, cache_misses = 0, overflows = 0;
};
/// Pages sent compressed.
struct CompressionCounts {
  std::uint64_t pages = 0, bytes = 0;
  std::uint64_t declined_pages = 0;  ///< sent as they are, because compressing did not pay
};
/// Disk images on the way; bytes.
struct DiskCounts {
  std::uint64_t transferred = 0, remaining = 0, total = 0;
};

/// What a live section tells about its progress; several sections add up.
struct Progress {
  std::uint64_t bytes_total = 0, bytes_remaining = 0;
  std::uint64_t bytes_sent = 0;   ///< guest bytes sent so far, zero pages included
  std::uint64_t dirty_pages = 0;  ///< found by the newest harvest
  std::uint64_t page_bytes = 0;
  PageCounts pages;
  std::string tracker;
  std::optional<Clock::Time> first_byte;  ///< when the first page was handed to the transport
  std::optional<XbzrleCounts> xbzrle;     ///< while it is in use; so the next two
  std::optional<CompressionCounts> compression;
  std::optional<DiskCounts> disk;
};

/// What a section may use beside its bytes when both ends speak the native dialect: a channel to place
/// through, and a word between the ends about the slots that may be placed into.
class SlotLink {
 public:
  virtual ~SlotLink() = default;
  virtual Channel& channel() noexcept = 0;
  /// The destination's memory is known to be all zeros: pages never touched need not be sent.
  virtual bool blank_destination() const noexcept = 0;
  /// Destination, while loading a start part: this section's slots are exposed.
  virtual Result<> slots_ready() = 0;
  /// Source, after a start part was flushed: waits until one more section's slots are exposed.
  virtual Result<> await_slots() = 0;
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
  /// Bytes put by anyone since the stream began.
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
  /// A destination refuses a stream that lacks a required section.
  virtual bool required() const { return true; }

  /// Source: why the VM cannot be migrated as long as this section is there; empty: it can.
  virtual std::string blocker() const { return {}; }

  /// Destination: whether the memory that this section loads into is known to be all zeros.
  virtual bool blank_memory() const { return true; }
  /// A migration begins, at either end, before begin() or the first load(). `link` is null where the peer
  /// gets or gives plain bytes only; it outlives cleanup().
  virtual Result<> attach(SlotLink* /*link*/) { return {}; }
  virtual Result<> begin(SectionWriter&) { return {}; }                                 // guest runs
  virtual Result<Pending> iterate(SectionWriter&, const Budget&) { return Pending{}; }  // guest runs
  /// An estimate for the verdict. `exact` harvests first, so that it costs something.
  virtual Result<Pending> pending(bool /*exact*/) { return Pending{}; }  // guest runs
  /// Waits for what was sent to arrive: better now than in the downtime. False at the deadline; it is asked
  /// again then, unless the migration is to stop.
  virtual Result<bool> await_arrival(Deadline /*deadline*/) { return true; }  // guest runs
  /// The guest is paused next, for good: the moment to note what pausing changes.
  virtual void about_to_pause() {}
  virtual Result<> finish(SectionWriter&) = 0;  // guest is paused
  /// Adds what is known about this section's progress.
  virtual void report(Progress& /*into*/) const {}
  /// The migration is over, with success or without: give back what attach() and begin() took.
  virtual void cleanup() noexcept {}
  /// The migration was cancelled, before cleanup().
  virtual void cancel() noexcept {}

  virtual Result<> load(SectionReader&, std::uint32_t version, SectionPart part) = 0;  // destination
  /// QEMU's JSON description of the section's fields; an object. Empty members are fine.
  virtual void describe(nlohmann::json& /*device*/) const {}
};

/// The sections of one VM; the order of adding is the order on the wire. Changed by one thread at a time.
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
  /// Keeps the list as it is, while it lives.
  class Hold {
   public:
    explicit Hold(SectionRegistry& registry) noexcept : registry_(registry) { ++registry_.holds_; }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() { --registry_.holds_; }

   private:
    SectionRegistry& registry_;
  };

  /// errc::in_use if (name, instance) is taken, errc::wrong_state while a migration holds the list.
  Result<Registration> add(SectionHandler& handler);
  std::span<SectionHandler* const> in_order() const noexcept { return handlers_; }
  SectionHandler* find(std::string_view name, std::uint32_t instance) const noexcept;

 private:
  std::vector<SectionHandler*> handlers_;
  std::atomic<int> holds_ = 0;
};

}  // namespace ramferry::migration
