// SPDX-License-Identifier: MIT
// Whether memory holds nothing but zeros, found at memory speed.
//
// The guest may write to the memory meanwhile: the answer is then that of some moment during the call, and
// the write has marked the page dirty again ("Clear before read" in docs/design-notes.md). Any thread; reads
// each byte at most once, writes nothing. Reading pages that were never touched maps them, and allocates
// those of a memfd.
#pragma once

#include <ramferry/bytes.hpp>

namespace ramferry {

/// Whether all bytes are zero. Made for whole pages; any size and alignment is right, and no bytes are all
/// zero.
bool is_zero(ConstBytes page) noexcept;

}  // namespace ramferry
