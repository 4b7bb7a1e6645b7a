// SPDX-License-Identifier: MIT
#include "options.hpp"
#include "verbs_fabric.hpp"

#include <ramferry/rdma/verbs_loop.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <optional>
#include <utility>

namespace ramferry {
namespace rdma {
namespace {

using Seconds = std::chrono::duration<double>;
using SteadyClock = std::chrono::steady_clock;

constexpr std::uint64_t kMagic = 0x7266'6c6f'6f70'3031;  // "rfloop01"
constexpr std::uint32_t kMostList = 64, kMostQueuePairs = 64;
constexpr auto kLookAround = std::chrono::milliseconds(100);
constexpr auto kPatience = std::chrono::seconds(10);  ///< for a peer's further queue pairs
constexpr unsigned kQueueBits = 48;                   ///< a completion's id: queue pair << 48 | list

double since(SteadyClock::time_point begin) {
  return Seconds(SteadyClock::now() - begin).count();
}

/// What the writing end says with each queue pair.
struct LoopHello {
  std::uint64_t bytes = 0;
  std::uint32_t queue_pairs = 0;
};

/// Where it may write.
struct LoopAnswer {
  std::uint64_t base = 0;
  std::uint32_t key = 0;
};

/// Either of them is two numbers behind the magic.
struct Words {
  std::uint64_t first = 0;
  std::uint32_t second = 0;
};

std::vector<std::byte> encode(Words words) {
  std::vector<std::byte> bytes;
  WireWriter(bytes).u64(kMagic).u64(words.first).u32(words.second);
  return bytes;
}

/// Nothing unless it begins as one. Private data may have trailing zeros: how long it is says nothing.
std::optional<Words> decode(ConstBytes bytes) {
  if (bytes.size() < 20) return std::nullopt;
  WireReader reader(bytes);
  const std::uint64_t magic = reader.u64();
  const Words words{.first = reader.u64(), .second = reader.u32()};
  return magic == kMagic ? std::optional(words) : std::nullopt;
}

Result<LoopHello> decode_hello(ConstBytes bytes) {
  const auto words = decode(bytes);
  if (!words || words->first == 0 || words->second == 0 || words->second > kMostQueuePairs)
    return fail(errc::protocol_mismatch, "reading a peer's hello",
                "the other end must be `ramferry bench verbs` of the same version");
  return LoopHello{words->first, words->second};
}

Result<LoopAnswer> decode_answer(ConstBytes bytes) {
  const auto words = decode(bytes);
  if (!words)
    return fail(errc::protocol_mismatch, "reading the answer",
                "the other end must be `ramferry bench verbs --serve` of the same version");
  return LoopAnswer{words->first, words->second};
}

/// One queue pair and the lists that it has not completed yet.
struct LoopQueue {
  std::unique_ptr<QueuePair> pair;
  std::deque<std::uint64_t> flying;  ///< bytes of each list, oldest first
  std::uint64_t flying_bytes = 0;
};

class VerbsLoop {
 public:
  VerbsLoop(Bytes memory, const VerbsLoopPlan& plan) : memory_(memory), plan_(plan) {
    const std::uint64_t fitting = std::max<std::uint64_t>(1, plan.window / 2 / plan.extent);
    list_ = static_cast<std::uint32_t>(std::min<std::uint64_t>({plan.list, kMostList, fitting}));
    extents_ = (memory.size() + plan.stride - plan.extent) / plan.stride;
  }

  Result<VerbsLoopReport> run(Fabric& fabric, const Address& to, const LinkTuning& tuning,
                              const VerbsLoopStep& step, Deadline deadline) {
    VerbsLoopReport report;
    RAMFERRY_TRY(connect(fabric, to, tuning, deadline, report));
    for (unsigned repeat = 0; repeat < plan_.repeats; ++repeat) {
      step();
      RAMFERRY_TRY_ASSIGN(VerbsLoopRun run, write_all());
      step();
      report.runs.push_back(run);
    }
    const DeviceFacts& device = domain_->device();
    report.facts = {{"device", device.name},
                    {"gid", device.gid},
                    {"mtu", std::to_string(device.mtu)},
                    {"queue-pairs", std::to_string(plan_.queue_pairs)},
                    {"list", std::to_string(list_)}};
    return report;
  }

