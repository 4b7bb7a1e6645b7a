// SPDX-License-Identifier: MIT
#include "migration_rig.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace ramferry::test {

using namespace ramferry::migration;

namespace {

constexpr std::string_view kSchemes[] = {"unix"};

}  // namespace

std::span<const std::string_view> PairTransport::schemes() const noexcept {
  return kSchemes;
}

Result<Link> PairTransport::connect(const Endpoint& /*to*/, SessionId session, Deadline /*deadline*/) {
  ChannelPair pair = make_(session);
  queue_->push(std::move(pair.destination));
  return Link(std::move(pair.source));
}

Result<std::unique_ptr<Listener>> PairTransport::listen(const Endpoint& at) {
  return std::make_unique<QueueListener>(queue_, at);
}

class MigrationRig::Hooks final : public IncomingHooks {
 public:
  Result<> take_over() override {
    owns = true;
    return {};
  }
  std::atomic<bool> owns = false;
};

/// Both ends' sections: RAM and the run state.
struct MigrationRig::Sections {
  Sections(FakeVm& vm, RamOptions options, const std::string& run_state, Log& log)
      : ram(vm.layout(), std::move(options), log), state([run_state] { return run_state; }, log) {
    registrations[0] = *registry.add(ram);
    registrations[1] = *registry.add(state);
  }
  RamSection ram;
  GlobalStateSection state;
  SectionRegistry registry;
  SectionRegistry::Registration registrations[2];
};

MigrationRig::MigrationRig(Options options)
    : source(options.vm),
      destination(options.destination_pages.empty() ? options.vm.pages : options.destination_pages),
      options_(std::move(options)) {}

RamOptions MigrationRig::source_ram() {
  return {.tracker = [this] { return options_.make_tracker(source.layout()); },
          .chunk_bytes = options_.chunk_bytes,
          .coding = options_.coding};
}

OutgoingSettings MigrationRig::outgoing_settings() const {
  OutgoingSettings settings;
  settings.limits = options_.limits;
  settings.connect_timeout = settings.hand_over_timeout = options_.timeout;
  return settings;
}

void MigrationRig::run_source(OutgoingMigration& outgoing, const std::string& uri, Outcome& outcome) {
  if (observer != nullptr) outgoing.observe(*observer);
  EXPECT_TRUE(source.resume());
  std::thread beside([&] {
    if (meanwhile) meanwhile(outgoing);
  });
  outcome.source = outgoing.run(uri);
  beside.join();
  outcome.source_status = outgoing.status();
  outcome.source_runs = source.running();
}

Outcome MigrationRig::migrate(const TransportCatalog& transports, const std::string& listen_uri) {
  NullLog log;
  SystemClock clock;
  Sections theirs(source, source_ram(), "running", log),
      ours(destination, {.tracker = {}, .blank = true, .coding = options_.coding}, "inmigrate", log);
  Hooks hooks;
  OutgoingMigration outgoing(source, theirs.registry, transports, outgoing_settings(), clock, log);
  IncomingMigration incoming(ours.registry, hooks, {.hand_over_timeout = options_.timeout}, clock, log);
  incoming_ = &incoming;
  auto listener = transports.listen(listen_uri);
  EXPECT_TRUE(listener) << listener.error().message();
  const std::string uri = (*listener)->local().to_string();

  Outcome outcome;
  std::thread destination_thread([&] { outcome.destination = incoming.run(**listener, uri); });
  run_source(outgoing, uri, outcome);
  if (!outcome.source) (*listener)->cancel();
  destination_thread.join();
  incoming_ = nullptr;
  outcome.destination_status = incoming.status();
  outcome.destination_owns = hooks.owns;
  return outcome;
}

Outcome MigrationRig::save(const TransportCatalog& transports, const std::string& uri) {
  NullLog log;
  SystemClock clock;
  Sections theirs(source, source_ram(), "running", log);
  OutgoingMigration outgoing(source, theirs.registry, transports, outgoing_settings(), clock, log);
  Outcome outcome;
  run_source(outgoing, uri, outcome);
  return outcome;
}

Outcome MigrationRig::restore(const TransportCatalog& transports, const std::string& uri) {
  NullLog log;
  SystemClock clock;
  Sections ours(destination, {.tracker = {}, .blank = false}, "inmigrate", log);
  Hooks hooks;
  IncomingMigration incoming(ours.registry, hooks, {}, clock, log);
  auto listener = transports.listen(uri);
  Outcome outcome;
  EXPECT_TRUE(listener) << listener.error().message();
  outcome.destination = incoming.run(**listener, uri);
  outcome.destination_status = incoming.status();
  outcome.destination_owns = hooks.owns;
  return outcome;
}

void MigrationRig::cancel_destination() {
  incoming_.load()->cancel();
}

Outcome MigrationRig::migrate(PairTransport::MakePair make) {
  TransportCatalog transports;
  transports.add(std::make_unique<PairTransport>(std::move(make)));
  return migrate(transports, "unix:/rig");
}

}  // namespace ramferry::test
