// SPDX-License-Identifier: MIT
// The verbs fabric against a real device: what the model in fabric_model.hpp must agree with.
#include "verbs_fabric.hpp"

#include "rdma_host.hpp"
#include "verbs_queue.hpp"

#include <gmock/gmock.h>

#include <chrono>
#include <future>
#include <vector>

namespace ramferry::rdma {
namespace {

using namespace std::chrono_literals;

constexpr QueueShape kShape{64, 16};
constexpr std::uint32_t kCompletions = 256;
const LinkTuning kTuning{.device = {}, .ack_timeout = 15, .retries = 5};  // neither is the usual one

/// Two domains with one connection between them, through this machine's device.
class VerbsFabric : public ::testing::Test {
 protected:
  void SetUp() override {
    RAMFERRY_NEED_RDMA();
    fabric_ = make_verbs_fabric();
    auto acceptor = fabric_->listen({*testing::rdma_address(), 0}, kTuning);
    ASSERT_TRUE(acceptor) << acceptor.error().message();
    acceptor_ = std::move(*acceptor);
    ASSERT_NE(acceptor_->local().port, 0);
    auto here = fabric_->open_towards(acceptor_->local(), kTuning, kCompletions, Deadline::after(5s));
    ASSERT_TRUE(here) << here.error().message();
    here_ = std::move(*here);
    inbox_region_here_ = *here_->register_memory(inbox_here_, Rights::receive_into, 0);
    auto connecting = std::async(std::launch::async, [&] {
      return here_->connect(kShape, std::vector{receive(inbox_here_, *inbox_region_here_, 1)},
                            as_bytes("hello"), Deadline::after(5s));
    });
    auto request = acceptor_->next(Deadline::after(5s));
    ASSERT_TRUE(request) << request.error().message();
    EXPECT_EQ(as_text((*request)->hello()).substr(0, 5), "hello");
    there_ = *(*request)->open_domain(kCompletions);
    inbox_region_there_ = *there_->register_memory(inbox_there_, Rights::receive_into, 0);
    auto accepted = (*request)->accept(
        *there_, kShape, std::vector{receive(inbox_there_, *inbox_region_there_, 2)}, as_bytes("welcome"));
    ASSERT_TRUE(accepted) << accepted.error().message();
    queue_there_ = std::move(*accepted);
    auto connected = connecting.get();
    ASSERT_TRUE(connected) << connected.error().message();
    EXPECT_EQ(as_text(connected->answer).substr(0, 7), "welcome");
    queue_here_ = std::move(connected->queue);
  }

