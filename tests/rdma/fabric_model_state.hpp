// SPDX-License-Identifier: MIT
// The insides of the fabric model: plain data under one mutex.
#pragma once

#include "fabric_model.hpp"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace ramferry::rdma::testing {

/// A domain's completions and events.
struct Station {
  std::deque<Completion> completions;
  std::deque<LinkEvent> events;
  bool woken = false;
  std::condition_variable changed;
};

struct ModelRegionData {
  Bytes memory;
  Rights rights{};
  std::uint64_t base = 0;
  const Station* owner = nullptr;
};

/// A write that was acknowledged and is not visible yet.
struct Unplaced {
  std::byte* to = nullptr;
  std::vector<std::byte> bytes;
};

/// One end of a connection.
struct Port {
  unsigned connection = 0;
  std::shared_ptr<Station> station;
  std::shared_ptr<Port> peer;  // null until connected, and after either end is gone
  QueueShape shape;
  std::deque<WorkRequest> sends;
  std::deque<Receive> receives;
  std::deque<Unplaced> unplaced;  // written by the peer into our memory
  bool dialed = false;            // the end that made the connection
  bool failed = false;            // in the error state
  bool hung = false;
  std::optional<std::error_code> next_error;
};

struct Dialing {
  std::vector<std::byte> hello;
  std::shared_ptr<Port> port;
  enum class State : std::uint8_t { waiting, accepted, refused } state = State::waiting;
  std::vector<std::byte> answer;
};

struct Doorway {
  std::deque<std::shared_ptr<Dialing>> waiting;
  bool woken = false;
};

struct ModelNet::State {
  explicit State(ModelPlan what) : plan(std::move(what)), random(plan.seed) {}

  // With the lock held.
  void run();
  bool step();
  void execute(Port& port);
  void write(Port& port, const WorkRequest& request);
  void send(Port& port, const WorkRequest& request);
  void place_all(Port& port);
  bool place_some();
  void complete(Port& port, const WorkRequest& request, std::error_code error, std::uint32_t bytes = 0);
  void fail(Port& port);
  void report(Station& station, LinkEvent event);
  std::uint64_t below(std::uint64_t bound) { return random() % bound; }
  const ModelRegionData* find_local(const Port& port, const WorkRequest& request) const;

  const ModelPlan plan;
  std::mutex mutex;
  std::condition_variable work;    // for the thread
  std::condition_variable dialed;  // for those who connect and accept
  std::mt19937_64 random;
  bool stopping = false, is_cut = false, removed = false;
  std::uint16_t next_port = 4000;
  unsigned next_connection = 0;
  std::uint32_t next_key = 0x1000;
  std::map<std::uint16_t, std::shared_ptr<Doorway>> doorways;
  std::map<std::uint32_t, ModelRegionData> regions;
  std::vector<std::shared_ptr<Port>> ports;
  std::vector<std::shared_ptr<Station>> stations;
  Tamper tamper;
  ModelCounts counts;
  std::thread thread;
};

}  // namespace ramferry::rdma::testing
