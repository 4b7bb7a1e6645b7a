// SPDX-License-Identifier: MIT
// Addresses: whatever is accepted can be written and read again, and the checked option values keep their
// bounds.
#include "fuzz/replay.hpp"

#include <ramferry/endpoint.hpp>

#include <array>

using namespace ramferry;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto bytes = parse_size(text)) RAMFERRY_FUZZ_CHECK(!format_size(*bytes).empty());
  const auto endpoint = Endpoint::parse(text);
  if (!endpoint) {
    RAMFERRY_FUZZ_CHECK(endpoint.error().is(errc::invalid_argument));
    return 0;
  }
  const auto again = Endpoint::parse(endpoint->to_string());
  RAMFERRY_FUZZ_CHECK(again.has_value() && *again == *endpoint);

  static constexpr std::array<OptionSpec, 1> kKnown = {OptionSpec{"lanes", "1-64", ""}};
  static constexpr std::array<std::string_view, 2> kChoices = {"all", "demand"};
  if (check_options(*endpoint, kKnown)) RAMFERRY_FUZZ_CHECK(endpoint->options.size() <= 1);
  if (const auto lanes = number_option(*endpoint, "lanes", 1, 64, 7))
    RAMFERRY_FUZZ_CHECK(*lanes >= 1 && *lanes <= 64);
  if (const auto pin = choice_option(*endpoint, "pin", kChoices, 1))
    RAMFERRY_FUZZ_CHECK(*pin < kChoices.size());
  if (!size_option(*endpoint, "budget", 5)) RAMFERRY_FUZZ_CHECK(endpoint->options.count("budget") == 1);
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  std::vector<Input> all;
  for (const std::string_view text :
       {"tcp:10.0.0.7:4444?lanes=4&pin=all&budget=1.5G", "tcp:[fe80::1%eth0]:0", "rdma::65535?pin=demand",
        "unix:/run/vm%3F%25.sock?lanes=64", "file:relative/path", "exec:gzip -c > '/tmp/a?b'",
        "fd:7?budget=64K", "fd:mig", "other:x?a=b", "1.5GiB", "18446744073709551615", "0.000001T"})
    all.push_back(to_input(text));
  return all;
}
