// SPDX-License-Identifier: MIT
#include "bench/channel_bench.hpp"

#include "bench/memory.hpp"

#include <ramferry/endpoint.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace ramferry::cli {
namespace {

using SteadyClock = std::chrono::steady_clock;

// request:  magic u32, version u16, cold u16, bytes u64
// answer:   status u8 (kReady, kTooMuch)
// then, any number of times:  kMeasure u8  →  user ns u64, system ns u64, pinned bytes at most u64
constexpr std::uint32_t kMagic = 0x7266'626e;  // "rfbn"
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kRequestBytes = 16, kMeasuredBytes = 24;
constexpr std::byte kReady{1}, kTooMuch{2}, kMeasure{3};
constexpr SlotId kSlot{1};
constexpr std::uint64_t kBatchBytes = 8 << 20;  ///< as a migration does
constexpr std::uint64_t kPrepareBytes = 64 << 20;
constexpr auto kPatience = std::chrono::seconds(60);
constexpr auto kLookAround = std::chrono::milliseconds(100);

double since(SteadyClock::time_point begin) {
  return std::chrono::duration<double>(SteadyClock::now() - begin).count();
}

StreamStats difference(StreamStats now, const StreamStats& before) {
  now.wire_bytes_sent -= before.wire_bytes_sent;
  now.copied_bytes -= before.copied_bytes;
  now.system_calls -= before.system_calls;
  now.work_requests -= before.work_requests;
  now.doorbells -= before.doorbells;
  now.completions -= before.completions;
  return now;
}

/// The placing end of one session.
class Placer {
 public:
  Placer(std::unique_ptr<Channel> channel, const ChannelBenchPlan& plan)
      : channel_(std::move(channel)), plan_(plan) {}

  /// Asks the other end for as much memory as will be placed from here.
  Result<> agree(std::uint64_t bytes) {
    std::vector<std::byte> request;
    WireWriter(request).u32(kMagic).u16(kVersion).u16(plan_.cold ? 1 : 0).u64(bytes);
    RAMFERRY_TRY(channel_->send(request));
    std::byte answer{};
    RAMFERRY_TRY(receive_exactly(*channel_, {&answer, 1}, Deadline::after(kPatience)));
    if (answer == kReady) return {};
    return fail(errc::peer_failed, "asking for " + format_size(bytes) + " at the other end",
                "`ramferry bench serve --most SIZE` there");
  }

  /// Lends `memory`, which outlives this, and times the first placement and all preparation.
  Result<> set_up(Bytes memory, BenchReport& report) {
    memory_ = memory;
    const auto begin = SteadyClock::now();
    const Placement all{.slot = kSlot, .offset = 0, .bytes = memory_};
    RAMFERRY_TRY(channel_->lend({&all, 1}));
    const std::uint64_t first = std::min<std::uint64_t>(plan_.extent, memory_.size());
    RAMFERRY_TRY(channel_->prepare(memory_.first(first)));
    const Placement one{.slot = kSlot, .offset = 0, .bytes = memory_.first(first)};
    RAMFERRY_TRY(channel_->place({&one, 1}));
    RAMFERRY_TRY(settle());
    report.setup.emplace_back("first placement", since(begin));
    for (std::uint64_t at = first; at < memory_.size(); at += kPrepareBytes)
      RAMFERRY_TRY(channel_->prepare(memory_.subspan(at, std::min(kPrepareBytes, memory_.size() - at))));
    report.setup.emplace_back("all prepared", since(begin));
    return {};
  }

  Result<BenchRun> run() {
    RAMFERRY_TRY_ASSIGN(const CpuTime there, ask_cpu());
    const StreamStats stats = channel_->stats();
    const CpuTime here = CpuTime::of_this_process();
    const auto begin = SteadyClock::now();
    BenchRun run;
    RAMFERRY_TRY_ASSIGN(run.bytes, place_all());
    RAMFERRY_TRY(settle());
    run.seconds = since(begin);
    run.source = CpuTime::of_this_process() - here;
    run.counted = difference(channel_->stats(), stats);
    RAMFERRY_TRY_ASSIGN(const CpuTime then, ask_cpu());
    run.destination = then - there;
    return run;
  }

  Result<> finish(BenchReport& report) {
    report.pinned = channel_->stats().peak_pinned_bytes;
    report.destination_pinned = peer_pinned_;
    report.facts = channel_->facts();
    RAMFERRY_TRY(channel_->finish(Deadline::after(kPatience)));
    // Its last word: who leaves before, leaves it with a broken connection.
    std::byte none{};
    RAMFERRY_TRY_ASSIGN(const std::size_t more, channel_->receive({&none, 1}, Deadline::after(kPatience)));
    if (more == 0) return {};
    return fail(errc::protocol_mismatch, "ending the session: the other end goes on");
  }

 private:
  Result<std::uint64_t> place_all() {
    std::uint64_t placed = 0, in_batch = 0;
    std::vector<Placement> batch;
    for (std::uint64_t at = 0; at + plan_.extent <= memory_.size(); at += plan_.stride) {
      batch.push_back({.slot = kSlot, .offset = at, .bytes = memory_.subspan(at, plan_.extent)});
      in_batch += plan_.extent;
      placed += plan_.extent;
      if (in_batch < kBatchBytes) continue;
      RAMFERRY_TRY(channel_->place(batch));
      batch.clear();
      in_batch = 0;
    }
    if (!batch.empty()) RAMFERRY_TRY(channel_->place(batch));
    return placed;
  }

  Result<> settle() {
    RAMFERRY_TRY_ASSIGN(const Epoch epoch, channel_->fence());
    return channel_->settle(epoch, Deadline::never());
  }

