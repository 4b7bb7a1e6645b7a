// SPDX-License-Identifier: MIT
// PATH.partial: what becomes PATH by being renamed once it is complete.
//
// Any thread. Several programs may want the same one: it is locked while it is open, and only who has the
// lock writes to it, renames or removes it.
#pragma once

#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <string>

namespace ramferry {

/// Creates it or takes over what was left of one, empty, locked, for its owner's eyes only: it is a guest's
/// memory. errc::in_use while another program is writing it.
Result<UniqueFd> open_partial(const std::string& partial);
/// One that its writer has left behind, with what is in it, locked; no descriptor for one that is being
/// written or has just been created, or that is not there.
UniqueFd lock_left_over(const std::string& partial);

}  // namespace ramferry
