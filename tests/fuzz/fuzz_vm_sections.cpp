// SPDX-License-Identifier: MIT
// The reference VM's own device state from anybody: page table, clock, serial port, disk.
//
// The first byte says whose state it is, the second which part of it; the rest is the payload.
#include "fuzz/canned.hpp"
#include "fuzz/replay.hpp"
#include "vm/devices.hpp"
#include "vm/disk_section.hpp"
#include "vm/table_section.hpp"

#include <ramferry/migration/section_stream.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <memory>
#include <string>

using namespace ramferry;
using namespace ramferry::migration;

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::uint64_t kDiskBytes = vm::kDiskChunk + 512;

class Machine {
 public:
  Machine() : fd_(::memfd_create("fuzz", 0)) {
    RAMFERRY_FUZZ_CHECK(::ftruncate(fd_, kDiskBytes) == 0);
    auto disk = vm::Disk::open({.image = "/proc/self/fd/" + std::to_string(fd_)});
    RAMFERRY_FUZZ_CHECK(disk.has_value());
    disk_ = std::move(*disk);
    storage_ =
        std::make_unique<vm::DiskSection>(*disk_, [] { return vm::DiskSection::Mode{.wanted = true}; });
  }
  ~Machine() {
    storage_.reset();
    disk_.reset();
    ::close(fd_);
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  SectionHandler& device(unsigned number) {
    const std::array<SectionHandler*, 4> all{&section_, &clock_, &serial_, storage_.get()};
    return *all[number % all.size()];
  }
  void check() const {
    for (std::uint64_t page = 0; page < layout_[0].pages(); ++page)
      RAMFERRY_FUZZ_CHECK(table_.get(0, page).kind <= vm::PageKind::stamped);
    RAMFERRY_FUZZ_CHECK(serial_.lines().size() <= 64 && clock_.elapsed().count() >= 0);
    RAMFERRY_FUZZ_CHECK(::lseek(fd_, 0, SEEK_END) == static_cast<off_t>(kDiskBytes));
  }

 private:
  alignas(kPage) std::array<std::byte, 8 * kPage> memory_{};
  RamLayout layout_{*RamLayout::make({{.name = "ram", .host = memory_}})};
  vm::PageTable table_{layout_};
  vm::TableSection section_{layout_, table_};
  vm::ClockDevice clock_;
  vm::SerialDevice serial_;
  const int fd_;
  std::unique_ptr<vm::Disk> disk_;
  std::unique_ptr<vm::DiskSection> storage_;
};

fuzz::Input headed(std::uint8_t device, SectionPart part, const std::function<void(WireWriter&)>& write) {
  fuzz::Input all{std::byte{device}, static_cast<std::byte>(part)};
  WireWriter out(all);
  write(out);
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  Machine machine;
  SectionHandler& device = machine.device(data[0]);
  const ConstBytes payload = fuzz::input(data, size).subspan(2);
  fuzz::Canned<ByteStream> stream(payload);
  StreamReader reader(stream);
  constexpr std::array kParts{SectionPart::start, SectionPart::part, SectionPart::end, SectionPart::full};
  // What begins well goes on with the same bytes: a live section is in more than one part.
  if (device.load(reader, device.id().version, kParts[data[1] % kParts.size()]) && device.live())
    (void)device.load(reader, device.id().version, SectionPart::end);
  machine.check();
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  const auto start = static_cast<SectionPart>(0), full = static_cast<SectionPart>(3);
  return {headed(0, start,
                 [](WireWriter& out) {
                   out.u32(1).text8("ram").u64(8);
                   out.u8(1).u32(0).u64(2).u32(2).u32(1U << 30).u32(2U << 30 | 7);
                   out.u8(2).u32(0).u64(4).u32(4).u32(1U << 30 | 1).u8(0).u8(0);
                 }),
          headed(1, full, [](WireWriter& out) { out.u64(123'456'789); }),
          headed(2, full, [](WireWriter& out) { out.u64(9).u32(2).text8("one").text8("two"); }),
          headed(3, start, [](WireWriter& out) {
            out.u64(kDiskBytes).u8(0).u64(0).u8(2).u64(0).u8(1).u64(1).zeros(512).u8(0).u8(2).u64(1).u8(0);
          })};
}
