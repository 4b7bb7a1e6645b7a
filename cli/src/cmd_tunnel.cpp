// SPDX-License-Identifier: MIT
// ramferry tunnel enter|exit: byte streams of others, carried by our transport.
#include "catalog_setup.hpp"
#include "command.hpp"
#include "signals.hpp"

#include <ramferry/endpoint.hpp>
#include <ramferry/log.hpp>
#include <ramferry/tunnel/tunnel.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace ramferry::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto kConnectPatience = 10s;
constexpr auto kLookAround = 100ms;  // how soon a signal or an ended session is noticed

struct TunnelOptions {
  std::string plain, fabric;
  bool once = false, as_json = false;
  tunnel::Options session;
};

/// The address between the two ends; errc::invalid_argument unless our own transport runs there.
Result<> check_fabric(const std::string& address) {
  RAMFERRY_TRY_ASSIGN(const Endpoint fabric, Endpoint::parse(address));
  const std::string doing = "using '" + address + "' as a tunnel's fabric";
  if (fabric.scheme == "exec" || fabric.scheme == "fd" || fabric.scheme == "file")
    return fail(errc::invalid_argument, doing, "it is tcp:, unix: or rdma:");
  if (const auto dialect = fabric.options.find("dialect");
      dialect != fabric.options.end() && dialect->second == "qemu")
    return fail(errc::invalid_argument, doing, "a tunnel speaks ramferry's dialect: leave dialect=qemu away");
  if (fabric.options.contains("channels"))
    return fail(errc::invalid_argument, doing,
                "each of multifd's channels is a stream of its own already: leave channels=N away");
  return {};
}

/// One session and the thread that serves it.
class Serving {
 public:
  Serving(std::unique_ptr<Channel> fabric, const tunnel::Options& options, tunnel::Dial dial, Log& log)
      : session_(std::move(fabric), options, std::move(dial), log),
        result_(std::async(std::launch::async, [this] { return session_.run(); })) {}
  Serving(const Serving&) = delete;
  ~Serving() {
    session_.cancel();
    if (result_.valid()) result_.wait();
  }

  tunnel::Session& session() noexcept { return session_; }
  bool ended() const { return result_.wait_for(0s) == std::future_status::ready; }
  Result<> result() { return result_.get(); }

 private:
  tunnel::Session session_;
  std::future<Result<>> result_;
};

/// A session that ran to its end has failed if every stream in it broke off. Some may: a QEMU hangs up on its
/// multifd channels as soon as it has what it needs.
int summarise(const TunnelOptions& options, tunnel::Session& session, Result<> result) {
  const tunnel::Stats stats = session.stats();
  if (result && stats.streams_failed > 0 && stats.streams_failed >= stats.streams_opened)
    result =
        fail(errc::peer_gone, "carrying streams: each of them broke off",
             "the reasons are above, and at the tunnel's other end; does the program that the exit leads to "
             "run?");
  if (options.as_json)
    fmt::print("{}\n", nlohmann::json{{"streams", stats.streams_opened},
                                      {"failed", stats.streams_failed},
                                      {"bytes-in", stats.bytes_in},
                                      {"bytes-out", stats.bytes_out},
                                      {"error", result ? "" : result.error().message()}}
                           .dump());
  else
    fmt::print(stderr, "tunnel: {} stream{} ({} failed), {} in, {} out\n", stats.streams_opened,
               stats.streams_opened == 1 ? "" : "s", stats.streams_failed, format_size(stats.bytes_in),
               format_size(stats.bytes_out));
  std::fflush(stdout);
  return result ? kDone : report_failure(result.error());
}

/// The entrance: local programs connect to PLAIN; a session to FABRIC is made when the first one does.
class Entrance {
 public:
  explicit Entrance(TunnelOptions options) : options_(std::move(options)), catalog_(make_catalog(log_)) {}

  int run() {
    StopSignals signals;
    auto uri = plain_uri(options_.plain);
    if (!uri) return report_failure(uri.error());
    if (const auto fabric = check_fabric(options_.fabric); !fabric) return report_failure(fabric.error());
    auto listener = catalog_.listen(*uri);
    if (!listener) return report_failure(listener.error());
    Endpoint entrance = (*listener)->local();
    entrance.options.clear();  // as it is typed at a QEMU
    fmt::print(stderr, "tunnel: entrance at {}\n", entrance.to_string());
    while (!signals.take()) {
      auto link = (*listener)->accept(Deadline::after(kLookAround));
      if (!link && !link.error().is(errc::timed_out)) return report_failure(link.error());
      if (link) carry(std::get<std::unique_ptr<ByteStream>>(std::move(*link)));
      if (serving_ && serving_->ended()) {
        const Result<> result = serving_->result();
        const int status = summarise(options_, serving_->session(), result);
        serving_.reset();
        if (options_.once) return status;
      } else if (options_.once && serving_ && serving_->session().wait_until_idle(Deadline::after(0s))) {
        return leave();
      }
    }
    return serving_ ? leave() : kDone;
  }

