// SPDX-License-Identifier: MIT
#include "vm_process.hpp"

#include "catalog_setup.hpp"
#include "command.hpp"
#include "features.hpp"
#include "lossy_tracker.hpp"
#include "sweep_json.hpp"

#include <ramferry/migration/qmp_commands.hpp>
#include <ramferry/migration/qmp_server.hpp>
#include <ramferry/migration/ram_section.hpp>
#include <ramferry/migration/vm_controller.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

namespace ramferry::cli {

using nlohmann::json;

/// Member order is the order of making, and of unmaking backwards: migrations end before what they use.
class VmProcess::Engine final : public migration::VmObserver, public migration::IncomingSteps {
 public:
  Engine(const VmProcessOptions& options, Log& log)
      : options_(options),
        log_(log),
        catalog_(
            make_catalog(log, {.named = [this](std::string_view name) { return descriptors_.take(name); },
                               .slow_batches = options.slow_batches})),
        wake_(eventfd(0, EFD_CLOEXEC)) {}
  ~Engine() override {
    stall_.release();
    if (controller_) controller_->shut_down();
    // Before what its commands use.
    std::unique_ptr<migration::QmpServer> server;
    {
      const std::lock_guard lock(server_mutex_);
      server = std::move(server_);
    }
  }

  Result<> start() {
    RAMFERRY_TRY_ASSIGN(vm_, vm::ReferenceVm::make(options_.vm, log_));
    controller_.emplace(migration::VmParts{.guest = *vm_,
                                           .sections = sections_,
                                           .incoming_steps = *this,
                                           .transports = catalog_,
                                           .clock = clock_,
                                           .log = log_});
    RAMFERRY_TRY(add_sections());
    add_commands();
    events_.emplace(controller_->capabilities(),
                    [this](std::string_view event, const json& data) { emit(event, data); });
    controller_->observe(*events_);
    controller_->observe(*this);
    // The monitor comes last: who reaches it finds the VM as it was asked for.
    RAMFERRY_TRY(begin());
    return serve();
  }

