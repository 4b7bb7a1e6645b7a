// SPDX-License-Identifier: MIT
#include <ramferry/transport.hpp>

#include <algorithm>
#include <utility>

namespace ramferry {

std::vector<Check> Transport::examine(const Endpoint* to) const {
  std::vector<Check> checks = {to_check("usable", probe())};
  if (to != nullptr)
    checks.push_back({"reaches " + to->to_string(),
                      Check::Verdict::note,
                      "not tried: " + to->scheme + ": cannot be tried without beginning a migration",
                      {}});
  return checks;
}

void TransportCatalog::add(std::unique_ptr<Transport> transport) {
  transports_.push_back(std::move(transport));
}

Result<Transport*> TransportCatalog::find(std::string_view scheme) const {
  for (const auto& transport : transports_) {
    const auto known = transport->schemes();
    if (std::find(known.begin(), known.end(), scheme) != known.end()) return transport.get();
  }
  std::string list;
  for (const std::string& each : schemes()) list += (list.empty() ? "" : ", ") + each + ":";
  return fail(errc::invalid_argument, "unknown scheme '" + std::string(scheme) + ":'", "known are " + list);
}

std::vector<std::string> TransportCatalog::schemes() const {
  std::vector<std::string> all;
  for (const auto& transport : transports_)
    for (const std::string_view each : transport->schemes()) all.emplace_back(each);
  return all;
}

Result<Link> TransportCatalog::connect(std::string_view uri, SessionId session, Deadline deadline) const {
  RAMFERRY_TRY_ASSIGN(const Endpoint endpoint, Endpoint::parse(uri));
  RAMFERRY_TRY_ASSIGN(Transport * transport, find(endpoint.scheme));
  RAMFERRY_TRY(check_options(endpoint, transport->options()));
  return transport->connect(endpoint, session, deadline);
}

Result<std::unique_ptr<Listener>> TransportCatalog::listen(std::string_view uri) const {
  RAMFERRY_TRY_ASSIGN(const Endpoint endpoint, Endpoint::parse(uri));
  RAMFERRY_TRY_ASSIGN(Transport * transport, find(endpoint.scheme));
  RAMFERRY_TRY(check_options(endpoint, transport->options()));
  return transport->listen(endpoint);
}

}  // namespace ramferry
