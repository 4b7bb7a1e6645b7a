// SPDX-License-Identifier: MIT
// A small destination machine that takes a migration from bytes: for the fuzz targets of both dialects.
#pragma once

#include "fuzz/canned.hpp"
#include "fuzz/replay.hpp"

#include <ramferry/migration/global_state.hpp>
#include <ramferry/migration/incoming.hpp>
#include <ramferry/migration/native_protocol.hpp>
#include <ramferry/migration/ram_section.hpp>

#include <array>

namespace ramferry::fuzz {

inline constexpr std::size_t kPage = 4096;

/// Two blocks, "pc.ram" of 4 pages and "rom" of one, a run state, and a live section.
class Guest {
 public:
  class Counter final : public migration::SectionHandler {
   public:
    migration::SectionId id() const override { return {"counter", 1, 2}; }
    bool live() const noexcept override { return true; }
    Result<> begin(migration::SectionWriter& out) override { return out.u32(1); }
    Result<> finish(migration::SectionWriter& out) override { return out.text8("done"); }
    Result<> load(migration::SectionReader& in, std::uint32_t /*version*/,
                  migration::SectionPart part) override {
      if (part == migration::SectionPart::end) {
        RAMFERRY_TRY(in.text8());
        return {};
      }
      RAMFERRY_TRY(in.u32());
      return {};
    }
  };

  Guest()
      : layout_(*migration::RamLayout::make({{.name = "pc.ram", .host = Bytes(memory_).first(4 * kPage)},
                                             {.name = "rom", .host = Bytes(memory_).last(kPage)}})),
        ram(layout_, {.tracker = {}, .blank = true}, log_),
        state([] { return std::string("running"); }, log_) {
    registrations_[0] = *sections.add(ram);
    registrations_[1] = *sections.add(counter);
    registrations_[2] = *sections.add(state);
  }

 private:
  alignas(kPage) std::array<std::byte, 5 * kPage> memory_{};
  migration::RamLayout layout_;
  NullLog log_;

 public:
  migration::RamSection ram;
  Counter counter;
  migration::GlobalStateSection state;
  migration::SectionRegistry sections;

 private:
  std::array<migration::SectionRegistry::Registration, 3> registrations_;
};

/// The bytes of the savevm stream that such a machine is loaded from; native parts bring epochs, others a
/// page.
inline Input savevm_stream(bool native) {
  Input bytes;
  WireWriter out(bytes);
  out.u32(0x5145564d).u32(3).u8(7).u32(10).raw(as_bytes("ramferry-1"));
  out.u8(1).u32(0).text8("ram").u32(0).u32(4);
  out.u64(5 * kPage | 4).text8("pc.ram").u64(4 * kPage).text8("rom").u64(kPage).u64(0x10).u8(0x7e).u32(0);
  out.u8(1).u32(1).text8("counter").u32(1).u32(2).u32(1).u8(0x7e).u32(1);
  out.u8(2).u32(0);
  if (native) {
    out.u64(1);
  } else {
    out.u64(0x1000 | 0x02).text8("pc.ram").u8(0).u64(0x2000 | 0x22).u8(0);
    out.u64(0 | 0x08).text8("rom").raw(std::vector<std::byte>(kPage, std::byte{7}));
  }
  out.u64(0x10).u8(0x7e).u32(0);
  out.u8(3).u32(0);
  if (native) out.u64(2);
  out.u64(0x10).u8(0x7e).u32(0);
  out.u8(3).u32(1).text8("done").u8(0x7e).u32(1);
  out.u8(4)
      .u32(2)
      .text8("globalstate")
      .u32(0)
      .u32(1)
      .u32(8)
      .raw(as_bytes("running"))
      .zeros(93)
      .u8(0x7e)
      .u32(2);
  out.u8(0).u8(6).u32(2).raw(as_bytes("{}"));
  return bytes;
}

/// Gives one link.
class OneLink final : public Listener {
 public:
  explicit OneLink(Link link) : link_(std::move(link)) {}
  Endpoint local() const override { return {}; }
  Result<Link> accept(Deadline /*deadline*/) override { return std::move(link_); }
  void cancel() noexcept override {}

 private:
  Link link_;
};

/// Takes a migration from `link`: success only if the guest was taken over, and only then.
inline bool take_in(Link link) {
  struct Hooks final : migration::IncomingHooks {
    Result<> take_over() override {
      ++taken;
      return {};
    }
    int taken = 0;
  } hooks;
  Guest guest;
  SystemClock clock;
  NullLog log;
  migration::IncomingMigration incoming(guest.sections, hooks, {}, clock, log);
  OneLink listener(std::move(link));
  const auto result = incoming.run(listener, "tcp:0");
  RAMFERRY_FUZZ_CHECK(hooks.taken == (result ? 1 : 0));
  if (result) RAMFERRY_FUZZ_CHECK(incoming.status().state == migration::State::completed);
  if (!result) RAMFERRY_FUZZ_CHECK(!result.error().message().empty());
  return result.has_value();
}

}  // namespace ramferry::fuzz
