// SPDX-License-Identifier: MIT
// Runs one fuzz target over generated inputs: see replay.hpp.
//
//   fuzz_NAME_replay [--corpus FILE] [--cases N] [--case N | --file FILE | --unpack DIR | --pack DIR]
//
// A crash prints the number of the case; --case N runs it alone. --unpack writes seeds and corpus as files
// for libFuzzer; --pack prints the files of a folder as a corpus (tests/fuzz/run does both).
#include "fuzz/replay.hpp"

#include "fuzz/corpus.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>

// Sanitizers, where they are linked: they tell of their own crashes, and cap allocations themselves.
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=256:allocator_may_return_null=0";
}

namespace ramferry::fuzz {
namespace {

constexpr std::size_t kMostInputBytes = 1U << 16;
constexpr rlim_t kMostDataBytes = 256U << 20;

std::array<char, 64> current{};  ///< what is being run, for the crash message

void tell_case() noexcept {
  const std::string_view text(current.data());
  for (const std::string_view part : {std::string_view("fuzz replay: it was "), text, std::string_view("\n")})
    if (::write(STDERR_FILENO, part.data(), part.size()) < 0) return;
}

void on_signal(int number) {
  tell_case();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void watch_for_crashes() {
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(tell_case);
  } else {
    const rlimit limit{kMostDataBytes, kMostDataBytes};
    if (::setrlimit(RLIMIT_DATA, &limit) != 0) std::perror("limiting memory");
  }
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(number, on_signal);
}

void run(const std::string& what, const Input& bytes) {
  std::snprintf(current.data(), current.size(), "%s", what.c_str());
  // An exact copy on the heap, so that reading past the end is seen.
  const std::vector<std::uint8_t> exact(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                        reinterpret_cast<const std::uint8_t*>(bytes.data()) + bytes.size());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

class Mutator {
 public:
  Mutator(const std::vector<Input>& seeds, std::uint64_t number) : seeds_(seeds), random_(number) {}

  Input make() {
    if (below(20) == 0) return random_bytes(below(300));
    Input bytes = seeds_[below(seeds_.size())];
    for (std::size_t left = 1 + below(6); left > 0; --left) mutate(bytes);
    if (bytes.size() > kMostInputBytes) bytes.resize(kMostInputBytes);
    return bytes;
  }

 private:
  std::size_t below(std::size_t bound) {
    return static_cast<std::size_t>(random_() % std::max<std::size_t>(bound, 1));
  }
  std::byte random_byte() { return static_cast<std::byte>(random_()); }
  Input random_bytes(std::size_t size) {
    Input bytes(size);
    for (std::byte& each : bytes) each = random_byte();
    return bytes;
  }
  static auto at(Input& bytes, std::size_t index) {
    return bytes.begin() + static_cast<std::ptrdiff_t>(index);
  }

  /// A number as wire formats have them, at its limits or near a length that is there.
  void plant_number(Input& bytes) {
    static constexpr std::array<std::uint64_t, 12> kEdges = {
        0,    1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
        ~0ULL};
    const std::uint64_t value = below(3) == 0 ? bytes.size() + below(5) - 2 : kEdges[below(kEdges.size())];
    const std::size_t width = std::size_t{1} << below(4);
    if (bytes.size() < width) return;
    const std::size_t offset = below(bytes.size() - width + 1);
    for (std::size_t i = 0; i < width; ++i)
      bytes[offset + i] = static_cast<std::byte>(value >> (8 * (width - 1 - i)));
  }

  void splice(Input& bytes) {
    const Input& other = seeds_[below(seeds_.size())];
    const std::size_t from = below(other.size()), count = below(other.size() - from + 1);
    const auto begin = other.begin() + static_cast<std::ptrdiff_t>(from);
    bytes.insert(at(bytes, below(bytes.size() + 1)), begin, begin + static_cast<std::ptrdiff_t>(count));
  }

  void erase_some(Input& bytes) {
    const std::size_t from = below(bytes.size()),
                      count = below(std::min<std::size_t>(bytes.size() - from, 64) + 1);
    bytes.erase(at(bytes, from), at(bytes, from + count));
  }

  void mutate(Input& bytes) {
    switch (below(8)) {
      case 0:
        if (!bytes.empty()) bytes[below(bytes.size())] ^= static_cast<std::byte>(1U << below(8));
        return;
      case 1:
        if (!bytes.empty()) bytes[below(bytes.size())] = random_byte();
        return;
      case 2: return plant_number(bytes);
      case 3: return bytes.resize(below(bytes.size() + 1));
      case 4: return splice(bytes);
      case 5: return erase_some(bytes);
      case 6: {
        const Input more = random_bytes(below(40));
        bytes.insert(at(bytes, below(bytes.size() + 1)), more.begin(), more.end());
        return;
      }
      default: return plant_number(bytes);
    }
  }

  const std::vector<Input>& seeds_;
  std::mt19937_64 random_;
};

Input read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return to_input(text);
}

struct Options {
  std::string corpus, file, unpack, pack;
  std::uint64_t cases = 5000, only_case = 0;
};

bool parse(const std::vector<std::string_view>& words, Options& into) {
  const auto number = [](std::string_view text, std::uint64_t& value) {
    return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{};
  };
  for (std::size_t i = 0; i < words.size(); i += 2) {
    if (i + 1 == words.size()) return false;
    const std::string_view value = words[i + 1];
    bool known = true;
    if (words[i] == "--corpus")
      into.corpus = value;
    else if (words[i] == "--file")
      into.file = value;
    else if (words[i] == "--unpack")
      into.unpack = value;
    else if (words[i] == "--pack")
      into.pack = value;
    else if (words[i] == "--cases")
      known = number(value, into.cases);
    else if (words[i] == "--case")
      known = number(value, into.only_case);
    else
      known = false;
    if (!known) return false;
  }
  return true;
}

void run_corpus(const std::vector<Input>& corpus) {
  for (std::size_t i = 0; i < corpus.size(); ++i) {
    run("input " + std::to_string(i + 1) + " of the corpus", corpus[i]);
    // It is read again as it was written: what libFuzzer finds later is kept in the same form.
    RAMFERRY_FUZZ_CHECK(from_line(to_line(corpus[i])) == corpus[i]);
  }
}

void run_seeds(const std::vector<Input>& all) {
  constexpr std::size_t kMostTruncations = 4096;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string name = "seed " + std::to_string(i);
    run(name, all[i]);
    for (std::size_t size = 0; size < std::min(all[i].size(), kMostTruncations); ++size)
      run(name + " cut to " + std::to_string(size), Input(all[i].data(), all[i].data() + size));
  }
}

void unpack(const std::vector<Input>& inputs, const std::string& folder, const std::string& name) {
  std::filesystem::create_directories(folder);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    std::ofstream(folder + "/" + name + std::to_string(i), std::ios::binary)
        .write(reinterpret_cast<const char*>(inputs[i].data()),
               static_cast<std::streamsize>(inputs[i].size()));
}

/// Short ones first.
void pack(const std::string& folder) {
  std::vector<Input> inputs;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    inputs.push_back(read_file(entry.path()));
  std::sort(inputs.begin(), inputs.end(), [](const Input& one, const Input& other) {
    return one.size() != other.size() ? one.size() < other.size() : one < other;
  });
  for (const Input& input : inputs)
    if (!input.empty()) std::printf("%s\n", to_line(input).c_str());
}

int replay(const Options& options) {
  const std::vector<Input> all = seeds();
  const std::vector<Input> corpus = read_corpus(options.corpus);
  if (!options.unpack.empty()) {
    unpack(all, options.unpack, "seed-");
    unpack(corpus, options.unpack, "kept-");
    return 0;
  }
  if (!options.pack.empty()) return pack(options.pack), 0;
  watch_for_crashes();
  if (!options.file.empty()) return run(options.file, read_file(options.file)), 0;
  if (options.only_case != 0)
    return run("case " + std::to_string(options.only_case), Mutator(all, options.only_case).make()), 0;
  run_corpus(corpus);
  run_seeds(all);
  for (std::uint64_t number = 1; number <= options.cases; ++number)
    run("case " + std::to_string(number), Mutator(all, number).make());
  std::printf("%zu seeds, %zu inputs of the corpus and %llu generated cases: all right\n", all.size(),
              corpus.size(), static_cast<unsigned long long>(options.cases));
  return 0;
}

}  // namespace
}  // namespace ramferry::fuzz

int main(int count, char** words) {
  ramferry::fuzz::Options options;
  const char* thorough = std::getenv("RAMFERRY_LONG");
  if (thorough != nullptr && std::string_view(thorough) == "1") options.cases = 100'000;
  if (!ramferry::fuzz::parse({words + 1, words + count}, options)) {
    std::fprintf(
        stderr,
        "usage: %s [--corpus FILE] [--cases N] [--case N | --file FILE | --unpack DIR | --pack DIR]\n",
        words[0]);
    return 2;
  }
  return ramferry::fuzz::replay(options);
}
