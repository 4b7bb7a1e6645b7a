// SPDX-License-Identifier: MIT
#include <ramferry/endpoint.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <vector>

namespace ramferry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Endpoint parsed(std::string_view uri) {
  auto endpoint = Endpoint::parse(uri);
  EXPECT_TRUE(endpoint.has_value()) << uri << ": " << (endpoint ? "" : endpoint.error().message());
  return endpoint.value_or(Endpoint{});
}

struct Good {
  std::string uri;
  Endpoint endpoint;
};

std::vector<Good> good_addresses() {
  return {
      {"tcp:10.0.0.7:4444", {.scheme = "tcp", .host = "10.0.0.7", .port = 4444}},
      {"tcp:node-3.cluster.example:0", {.scheme = "tcp", .host = "node-3.cluster.example", .port = 0}},
      {"tcp::4444", {.scheme = "tcp", .port = 4444}},
      {"tcp::65535", {.scheme = "tcp", .port = 65535}},
      {"tcp:[::1]:4444", {.scheme = "tcp", .host = "::1", .port = 4444}},
      {"rdma:[fe80::1%rxe0]:7", {.scheme = "rdma", .host = "fe80::1%rxe0", .port = 7}},
      {"rdma:[2001:db8::10.0.0.1]:7", {.scheme = "rdma", .host = "2001:db8::10.0.0.1", .port = 7}},
      {"rdma:10.0.0.7:4444?lanes=4&pin=all",
       {.scheme = "rdma", .host = "10.0.0.7", .port = 4444, .options = {{"lanes", "4"}, {"pin", "all"}}}},
      {"tcp:h:1?x.y-z_0=a=b?c", {.scheme = "tcp", .host = "h", .port = 1, .options = {{"x.y-z_0", "a=b?c"}}}},
      {"unix:/run/vm.sock", {.scheme = "unix", .target = "/run/vm.sock"}},
      {"unix:vm.sock", {.scheme = "unix", .target = "vm.sock"}},
      {"unix:/a:b", {.scheme = "unix", .target = "/a:b"}},
      {"unix:/a%3Fb%25c?lanes=2", {.scheme = "unix", .target = "/a?b%c", .options = {{"lanes", "2"}}}},
      {"file:/var/lib/state one", {.scheme = "file", .target = "/var/lib/state one"}},
      {"file:/päth", {.scheme = "file", .target = "/päth"}},
      {"exec:gzip -c > '/tmp/a?b=c&d%'", {.scheme = "exec", .target = "gzip -c > '/tmp/a?b=c&d%'"}},
      {"exec:cat", {.scheme = "exec", .target = "cat"}},
      {"fd:7", {.scheme = "fd", .target = "7"}},
      {"fd:migration%", {.scheme = "fd", .target = "migration%"}},
      {"fd:7?dialect=qemu", {.scheme = "fd", .target = "7", .options = {{"dialect", "qemu"}}}},
      {"carrier:pigeon?legs=2", {.scheme = "carrier", .target = "pigeon", .options = {{"legs", "2"}}}},
  };
}

TEST(Endpoint, ReadsEveryScheme) {
  for (const Good& each : good_addresses()) EXPECT_EQ(parsed(each.uri), each.endpoint) << each.uri;
}

TEST(Endpoint, IsWrittenAsItWasRead) {
  for (const Good& each : good_addresses()) EXPECT_EQ(parsed(each.uri).to_string(), each.uri);
}

TEST(Endpoint, DecodesEscapesOfEitherCase) {
  EXPECT_EQ(parsed("unix:%2fa%2Fb%3f").target, "/a/b?");
  EXPECT_EQ(parsed("file:%2e%c3%A4").target, ".ä");
}

TEST(Endpoint, DoesNotDecodeEscapesElsewhere) {
  EXPECT_EQ(parsed("exec:date +%25").target, "date +%25");
  EXPECT_EQ(parsed("tcp:h:1?name=a%25").options.at("name"), "a%25");
  EXPECT_EQ(parsed("fd:a%25").target, "a%25");
}

