// SPDX-License-Identifier: MIT
// A file as the source of a stream. One thread.
#pragma once

#include "file_io.hpp"

#include <ramferry/byte_stream.hpp>

#include <filesystem>
#include <memory>
#include <string>

namespace ramferry::checkpoint {

class FileInput final : public ByteStream {
 public:
  static Result<std::unique_ptr<FileInput>> open(const std::filesystem::path& path);

  std::uint64_t size() const noexcept { return size_; }
  Result<> send(ConstBytes bytes) override;
  Result<std::size_t> receive(Bytes into, Deadline deadline) override;
  Result<> finish(Deadline /*deadline*/) override { return {}; }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }

 private:
  FileInput(std::string name, OpenFile file)
      : name_(std::move(name)), fd_(std::move(file.fd)), size_(file.bytes) {}
  std::string name_;
  UniqueFd fd_;
  std::uint64_t size_;
};

}  // namespace ramferry::checkpoint
