// SPDX-License-Identifier: MIT
// The only program of a small Linux guest: it checks and rewrites 32 MiB in place, again and again, and says on the
// serial line how often it has, and how many words were not what it had written. A migration that loses, tears or
// resurrects a page shows up as an error.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { kBytes = 32 << 20, kPage = 4096, kWordsPerPage = kPage / 8 };

static uint64_t word_of(uint64_t place, uint64_t generation) {
  return (place + 1) * 0x9e3779b97f4a7c15u ^ generation * 0xbf58476d1ce4e5b9u;
}

// Some pages are zero in every third generation: pages become zero, and stop to be. Of others a few words change: what
// a source may send as a difference.
static uint64_t expected(uint64_t page, uint64_t word, uint64_t generation) {
  if (page % 7 == generation % 3) return 0;
  if (page % 5 == 1 && word % 64 != 0) generation = 0;
  return word_of(page * kWordsPerPage + word, generation);
}

int main(void) {
  mkdir("/dev", 0755);
  mount("devtmpfs", "/dev", "devtmpfs", 0, "");
  const int console = open("/dev/ttyS0", O_RDWR);
  uint64_t* memory =
      mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (console < 0 || memory == MAP_FAILED) return 1;
  uint64_t errors = 0;
  for (uint64_t page = 0; page < kBytes / kPage; ++page)
    for (uint64_t word = 0; word < kWordsPerPage; ++word)
      memory[page * kWordsPerPage + word] = expected(page, word, 0);
  for (uint64_t generation = 0;; ++generation) {
    for (uint64_t page = 0; page < kBytes / kPage; ++page) {
      volatile uint64_t* words = memory + page * kWordsPerPage;
      for (uint64_t word = 0; word < kWordsPerPage; ++word) {
        if (words[word] != expected(page, word, generation)) ++errors;
        words[word] = expected(page, word, generation + 1);
      }
    }
    dprintf(console, "counter %llu errors %llu\n", (unsigned long long)generation, (unsigned long long)errors);
    const struct timespec pause = {0, 50 * 1000 * 1000};
    nanosleep(&pause, NULL);
  }
}
