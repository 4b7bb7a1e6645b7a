// SPDX-License-Identifier: MIT
// Which memory belongs to something: stretches of it, those that touch being one.
#pragma once

#include <ramferry/bytes.hpp>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>

namespace ramferry::test {

class MemorySet {
 public:
  void add(ConstBytes bytes) {
    const std::byte *begin = bytes.data(), *end = begin + bytes.size();
    auto next = ends_.upper_bound(begin);
    if (next != ends_.begin() && std::prev(next)->second >= begin) begin = (--next)->first;
    for (; next != ends_.end() && next->first <= end; next = ends_.erase(next))
      end = std::max(end, next->second);
    ends_[begin] = end;
  }
  /// Whether all of `bytes` is in one stretch.
  bool contains(ConstBytes bytes) const {
    const auto next = ends_.upper_bound(bytes.data());
    return next != ends_.begin() && std::prev(next)->second >= bytes.data() + bytes.size();
  }

 private:
  std::map<const std::byte*, const std::byte*, std::less<>> ends_;  ///< by where they begin
};

}  // namespace ramferry::test