 private:
  Result<> connect(Fabric& fabric, const Address& to, const LinkTuning& tuning, Deadline deadline,
                   VerbsLoopReport& report) {
    auto begin = SteadyClock::now();
    const auto depth = static_cast<std::uint32_t>(plan_.window / plan_.extent) + 2 * list_;
    RAMFERRY_TRY_ASSIGN(domain_, fabric.open_towards(to, tuning, depth * plan_.queue_pairs, deadline));
    report.connect_seconds = since(begin);
    begin = SteadyClock::now();
    RAMFERRY_TRY_ASSIGN(region_, domain_->register_memory(memory_, Rights::read, 0));
    report.register_seconds = since(begin);
    begin = SteadyClock::now();
    const QueueShape shape{.sends = std::min(depth, domain_->device().max_queue_depth), .receives = 1};
    depth_ = shape.sends;
    const auto hello = encode({memory_.size(), plan_.queue_pairs});
    for (std::uint32_t i = 0; i < plan_.queue_pairs; ++i) {
      RAMFERRY_TRY_ASSIGN(Connected connected, domain_->connect(shape, {}, hello, deadline));
      if (!connected.queue)
        return fail(errc::peer_failed, "connecting: the other end refused", "see what it printed");
      RAMFERRY_TRY_ASSIGN(peer_, decode_answer(connected.answer));
      queues_.push_back({.pair = std::move(connected.queue), .flying = {}});
    }
    report.connect_seconds += since(begin);
    return {};
  }

  Result<VerbsLoopRun> write_all() {
    VerbsLoopRun run;
    next_ = 0;
    const auto begin = SteadyClock::now();
    while (next_ < extents_ || flying_ > 0) {
      bool posted = false;
      for (std::size_t i = 0; i < queues_.size() && next_ < extents_; ++i) {
        if (!has_room(queues_[i])) continue;
        RAMFERRY_TRY(post_list(i, run));
        posted = true;
      }
      RAMFERRY_TRY(take_completions(!posted, run));
    }
    run.seconds = since(begin);
    return run;
  }

  bool has_room(const LoopQueue& queue) const noexcept {
    return queue.flying.empty() || (queue.flying_bytes + list_ * plan_.extent <= plan_.window &&
                                    (queue.flying.size() + 1) * list_ <= depth_);
  }

  Result<> post_list(std::size_t index, VerbsLoopRun& run) {
    LoopQueue& queue = queues_[index];
    std::array<WorkRequest, kMostList> list;
    std::uint64_t bytes = 0;
    std::size_t count = 0;
    for (; count < list_ && next_ < extents_; ++count, ++next_) {
      const std::uint64_t at = next_ * plan_.stride;
      const std::uint64_t length = std::min(plan_.extent, memory_.size() - at);
      list[count] = {.local = memory_.data() + at,
                     .length = static_cast<std::uint32_t>(length),
                     .local_key = region_->local_key(),
                     .remote_address = peer_.base + at,
                     .remote_key = peer_.key};
      bytes += length;
    }
    list[count - 1].signaled = true;
    for (std::size_t i = 0; i < count; ++i) list[i].id = std::uint64_t{index} << kQueueBits;
    const Posted posted = queue.pair->post(std::span(list).first(count));
    if (posted.error) return fail(posted.error, "posting writes");
    queue.flying.push_back(bytes);
    queue.flying_bytes += bytes;
    ++flying_;
    run.work_requests += count;
    run.doorbells += 1;
    run.bytes += bytes;
    return {};
  }

  Result<> take_completions(bool wait, VerbsLoopRun& run) {
    std::array<Completion, 64> done;
    RAMFERRY_TRY_ASSIGN(std::size_t count, domain_->poll(done));
    while (count == 0 && wait && flying_ > 0) {
      domain_->wait(Deadline::after(kLookAround));
      if (const auto event = domain_->next_event()) return fail(event->error, "writing: " + event->what);
      RAMFERRY_TRY_ASSIGN(count, domain_->poll(done));
    }
    for (const Completion& each : std::span(done).first(count)) {
      if (each.error) return fail(each.error, "writing");
      LoopQueue& queue = queues_[each.id >> kQueueBits];
      queue.flying_bytes -= queue.flying.front();
      queue.flying.pop_front();
      --flying_;
      run.completions += 1;
    }
    return {};
  }

