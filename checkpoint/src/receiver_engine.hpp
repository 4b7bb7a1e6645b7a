// SPDX-License-Identifier: MIT
// The two ways in which a VM arrives, and what they share.
#pragma once

#include "checkpoint_writer.hpp"
#include "machine_state.hpp"
#include "multifd_receiver.hpp"
#include "stream_input.hpp"
#include "stream_saver.hpp"

#include <ramferry/checkpoint/receiver.hpp>

#include <memory>
#include <mutex>
#include <optional>

namespace ramferry::checkpoint {

/// Room that is taken for device state before it is known how much there will be.
inline constexpr std::uint64_t kStateRoom = 4ULL << 20;

class Receiver::Engine {
 public:
  Engine(Link link, ReceiveOptions options, Log& log)
      : options_(std::move(options)), log_(log), link_(std::move(link)) {}

  Result<ReceiveReport> run();
  void cancel() noexcept;

  const ByteStream& bytes() const noexcept { return bytes_of(link_); }
  /// Null until there is something to tell. Any thread.
  const StreamSaver* saver() const noexcept { return saver_.load(); }

 private:
  class StreamEvents;
  class NativeEvents;

  Result<> receive_stream(ByteStream& stream);
  void begin(std::unique_ptr<StreamSaver> events);
  Result<> keep_stream(StreamInput& in, StreamEvents& events);
  Result<> expect_nothing(StreamInput& in);
  void part_from_stream(ByteStream& stream, StreamInput& in, bool return_path, bool kept);

  Result<> receive_native(Channel& channel);
  Result<> greet(StreamInput& in, Channel& channel);
  Result<> load_native(StreamInput& in, Channel& channel);
  Result<MachineState> read_machine(StreamInput& in);
  Result<> await_commit(StreamInput& in, Channel& channel);
  Result<> outcome_unknown(const std::string& why);
  void part_from_native(StreamInput& in, Channel& channel, const Result<>& result);

  std::filesystem::path working_path() const;
  Result<> seal(const StreamSaver& saver, MachineState state, Origin origin);
  /// Gives the file its name. A source that waits has not given its guest away yet.
  Result<> publish(bool source_waits);
  PartialFile& file() { return plain_ ? *plain_ : writer_->file(); }

  ReceiveOptions options_;
  Log& log_;
  std::atomic<bool> cancelled_ = false;
  ReceiveReport report_;
  std::optional<CheckpointWriter> writer_;
  std::optional<PartialFile> plain_;  ///< Format::stream
  std::unique_ptr<StreamSaver> events_;
  std::unique_ptr<MultifdReceiver> multifd_;  ///< uses events_ and link_; while a stream is received
  std::atomic<const StreamSaver*> saver_ = nullptr;
  std::vector<std::unique_ptr<Landing>> landings_;
  Link link_;  ///< goes first: until then something may land
};

}  // namespace ramferry::checkpoint
