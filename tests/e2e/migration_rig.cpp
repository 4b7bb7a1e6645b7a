// SPDX-License-Identifier: MIT
#include "migration_rig.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace ramferry::test {

using namespace ramferry::migration;

class PairTransport::Queue {
 public:
  void push(std::unique_ptr<Channel> channel) {
    const std::lock_guard lock(mutex_);
    channels_.push_back(std::move(channel));
    changed_.notify_all();
  }
  Result<Link> pop(Deadline deadline) {
    std::unique_lock lock(mutex_);
    const auto ready = [&] { return cancelled_ || !channels_.empty(); };
    if (deadline.is_never())
      changed_.wait(lock, ready);
    else if (!changed_.wait_until(lock, deadline.when(), ready))
      return fail(errc::timed_out, "accepting");
    if (cancelled_) return fail(errc::cancelled, "accepting");
    Link link = std::move(channels_.front());
    channels_.pop_front();
    return link;
  }
  void cancel() {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Channel>> channels_;
  bool cancelled_ = false;
};

namespace {

constexpr std::string_view kSchemes[] = {"unix"};

template <class Queue>
class PairListener final : public Listener {
 public:
  PairListener(std::shared_ptr<Queue> queue, Endpoint at) : queue_(std::move(queue)), at_(std::move(at)) {}
  Endpoint local() const override { return at_; }
  Result<Link> accept(Deadline deadline) override { return queue_->pop(deadline); }
  void cancel() noexcept override { queue_->cancel(); }

 private:
  std::shared_ptr<Queue> queue_;
  Endpoint at_;
};

}  // namespace

std::shared_ptr<PairTransport::Queue> PairTransport::make_queue() {
  return std::make_shared<Queue>();
}

std::span<const std::string_view> PairTransport::schemes() const noexcept {
  return kSchemes;
}

Result<Link> PairTransport::connect(const Endpoint& /*to*/, SessionId session, Deadline /*deadline*/) {
  ChannelPair pair = make_(session);
  queue_->push(std::move(pair.destination));
  return Link(std::move(pair.source));
}

Result<std::unique_ptr<Listener>> PairTransport::listen(const Endpoint& at) {
  return std::make_unique<PairListener<Queue>>(queue_, at);
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
      : ram(vm.layout(), std::move(options), log), state([run_state] { return run_state; }) {
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
          .chunk_bytes = options_.chunk_bytes};
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
      ours(destination, {.tracker = {}, .blank = true}, "inmigrate", log);
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
