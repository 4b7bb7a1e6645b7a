// SPDX-License-Identifier: MIT
#include "command.hpp"

#include <ramferry/endpoint.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <system_error>
#include <utility>

namespace ramferry::cli {
namespace {

/// Codes that are conditions without a text.
class WordlessCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "ramferry-said"; }
  std::string message(int) const override { return {}; }
  std::error_condition default_error_condition(int value) const noexcept override {
    return make_error_condition(static_cast<errc>(value));
  }
};

}  // namespace

int report_failure(const Error& error) {
  fmt::print(stderr, "ramferry: {}\n", error.message());
  return error.is(errc::invalid_argument) ? kWrongUsage : kFailed;
}

Failure said(errc condition, std::string words, std::string advice) {
  static const WordlessCategory category;
  return fail(std::error_code(static_cast<int>(condition), category), std::move(words), std::move(advice));
}

Result<std::string> plain_uri(const std::string& address) {
  RAMFERRY_TRY_ASSIGN(Endpoint endpoint, Endpoint::parse(address));
  if (endpoint.scheme != "unix" && endpoint.scheme != "tcp")
    return fail(errc::invalid_argument, "using '" + address + "' for plain bytes",
                "it is unix:PATH or tcp:HOST:PORT");
  endpoint.options["dialect"] = "qemu";
  return endpoint.to_string();
}

CLI::Option* add_size_option(CLI::App& app, const std::string& name, std::uint64_t& value,
                             const std::string& help) {
  const auto read = [&value](const CLI::results_t& given) {
    const auto size = parse_size(given.at(0));
    if (!size) throw CLI::ValidationError(size.error().message());
    value = *size;
    return true;
  };
  return app.add_option(name, read, help)->type_name("SIZE")->default_str(format_size(value));
}

}  // namespace ramferry::cli
