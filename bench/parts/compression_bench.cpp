// SPDX-License-Identifier: MIT
// The compression codec on text, shared out among threads as a migration does: 64 pieces at once.
#include "page_codec.hpp"
#include "worker_pool.hpp"

#include <benchmark/benchmark.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string_view>
#include <vector>

namespace ramferry::bench {
namespace {

using migration::CompressMethod;
using migration::page_codec::kPieceBytes;

constexpr std::size_t kPieces = 64;

/// Words in random order: compresses as logs and sources do.
std::vector<std::byte> text() {
  constexpr std::string_view kWords[] = {"memory",  "page ",        "dirty ", "round ", "channel ",
                                         "fence\n", "slot, ",       "the ",   "of a ",  "0x7fff",
                                         "error: ", "destination ", "1024 ",  "{",      "}\n"};
  std::mt19937_64 random(3);
  std::vector<std::byte> bytes;
  while (bytes.size() < kPieces * kPieceBytes) {
    const ConstBytes word = as_bytes(kWords[random() % std::size(kWords)]);
    bytes.insert(bytes.end(), word.begin(), word.end());
  }
  return bytes;
}

void compress(benchmark::State& state, CompressMethod method, unsigned threads) {
  const std::vector<std::byte> content = text();
  std::vector<std::byte> into(kPieces * kPieceBytes);
  const migration::PageCoding coding{.compress = true, .method = method, .threads = threads};
  migration::WorkerPool workers(threads);
  std::vector<std::size_t> lengths(kPieces);
  const auto one_piece = [&](std::size_t piece) {
    const std::size_t at = piece * kPieceBytes;
    lengths[piece] = migration::page_codec::compress(coding, ConstBytes(content).subspan(at, kPieceBytes),
                                                     Bytes(into).subspan(at, kPieceBytes));
  };
  workers.run(kPieces, one_piece);  // a codec's own memory, and the buffer's pages, are there from here on
  for (auto step : state) workers.run(kPieces, one_piece);
  std::size_t total = 0;
  for (const std::size_t length : lengths) total += length == 0 ? kPieceBytes : length;
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kPieces * kPieceBytes));
  state.counters["ratio"] = static_cast<double>(kPieces * kPieceBytes) / static_cast<double>(total);
}

/// A process of its own on a processor of its own: compresses its pieces whenever it is told a byte.
class Stranger {
 public:
  explicit Stranger(int processor) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
    child_ = ::fork();
    if (child_ == 0) {
      ::close(ends[0]);  // or it would never hear the end
      work(ends[1], processor);
    }
    ::close(ends[1]);
    socket_ = ends[0];
  }
  Stranger(const Stranger&) = delete;
  ~Stranger() {
    ::close(socket_);
    ::waitpid(child_, nullptr, 0);
  }
  bool tell() const { return ::send(socket_, "?", 1, MSG_NOSIGNAL) == 1; }
  bool hear() const {
    char byte = 0;
    return ::recv(socket_, &byte, 1, 0) == 1;
  }

 private:
  [[noreturn]] static void work(int socket, int processor) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(processor, &only);
    (void)::sched_setaffinity(0, sizeof only, &only);  // where that is forbidden, the kernel chooses
    const std::vector<std::byte> content = text();
    std::vector<std::byte> into(kPieceBytes);
    const migration::PageCoding coding{.compress = true, .method = CompressMethod::zstd, .threads = 1};
    char byte = 0;
    while (::recv(socket, &byte, 1, 0) == 1) {
      for (std::size_t piece = 0; piece < kPieces / 2; ++piece)
        benchmark::DoNotOptimize(migration::page_codec::compress(
            coding, ConstBytes(content).subspan(piece * kPieceBytes, kPieceBytes), into));
      if (::send(socket, &byte, 1, MSG_NOSIGNAL) != 1) break;
    }
    ::_exit(0);
  }

  pid_t child_ = -1;
  int socket_ = -1;
};

/// What two threads could gain at most on this machine: the same work, half of it in each of two processes
/// that share neither memory nor locks.
void strangers(benchmark::State& state) {
  const Stranger one(0), other(1);
  for (auto step : state)
    if (!one.tell() || !other.tell() || !one.hear() || !other.hear())
      return state.SkipWithError("a process ended");
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kPieces * kPieceBytes));
}

BENCHMARK(strangers)->Name("Compression/2_processes")->UseRealTime();
BENCHMARK_CAPTURE(compress, zstd_1, CompressMethod::zstd, 1U)->Name("Compression/1_thread")->UseRealTime();
BENCHMARK_CAPTURE(compress, zstd_2, CompressMethod::zstd, 2U)->Name("Compression/2_threads")->UseRealTime();
BENCHMARK_CAPTURE(compress, zlib_1, CompressMethod::zlib, 1U)
    ->Name("Compression/zlib_1_thread")
    ->UseRealTime();
BENCHMARK_CAPTURE(compress, zlib_2, CompressMethod::zlib, 2U)
    ->Name("Compression/zlib_2_threads")
    ->UseRealTime();

}  // namespace
}  // namespace ramferry::bench
