// SPDX-License-Identifier: MIT
// `ramferry doctor`: can this machine do it, and if not, what helps.
#include "catalog_setup.hpp"
#include "command.hpp"
#include "diagnosis.hpp"

#include <ramferry/log.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>

namespace ramferry::cli {
namespace {

struct DoctorOptions {
  std::string uri;
  bool json = false;
};

constexpr const char* kExplanation =
    R"(Without a URI: what this machine has, by groups: processor and limits, huge pages, dirty trackers,
and each transport. Status 0 if sockets and at least one tracker work.

With a URI, as you would give it to `ramferry migrate`: that transport on this machine, and the way to
there: the address, the route (for rdma: device, GID and path MTU) and whether somebody listens.
Without a host, as in rdma::4444: whether it can be listened on. Status 0 if nothing in the way is a 'no'.

  yes    works
  no     does not; the fix below it is a command to type, or the next step
  note   works, or is not needed; worth knowing, and a fix says how it could be better

What file:, fd: and exec: lead to is looked at and not tried: the last line says so.
Nothing is changed, and a ramferry that listens there goes on listening. A QEMU takes the first
connection for its migration: add dialect=qemu to the URI, and no connection is tried.

examples:
  ramferry doctor
  ramferry doctor rdma:10.0.0.7:4444
  ramferry doctor 'rdma:10.0.0.7:4444?pin=demand&lanes=2'
  ramferry doctor --json | jq -r '.groups[].checks[] | select(.verdict == "no") | .fix')";

int run(const DoctorOptions& options) {
  StderrLog log;
  const TransportCatalog catalog = make_catalog(log);
  const auto diagnosis = diagnose(catalog, SystemFiles(), options.uri);
  if (!diagnosis) return report_failure(diagnosis.error());
  if (options.json)
    // Names of devices may hold any bytes; what is no UTF-8 is replaced.
    fmt::print("{}\n", to_json(*diagnosis).dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  else
    fmt::print("{}", to_text(*diagnosis));
  return diagnosis->works() ? kDone : kFailed;
}

}  // namespace

void add_doctor_command(CLI::App& app, Action& action) {
  const auto options = std::make_shared<DoctorOptions>();
  CLI::App* doctor = app.add_subcommand("doctor", "Can this machine do it? Every 'no' with its fix");
  doctor->add_option("URI", options->uri, "the way to examine as well, e.g. rdma:10.0.0.7:4444");
  doctor->add_flag("--json", options->json, "print the findings as JSON");
  doctor->footer(kExplanation);
  doctor->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace ramferry::cli
