// SPDX-License-Identifier: MIT
// What follows the RAM section: device state that only the machine understands, kept as it is, and where it
// ends.
#pragma once

#include "stream_input.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/endpoint.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace ramferry::checkpoint {

struct MachineState {
  std::vector<std::byte> bytes;      ///< sections, the end mark, the description
  std::uint64_t description_at = 0;  ///< of the JSON text; its length is 0 if there is none
  std::uint64_t description_length = 0;
};

/// Finds the end of a stream in bytes that cannot be parsed: the description at the end is a JSON text of a
/// stated length behind a section's footer and the end mark, which nothing else is.
class StateCollector {
 public:
  /// Takes the next bytes. errc::protocol_mismatch for bytes behind the end, errc::unsupported for too many.
  Result<> add(ConstBytes bytes);
  /// The description has been read: the stream is over.
  bool complete() const noexcept { return complete_; }
  /// Whether the stream may end here all the same, without a description.
  bool may_end() const noexcept;
  MachineState take() && { return std::move(state_); }

 private:
  void look_for_end();

  MachineState state_;
  std::size_t looked_ = 0;  ///< no description begins before
  bool complete_ = false;
};

struct StateOptions {
  /// A source that keeps the stream open, for its return path, and sends no description: no byte for this
  /// long is the end.
  bool stays_open = false;
  std::chrono::milliseconds silence{3000};
  /// Called with the number of bytes so far, before more are taken.
  std::function<Result<>(std::uint64_t)> make_room;
};
Result<MachineState> read_state(StreamInput& in, const StateOptions& options);

}  // namespace ramferry::checkpoint
