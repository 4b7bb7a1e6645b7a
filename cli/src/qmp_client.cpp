// SPDX-License-Identifier: MIT
#include "qmp_client.hpp"

#include "command.hpp"

#include <array>
#include <chrono>
#include <utility>

namespace ramferry::cli {
namespace {

using nlohmann::json;

constexpr auto kPatience = std::chrono::seconds(30);  // with a monitor that has taken a request
constexpr std::size_t kMostLine = 16 << 20;

}  // namespace

Result<QmpClient> QmpClient::connect(const TransportCatalog& transports, const std::string& address,
                                     Deadline deadline) {
  RAMFERRY_TRY_ASSIGN(const std::string uri, plain_uri(address));
  auto link = transports.connect(uri, {}, deadline);
  if (!link)
    return fail(link.error().code, "connecting to the monitor at " + address,
                "is the VM running? its --qmp says where it listens");
  auto* stream = std::get_if<std::unique_ptr<ByteStream>>(&*link);
  if (stream == nullptr) return fail(errc::unsupported, "using " + address + " as a monitor");
  QmpClient client(std::move(*stream), address);
  RAMFERRY_TRY_ASSIGN(const json greeting, client.receive(deadline));
  if (!greeting.contains("QMP"))
    return fail(errc::protocol_mismatch,
                "connecting to the monitor at " + address + ": it does not speak QMP");
  RAMFERRY_TRY(client.execute("qmp_capabilities"));
  return client;
}

Result<json> QmpClient::execute(const std::string& command, json arguments) {
  const std::uint64_t id = ++requests_;
  json request = {{"execute", command}, {"id", id}};
  if (!arguments.empty()) request["arguments"] = std::move(arguments);
  RAMFERRY_TRY(stream_->send(as_bytes(request.dump() + "\r\n")));
  const Deadline deadline = Deadline::after(kPatience);
  for (;;) {
    RAMFERRY_TRY_ASSIGN(json reply, receive(deadline));
    if (reply.contains("event")) {
      events_.push_back(std::move(reply));
      continue;
    }
    if (reply.value("id", json()) != id) continue;
    if (reply.contains("return")) return reply["return"];
    const json error = reply.value("error", json::object());
    const bool unknown = error.value("class", "") == "CommandNotFound";
    return said(unknown ? errc::unsupported : errc::peer_failed,
                command + ": " + error.value("desc", "no reason given"));
  }
}

Result<json> QmpClient::event(Deadline deadline) {
  while (events_.empty()) {
    RAMFERRY_TRY_ASSIGN(json message, receive(deadline));
    if (message.contains("event")) events_.push_back(std::move(message));
  }
  json event = std::move(events_.front());
  events_.pop_front();
  return event;
}

Result<json> QmpClient::receive(Deadline deadline) {
  std::size_t end = 0;
  while ((end = text_.find('\n')) == std::string::npos) {
    std::array<std::byte, 16384> buffer;
    RAMFERRY_TRY_ASSIGN(const std::size_t got, stream_->receive(buffer, deadline));
    if (got == 0) return fail(errc::peer_gone, "listening to the monitor at " + address_);
    text_.append(reinterpret_cast<const char*>(buffer.data()), got);
    if (text_.size() > kMostLine)
      return fail(errc::protocol_mismatch, "listening to the monitor at " + address_);
  }
  json message = json::parse(text_.substr(0, end), nullptr, false);
  text_.erase(0, end + 1);
  if (!message.is_object()) return fail(errc::protocol_mismatch, "listening to the monitor at " + address_);
  return message;
}

}  // namespace ramferry::cli