 private:
  /// A failure concerns this stream alone: it is closed, and the next one may try again.
  void carry(std::unique_ptr<ByteStream> plain) {
    if (!serving_) {
      auto link = catalog_.connect(options_.fabric, {}, Deadline::after(kConnectPatience));
      if (!link) {
        report_failure(link.error());
        return;
      }
      serving_ = std::make_unique<Serving>(std::get<std::unique_ptr<Channel>>(std::move(*link)),
                                           options_.session, tunnel::Dial{}, log_);
    }
    if (const auto opened = serving_->session().open(std::move(plain)); !opened)
      report_failure(opened.error());
  }

  int leave() {
    const Result<> finished = serving_->session().finish(Deadline::after(kConnectPatience));
    return summarise(options_, serving_->session(), finished);
  }

  TunnelOptions options_;
  StderrLog log_;
  TransportCatalog catalog_;
  std::unique_ptr<Serving> serving_;
};

/// The exit: entrances connect to FABRIC; each of their streams becomes a connection to PLAIN.
int run_exit(const TunnelOptions& options) {
  StopSignals signals;
  StderrLog log;
  const TransportCatalog catalog = make_catalog(log);
  const auto uri = plain_uri(options.plain);
  if (!uri) return report_failure(uri.error());
  if (const auto fabric = check_fabric(options.fabric); !fabric) return report_failure(fabric.error());
  const tunnel::Dial dial = [&]() -> Result<std::unique_ptr<ByteStream>> {
    RAMFERRY_TRY_ASSIGN(Link link, catalog.connect(*uri, {}, Deadline::after(kConnectPatience)));
    return std::get<std::unique_ptr<ByteStream>>(std::move(link));
  };
  auto listener = catalog.listen(options.fabric);
  if (!listener) return report_failure(listener.error());
  fmt::print(stderr, "tunnel: exit at {}\n", (*listener)->local().to_string());

  std::vector<std::unique_ptr<Serving>> sessions;
  while (!signals.take()) {
    auto link = (*listener)->accept(Deadline::after(kLookAround));
    if (!link && !link.error().is(errc::timed_out)) return report_failure(link.error());
    if (link) {
      if (auto* channel = std::get_if<std::unique_ptr<Channel>>(&*link))
        sessions.push_back(std::make_unique<Serving>(std::move(*channel), options.session, dial, log));
      else
        log.warn("tunnel: a QEMU connected to the fabric side; it belongs at the entrance");
    }
    for (auto each = sessions.begin(); each != sessions.end();) {
      if (!(*each)->ended()) {
        ++each;
        continue;
      }
      const int status = summarise(options, (*each)->session(), (*each)->result());
      each = sessions.erase(each);
      if (options.once) return status;
    }
  }
  return kDone;
}

CLI::App* add_end(CLI::App& tunnel, const char* name, const char* help, TunnelOptions& options) {
  CLI::App* end = tunnel.add_subcommand(name, help);
  end->add_flag("--once", options.once,
                "Leave when the streams of one session have ended; status 1 if none came through");
  end->add_flag("--json", options.as_json, "Machine-readable summary on standard output");
  return end;
}

}  // namespace

void add_tunnel_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<TunnelOptions>();
  CLI::App* command = app.add_subcommand(
      "tunnel", "Carries byte streams, such as a stock QEMU's migration, through ramferry's transport");
  command->require_subcommand(1);
  command->footer(
      "Example, a stock QEMU without RDMA over an RDMA fabric. At the destination:\n"
      "  qemu-system-x86_64 … -incoming unix:/tmp/in.sock\n"
      "  ramferry tunnel exit rdma:0.0.0.0:4444 unix:/tmp/in.sock\n"
      "At the source, then `migrate unix:/tmp/out.sock` in QEMU's monitor:\n"
      "  ramferry tunnel enter unix:/tmp/out.sock rdma:10.0.0.7:4444");
  CLI::App* enter = add_end(*command, "enter", "Takes plain connections in, next to the source", *options);
  enter->add_option("plain", options->plain, "Where programs connect: unix:PATH or tcp:HOST:PORT")
      ->required();
  enter->add_option("fabric", options->fabric, "The exit's address, e.g. rdma:10.0.0.7:4444")->required();
  enter->callback([options, &action] { action = [options] { return Entrance(*options).run(); }; });
  CLI::App* exit = add_end(*command, "exit", "Lets them out, next to the destination", *options);
  exit->add_option("fabric", options->fabric, "Where the entrance connects, e.g. rdma:0.0.0.0:4444")
      ->required();
  exit->add_option("plain", options->plain, "Where each stream is connected to, e.g. unix:PATH")->required();
  exit->callback([options, &action] { action = [options] { return run_exit(*options); }; });
}

}  // namespace ramferry::cli
