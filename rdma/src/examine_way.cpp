// SPDX-License-Identifier: MIT
// The way to a peer: its name, the device and GID that lead there, the path, and whether somebody answers.
#include "examine.hpp"
#include "hello.hpp"
#include "transport_parts.hpp"
#include "verbs_check.hpp"
#include "verbs_cm.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

namespace ramferry::rdma {
namespace {

using Verdict = Check::Verdict;
using std::chrono::seconds;

// The first eight bytes of a connection request say which dialect follows; a zero is none of them, so ours
// refuses it as a stranger's and goes on listening.
constexpr std::array<std::uint8_t, 8> kNoDialect{};
// Reasons in a CM REJ message (InfiniBand specification, volume 1, 12.6.7.2).
constexpr int kNoSuchService = 8, kRefusedByProgram = 28;

/// What all steps need to know.
struct Way {
  const SystemFiles& files;
  const Endpoint& to;
  const Options& options;
  Deadline deadline;
};

Check failed(std::string name, const Error& error, std::string fix) {
  return {std::move(name), Verdict::no, Error{error.code, error.doing, {}}.message(), std::move(fix)};
}

std::string fix_of_route(const std::string& address, const Error& error) {
  if (error.is(errc::timed_out) || error.code == FabricErrc::unreachable)
    return "bring the peer up, then see that this gets answers: ping -c 3 " + address;
  return "give an address that leads by an RDMA device; `ip route get " + address +
         "` names the interface for this one: rdma link add rxe0 type rxe netdev INTERFACE";
}

/// "rxe0 port 1, GID 1 10.0.0.7 (RoCE v2) on eth0"
std::string describe_device(const SystemFiles& files, rdma_cm_id* id) {
  const std::string device = ibv_get_device_name(id->verbs->device);
  std::string text = device + " port " + std::to_string(id->port_num);
  const std::string address = to_text(rdma_get_local_addr(id));
  const auto gids = read_gids(files, device, id->port_num);
  // Where an address has an entry for each version, the connection manager takes the newest.
  const auto gid = std::find_if(gids.rbegin(), gids.rend(), [&](const Gid& each) {
    return each.address == address.substr(0, address.find('%'));
  });
  if (gid == gids.rend()) return text + ", " + address;
  text += ", GID " + std::to_string(gid->index) + " " + gid->address + " (" + gid->type + ")";
  return text + (gid->interface.empty() ? "" : " on " + gid->interface);
}

std::string describe_path(rdma_cm_id* id) {
  if (id->route.num_paths < 1) return "found";
  const unsigned mtu = id->route.path_rec[0].mtu & 0x3F;  // the upper bits say how it compares
  return "path MTU " + std::to_string(128U << mtu) + " bytes";
}

/// Whether a refusal comes with an answer of ours.
bool is_from_ramferry(const rdma_conn_param& refusal) {
  const auto* bytes = static_cast<const std::byte*>(refusal.private_data);
  if (bytes == nullptr) return false;
  const auto answer = decode_answer({bytes, refusal.private_data_len});
  return !answer && (answer.error().is(errc::peer_failed) || answer.error().is(errc::in_use));
}

Check judge_rejection(std::string name, const Endpoint& to, const rdma_cm_event& event) {
  if (event.status == kRefusedByProgram)
    return {std::move(name),
            Verdict::yes,
            is_from_ramferry(event.param.conn) ? "a ramferry listens, and refused this trial as it should"
                                               : "somebody listens, and refused this trial",
            {}};
  if (event.status == kNoSuchService)
    return {std::move(name), Verdict::no,
            "the host answers, and nobody listens on port " + std::to_string(to.port),
            "start the destination first: ramferry vm --name vm1 --qmp unix:/tmp/vm1.qmp --incoming " +
                to.to_string() + " (with the source's --ram)"};
  return {std::move(name), Verdict::no, "the host refuses, reason " + std::to_string(event.status),
          "look at the kernel log there: dmesg | grep -i rdma"};
}

Check judge_answer(std::string name, const Endpoint& to, const rdma_cm_event& event) {
  switch (event.event) {
    case RDMA_CM_EVENT_REJECTED: return judge_rejection(std::move(name), to, event);
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
    case RDMA_CM_EVENT_ESTABLISHED:
      return {
          std::move(name), Verdict::yes, "somebody listens, and takes any connection: not a ramferry", {}};
    default: break;
  }
  return {std::move(name), Verdict::no, std::string("no answer: ") + rdma_event_str(event.event),
          "let UDP port 4791 through on both hosts: nft insert rule inet filter input udp dport 4791 accept"};
}

/// Asks for a connection that nobody grants. The queue pair number is of no queue pair: none is needed to be
/// refused.
Check check_connect(const Way& way, rdma_cm_id* id) {
  const std::string name = "connect to " + way.to.to_string();
  if (way.options.dialect == Dialect::qemu)
    return {name, Verdict::note, "not tried: a QEMU takes the first connection for its migration", {}};
  rdma_conn_param trial{};
  trial.private_data = kNoDialect.data();
  trial.private_data_len = static_cast<std::uint8_t>(kNoDialect.size());
  trial.retry_count = 3;
  trial.rnr_retry_count = 3;
  if (auto asked = check_cm(rdma_connect(id, &trial), "asking for a connection"); !asked)
    return failed(name, asked.error(), "look at the kernel log: dmesg | grep -i rdma");
  while (true) {
    auto event = take_cm_event(id->channel);
    if (!event) return failed(name, event.error(), "look at the kernel log: dmesg | grep -i rdma");
    if (*event) return judge_answer(name, way.to, **event);
    const auto ready = wait_readable(id->channel->fd, -1, way.deadline, name);
    if (!ready || !*ready)
      return {
          name, Verdict::no, "no answer in time",
          "let UDP port 4791 through on both hosts: nft insert rule inet filter input udp dport 4791 accept"};
  }
}

Check check_route(const Way& way, rdma_cm_id* id, const SocketAddress& target) {
  const std::string address = to_text(target.get()), name = "route to " + address;
  // A device that was asked for is a finding of its own, below.
  LinkTuning any_device = way.options.link;
  any_device.device.clear();
  if (auto route = resolve_route(id, target, any_device, way.deadline); !route)
    return failed(name, route.error(), fix_of_route(address, route.error()));
  return {name, Verdict::yes, describe_device(way.files, id) + ", " + describe_path(id), {}};
}

Check check_wanted_device(const std::string& wanted, rdma_cm_id* id) {
  const std::string device = ibv_get_device_name(id->verbs->device);
  if (device == wanted) return {"device=" + wanted, Verdict::yes, "leads there", {}};
  return {"device=" + wanted, Verdict::no, "the route goes by " + device,
          "leave device= out, or give the peer's address in the network of " + wanted};
}

std::vector<Check> try_address(const Way& way, const SocketAddress& target) {
  auto channel = make_event_channel();
  auto id =
      channel ? make_id(channel->get(), "opening the RDMA connection manager") : Failure(channel.error());
  if (!id) return {failed("route to " + way.to.host, id.error(), how_to_get_a_connection_manager(way.files))};
  std::vector<Check> checks = {check_route(way, id->get(), target)};
  if (checks.back().verdict == Verdict::no) return checks;
  if (const std::string& wanted = way.options.link.device; !wanted.empty())
    checks.push_back(check_wanted_device(wanted, id->get()));
  checks.push_back(check_connect(way, id->get()));
  return checks;
}

/// For an endpoint that names no host: it is listened on.
Check check_listen(const SystemFiles& files, const Endpoint& at, const SocketAddress& local) {
  const std::string name = "listen on " + at.to_string();
  auto channel = make_event_channel();
  auto id =
      channel ? make_id(channel->get(), "opening the RDMA connection manager") : Failure(channel.error());
  if (!id) return failed(name, id.error(), how_to_get_a_connection_manager(files));
  const auto bound = check_cm(rdma_bind_addr(id->get(), local.get()), "binding");
  if (bound) return {name, Verdict::yes, "the port is free", {}};
  return failed(name, bound.error(), "choose another port, or 0 for any");
}

}  // namespace

std::vector<Check> examine_way(const SystemFiles& files, const Endpoint& to, const Options& options,
                               Deadline deadline) {
  const auto addresses = resolve_name({to.host, to.port}, "resolving " + to.host);
  if (!addresses)
    return {failed("address of " + to.host, addresses.error(),
                   "give the address in numbers, or see what `getent hosts " + to.host + "` says")};
  if (to.host.empty()) return {check_listen(files, to, addresses->front())};
  std::string found;
  for (const SocketAddress& each : *addresses) found += (found.empty() ? "" : ", ") + to_text(each.get());
  std::vector<Check> checks = {{"address of " + to.host, Verdict::yes, found, {}}};
  // One that works is enough, and connecting tries them in this order.
  std::vector<Check> tried;
  for (const SocketAddress& each : *addresses) {
    tried = try_address({files, to, options, deadline}, each);
    const bool works = std::none_of(tried.begin(), tried.end(),
                                    [](const Check& check) { return check.verdict == Verdict::no; });
    if (works || deadline.passed()) break;
  }
  for (Check& each : tried) checks.push_back(std::move(each));
  return checks;
}

std::vector<Check> examine(const SystemFiles& files, const Endpoint* to) {
  constexpr auto kPatience = seconds(10);
  const Result<Options> options = to == nullptr ? Options{} : parse_options(*to);
  const auto reports = ask_devices();
  std::vector<Check> checks = examine_machine(files, reports, options.value_or(Options{}).pin);
  if (to == nullptr) return checks;
  if (!options) {
    checks.push_back(failed("options", options.error(), "`ramferry transports` lists what there is"));
    return checks;
  }
  for (Check& each : examine_way(files, *to, *options, Deadline::after(kPatience)))
    checks.push_back(std::move(each));
  return checks;
}

}  // namespace ramferry::rdma