struct Bad {
  std::string_view uri, why, advice;
};

constexpr Bad kBadAddresses[] = {
    {"", "does not begin with a scheme", "tcp:host:port"},
    {":", "does not begin with a scheme", "unix:/path"},
    {"tcp", "does not begin with a scheme", "tcp:host:port"},
    {"/run/vm.sock", "does not begin with a scheme", "unix:/path"},
    {"4:4", "does not begin with a scheme", ""},
    {"t cp:h:1", "does not begin with a scheme", ""},
    {"tcp:", "the port is missing", "write tcp:host:port"},
    {"tcp:host", "the port is missing", "write tcp:host:port"},
    {"rdma:host", "the port is missing", "write rdma:host:port"},
    {"tcp:4444", "the port is missing", "tcp:host:port"},
    {"tcp:host:", "the port '' is not a number", ""},
    {"tcp:host:ssh", "the port 'ssh' is not a number from 0 to 65535", ""},
    {"tcp:host:65536", "the port '65536'", ""},
    {"tcp:host:99999999999999999999", "the port '99999999999999999999'", ""},
    {"tcp:host:-1", "the port '-1'", ""},
    {"tcp:host:+1", "the port '+1'", ""},
    {"tcp:host: 1", "the port ' 1'", ""},
    {"tcp:host:0x10", "the port '0x10'", ""},
    {"tcp:host:4444,ipv4=on", "the port '4444,ipv4=on'", "options are written ?name=value"},
    {"tcp:::1:4444", "too many colons", "IPv6 host in brackets"},
    {"tcp:[::1]", "the port is missing", ""},
    {"tcp:[::1", "the ']' after the IPv6 address is missing", ""},
    {"tcp:[::1]x:1", "only a colon and the port may follow", ""},
    {"tcp:[host]:1", "'host' is not an IPv6 address", ""},
    {"tcp:[]:1", "'' is not an IPv6 address", ""},
    {"tcp:[10.0.0.7]:1", "'10.0.0.7' is not an IPv6 address", ""},
    {"tcp:[fe80::1%]:1", "is not an IPv6 address", ""},
    {"tcp:[::1]:1:2", "too many colons", ""},
    {"tcp://host:4444", "no slashes before the host", "write tcp:host:port"},
    {"tcp:ho st:1", "a host name cannot contain ' '", ""},
    {"tcp:user@host:1", "a host name cannot contain '@'", ""},
    {"tcp:a/b:1", "a host name cannot contain '/'", ""},
    {"unix:", "the path is missing", ""},
    {"unix:?lanes=2", "the path is missing", ""},
    {"file:", "the path is missing", ""},
    {"unix:/a%", "'%' without two hexadecimal digits", "write '%' as %25"},
    {"unix:/a%2", "'%' without two hexadecimal digits", ""},
    {"unix:/a%zz", "'%' without two hexadecimal digits", ""},
    {"unix:/a%2x", "'%' without two hexadecimal digits", ""},
    {"unix:/a%00b", "zero byte", ""},
    {"exec:", "the command is missing", ""},
    {"fd:", "the number or name of the descriptor is missing", ""},
    {"tcp:h:1?", "'' is not the name of an option", "?name=value&name=value"},
    {"tcp:h:1?lanes", "the option 'lanes' has no value", "?name=value"},
    {"tcp:h:1?lanes=", "the option 'lanes' has no value", ""},
    {"tcp:h:1?=4", "'' is not the name of an option", ""},
    {"tcp:h:1?lanes=4&", "'' is not the name of an option", ""},
    {"tcp:h:1?lanes=4&&pin=all", "'' is not the name of an option", ""},
    {"tcp:h:1?la nes=4", "'la nes' is not the name of an option", ""},
    {"tcp:h:1?lanes=4&lanes=4", "the option 'lanes' is given twice", ""},
    {"unix:/p?lanes=4&pin=all&lanes=5", "the option 'lanes' is given twice", ""},
};

