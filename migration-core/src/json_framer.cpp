// SPDX-License-Identifier: MIT
#include "json_framer.hpp"

#include <string_view>
#include <utility>

namespace ramferry::migration {
namespace {

constexpr bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}
/// No JSON text has it, escaped or not; clients send 0xff to make a monitor forget what it has half read.
constexpr bool is_stray(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && !is_space(c)) || c == '\xff';
}

}  // namespace

void JsonFramer::feed(ConstBytes bytes, const Take& take) {
  for (const std::byte byte : bytes) {
    if (hopeless_) return;
    const char c = static_cast<char>(byte);
    if (is_stray(c) || (string_ && (c == '\n' || c == '\r'))) {
      reject("JSON parse error, stray '" + text_.substr(0, 40) + "'", take);
    } else if (string_) {
      in_string(c, take);
    } else {
      outside(c, take);
    }
    if (text_.size() > kMostBytes) {
      hopeless_ = true;
      reject("JSON token size limit exceeded", take);
    }
  }
}

void JsonFramer::in_string(char c, const Take& take) {
  text_ += c;
  if (escaped_) {
    escaped_ = false;
  } else if (c == '\\') {
    escaped_ = true;
  } else if (c == '"') {
    string_ = false;
    if (open_.empty()) emit(take);
  }
}

void JsonFramer::outside(char c, const Take& take) {
  switch (c) {
    case '{':
    case '[': open(c, take); return;
    case '}':
    case ']': close(c, take); return;
    default: break;
  }
  if (open_.empty()) {
    if (is_space(c) || c == '"') emit(take);
    if (is_space(c)) return;
    if (c == ',' || c == ':') {
      emit(take);
      reject("JSON parse error, expecting value", take);
      return;
    }
  }
  string_ = c == '"';
  text_ += c;
}

void JsonFramer::open(char c, const Take& take) {
  if (open_.empty()) emit(take);
  if (open_.size() == kMostDepth) {
    reject("JSON nesting depth limit exceeded", take);
    return;
  }
  text_ += c;
  open_.push_back(c == '{' ? '}' : ']');
}

void JsonFramer::close(char c, const Take& take) {
  if (open_.empty()) emit(take);
  if (open_.empty() || open_.back() != c) {
    reject("JSON parse error, expecting value", take);
    return;
  }
  text_ += c;
  open_.pop_back();
  if (open_.empty()) emit(take);
}

void JsonFramer::emit(const Take& take) {
  if (text_.empty()) return;
  take({.text = std::exchange(text_, {}), .error = {}});
}

void JsonFramer::reject(std::string error, const Take& take) {
  text_.clear();
  open_.clear();
  string_ = escaped_ = false;
  take({.text = {}, .error = std::move(error), .hopeless = hopeless_});
}

}  // namespace ramferry::migration