  const Bytes memory_;
  const VerbsLoopPlan plan_;
  std::uint32_t list_ = 1, depth_ = 0;
  std::uint64_t extents_ = 0, next_ = 0, flying_ = 0;
  LoopAnswer peer_;
  std::unique_ptr<Domain> domain_;
  std::unique_ptr<Region> region_;
  std::vector<LoopQueue> queues_;
};

/// Takes one peer in and waits until it has left. errc::timed_out if none comes within a moment.
Result<> serve_one(Acceptor& acceptor, const VerbsLoopHost& host) {
  RAMFERRY_TRY_ASSIGN(auto request, acceptor.next(Deadline::after(kLookAround)));
  if (!request) return fail(errc::timed_out, "waiting for a connection");
  RAMFERRY_TRY_ASSIGN(const LoopHello hello, decode_hello(request->hello()));
  RAMFERRY_TRY_ASSIGN(const auto domain, request->open_domain(2 * hello.queue_pairs));
  RAMFERRY_TRY_ASSIGN(const Bytes memory, host.memory(hello.bytes));
  const auto base = reinterpret_cast<std::uintptr_t>(memory.data());
  RAMFERRY_TRY_ASSIGN(const auto region, domain->register_memory(memory, Rights::remote_write, base));
  const auto answer = encode({base, region->remote_key()});
  std::vector<std::unique_ptr<QueuePair>> pairs;
  while (true) {
    RAMFERRY_TRY_ASSIGN(auto pair, request->accept(*domain, {.sends = 1, .receives = 1}, {}, answer));
    pairs.push_back(std::move(pair));
    if (pairs.size() == hello.queue_pairs) break;
    RAMFERRY_TRY_ASSIGN(request, acceptor.next(Deadline::after(kPatience)));
    if (!request) return fail(errc::cancelled, "waiting for more queue pairs");
    RAMFERRY_TRY(decode_hello(request->hello()));
  }
  while (!domain->next_event()) {
    domain->wait(Deadline::after(kLookAround));
    if (host.stop(0)) break;
  }
  return {};
}

}  // namespace
}  // namespace rdma

Result<VerbsLoopReport> run_verbs_loop(const Endpoint& to, Bytes memory, const VerbsLoopPlan& plan,
                                       const VerbsLoopStep& step, Deadline connect_until) {
  if (plan.extent == 0 || plan.stride < plan.extent || memory.size() < plan.extent || plan.list == 0 ||
      plan.queue_pairs == 0 || plan.queue_pairs > rdma::kMostQueuePairs || plan.extent > UINT32_MAX)
    return fail(errc::invalid_argument, "planning a verbs loop",
                "extent <= stride, extent <= bytes, 1-64 queue pairs");
  RAMFERRY_TRY(check_options(to, rdma::option_specs()));
  RAMFERRY_TRY_ASSIGN(const rdma::Options options, rdma::parse_options(to));
  const auto fabric = rdma::make_verbs_fabric();
  RAMFERRY_TRY(fabric->probe());
  rdma::VerbsLoop loop(memory, plan);
  return loop.run(*fabric, {to.host, to.port}, options.link, step, connect_until);
}

Result<> serve_verbs_loop(const Endpoint& at, const VerbsLoopHost& host) {
  RAMFERRY_TRY(check_options(at, rdma::option_specs()));
  RAMFERRY_TRY_ASSIGN(const rdma::Options options, rdma::parse_options(at));
  const auto fabric = rdma::make_verbs_fabric();
  RAMFERRY_TRY(fabric->probe());
  RAMFERRY_TRY_ASSIGN(const auto acceptor, fabric->listen({at.host, at.port}, options.link));
  Endpoint local = at;
  local.port = acceptor->local().port;
  host.listening(local);
  for (unsigned served = 0; !host.stop(served);) {
    const auto result = rdma::serve_one(*acceptor, host);
    if (!result && result.error().is(errc::timed_out)) continue;
    if (!result) host.problem(result.error());
    ++served;
  }
  return {};
}

}  // namespace ramferry
