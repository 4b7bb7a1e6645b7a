// SPDX-License-Identifier: MIT
// A whole migration in one process: a source VM, a destination VM, something between them, and what both ends
// say.
#pragma once

#include "fake_vm.hpp"
#include "support/channel_pair.hpp"
#include "support/link_queue.hpp"

#include <ramferry/migration/global_state.hpp>
#include <ramferry/migration/incoming.hpp>
#include <ramferry/migration/outgoing.hpp>
#include <ramferry/migration/ram_section.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

namespace ramferry::test {

/// A transport ("unix:/anything") whose links come from the test: connect takes one end, accept gets the
/// other.
class PairTransport final : public Transport {
 public:
  using MakePair = std::function<ChannelPair(SessionId)>;
  explicit PairTransport(MakePair make) : make_(std::move(make)) {}

  std::span<const std::string_view> schemes() const noexcept override;
  std::span<const OptionSpec> options() const noexcept override { return {}; }
  Result<> probe() const override { return {}; }
  Result<Link> connect(const Endpoint& to, SessionId session, Deadline deadline) override;
  Result<std::unique_ptr<Listener>> listen(const Endpoint& at) override;

 private:
  MakePair make_;
  std::shared_ptr<LinkQueue> queue_ = std::make_shared<LinkQueue>();
};

/// What the two ends said when both were done.
struct Outcome {
  Result<> source, destination;
  migration::Status source_status, destination_status;
  bool source_runs = false;       ///< its guest runs again
  bool destination_owns = false;  ///< it took over
  std::chrono::nanoseconds cancel_took{};

  bool two_owners() const noexcept { return source_runs && destination_owns; }
};

class MigrationRig {
 public:
  struct Options {
    FakeVm::Options vm;
    migration::Limits limits;
    /// Of the source.
    std::function<Result<std::unique_ptr<migration::DirtyTracker>>(const migration::RamLayout&)> make_tracker;
    std::uint64_t chunk_bytes = 1 << 20;
    std::chrono::milliseconds timeout{5000};
    std::vector<std::size_t> destination_pages;     ///< empty: as the source's
    std::function<migration::PageCoding()> coding;  ///< of both ends
  };
  explicit MigrationRig(Options options);

  /// Both ends at once, over `transports`: listens at `listen_uri`, then connects to where that turned out to
  /// be.
  Outcome migrate(const TransportCatalog& transports, const std::string& listen_uri);
  /// Over channels that the test makes.
  Outcome migrate(PairTransport::MakePair make);

  /// One end only: the source into `uri`, or the destination out of it.
  Outcome save(const TransportCatalog& transports, const std::string& uri);
  Outcome restore(const TransportCatalog& transports, const std::string& uri);
  /// Any thread, while migrate() runs.
  void cancel_destination();

  using MakeTracker =
      std::function<Result<std::unique_ptr<migration::DirtyTracker>>(const migration::RamLayout&)>;
  void use_tracker(MakeTracker make) { options_.make_tracker = std::move(make); }

  FakeVm source, destination;
  std::function<void(migration::OutgoingMigration&)> meanwhile;  ///< runs on a thread beside the migration
  migration::Observer* observer = nullptr;                       ///< of the source

 private:
  struct Sections;
  class Hooks;
  migration::RamOptions source_ram();
  void run_source(migration::OutgoingMigration& outgoing, const std::string& uri, Outcome& outcome);
  migration::OutgoingSettings outgoing_settings() const;

  Options options_;
  std::atomic<migration::IncomingMigration*> incoming_ = nullptr;
};

}  // namespace ramferry::test
