// SPDX-License-Identifier: MIT
#include "asio.hpp"

#include <sys/un.h>

#include <memory>
#include <thread>

namespace ramferry::tcp {
namespace {

using asio::ip::tcp;

Result<AsioEndpoint> unix_endpoint(const Endpoint& endpoint) {
  if (endpoint.target.empty())
    return fail(errc::invalid_argument, "using " + endpoint.to_string() + ": no path");
  if (endpoint.target.size() >= sizeof(sockaddr_un::sun_path))
    return fail(errc::invalid_argument,
                "using " + endpoint.to_string() + ": the path has " + std::to_string(endpoint.target.size()) +
                    " bytes",
                "socket paths have at most " + std::to_string(sizeof(sockaddr_un::sun_path) - 1) +
                    "; use a shorter one, or a relative one");
  return AsioEndpoint(asio::local::stream_protocol::endpoint(endpoint.target));
}

}  // namespace

Failure asio_failure(const AsioError& error, std::string doing, std::string advice) {
  if (error.category() == boost::system::system_category())
    return fail_errno(error.value(), std::move(doing), std::move(advice));
  return fail(errc::not_found, std::move(doing) + ": " + error.message(), std::move(advice));
}

Result<std::vector<AsioEndpoint>> resolve(const Endpoint& endpoint, bool passive, Deadline deadline) {
  if (endpoint.scheme == "unix") {
    RAMFERRY_TRY_ASSIGN(const AsioEndpoint where, unix_endpoint(endpoint));
    return std::vector<AsioEndpoint>{where};
  }
  AsioError not_numeric;
  const asio::ip::address address = asio::ip::make_address(endpoint.host, not_numeric);
  if (!not_numeric)  // the resolver would make a thread for it
    return std::vector<AsioEndpoint>{tcp::endpoint(address, endpoint.port)};
  const std::string doing = "resolving " + endpoint.host;
  auto context = std::make_unique<asio::io_context>();
  auto resolver = std::make_unique<tcp::resolver>(*context);
  auto flags = tcp::resolver::numeric_service;
  if (passive) flags |= tcp::resolver::passive;
  bool done = false;
  AsioError error;
  std::vector<AsioEndpoint> found;
  resolver->async_resolve(endpoint.host, std::to_string(endpoint.port), flags,
                          [&](const AsioError& result, const tcp::resolver::results_type& entries) {
                            done = true;
                            error = result;
                            for (const auto& each : entries) found.emplace_back(each.endpoint());
                          });
  context->run_until(deadline.when());
  if (!done) {
    // A look-up cannot be interrupted, and the context waits for it when it ends: elsewhere.
    std::thread([context = std::move(context), resolver = std::move(resolver)]() mutable {
      resolver.reset();
      context.reset();
    }).detach();
    return fail(errc::timed_out, doing);
  }
  if (error) return asio_failure(error, doing, "check the host's name");
  if (found.empty()) return fail(errc::not_found, doing, "check the host's name");
  return found;
}

}  // namespace ramferry::tcp
