// SPDX-License-Identifier: MIT
// A folder that stands for the machine's root: tests write the /proc and /sys files that they need.
#pragma once

#include <ramferry/system_files.hpp>

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

namespace ramferry::test {

class FakeRoot {
 public:
  FakeRoot() {
    std::string name = (std::filesystem::temp_directory_path() / "ramferry-root-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "cannot make " << name;
    folder_ = name;
  }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;
  ~FakeRoot() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  /// `path` as the kernel names it: "/sys/class/net/eth0/mtu". Makes the folders on the way.
  void write(std::string_view path, std::string_view content) {
    const std::filesystem::path file = folder_ / path.substr(1);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
  }
  void remove(std::string_view path) { std::filesystem::remove_all(folder_ / path.substr(1)); }
  SystemFiles files() const { return SystemFiles(folder_); }

 private:
  std::filesystem::path folder_;
};

}  // namespace ramferry::test
