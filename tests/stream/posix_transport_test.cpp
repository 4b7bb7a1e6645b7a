// SPDX-License-Identifier: MIT
#include "posix_fixture.hpp"

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

TEST_F(PosixTransport, StreamsHaveFacts) {
  auto stream = connect("file:" + folder_.path("state"));
  RAMFERRY_ASSERT_OK(stream);
  EXPECT_EQ((*stream)->facts().at(0).second, "file:" + folder_.path("state"));
}

}  // namespace
}  // namespace ramferry::test