  static std::string as_text(ConstBytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  static Receive receive(std::vector<std::byte>& into, const Region& region, std::uint64_t id) {
    return {into.data(), static_cast<std::uint32_t>(into.size()), region.local_key(), id};
  }
  static Completion next_completion(Domain& domain) {
    const Deadline deadline = Deadline::after(20s);
    while (!deadline.passed()) {
      Completion one;
      if (auto count = domain.poll({&one, 1}); !count || *count == 1) return one;
      domain.wait(deadline);
    }
    ADD_FAILURE() << "nothing completed";
    return {};
  }

  std::vector<std::byte> inbox_here_{4096}, inbox_there_{4096};
  std::unique_ptr<Fabric> fabric_;
  std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<Domain> here_, there_;
  std::unique_ptr<Region> inbox_region_here_, inbox_region_there_;
  std::unique_ptr<QueuePair> queue_here_, queue_there_;
};

TEST_F(VerbsFabric, GivesTheDeviceTheTimeoutAndRetriesThatWereAskedFor) {
  if (!here_) return;
  ibv_qp_attr found{};
  ibv_qp_init_attr unused{};
  ibv_qp* const pair = static_cast<VerbsQueue&>(*queue_here_).id()->qp;
  ASSERT_EQ(ibv_query_qp(pair, &found, IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY, &unused), 0);
  EXPECT_EQ(found.timeout, kTuning.ack_timeout);
  EXPECT_EQ(found.retry_cnt, kTuning.retries);
  EXPECT_EQ(found.rnr_retry, kTuning.retries);
}

TEST_F(VerbsFabric, PutsWritesBeforeTheSendThatFollows) {
  if (!here_) return;
  std::vector<std::byte> from(8192, std::byte{7}), to(8192);
  const std::uint64_t base = reinterpret_cast<std::uintptr_t>(to.data()) % 4096;
  const auto readable = *here_->register_memory(from, Rights::read, 0);
  const auto writable = there_->register_memory(to, Rights::remote_write, base);
  ASSERT_TRUE(writable) << writable.error().message();
  const std::vector<WorkRequest> list{{.kind = WorkRequest::Kind::write,
                                       .local = from.data(),
                                       .length = 8192,
                                       .local_key = readable->local_key(),
                                       .remote_address = base,
                                       .remote_key = (*writable)->remote_key(),
                                       .id = 10},
                                      {.kind = WorkRequest::Kind::send,
                                       .signaled = true,
                                       .local = from.data(),
                                       .length = 3,
                                       .local_key = readable->local_key(),
                                       .id = 11}};
  const Posted posted = queue_here_->post(list);
  ASSERT_FALSE(posted.error) << posted.error.message();
  const Completion received = next_completion(*there_);
  EXPECT_FALSE(received.error) << received.error.message();
  EXPECT_EQ(received.id, 2U);
  EXPECT_EQ(received.bytes, 3U);
  EXPECT_EQ(to, from);
  const Completion sent = next_completion(*here_);
  EXPECT_EQ(sent.id, 11U) << "the write is not reported, only the last of the list";
  EXPECT_FALSE(sent.error);
}

TEST_F(VerbsFabric, RefusesAWrongKey) {
  if (!here_) return;
  std::vector<std::byte> from(4096);
  const auto readable = *here_->register_memory(from, Rights::read, 0);
  const std::vector<WorkRequest> list{{.kind = WorkRequest::Kind::write,
                                       .local = from.data(),
                                       .length = 4096,
                                       .local_key = readable->local_key(),
                                       .remote_address = 0,
                                       .remote_key = inbox_region_there_->remote_key(),
                                       .id = 12}};
  ASSERT_FALSE(queue_here_->post(list).error);
  const Completion completion = next_completion(*here_);
  EXPECT_EQ(completion.id, 12U);
  EXPECT_EQ(completion.error, FabricErrc::remote_access);
}

TEST_F(VerbsFabric, FlushesWhatWasPostedWhenItFails) {
  if (!here_) return;
  queue_here_->to_error();
  const Completion completion = next_completion(*here_);
  EXPECT_EQ(completion.id, 1U);
  EXPECT_EQ(completion.error, FabricErrc::flushed);
}

TEST_F(VerbsFabric, TellsThePeerOfADisconnect) {
  if (!here_) return;
  queue_here_->disconnect();
  const Deadline deadline = Deadline::after(20s);
  std::optional<LinkEvent> event;
  while (!(event = there_->next_event()) && !deadline.passed()) {
    std::vector<Completion> some(16);
    static_cast<void>(there_->poll(some));
    there_->wait(deadline);
  }
  ASSERT_TRUE(event);
  EXPECT_EQ(event->error, FabricErrc::disconnected);
}

TEST_F(VerbsFabric, WakesAWaiter) {
  if (!here_) return;
  auto waiting = std::async(std::launch::async, [&] { here_->wait(Deadline::after(60s)); });
  here_->wake();
  EXPECT_EQ(waiting.wait_for(20s), std::future_status::ready);
}

TEST_F(VerbsFabric, RefusesAfterAnAcceptThatFailed) {
  if (!here_) return;
  auto connecting = std::async(std::launch::async, [&] {
    const auto domain = fabric_->open_towards(acceptor_->local(), kTuning, kCompletions, Deadline::after(5s));
    return (*domain)->connect(kShape, {}, as_bytes("hello"), Deadline::after(20s));
  });
  auto request = acceptor_->next(Deadline::after(20s));
  ASSERT_TRUE(request) << request.error().message();
  const auto domain = *(*request)->open_domain(kCompletions);
  constexpr QueueShape kMoreThanAnyDeviceHas{1U << 30, 1U << 30};
  EXPECT_FALSE((*request)->accept(*domain, kMoreThanAnyDeviceHas, {}, as_bytes("welcome")));
  (*request)->reject(as_bytes("no"));
  request->reset();
  const auto connected = connecting.get();
  EXPECT_TRUE(!connected || !connected->queue);
}

TEST(VerbsFabricWithoutPeer, SaysThatNobodyListens) {
  RAMFERRY_NEED_RDMA();
  const auto fabric = make_verbs_fabric();
  const auto domain =
      fabric->open_towards({*testing::rdma_address(), 1}, {}, kCompletions, Deadline::after(5s));
  ASSERT_TRUE(domain) << domain.error().message();
  const auto connected = (*domain)->connect(kShape, {}, as_bytes("hello"), Deadline::after(10s));
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, FabricErrc::rejected) << connected.error().message();
}

TEST(VerbsFabricWithoutDevice, NamesTheFix) {
  if (testing::rdma_address()) GTEST_SKIP() << "there is a device";
  const auto ready = make_verbs_fabric()->probe();
  ASSERT_FALSE(ready);
  EXPECT_THAT(ready.error().advice, ::testing::HasSubstr("rdma link add"));
}

}  // namespace
}  // namespace ramferry::rdma
