// SPDX-License-Identifier: MIT
// Whether this machine has an RDMA device, and by which address it is reached.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

namespace ramferry::rdma::testing {

/// An IPv4 address that a device here answers to, from its GID table.
inline std::optional<std::string> rdma_address() {
  namespace fs = std::filesystem;
  std::error_code none;
  for (const auto& device : fs::directory_iterator("/sys/class/infiniband", none)) {
    for (const auto& entry : fs::directory_iterator(device.path() / "ports/1/gids", none)) {
      std::string gid;
      std::ifstream(entry.path()) >> gid;  // 0000:0000:0000:0000:0000:ffff:0a00:020f
      std::erase(gid, ':');
      if (gid.size() != 32 || gid.substr(0, 24) != "00000000000000000000ffff") continue;
      std::string address;
      for (std::size_t at = 24; at < gid.size(); at += 2)
        address += (at == 24 ? "" : ".") + std::to_string(std::stoi(gid.substr(at, 2), nullptr, 16));
      return address;
    }
  }
  return std::nullopt;
}

}  // namespace ramferry::rdma::testing

/// Skips, or fails where RAMFERRY_REQUIRE_RDMA is set, on a machine without an RDMA device.
#define RAMFERRY_NEED_RDMA()                                                                           \
  do {                                                                                                 \
    if (ramferry::rdma::testing::rdma_address()) break;                                                \
    constexpr const char* kWhy = "no RDMA device with an IPv4 address; run it by tests/soft-roce/rig"; \
    if (std::getenv("RAMFERRY_REQUIRE_RDMA") != nullptr) FAIL() << kWhy;                               \
    GTEST_SKIP() << kWhy;                                                                              \
  } while (false)