  int run(StopSignals& signals) {
    std::array<pollfd, 2> waiting = {{{signals.fd(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
    while (!ended_) {
      poll(waiting.data(), waiting.size(), -1);
      if (signals.take()) end(kDone, "host-signal");
    }
    stall_.release();
    controller_->shut_down();
    emit("SHUTDOWN", {{"guest", false}, {"reason", reason_}});
    return status_;
  }

  // VmObserver
  void on_incoming_end(const Result<>& result) noexcept override {
    if (!result && !result.error().is(errc::outcome_unknown)) end(kFailed, "host-error");
  }

  // IncomingSteps
  Result<> invalidate_storage() override {
    return vm_->disk() == nullptr ? Result<>() : vm_->disk()->reopen();
  }
  void announce(unsigned round) override { vm_->announce(round); }
  Result<> prepare() override {
    stall_.reach(StallPhase::prepared);
    return {};
  }
  Result<> taken_over() override {
    stall_.reach(StallPhase::committed);
    return {};
  }

 private:
  Result<> add_sections() {
    ram_.emplace(vm_->layout(),
                 migration::RamOptions{.tracker = [this] { return make_tracker(); },
                                       .blank = !options_.incoming.empty(),
                                       .coding = [this] { return controller_->page_coding(); }},
                 log_);
    std::vector<migration::SectionHandler*> all = {&*ram_};
    for (migration::SectionHandler* section : vm_->sections()) all.push_back(section);
    if (vm_->disk() != nullptr) all.push_back(&disk_.emplace(*vm_->disk(), [this] { return disk_mode(); }));
    all.push_back(&controller_->global_state());
    if (options_.stall_at) {
      stall_.arm(*options_.stall_at);
      stall_.when_held([this](StallPhase phase) { emit("X_RAMFERRY_STALLED", {{"at", to_string(phase)}}); });
      all[1] = &stalling_.emplace(*all[1], stall_);
    }
    for (migration::SectionHandler* section : all) {
      RAMFERRY_TRY_ASSIGN(auto registration, sections_.add(*section));
      registrations_.push_back(std::move(registration));
    }
    return {};
  }

  vm::DiskSection::Mode disk_mode() {
    const migration::DiskMode mode = controller_->disk_mode();
    return {.wanted = mode != migration::DiskMode::none,
            .incremental = mode == migration::DiskMode::incremental,
            .detect_zeros = controller_->capabilities().on("zero-blocks")};
  }

  Result<std::unique_ptr<migration::DirtyTracker>> make_tracker() {
    auto tracker = migration::make_tracker(options_.tracker, vm_->layout(), log_);
    if (tracker && options_.lose_mark) return lose_one_mark(std::move(*tracker), vm_->layout());
    return tracker;
  }

  void add_commands() {
    // Of a transport that this build may lack; what is there already stays.
    controller_->capabilities().add("rdma-pin-all", false, false);
    migration::add_standard_commands(table_, {.controller = *controller_,
                                              .sections = sections_,
                                              .name = options_.name,
                                              .version = version(),
                                              .quit = [this] { end(kDone, "host-qmp-quit"); },
                                              .descriptors = descriptors_});
    table_.add({.name = "x-ramferry-sweep", .run = [this](const json&) -> migration::QmpResult {
                  vm_->start_sweep();
                  return json::object();
                }});
    table_.add({.name = "x-ramferry-query-sweep", .run = [this](const json&) -> migration::QmpResult {
                  return sweep_json(vm_->sweeping(), vm_->last_sweep());
                }});
    table_.add({.name = "x-ramferry-query-vm", .run = [this](const json&) -> migration::QmpResult {
                  return json{
                      {"pages-written", vm_->pages_written()},
                      {"ram-bytes", vm_->layout().bytes()},
                      {"announcements", vm_->announcements()},
                      {"guest-seconds", std::chrono::duration<double>(vm_->clock().elapsed()).count()}};
                }});
    table_.add({.name = "x-ramferry-plant",
                .arguments = {{"fault", migration::QmpType::string}},
                .run = [this](const json& given) { return plant(given["fault"]); }});
    table_.add({.name = "x-ramferry-continue", .run = [this](const json&) -> migration::QmpResult {
                  stall_.release();
                  return json::object();
                }});
    table_.add({.name = "x-ramferry-write",
                .arguments = {{"pages", migration::QmpType::array, true},
                              {"first", migration::QmpType::integer, true},
                              {"count", migration::QmpType::integer, true}},
                .run = [this](const json& given) { return write_pages(given); }});
    for (const char* event : {"X_RAMFERRY_SWEEP", "X_RAMFERRY_STALLED"}) table_.add_event(event);
    vm_->when_swept(
        [this](const vm::SweepReport& report) { emit("X_RAMFERRY_SWEEP", sweep_json(false, report)); });
  }

  migration::QmpResult plant(const std::string& fault) {
    const auto parsed = vm::parse_fault(fault);
    if (!parsed) return migration::qmp_fail(parsed.error().message());
    return migration::qmp_result(vm_->plant(*parsed));
  }

  /// {"pages": [NUMBER…]} or {"first": NUMBER, "count": NUMBER}: a benchmark's dirty trace.
  migration::QmpResult write_pages(const json& given) {
    const std::uint64_t most = vm_->layout().blocks().front().pages();
    std::vector<std::uint64_t> pages;
    for (const json& page : given.value("pages", json::array())) {
      if (!page.is_number_unsigned()) return migration::qmp_fail("pages are numbers, 0 the first");
      pages.push_back(page.get<std::uint64_t>());
    }
    const auto first = given.value("first", std::int64_t{0}), count = given.value("count", std::int64_t{0});
    if (first < 0 || count < 0 || static_cast<std::uint64_t>(count) > most)
      return migration::qmp_fail("first and count lie within the memory");
    for (std::int64_t i = 0; i < count; ++i) pages.push_back(static_cast<std::uint64_t>(first + i));
    if (std::any_of(pages.begin(), pages.end(), [&](std::uint64_t page) { return page >= most; }))
      return migration::qmp_fail("there are " + std::to_string(most) + " pages");
    return migration::qmp_result(vm_->write_pages(pages));
  }

  Result<> serve() {
    if (options_.monitor.empty()) return {};
    RAMFERRY_TRY_ASSIGN(const std::string uri, plain_uri(options_.monitor));
    RAMFERRY_TRY_ASSIGN(auto listener, catalog_.listen(uri));
    Endpoint at = listener->local();
    at.options.erase("dialect");  // a monitor's address has none
    {
      const std::lock_guard lock(server_mutex_);
      server_ = std::make_unique<migration::QmpServer>(std::move(listener), table_,
                                                       migration::QmpSettings{.version = version()}, log_);
    }
    if (options_.announce)
      fmt::print(stderr, "ramferry: {} is ready, its monitor at {}\n", options_.name, at.to_string());
    return {};
  }

  Result<> begin() {
    if (options_.incoming.empty()) return options_.paused ? Result<>() : controller_->cont();
    RAMFERRY_TRY(controller_->expect_incoming());
    if (options_.paused) RAMFERRY_TRY(controller_->stop());
    if (options_.incoming == "defer") return {};
    RAMFERRY_TRY(controller_->migrate_incoming(options_.incoming));
    if (const auto at = controller_->incoming_address(); at && options_.announce)
      fmt::print(stderr, "ramferry: {} waits for a migration at {}\n", options_.name, at->to_string());
    return {};
  }

  static migration::QmpVersion version() { return {.package = "ramferry " RAMFERRY_VERSION}; }

  void emit(std::string_view event, const json& data) {
    const std::lock_guard lock(server_mutex_);
    if (server_) server_->emit(event, data);
  }

  /// Any thread; the first call decides.
  void end(int status, const char* reason) noexcept {
    if (ending_.exchange(true)) return;
    status_ = status;
    reason_ = reason;
    ended_ = true;
    const std::uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof one);
  }

  const VmProcessOptions options_;
  Log& log_;
  migration::GivenDescriptors descriptors_;
  TransportCatalog catalog_;
  SystemClock clock_;
  UniqueFd wake_;
  Stall stall_;
  std::atomic<bool> ending_ = false, ended_ = false;
  int status_ = kDone;  ///< set before ended_
  const char* reason_ = nullptr;

  migration::SectionRegistry sections_;
  migration::QmpCommandTable table_;
  std::mutex server_mutex_;  ///< whoever tells an event may outlive the server
  std::unique_ptr<migration::QmpServer> server_;
  std::optional<migration::QmpEvents> events_;
  std::unique_ptr<vm::ReferenceVm> vm_;
  std::optional<migration::RamSection> ram_;
  std::optional<vm::DiskSection> disk_;
  std::optional<StallingSection> stalling_;
  std::optional<migration::VmController> controller_;
  std::vector<migration::SectionRegistry::Registration> registrations_;
};

VmProcess::VmProcess(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}
VmProcess::~VmProcess() = default;

Result<std::unique_ptr<VmProcess>> VmProcess::start(const VmProcessOptions& options, Log& log) {
  auto engine = std::make_unique<Engine>(options, log);
  RAMFERRY_TRY(engine->start());
  return std::unique_ptr<VmProcess>(new VmProcess(std::move(engine)));
}

int VmProcess::run(StopSignals& signals) {
  return engine_->run(signals);
}

}  // namespace ramferry::cli
