// SPDX-License-Identifier: MIT
#include "qmp_session.hpp"

#include <ramferry/migration/qmp_server.hpp>

#include <chrono>
#include <list>
#include <thread>
#include <utility>

namespace ramferry::migration {
namespace {

using nlohmann::json;

constexpr auto kReapEvery = std::chrono::milliseconds(500);

}  // namespace

json to_json(const QmpVersion& version) {
  return {{"qemu", {{"major", version.major}, {"minor", version.minor}, {"micro", version.micro}}},
          {"package", version.package}};
}

class QmpServer::Engine {
 public:
  Engine(std::unique_ptr<Listener> listener, const QmpCommandTable& table, QmpSettings settings, Log& log)
      : listener_(std::move(listener)),
        shared_{.table = table, .settings = std::move(settings), .log = log, .commands = {}},
        accepting_([this] { accept(); }) {}

  ~Engine() {
    listener_->cancel();
    accepting_.join();
    for (QmpSession& session : sessions_) session.dismiss();
  }

  void emit(std::string_view event, const json& data) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    json message = {{"event", event},
                    {"timestamp", {{"seconds", micros / 1'000'000}, {"microseconds", micros % 1'000'000}}}};
    if (!data.is_null()) message["data"] = data;
    const std::string line = message.dump(-1, ' ', true, json::error_handler_t::replace) + "\r\n";
    const std::lock_guard lock(mutex_);
    for (QmpSession& session : sessions_) session.event(line);
  }

  Endpoint local() const { return listener_->local(); }

 private:
  void accept() {
    for (;;) {
      auto link = listener_->accept(Deadline::after(kReapEvery));
      reap();
      if (link) {
        welcome(std::move(*link));
      } else if (!link.error().is(errc::timed_out)) {
        if (!link.error().is(errc::cancelled))
          shared_.log.error("monitor: no more clients can connect: " + link.error().message());
        return;
      }
    }
  }

  void welcome(Link link) {
    auto* stream = std::get_if<std::unique_ptr<ByteStream>>(&link);
    if (stream == nullptr) {
      shared_.log.error("monitor: its address must be opened with dialect=qemu");
      return;
    }
    const std::lock_guard lock(mutex_);
    if (sessions_.size() >= shared_.settings.most_clients) {
      shared_.log.warn("monitor: too many clients, turning one away");
      return;
    }
    sessions_.emplace_back(std::move(*stream), shared_);
  }

  void reap() {
    std::list<QmpSession> over;
    const std::lock_guard lock(mutex_);
    for (auto at = sessions_.begin(); at != sessions_.end();) {
      const auto next = std::next(at);
      if (at->over()) over.splice(over.end(), sessions_, at);
      at = next;
    }
  }

  std::unique_ptr<Listener> listener_;
  QmpShared shared_;
  std::mutex mutex_;
  std::list<QmpSession> sessions_;
  std::thread accepting_;  // last: it uses all of the above
};

QmpServer::QmpServer(std::unique_ptr<Listener> listener, const QmpCommandTable& table, QmpSettings settings,
                     Log& log)
    : engine_(std::make_unique<Engine>(std::move(listener), table, std::move(settings), log)) {}
QmpServer::~QmpServer() = default;

void QmpServer::emit(std::string_view event, const json& data) {
  engine_->emit(event, data);
}
Endpoint QmpServer::local() const {
  return engine_->local();
}

}  // namespace ramferry::migration
