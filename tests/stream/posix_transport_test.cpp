// SPDX-License-Identifier: MIT
#include "posix_fixture.hpp"

#include <fcntl.h>

namespace ramferry::test {
namespace {

TEST_F(PosixTransport, AListenerGivesOneLink) {
  write_file(folder_.path("state"), "x");
  const auto listener = catalog_.listen("file:" + folder_.path("state"));
  RAMFERRY_ASSERT_OK(listener);
  EXPECT_EQ((*listener)->local().to_string(), "file:" + folder_.path("state"));
  RAMFERRY_EXPECT_OK((*listener)->accept(soon()));
  RAMFERRY_EXPECT_FAILS(errc::wrong_state, (*listener)->accept(soon()));
}

TEST_F(PosixTransport, ACancelledListenerAcceptsNothing) {
  const auto listener = catalog_.listen("exec:true");
  RAMFERRY_ASSERT_OK(listener);
  (*listener)->cancel();
  RAMFERRY_EXPECT_FAILS(errc::cancelled, (*listener)->accept(soon()));
}

TEST_F(PosixTransport, OptionsAreChecked) {
  write_file(folder_.path("state"), "x");
  RAMFERRY_EXPECT_OK(catalog_.listen("file:" + folder_.path("state") + "?dialect=qemu"));
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument,
                        catalog_.listen("file:" + folder_.path("state") + "?dialect=native"));
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument,
                        catalog_.listen("file:" + folder_.path("state") + "?lanes=2"));
  RAMFERRY_EXPECT_OK(catalog_.find("exec").value()->probe());
}

TEST_F(PosixTransport, LooksAtWhereAStreamWouldGo) {
  const auto verdict = [&](const std::string& uri) {
    const Endpoint endpoint = Endpoint::parse(uri).value();
    const std::vector<Check> checks = catalog_.find(endpoint.scheme).value()->examine(&endpoint);
    for (const Check& each : checks)
      EXPECT_TRUE(each.verdict != Check::Verdict::no || !each.fix.empty()) << each.name;
    return checks.back().verdict;
  };
  using enum Check::Verdict;
  const std::string state = folder_.path("state");
  EXPECT_EQ(verdict("file:" + state), yes);
  EXPECT_EQ(verdict("file:" + folder_.path("none/state")), no);
  EXPECT_EQ(verdict("file:" + folder_.path("")), no) << "a folder";
  write_file(state, "x");
  EXPECT_EQ(verdict("file:" + state), note) << "it exists";
  EXPECT_EQ(verdict("exec:false"), note);
  EXPECT_EQ(verdict("fd:link"), note);
  EXPECT_EQ(verdict("fd:987"), no);
  const UniqueFd open(::open(state.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(verdict("fd:" + std::to_string(open.get())), yes);
  EXPECT_GE(::fcntl(open.get(), F_GETFL), 0) << "it is left open";
}

TEST_F(PosixTransport, StreamsHaveFacts) {
  auto stream = connect("file:" + folder_.path("state"));
  RAMFERRY_ASSERT_OK(stream);
  EXPECT_EQ((*stream)->facts().at(0).second, "file:" + folder_.path("state"));
}

}  // namespace
}  // namespace ramferry::test