TEST(Endpoint, RefusesBadAddressesAndSaysWhy) {
  for (const Bad& each : kBadAddresses) {
    const auto endpoint = Endpoint::parse(each.uri);
    ASSERT_FALSE(endpoint.has_value()) << each.uri;
    EXPECT_TRUE(endpoint.error().is(errc::invalid_argument)) << each.uri;
    EXPECT_THAT(endpoint.error().doing, AllOf(HasSubstr(each.uri), HasSubstr(each.why))) << each.uri;
    EXPECT_THAT(endpoint.error().advice, HasSubstr(each.advice)) << each.uri;
  }
}

std::string random_path(std::mt19937& random) {
  std::string path;
  for (auto left = random() % 20 + 1; left > 0; --left) path += static_cast<char>(random() % 255 + 1);
  return path;
}

TEST(Endpoint, RoundTripsRandomEndpoints) {
  std::mt19937 random(4711);
  static constexpr std::array<std::string_view, 6> kHosts = {"",         "h",   "a.b-c_d",
                                                             "10.0.0.7", "::1", "fe80::2%eth0"};
  static constexpr std::array<std::string_view, 3> kPaths = {"unix", "file", "other"};
  for (int round = 0; round < 5000; ++round) {
    Endpoint endpoint;
    if (random() % 2 == 0) {
      endpoint.scheme = random() % 2 == 0 ? "tcp" : "rdma";
      endpoint.host = kHosts[random() % kHosts.size()];
      endpoint.port = static_cast<std::uint16_t>(random());
    } else {
      endpoint.scheme = kPaths[random() % kPaths.size()];
      endpoint.target = random_path(random);
    }
    for (auto left = random() % 4; left > 0; --left)
      endpoint.options["o" + std::to_string(random() % 9)] = std::to_string(random());
    EXPECT_EQ(parsed(endpoint.to_string()), endpoint) << endpoint.to_string();
  }
}

constexpr OptionSpec kKnown[] = {
    {"lanes", "1-64", "connections"}, {"pin", "all|demand", "registration"}, {"tag", "", ""}};

TEST(EndpointOptions, AreCheckedAgainstTheKnownOnes) {
  EXPECT_TRUE(check_options(parsed("tcp:h:1"), kKnown));
  EXPECT_TRUE(check_options(parsed("tcp:h:1"), {}));
  EXPECT_TRUE(check_options(parsed("tcp:h:1?lanes=4&pin=all&tag=x"), kKnown));
}

TEST(EndpointOptions, UnknownOnesAreRefusedWithTheKnownOnesListed) {
  const auto unknown = check_options(parsed("tcp:h:1?lanes=4&line=7"), kKnown);
  ASSERT_FALSE(unknown.has_value());
  EXPECT_TRUE(unknown.error().is(errc::invalid_argument));
  EXPECT_THAT(unknown.error().doing, HasSubstr("unknown option 'line'"));
  EXPECT_EQ(unknown.error().advice, "known are lanes=1-64, pin=all|demand, tag");

  const auto none = check_options(parsed("fd:7?lanes=4"), {});
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().advice, "fd: takes no options");
}

TEST(EndpointOptions, NumbersAreChecked) {
  EXPECT_EQ(number_option(parsed("tcp:h:1"), "lanes", 1, 64, 9).value(), 9U);
  EXPECT_EQ(number_option(parsed("tcp:h:1?lanes=1"), "lanes", 1, 64, 9).value(), 1U);
  EXPECT_EQ(number_option(parsed("tcp:h:1?lanes=64"), "lanes", 1, 64, 9).value(), 64U);
  for (const std::string_view bad : {"0", "65", "-1", "4x", "x", "1.5", "0x4", "18446744073709551617"}) {
    const auto number = number_option(parsed("tcp:h:1?lanes=" + std::string(bad)), "lanes", 1, 64, 9);
    ASSERT_FALSE(number.has_value()) << bad;
    EXPECT_TRUE(number.error().is(errc::invalid_argument));
    EXPECT_THAT(number.error().message(), AllOf(HasSubstr("'lanes' cannot be '" + std::string(bad) + "'"),
                                                HasSubstr("a number from 1 to 64")));
  }
}