  Result<CpuTime> ask_cpu() {
    RAMFERRY_TRY(channel_->send({&kMeasure, 1}));
    std::array<std::byte, kMeasuredBytes> answer;
    RAMFERRY_TRY(receive_exactly(*channel_, answer, Deadline::after(kPatience)));
    WireReader reader(answer);
    const double user = static_cast<double>(reader.u64()) / 1e9;
    const double system = static_cast<double>(reader.u64()) / 1e9;
    peer_pinned_ = reader.u64();
    return CpuTime{user, system};
  }

  std::unique_ptr<Channel> channel_;
  Bytes memory_;
  const ChannelBenchPlan plan_;
  std::uint64_t peer_pinned_ = 0;
};

/// As receive_exactly, but looks at `stopped` meanwhile. False: the peer has finished.
Result<bool> take(Channel& channel, Bytes into, const std::function<bool()>& stopped) {
  while (!into.empty()) {
    if (stopped()) return fail(errc::cancelled, "serving");
    const auto got = channel.receive(into, Deadline::after(kLookAround));
    if (!got && got.error().is(errc::timed_out)) continue;
    if (!got) return Failure(got.error());
    if (*got == 0) return false;
    into = into.subspan(*got);
  }
  return true;
}

Result<> answer_measurements(Channel& channel, const std::function<bool()>& stopped) {
  while (true) {
    std::byte order{};
    RAMFERRY_TRY_ASSIGN(const bool more, take(channel, {&order, 1}, stopped));
    if (!more) return {};
    if (order != kMeasure) return fail(errc::protocol_mismatch, "serving: an unknown order");
    const CpuTime cpu = CpuTime::of_this_process();
    std::vector<std::byte> answer;
    WireWriter(answer)
        .u64(static_cast<std::uint64_t>(cpu.user * 1e9))
        .u64(static_cast<std::uint64_t>(cpu.system * 1e9))
        .u64(channel.stats().peak_pinned_bytes);
    RAMFERRY_TRY(channel.send(answer));
  }
}

}  // namespace

Result<> check(const ChannelBenchPlan& plan) {
  if (plan.extent == 0 || plan.stride < plan.extent || plan.bytes < plan.stride || plan.repeats == 0)
    return fail(errc::invalid_argument, "planning the benchmark", "give --extent <= --stride <= --bytes");
  return {};
}

Result<BenchReport> run_channel_bench(const TransportCatalog& catalog, const std::string& uri,
                                      const ChannelBenchPlan& plan) {
  RAMFERRY_TRY(check(plan));
  BenchReport report{
      .what = "placements", .uri = uri, .bytes = plan.bytes, .extent = plan.extent, .stride = plan.stride};
  const auto begin = SteadyClock::now();
  RAMFERRY_TRY_ASSIGN(Link link, catalog.connect(uri, SessionId::random(), Deadline::after(kPatience)));
  report.setup.emplace_back("connect", since(begin));
  auto* channel = std::get_if<std::unique_ptr<Channel>>(&link);
  if (channel == nullptr)
    return fail(errc::unsupported, "measuring " + uri + ": it carries plain bytes only",
                "use tcp:, unix: or rdma:");
  BenchMemory memory;  // outlives the channel that it is lent to
  Placer placer(std::move(*channel), plan);
  // Before memory is filled: what is wrong with the address or the size is told at once.
  const std::uint64_t bytes = plan.bytes / plan.extent * plan.stride;
  RAMFERRY_TRY(placer.agree(bytes));
  RAMFERRY_TRY_ASSIGN(memory, BenchMemory::map(bytes, true));
  RAMFERRY_TRY(placer.set_up(memory.bytes(), report));
  for (unsigned repeat = 0; repeat < plan.repeats; ++repeat) {
    RAMFERRY_TRY_ASSIGN(const BenchRun run, placer.run());
    report.runs.push_back(run);
  }
  RAMFERRY_TRY(placer.finish(report));
  return report;
}

Result<> serve_channel_bench(std::unique_ptr<Channel> channel, std::uint64_t most_bytes,
                             const std::function<bool()>& stopped) {
  std::array<std::byte, kRequestBytes> request;
  RAMFERRY_TRY_ASSIGN(const bool asked, take(*channel, request, stopped));
  WireReader reader(request);
  const std::uint32_t magic = reader.u32();
  const std::uint16_t version = reader.u16(), cold = reader.u16();
  const std::uint64_t bytes = reader.u64();
  if (!asked || magic != kMagic || version != kVersion || bytes == 0)
    return fail(errc::protocol_mismatch, "reading what a peer wants measured",
                "the other end must be `ramferry bench run` of the same version");
  const std::byte answer = bytes <= most_bytes ? kReady : kTooMuch;
  BenchMemory memory;
  std::optional<MemoryLanding> landing;
  // Goes before what it lands in.
  const std::unique_ptr<Channel> serving = std::move(channel);
  if (answer == kReady) {
    RAMFERRY_TRY_ASSIGN(memory, BenchMemory::map(bytes, cold == 0));
    landing.emplace(memory.bytes(),
                    cold == 0 ? MemoryLanding::Content::unknown : MemoryLanding::Content::blank);
    RAMFERRY_TRY(serving->expose(kSlot, *landing));
  }
  RAMFERRY_TRY(serving->send({&answer, 1}));
  if (answer != kReady) return fail(errc::no_space, "a peer asked for " + format_size(bytes), "raise --most");
  RAMFERRY_TRY(answer_measurements(*serving, stopped));
  RAMFERRY_TRY(serving->revoke(Deadline::after(kPatience)));
  return serving->finish(Deadline::after(kPatience));
}

}  // namespace ramferry::cli
