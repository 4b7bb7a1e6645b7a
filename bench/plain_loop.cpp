// SPDX-License-Identifier: MIT
// The yardstick: the same memory through the same kind of socket by nothing but write(2) and read(2).
//
//   plain_loop tcp|unix IMAGE [--block BYTES] [--cold]
//
// The image is mapped and touched at the sender; the receiver, a process of its own, reads into anonymous
// memory, touched before unless --cold. Prints one JSON object: bytes, seconds (first write to the receiver's
// word that all arrived), and CPU seconds of both processes.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

double cpu_seconds(int who) {
  rusage used{};
  ::getrusage(who, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

struct Pair {
  int sender = -1, receiver = -1;
};

Pair make_unix() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) die("socketpair");
  return {fds[0], fds[1]};
}

Pair make_tcp() {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener, 1) != 0)
    die("listen");
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  const int sender = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(sender, reinterpret_cast<sockaddr*>(&address), length) != 0) die("connect");
  const int receiver = ::accept(listener, nullptr, nullptr);
  const int on = 1;
  ::setsockopt(sender, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::close(listener);
  return {sender, receiver};
}

void receive(int socket, std::size_t bytes, std::size_t block, bool cold) {
  auto* memory =
      static_cast<char*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (memory == MAP_FAILED) die("mmap");
  if (!cold) std::memset(memory, 1, bytes);
  char word = 'r';
  if (::write(socket, &word, 1) != 1) die("write");
  double before = cpu_seconds(RUSAGE_SELF);
  for (std::size_t at = 0; at < bytes;) {
    const ssize_t got = ::read(socket, memory + at, std::min(block, bytes - at));
    if (got <= 0) die("read");
    at += static_cast<std::size_t>(got);
  }
  double used = cpu_seconds(RUSAGE_SELF) - before;
  if (::write(socket, &used, sizeof used) != sizeof used) die("write");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: plain_loop tcp|unix IMAGE [--block BYTES] [--cold]\n");
    return 2;
  }
  std::size_t block = 1 << 20;
  bool cold = false;
  for (int at = 3; at < argc; ++at) {
    if (std::string_view(argv[at]) == "--cold") cold = true;
    if (std::string_view(argv[at]) == "--block" && at + 1 < argc)
      block = std::strtoull(argv[++at], nullptr, 0);
  }
  const Pair pair = std::string_view(argv[1]) == "unix" ? make_unix() : make_tcp();
  const int image = ::open(argv[2], O_RDONLY | O_CLOEXEC);
  struct stat about {};
  if (image < 0 || ::fstat(image, &about) != 0) die(argv[2]);
  const auto bytes = static_cast<std::size_t>(about.st_size);

  const pid_t child = ::fork();  // nothing is mapped yet
  if (child == 0) {
    receive(pair.receiver, bytes, block, cold);
    ::_exit(0);
  }
  auto* memory =
      static_cast<const char*>(::mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, image, 0));
  if (memory == MAP_FAILED) die("mmap");
  char word = 0;
  if (::read(pair.sender, &word, 1) != 1) die("read");
  const double cpu_before = cpu_seconds(RUSAGE_SELF);
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t at = 0; at < bytes;) {
    const ssize_t put = ::write(pair.sender, memory + at, std::min(block, bytes - at));
    if (put <= 0) die("write");
    at += static_cast<std::size_t>(put);
  }
  double receiver_cpu = 0;
  if (::recv(pair.sender, &receiver_cpu, sizeof receiver_cpu, MSG_WAITALL) != sizeof receiver_cpu)
    die("recv");
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double sender_cpu = cpu_seconds(RUSAGE_SELF) - cpu_before;
  ::waitpid(child, nullptr, 0);
  std::printf("{\"bytes\": %zu, \"seconds\": %.6f, \"source_cpu\": %.4f, \"destination_cpu\": %.4f}\n", bytes,
              seconds, sender_cpu, receiver_cpu);
  return 0;
}
