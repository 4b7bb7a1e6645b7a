// SPDX-License-Identifier: MIT
// A VMM in miniature that sends its guest away:  minimal_source tcp:127.0.0.1:4444
// Start minimal_destination first. The "guest" is a thread that counts in its memory, one page after another.
#include <ramferry/migration/dirty_tracker.hpp>
#include <ramferry/migration/outgoing.hpp>
#include <ramferry/migration/ram_section.hpp>
#include <ramferry/tcp/transport.hpp>

#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <thread>

using namespace ramferry;
using namespace ramferry::migration;

constexpr std::size_t kRamBytes = 64 << 20;

/// What a VMM implements: stop and start the virtual CPUs.
class Guest final : public GuestControl {
 public:
  explicit Guest(Bytes memory) : memory_(memory), cpu_([this] { run_cpu(); }) {}
  ~Guest() override {
    ending_ = true;
    cpu_.join();
  }
  Result<> pause() override {
    running_ = false;
    const std::lock_guard wait_for_the_cpu(stepping_);
    return {};
  }
  Result<> resume() override {
    running_ = true;
    return {};
  }
  bool running() const noexcept override { return running_; }

 private:
  void run_cpu() {
    for (std::size_t page = 0; !ending_; page = (page + 1) % (memory_.size() / 4096)) {
      {
        const std::lock_guard step(stepping_);
        if (running_) ++*reinterpret_cast<std::uint64_t*>(&memory_[page * 4096]);
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
  Bytes memory_;
  std::atomic<bool> running_ = true, ending_ = false;
  std::mutex stepping_;
  std::thread cpu_;
};

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: %s URI, e.g. tcp:127.0.0.1:4444\n", argv[0]), 2;
  void* ram = ::mmap(nullptr, kRamBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const Bytes memory(static_cast<std::byte*>(ram), kRamBytes);
  StderrLog log(LogLevel::info);
  SystemClock clock;

  // What moves: one RAM block, in a section like any other. A real VMM adds its devices' sections.
  auto layout = RamLayout::make({{.name = "ram", .host = memory}});
  if (!layout) return std::fprintf(stderr, "%s\n", layout.error().message().c_str()), 1;
  RamSection ram_section(
      *layout, {.tracker = [&] { return make_tracker(TrackerKind::automatic, *layout, log); }}, log);
  SectionRegistry sections;
  const auto registration = sections.add(ram_section);

  // How it moves: the transports that this program speaks.
  TransportCatalog transports;
  transports.add(make_tcp_transport(log));

  Guest guest(memory);
  OutgoingMigration migration(guest, sections, transports, {}, clock, log);
  const auto moved = migration.run(argv[1]);
  const Status status = migration.status();
  if (!moved) return std::fprintf(stderr, "%s\n", moved.error().message().c_str()), 1;
  std::printf("moved: %zu rounds, %llu pages, downtime %.1f ms\n", status.rounds.size(),
              static_cast<unsigned long long>(status.pages.normal),
              status.downtime ? static_cast<double>(status.downtime->count()) / 1e6 : 0.0);
  return 0;
}
