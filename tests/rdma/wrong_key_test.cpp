// SPDX-License-Identifier: MIT
// Whole migrations to a destination that grants keys which its device does not know.
#include "e2e/reporting_rig.hpp"
#include "fabric_model.hpp"
#include "rdma_host.hpp"
#include "transport_parts.hpp"
#include "verbs_fabric.hpp"
#include "wrong_keys.hpp"

#include <gmock/gmock.h>

#include <chrono>
#include <functional>
#include <string>

namespace ramferry::rdma {
namespace {

using namespace std::chrono_literals;

/// Connects by one transport and listens by the other.
class TwoEnds final : public Transport {
 public:
  TwoEnds(std::unique_ptr<Transport> source, std::unique_ptr<Transport> destination)
      : source_(std::move(source)), destination_(std::move(destination)) {}
  std::span<const std::string_view> schemes() const noexcept override { return source_->schemes(); }
  std::span<const OptionSpec> options() const noexcept override { return source_->options(); }
  Result<> probe() const override { return source_->probe(); }
  Result<Link> connect(const Endpoint& to, SessionId session, Deadline deadline) override {
    return source_->connect(to, session, deadline);
  }
  Result<std::unique_ptr<Listener>> listen(const Endpoint& at) override { return destination_->listen(at); }

 private:
  std::unique_ptr<Transport> source_, destination_;
};

void expect_refused(const std::function<std::unique_ptr<Fabric>()>& make_fabric, const std::string& host,
                    const std::string& options) {
  constexpr std::uint32_t kOfNoRegion = 0x8000'0000;
  NullLog log;
  testing::RegionCount source_regions = 0, destination_regions = 0;
  TransportCatalog transports;
  transports.add(std::make_unique<TwoEnds>(
      make_transport_over(log, std::make_unique<testing::SpoiledFabric>(make_fabric(), 0, source_regions)),
      make_transport_over(
          log, std::make_unique<testing::SpoiledFabric>(make_fabric(), kOfNoRegion, destination_regions))));
  test::ReportingRig reporting({.vm = {.pages = {512}, .seed = 7, .writers = 1, .writes_per_second = 2000}});
  const auto began = std::chrono::steady_clock::now();
  const test::Outcome outcome = reporting.rig.migrate(transports, "rdma:" + host + ":0?" + options);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 60s);
  ASSERT_FALSE(outcome.source);
  EXPECT_TRUE(outcome.source.error().is(errc::peer_failed)) << outcome.source.error().message();
  EXPECT_THAT(outcome.source.error().message(),
              ::testing::HasSubstr("the peer's device refused access to the memory"));
  EXPECT_FALSE(outcome.destination);
  EXPECT_TRUE(outcome.source_runs);
  EXPECT_EQ(reporting.rig.source.pauses(), 0);
  test::expect_one_owner(outcome, reporting);
  EXPECT_EQ(source_regions, 0);
  EXPECT_EQ(destination_regions, 0);
}

TEST(RdmaMigration, AWrongKeyFailsItWithTheReasonAndTheGuestRunsOn) {
  for (const char* options : {"lanes=2", "lanes=1&pin=demand&pin-budget=1M"}) {
    SCOPED_TRACE(options);
    testing::ModelNet net;
    expect_refused([&] { return net.make_fabric(); }, "model", options);
  }
}

TEST(VerbsMigration, AWrongKeyFailsItWithTheReasonAndTheGuestRunsOn) {
  RAMFERRY_NEED_RDMA();
  for (const char* options : {"lanes=2", "lanes=1&pin=demand&pin-budget=1M"}) {
    SCOPED_TRACE(options);
    expect_refused(make_verbs_fabric, *testing::rdma_address(), options);
  }
}

}  // namespace
}  // namespace ramferry::rdma
