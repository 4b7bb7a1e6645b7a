// SPDX-License-Identifier: MIT
// The small parts: deadlines, session ids, descriptors, logs, the catalogue of transports.
#include <ramferry/deadline.hpp>
#include <ramferry/session_id.hpp>
#include <ramferry/transport.hpp>
#include <ramferry/unique_fd.hpp>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <string>
#include <utility>

namespace ramferry {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST(Deadline, NeverNeverPasses) {
  EXPECT_TRUE(Deadline::never().is_never());
  EXPECT_FALSE(Deadline::never().passed());
  EXPECT_EQ(Deadline::never().left(hours(3)), hours(3));
  EXPECT_TRUE(Deadline::after(Deadline::Clock::duration::max()).is_never()) << "no overflow";
}

TEST(Deadline, PassesWhenItsTimeHasCome) {
  EXPECT_TRUE(Deadline::after(milliseconds(0)).passed());
  EXPECT_TRUE(Deadline::after(milliseconds(-5)).passed());
  EXPECT_EQ(Deadline::after(milliseconds(-5)).left(hours(1)), Deadline::Clock::duration::zero());
  const Deadline later = Deadline::after(hours(1));
  EXPECT_FALSE(later.passed());
  EXPECT_EQ(later.left(milliseconds(7)), milliseconds(7));
  EXPECT_LE(later.left(hours(9)), hours(1));
  EXPECT_GT(later.left(hours(9)), milliseconds(0));
  const auto when = Deadline::Clock::now();
  EXPECT_EQ(Deadline::at(when).when(), when);
}

TEST(SessionId, IsWrittenInHexadecimal) {
  SessionId id;
  EXPECT_TRUE(id.is_nil());
  id.value[0] = std::byte{0x0f};
  id.value[15] = std::byte{0xa5};
  EXPECT_FALSE(id.is_nil());
  EXPECT_EQ(id.to_string(), "0f0000000000000000000000000000a5");
}

TEST(SessionId, RandomOnesDiffer) {
  EXPECT_NE(SessionId::random(), SessionId::random());
  EXPECT_FALSE(SessionId::random().is_nil());
}

TEST(UniqueFd, ClosesWhatItOwns) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  {
    UniqueFd read(ends[0]);
    UniqueFd moved(std::move(read));
    EXPECT_EQ(moved.get(), ends[0]);
    EXPECT_TRUE(moved);
    UniqueFd write(ends[1]);
    moved = std::move(write);  // closes the first
    EXPECT_EQ(::fcntl(ends[0], F_GETFD), -1);
    EXPECT_EQ(moved.release(), ends[1]);
    EXPECT_FALSE(moved);
  }
  EXPECT_NE(::fcntl(ends[1], F_GETFD), -1) << "released: no longer its own";
  { const UniqueFd last(ends[1]); }
  EXPECT_EQ(::fcntl(ends[1], F_GETFD), -1);
}

class CollectingLog final : public Log {
 public:
  bool wants(LogLevel level) const noexcept override { return level <= LogLevel::warn; }
  void write(LogLevel level, std::string_view line) noexcept override {
    lines_ += std::string(to_string(level)) + ":" + std::string(line) + " ";
  }
  std::string lines_;
};

TEST(Log, OnlyWantedLinesAreWritten) {
  CollectingLog log;
  log.error("a");
  log.warn("b");
  log.info("c");
  log.debug("d");
  EXPECT_EQ(log.lines_, "error:a warn:b ");
  StderrLog to_stderr;
  EXPECT_TRUE(to_stderr.wants(LogLevel::warn));
  EXPECT_FALSE(to_stderr.wants(LogLevel::info));
  to_stderr.set_level(LogLevel::debug);
  EXPECT_TRUE(to_stderr.wants(LogLevel::debug));
}

/// Remembers what it was asked for.
class RecordingTransport final : public Transport {
 public:
  std::span<const std::string_view> schemes() const noexcept override {
    static constexpr std::array<std::string_view, 2> kSchemes = {"pigeon", "raven"};
    return kSchemes;
  }
  std::span<const OptionSpec> options() const noexcept override {
    static constexpr std::array<OptionSpec, 1> kOptions = {
        OptionSpec{"legs", "1-2", "how many carry a letter"}};
    return kOptions;
  }
  Result<> probe() const override { return {}; }
  Result<Link> connect(const Endpoint& to, SessionId session, Deadline) override {
    last_ = to;
    session_ = session;
    return fail(errc::peer_gone, "sending a " + to.scheme);
  }
  Result<std::unique_ptr<Listener>> listen(const Endpoint& at) override {
    last_ = at;
    return fail(errc::in_use, "waiting for a " + at.scheme);
  }

  Endpoint last_;
  SessionId session_;
};

class TransportCatalogTest : public ::testing::Test {
 protected:
  TransportCatalogTest() {
    auto transport = std::make_unique<RecordingTransport>();
    transport_ = transport.get();
    catalog_.add(std::move(transport));
  }
  TransportCatalog catalog_;
  RecordingTransport* transport_ = nullptr;
};

TEST_F(TransportCatalogTest, FindsTransportsByScheme) {
  EXPECT_EQ(catalog_.find("pigeon").value(), transport_);
  EXPECT_EQ(catalog_.find("raven").value(), transport_);
  EXPECT_EQ(catalog_.schemes(), (std::vector<std::string>{"pigeon", "raven"}));
  const auto unknown = catalog_.find("owl");
  ASSERT_FALSE(unknown);
  EXPECT_TRUE(unknown.error().is(errc::invalid_argument));
  EXPECT_THAT(unknown.error().message(), HasSubstr("unknown scheme 'owl:'"));
  EXPECT_THAT(unknown.error().message(), HasSubstr("pigeon:, raven:"));
}

TEST_F(TransportCatalogTest, HandsOnWhatWasAskedFor) {
  const SessionId session = SessionId::random();
  const auto link = catalog_.connect("raven:tower?legs=2", session, Deadline::never());
  ASSERT_FALSE(link);
  EXPECT_TRUE(link.error().is(errc::peer_gone));
  EXPECT_EQ(transport_->last_, (Endpoint{.scheme = "raven", .target = "tower", .options = {{"legs", "2"}}}));
  EXPECT_EQ(transport_->session_, session);
  EXPECT_TRUE(catalog_.listen("pigeon:loft").error().is(errc::in_use));
  EXPECT_EQ(transport_->last_.target, "loft");
}

TEST_F(TransportCatalogTest, RefusesBadAddressesAndUnknownOptionsItself) {
  for (const char* uri : {"owl:tower", "tower", "raven:tower?wings=2", "raven:tower?legs"}) {
    EXPECT_TRUE(catalog_.connect(uri, {}, Deadline::never()).error().is(errc::invalid_argument)) << uri;
    EXPECT_TRUE(catalog_.listen(uri).error().is(errc::invalid_argument)) << uri;
  }
  EXPECT_EQ(transport_->last_, Endpoint{}) << "the transport was not asked";
  EXPECT_THAT(catalog_.listen("raven:tower?wings=2").error().message(), HasSubstr("legs=1-2"));
}

}  // namespace
}  // namespace ramferry