TEST(EndpointOptions, SizesAreChecked) {
  EXPECT_EQ(size_option(parsed("rdma:h:1"), "budget", 77).value(), 77U);
  EXPECT_EQ(size_option(parsed("rdma:h:1?budget=1.5G"), "budget", 77).value(), 1610612736U);
  const auto bad = size_option(parsed("rdma:h:1?budget=many"), "budget", 77);
  ASSERT_FALSE(bad.has_value());
  EXPECT_THAT(bad.error().message(),
              AllOf(HasSubstr("'budget' cannot be 'many'"), HasSubstr("a size such as")));
}

TEST(EndpointOptions, ChoicesAreChecked) {
  static constexpr std::string_view kChoices[] = {"native", "qemu", "auto"};
  EXPECT_EQ(choice_option(parsed("tcp:h:1"), "dialect", kChoices, 2).value(), 2U);
  EXPECT_EQ(choice_option(parsed("tcp:h:1?dialect=qemu"), "dialect", kChoices, 2).value(), 1U);
  const auto bad = choice_option(parsed("tcp:h:1?dialect=QEMU"), "dialect", kChoices, 2);
  ASSERT_FALSE(bad.has_value());
  EXPECT_TRUE(bad.error().is(errc::invalid_argument));
  EXPECT_THAT(bad.error().message(),
              AllOf(HasSubstr("'dialect' cannot be 'QEMU'"), HasSubstr("one of native, qemu, auto")));
}

TEST(Size, IsReadInEveryUnit) {
  const std::vector<std::pair<std::string_view, std::uint64_t>> table = {
      {"0", 0},
      {"4096", 4096},
      {"4096B", 4096},
      {"64K", 65536},
      {"64k", 65536},
      {"64KiB", 65536},
      {"64KB", 65536},
      {"1M", 1U << 20},
      {"1.5G", 1610612736},
      {"1.5GiB", 1610612736},
      {"2T", 2ULL << 40},
      {"0.5K", 512},
      {"0.333333M", 349524},
      {"18446744073709551615", UINT64_MAX},
      {"16777215.999999T", (16777215ULL << 40) + 1099510528264},
  };
  for (const auto& [text, bytes] : table) {
    const auto size = parse_size(text);
    ASSERT_TRUE(size.has_value()) << text << ": " << size.error().message();
    EXPECT_EQ(*size, bytes) << text;
  }
}

TEST(Size, RefusesWhatIsNone) {
  for (const std::string_view text : {"",
                                      "K",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1 K",
                                      "1X",
                                      "1Ki",
                                      "1KiBs",
                                      "1KK",
                                      "1.5",
                                      "1.5B",
                                      ".5K",
                                      "1.K",
                                      "1..5K",
                                      "1.5.5K",
                                      "1.1234567K",
                                      "0x10",
                                      "1e3",
                                      "18446744073709551616",
                                      "16777216T",
                                      "18014398509481984K"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size.has_value()) << text;
    EXPECT_TRUE(size.error().is(errc::invalid_argument)) << text;
    EXPECT_THAT(size.error().message(), AllOf(HasSubstr("'" + std::string(text) + "'"), HasSubstr("1.5G")))
        << text;
  }
}

TEST(Size, IsWrittenForPeople) {
  const std::vector<std::pair<std::uint64_t, std::string_view>> table = {
      {0, "0 B"},
      {1023, "1023 B"},
      {1024, "1 KiB"},
      {4096, "4 KiB"},
      {1536, "1.5 KiB"},
      {1610612736, "1.5 GiB"},
      {(1U << 20) - 1, "1 MiB"},
      {(1U << 20) - 100, "1023.9 KiB"},
      {(1ULL << 40) - 1, "1 TiB"},
      {1ULL << 50, "1 PiB"},
      {1ULL << 60, "1 EiB"},
      {UINT64_MAX, "16 EiB"},
  };
  for (const auto& [bytes, text] : table) EXPECT_EQ(format_size(bytes), text);
}

}  // namespace
}  // namespace ramferry
