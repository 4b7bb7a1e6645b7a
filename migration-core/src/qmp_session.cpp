// SPDX-License-Identifier: MIT
#include "qmp_session.hpp"

#include <array>
#include <chrono>
#include <set>
#include <utility>
#include <vector>

namespace ramferry::migration {
namespace {

using nlohmann::json;

constexpr auto kFarewell = std::chrono::seconds(1);

std::string text_of(const json& value) {
  return value.dump(-1, ' ', true, json::error_handler_t::replace) + "\r\n";
}

json error_json(const QmpError& error) {
  return {{"class", error.kind}, {"desc", error.desc}};
}

/// The value, or what is wrong with the text. A key that comes twice is an error, as at QEMU.
tl::expected<json, QmpError> parse(const std::string& text) {
  std::vector<std::set<std::string>> keys;
  bool twice = false;
  const auto watch = [&](int /*depth*/, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      twice = true;
    return true;
  };
  json value = json::parse(text, watch, false);
  if (value.is_discarded())
    return qmp_fail("JSON parse error, invalid keyword or value in '" + text.substr(0, 80) + "'");
  if (twice) return qmp_fail("JSON parse error, duplicate key");
  return value;
}

std::optional<QmpError> problem_with(const json& request) {
  if (!request.is_object()) return QmpError{"GenericError", "QMP input must be a JSON object"};
  for (const auto& [name, value] : request.items()) {
    if (name == "execute") {
      if (!value.is_string()) return QmpError{"GenericError", "QMP input member 'execute' must be a string"};
    } else if (name == "arguments") {
      if (!value.is_object())
        return QmpError{"GenericError", "QMP input member 'arguments' must be an object"};
    } else if (name != "id") {
      return QmpError{"GenericError", "QMP input member '" + name + "' is unexpected"};
    }
  }
  if (!request.contains("execute")) return QmpError{"GenericError", "QMP input lacks member 'execute'"};
  return std::nullopt;
}

}  // namespace

QmpSession::QmpSession(std::unique_ptr<ByteStream> stream, QmpShared& shared)
    : shared_(shared), stream_(std::move(stream)) {
  queue(
      text_of({{"QMP", {{"version", to_json(shared_.settings.version)}, {"capabilities", json::array()}}}}));
  reader_ = std::thread([this] { read(); });
  writer_ = std::thread([this] { write(); });
}

QmpSession::~QmpSession() {
  dismiss();
  {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, farewell_.when(), [this] { return written_; });
  }
  stream_->cancel();
  reader_.join();
  writer_.join();
}

void QmpSession::dismiss() {
  const std::lock_guard lock(handling_);
  close();
}

void QmpSession::close() {
  const std::lock_guard lock(mutex_);
  if (!closing_) farewell_ = Deadline::after(kFarewell);
  closing_ = true;
  changed_.notify_all();
}

void QmpSession::queue(std::string line) {
  const std::lock_guard lock(mutex_);
  if (closing_) return;
  queued_bytes_ += line.size();
  if (queued_bytes_ > shared_.settings.most_queued_bytes) {
    shared_.log.warn("monitor: a client does not read, disconnecting it");
    closing_ = true;
    farewell_ = Deadline::after({});
    queue_.clear();
    stream_->cancel();
  } else {
    queue_.push_back(std::move(line));
  }
  changed_.notify_all();
}

void QmpSession::event(const std::string& line) {
  if (negotiated_) queue(line);
}

void QmpSession::write() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
    if (queue_.empty()) break;
    const std::string line = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    const auto sent = stream_->send(as_bytes(line));
    lock.lock();
    if (!sent) break;
    queued_bytes_ -= line.size();
  }
  lock.unlock();
  (void)stream_->finish(Deadline::after(kFarewell));  // a client that left already is no failure
  close();
  lock.lock();
  written_ = true;
  changed_.notify_all();
  lock.unlock();
  stream_->cancel();
}

void QmpSession::read() {
  std::array<std::byte, 16384> buffer;
  JsonFramer framer;
  for (;;) {
    const auto got = stream_->receive(buffer, Deadline::never());
    if (!got || *got == 0) break;
    for (UniqueFd& fd : stream_->take_descriptors()) keep(std::move(fd));
    framer.feed(Bytes(buffer).first(*got), [this](const JsonFramer::Piece& piece) { handle(piece); });
  }
  close();
  over_ = true;
}

/// Those that no command takes are closed, the oldest first.
void QmpSession::keep(UniqueFd fd) {
  constexpr std::size_t kMostDescriptors = 16;
  caller_.descriptors.push_back(std::move(fd));
  if (caller_.descriptors.size() > kMostDescriptors) caller_.descriptors.pop_front();
}

void QmpSession::handle(const JsonFramer::Piece& piece) {
  const std::lock_guard lock(handling_);
  if (!piece.error.empty()) {
    queue(text_of({{"error", error_json({"GenericError", piece.error})}}));
    if (piece.hopeless) close();
    return;
  }
  const auto request = parse(piece.text);
  queue(text_of(request ? answer(*request) : json{{"error", error_json(request.error())}}));
}

json QmpSession::answer(const json& request) {
  json reply = json::object();
  if (request.is_object() && request.contains("id")) reply["id"] = request["id"];
  if (const auto problem = problem_with(request)) {
    reply["error"] = error_json(*problem);
    return reply;
  }
  auto result = execute(request["execute"], request.value("arguments", json::object()));
  if (result) {
    reply["return"] = std::move(*result);
  } else {
    reply["error"] = error_json(result.error());
  }
  return reply;
}

QmpResult QmpSession::execute(const std::string& command, const json& arguments) {
  const auto refuse = [](const char* why) { return tl::unexpected<QmpError>({"CommandNotFound", why}); };
  if (command == "qmp_capabilities") {
    if (negotiated_) return refuse("Capabilities negotiation is already complete, command ignored");
    return negotiate(arguments);
  }
  if (!negotiated_) return refuse("Expecting capabilities negotiation with 'qmp_capabilities'");
  const std::lock_guard lock(shared_.commands);
  return shared_.table.run(command, arguments, caller_);
}

QmpResult QmpSession::negotiate(const json& arguments) {
  for (const auto& [name, value] : arguments.items()) {
    if (name != "enable") return qmp_fail("Parameter '" + name + "' is unexpected");
    if (const auto checked = check_type("enable", QmpType::array, value); !checked)
      return qmp_fail(checked.error().doing);
    if (!value.empty())
      return qmp_fail("Parameter 'enable' does not accept value '" +
                      (value[0].is_string() ? value[0].get<std::string>() : value[0].dump()) + "'");
  }
  negotiated_ = true;
  return json::object();
}

}  // namespace ramferry::migration
