// SPDX-License-Identifier: MIT
// Boost.Asio, included in one place: 1.74 needs <utility> before it, and its errors become ours here.
#pragma once

#ifdef __SANITIZE_THREAD__
// ThreadSanitizer does not know fences. Each of our contexts is run by one thread at a time.
#define BOOST_ASIO_DISABLE_FENCED_BLOCK 1
#endif

#include <utility>
//
#include <ramferry/deadline.hpp>
#include <ramferry/endpoint.hpp>
#include <ramferry/error.hpp>

#include <boost/asio.hpp>

namespace ramferry::tcp {

namespace asio = boost::asio;
using AsioEndpoint = asio::generic::stream_protocol::endpoint;
using AsioError = boost::system::error_code;

/// Asio's own categories (resolver) become errc::not_found; everything else is an errno.
Failure asio_failure(const AsioError& error, std::string doing, std::string advice = {});

/// Where `endpoint` is, in the system's order of preference. `passive`: to listen at.
Result<std::vector<AsioEndpoint>> resolve(const Endpoint& endpoint, bool passive, Deadline deadline);

}  // namespace ramferry::tcp
