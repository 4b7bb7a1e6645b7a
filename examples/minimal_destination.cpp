// SPDX-License-Identifier: MIT
// A VMM in miniature that takes a guest in:  minimal_destination tcp:127.0.0.1:4444
// Then start minimal_source with the same URI.
#include <ramferry/migration/incoming.hpp>
#include <ramferry/migration/ram_section.hpp>
#include <ramferry/tcp/transport.hpp>

#include <sys/mman.h>

#include <cstdio>

using namespace ramferry;
using namespace ramferry::migration;

constexpr std::size_t kRamBytes = 64 << 20;

/// What a VMM implements: start the guest once it is ours.
class Hooks final : public IncomingHooks {
 public:
  explicit Hooks(Bytes memory) : memory_(memory) {}
  Result<> take_over() override {
    std::uint64_t sum = 0;
    for (std::size_t page = 0; page < memory_.size(); page += 4096)
      sum += *reinterpret_cast<const std::uint64_t*>(&memory_[page]);
    std::printf("the guest is ours; it had counted to %llu\n", static_cast<unsigned long long>(sum));
    return {};
  }

 private:
  Bytes memory_;
};

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: %s URI, e.g. tcp:127.0.0.1:4444\n", argv[0]), 2;
  void* ram = ::mmap(nullptr, kRamBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const Bytes memory(static_cast<std::byte*>(ram), kRamBytes);
  StderrLog log(LogLevel::info);
  SystemClock clock;

  // The same blocks as at the source; `blank` because nothing was written here since mmap.
  auto layout = RamLayout::make({{.name = "ram", .host = memory}});
  if (!layout) return std::fprintf(stderr, "%s\n", layout.error().message().c_str()), 1;
  RamSection ram_section(*layout, {.tracker = {}, .blank = true}, log);
  SectionRegistry sections;
  const auto registration = sections.add(ram_section);

  TransportCatalog transports;
  transports.add(make_tcp_transport(log));
  auto listener = transports.listen(argv[1]);
  if (!listener) return std::fprintf(stderr, "%s\n", listener.error().message().c_str()), 1;
  std::printf("waiting at %s\n", (*listener)->local().to_string().c_str());
  std::fflush(stdout);

  Hooks hooks(memory);
  IncomingMigration migration(sections, hooks, {}, clock, log);
  const auto moved = migration.run(**listener, argv[1]);
  if (!moved) return std::fprintf(stderr, "%s\n", moved.error().message().c_str()), 1;
  return 0;
}
