// SPDX-License-Identifier: MIT
#include "conveyor.hpp"

#include "tunnel_support.hpp"

#include <array>
#include <atomic>
#include <future>

namespace ramferry::tunnel {
namespace {

/// By the kernel, or through a buffer.
class Conveyor : public ::testing::TestWithParam<bool> {
 protected:
  Conveyed run() { return convey(*source_.tunnel, *sink_.tunnel, &taken_, nullptr); }

  Plain source_ = make_plain(GetParam()), sink_ = make_plain(GetParam());
  std::atomic<std::uint64_t> taken_ = 0;
};

TEST_P(Conveyor, MovesAllUntilItsSourceEnds) {
  ASSERT_TRUE(source_.user->send(as_bytes("whole")));
  ASSERT_TRUE(source_.user->finish(Deadline::after(seconds(20))));
  const Conveyed done = run();
  EXPECT_FALSE(done.source || done.sink);
  EXPECT_EQ(taken_, 5u);
  std::array<std::byte, 5> text{};
  EXPECT_TRUE(receive_exactly(*sink_.user, text, Deadline::after(seconds(20))));
}

TEST_P(Conveyor, ASourceThatIsCancelledHasNotEnded) {
  ASSERT_TRUE(source_.user->send(as_bytes("half")));
  auto running = std::async(std::launch::async, [&] { return run(); });
  std::array<std::byte, 4> text{};
  ASSERT_TRUE(receive_exactly(*sink_.user, text, Deadline::after(seconds(20))));
  source_.tunnel->cancel();
  const Conveyed done = running.get();
  EXPECT_FALSE(done.sink);
  ASSERT_TRUE(done.source);
  EXPECT_TRUE(done.source->is(errc::cancelled)) << done.source->message();
}

INSTANTIATE_TEST_SUITE_P(Each, Conveyor, ::testing::Values(true, false),
                         [](const auto& each) { return each.param ? "Kernel" : "Buffer"; });

}  // namespace
}  // namespace ramferry::tunnel
