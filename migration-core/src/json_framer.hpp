// SPDX-License-Identifier: MIT
// Cuts a stream of bytes into top-level JSON values, however they are framed, within bounds. One thread.
#pragma once

#include <ramferry/bytes.hpp>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace ramferry::migration {

class JsonFramer {
 public:
  /// One value's text; or, if `error` is not empty, what is wrong with the bytes up to here, which are
  /// dropped.
  struct Piece {
    std::string text, error;
    bool hopeless = false;  ///< too large: there is no telling where the next value begins
  };
  using Take = std::function<void(Piece piece)>;

  static constexpr std::size_t kMostBytes = 1 << 20, kMostDepth = 1024;

  /// Calls `take` for each piece that `bytes` complete. Bytes that follow a hopeless piece are ignored.
  void feed(ConstBytes bytes, const Take& take);

 private:
  void in_string(char c, const Take& take);
  void outside(char c, const Take& take);
  void open(char c, const Take& take);
  void close(char c, const Take& take);
  void emit(const Take& take);
  void reject(std::string error, const Take& take);

  std::string text_;
  std::vector<char> open_;  ///< the closers still due
  bool string_ = false, escaped_ = false, hopeless_ = false;
};

}  // namespace ramferry::migration
