// SPDX-License-Identifier: MIT
// Moves a buffer from one end of a unix: channel to the other, with the installed library alone.
#include <ramferry/migration/ram_block.hpp>
#include <ramferry/tcp/transport.hpp>

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <future>
#include <string>
#include <vector>

using namespace ramferry;

static int give_up(const Error& error) {
  std::fprintf(stderr, "%s\n", error.message().c_str());
  return 1;
}

int main() {
  NullLog log;
  TransportCatalog catalog;
  catalog.add(make_tcp_transport(log));

  const Deadline deadline = Deadline::after(std::chrono::seconds(20));
  const std::string uri = "unix:/tmp/ramferry-consumer-" + std::to_string(::getpid());
  auto listener = catalog.listen(uri);
  if (!listener) return give_up(listener.error());
  auto connecting = std::async(std::launch::async, [&] { return catalog.connect(uri, {}, deadline); });
  auto destination_link = (*listener)->accept(deadline);
  auto source_link = connecting.get();
  if (!destination_link) return give_up(destination_link.error());
  if (!source_link) return give_up(source_link.error());
  Channel& destination = *std::get<std::unique_ptr<Channel>>(*destination_link);
  Channel& source = *std::get<std::unique_ptr<Channel>>(*source_link);

  std::vector<std::byte> there(1 << 20), here(1 << 20, std::byte{0x5a});
  MemoryLanding landing(there, MemoryLanding::Content::unknown);
  if (auto done = destination.expose(SlotId{1}, landing); !done) return give_up(done.error());
  const Placement placement{SlotId{1}, 0, here};
  if (auto done = source.place(std::span(&placement, 1)); !done) return give_up(done.error());
  auto epoch = source.fence();
  if (!epoch) return give_up(epoch.error());
  if (auto done = source.settle(*epoch, deadline); !done) return give_up(done.error());
  if (there != here) {
    std::fprintf(stderr, "the buffer arrived damaged\n");
    return 1;
  }
  std::printf("moved %zu bytes, %llu copied\n", here.size(),
              static_cast<unsigned long long>(destination.stats().copied_bytes));
  return 0;
}
