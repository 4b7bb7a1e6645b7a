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
#include <string>
#include <string_view>
#include <vector>

namespace ramferry::checkpoint {

struct MachineState {
  std::vector<std::byte> bytes;      ///< sections, the end mark, the description
  std::uint64_t description_at = 0;  ///< of the JSON text; its length is 0 if there is none
  std::uint64_t description_length = 0;
  bool still_open = false;  ///< the source did not close, though it had nothing more to send
};

/// Finds the end of a stream in bytes that cannot be parsed: a description of the sections before it, behind
/// the last one's footer and the end mark, with nothing behind it. Sections may hold what looks like one.
///
/// Takes no memory beside the bytes, and time in proportion to them, whatever they are.
class StateCollector {
 public:
  /// Takes the next bytes. errc::unsupported for too many, errc::protocol_mismatch for bytes that only make
  /// work.
  Result<> add(ConstBytes bytes);
  /// The stream may be over: its bytes end with the description of the rest.
  bool complete() const noexcept { return state_.description_length != 0; }
  /// Whether it may end here all the same, without a description.
  bool may_end() const noexcept;
  /// It ends as with a description, which is not that of the rest.
  bool contradicts() const noexcept { return !problem_.empty(); }
  /// Why a stream that ends here, and neither is complete nor may end, is refused. `consumed`: its bytes.
  Failure shortfall(std::uint64_t consumed) const;
  MachineState take() && { return std::move(state_); }

 private:
  /// What looks like a description, or its beginning.
  struct Candidate {
    std::size_t at = 0, end = 0;  ///< the end mark before it; behind its last byte
  };

  void look_for_candidates();
  Result<> judge(const Candidate& candidate);
  std::string_view text(const Candidate& candidate) const noexcept;

  MachineState state_;
  std::size_t looked_ = 0;  ///< no candidate begins before that is not known
  /// The newest, and older ones that overlap its head: JSON has no zero byte, and every head has some.
  std::vector<Candidate> candidates_;
  std::string problem_;
  std::uint64_t looked_in_vain_ = 0;  ///< bytes
};

struct StateOptions {
  /// A source that keeps the stream open, for its return path, and sends no description: no byte for this
  /// long is the end.
  bool stays_open = false;
  std::chrono::milliseconds silence{3000};
  /// Behind a description the source is to close, which tells that it was the end: this long is waited for
  /// that. Without this the description is the end.
  std::optional<std::chrono::milliseconds> close_timeout;
  /// Called with the number of bytes so far, before more are taken.
  std::function<Result<>(std::uint64_t)> make_room;
};
Result<MachineState> read_state(StreamInput& in, const StateOptions& options);

}  // namespace ramferry::checkpoint
