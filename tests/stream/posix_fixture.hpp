// SPDX-License-Identifier: MIT
// exec:, fd: and file: through the catalogue, as a program uses them.
#pragma once

#include "contract/byte_promises.hpp"
#include "support/temp_folder.hpp"

#include <ramferry/posix_transport.hpp>

#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace ramferry::test {

using Stream = std::unique_ptr<ByteStream>;

inline Deadline soon() {
  return Deadline::after(std::chrono::seconds(10));
}

class PosixTransport : public ::testing::Test {
 protected:
  PosixTransport() { catalog_.add(make_posix_transport(log_)); }

  Result<Stream> connect(const std::string& uri) {
    auto link = catalog_.connect(uri, {}, soon());
    if (!link) return Failure(link.error());
    return std::move(std::get<Stream>(*link));
  }
  Result<Stream> accept(const std::string& uri) {
    RAMFERRY_TRY_ASSIGN(const auto listener, catalog_.listen(uri));
    RAMFERRY_TRY_ASSIGN(Link link, listener->accept(soon()));
    return std::move(std::get<Stream>(link));
  }

  NullLog log_;
  TransportCatalog catalog_;
  TempFolder folder_;
};

inline std::string text_of(const Result<std::vector<std::byte>>& bytes) {
  if (!bytes) return "failed: " + bytes.error().message();
  return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

}  // namespace ramferry::test
