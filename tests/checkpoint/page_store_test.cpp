// SPDX-License-Identifier: MIT
#include "checkpoint/stream_builder.hpp"
#include "checkpoint/system_calls.hpp"
#include "checkpoint_writer.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <random>
#include <thread>

namespace ramferry::checkpoint {
namespace {

using test::kPage;
using test::Page;
using test::page_of;

class PageStoreTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kPages = 1200;  // more than two of the store's chunks

  PageStore& store(std::uint64_t pages = kPages) {
    auto file = PartialFile::create(folder_ / "vm.ckpt");
    EXPECT_TRUE(file.has_value());
    writer_.emplace(std::move(*file));
    EXPECT_TRUE(writer_->pages().set_blocks({{"ram", pages * kPage}, {"rom", 2 * kPage}}).has_value());
    return writer_->pages();
  }
  void put(std::uint64_t page, const Page& content) { put_bytes(page * kPage, content); }
  void put_bytes(std::uint64_t offset, ConstBytes bytes) {
    const std::array piece = {Piece{0, offset, bytes}};
    ASSERT_TRUE(writer_->pages().write(piece).has_value());
  }
  CheckpointFile sealed() {
    EXPECT_TRUE(writer_->seal({.machine = "pc-test"}).has_value());
    EXPECT_TRUE(writer_->file().publish().has_value());
    auto file = CheckpointFile::open(folder_ / "vm.ckpt");
    EXPECT_TRUE(file.has_value()) << (file ? "" : file.error().message());
    return std::move(*file);
  }
  /// The content of block 0.
  static std::vector<std::byte> memory(const CheckpointFile& file) {
    std::vector<std::byte> all(file.head().blocks[0].bytes);
    for (const StoredRun& run : file.runs()) {
      if (run.block != 0) continue;
      for (std::uint64_t i = 0; i < run.count; ++i) {
        const std::array into = {Bytes(all).subspan((run.first + i) * kPage, kPage)};
        const auto read = file.read(run, i, into);
        EXPECT_TRUE(read.has_value()) << (read ? "" : read.error().message());
      }
    }
    return all;
  }

  test::TemporaryFolder folder_;
  std::optional<CheckpointWriter> writer_;
};

TEST_F(PageStoreTest, KeepsEachPageOnceWithItsNewestContent) {
  std::vector<std::byte> expected(kPages * kPage);
  store();
  std::mt19937 random(1);
  for (std::uint32_t i = 0; i < 5000; ++i) {
    const std::uint64_t page = random() % kPages;
    const Bytes place = Bytes(expected).subspan(page * kPage, kPage);
    if (random() % 4 == 0) {
      ASSERT_TRUE(writer_->pages().zero(0, page * kPage, kPage).has_value());
      std::fill(place.begin(), place.end(), std::byte{0});
    } else {
      const Page content = page_of(i);
      put(page, content);
      std::copy(content.begin(), content.end(), place.begin());
    }
  }
  const CheckpointFile file = sealed();
  EXPECT_EQ(memory(file), expected);
  std::uint64_t filled = 0;
  for (std::uint64_t page = 0; page < kPages; ++page)
    filled += expected[page * kPage + 4000] != std::byte{0} || expected[page * kPage + 1] != std::byte{0};
  EXPECT_EQ(file.stored_pages(), filled);
  EXPECT_LE(file.file_bytes(), (filled + 1) * kPage + filled * 20 + 200) << "no slot may be left unused";
}

TEST_F(PageStoreTest, APageOfZerosTakesNoRoom) {
  store();
  put(1, page_of(1));
  put(2, Page{});
  put(1, Page{});
  const CheckpointFile file = sealed();
  EXPECT_EQ(file.stored_pages(), 0U);
  EXPECT_LT(file.file_bytes(), 2 * kPage);
}

TEST_F(PageStoreTest, PiecesOfAnySizeMakeUpPages) {
  std::vector<std::byte> expected(kPages * kPage);
  store();
  std::mt19937 random(2);
  for (int i = 0; i < 2000; ++i) {
    const std::size_t offset = random() % (expected.size() - 20000), length = random() % 20000;
    const Bytes place = Bytes(expected).subspan(offset, length);
    if (random() % 3 == 0) {
      std::fill(place.begin(), place.end(), std::byte{0});
      ASSERT_TRUE(writer_->pages().zero(0, offset, length).has_value());
    } else {
      for (std::byte& byte : place) byte = static_cast<std::byte>(random() % 3);
      put_bytes(offset, place);
    }
  }
  EXPECT_TRUE(memory(sealed()) == expected);
}

TEST_F(PageStoreTest, ConfirmingWritesOnlyWhatIsAnother) {
  store();
  put(1, page_of(1));
  put(2, page_of(2));
  put(3, page_of(3));
  // The first page that came lies in the first slot: spoilt there, it shows that it is left alone.
  ASSERT_EQ(::pwrite(writer_->file().fd(), page_of(7).data(), kPage, kPage), static_cast<ssize_t>(kPage));
  const Page one = page_of(1), two = page_of(22), three{}, four = page_of(4);
  const std::array pieces = {Piece{0, kPage, one}, Piece{0, 2 * kPage, two}, Piece{0, 3 * kPage, three},
                             Piece{0, 4 * kPage, four}};
  ASSERT_TRUE(writer_->pages().confirm(pieces));
  EXPECT_EQ(writer_->pages().overwritten(), 0U);
  Page in_slot;
  ASSERT_EQ(::pread(writer_->file().fd(), in_slot.data(), kPage, kPage), static_cast<ssize_t>(kPage));
  EXPECT_EQ(in_slot, page_of(7));
  ASSERT_EQ(::pwrite(writer_->file().fd(), one.data(), kPage, kPage), static_cast<ssize_t>(kPage));
  std::vector<std::byte> expected(kPages * kPage);
  const auto put_expected = [&](std::uint64_t page, const Page& content) {
    std::copy(content.begin(), content.end(), expected.begin() + static_cast<std::ptrdiff_t>(page * kPage));
  };
  put_expected(1, one);
  put_expected(2, two);
  put_expected(4, four);
  EXPECT_TRUE(memory(sealed()) == expected);
}

TEST_F(PageStoreTest, ConfirmingStoresWhatDidNotFitBefore) {
  std::vector<std::byte> expected(kPages * kPage);
  std::vector<Piece> pieces;
  for (std::uint32_t page = 0; page < 40; ++page) {
    const Page content = page_of(page);
    std::copy(content.begin(), content.end(), expected.begin() + static_cast<std::ptrdiff_t>(page * kPage));
    pieces.push_back({0, page * kPage, ConstBytes(expected).subspan(page * kPage, kPage)});
  }
  for (auto* const room : {&test::room_to_reserve, &test::room_to_write}) {
    store();
    {
      const test::FullDisk full(*room, 20 * kPage);
      const auto written = writer_->pages().write(pieces);
      ASSERT_FALSE(written);
      EXPECT_TRUE(written.error().is(errc::no_space)) << written.error().message();
    }
    const auto confirmed = writer_->pages().confirm(pieces);
    ASSERT_TRUE(confirmed) << confirmed.error().message();
    EXPECT_TRUE(memory(sealed()) == expected);
  }
}

TEST_F(PageStoreTest, ThreadsMayWriteDifferentPagesAtOnce) {
  store();
  std::vector<std::thread> threads;
  for (std::uint32_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([this, thread] {
      for (std::uint32_t round = 0; round < 3; ++round) {
        for (std::uint32_t page = thread; page < kPages; page += 4) {
          put(page, page_of(page + round));
          const std::uint64_t zeroed = page % 5 == 0 ? kPage : 0;
          EXPECT_TRUE(writer_->pages().zero(0, page * kPage, zeroed).has_value());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::byte> all = memory(sealed());
  for (std::uint32_t page = 0; page < kPages; ++page) {
    const Page expected = page % 5 == 0 ? Page{} : page_of(page + 2);
    ASSERT_EQ(std::memcmp(all.data() + page * kPage, expected.data(), kPage), 0) << page;
  }
}

TEST_F(PageStoreTest, AFileIsThereWhenItIsComplete) {
  store();
  put(1, page_of(1));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "vm.ckpt"));
  EXPECT_FALSE(PartialFile::create(folder_ / "vm.ckpt").has_value()) << "two must not write the same file";
  writer_.reset();
  EXPECT_EQ(folder_.files(), 0U) << "a partial file must go with its writer";
  EXPECT_TRUE(PartialFile::create(folder_ / "vm.ckpt").has_value());
}

TEST_F(PageStoreTest, AFileThatIsPublishedMeanwhileIsLeftAlone) {
  const auto path = folder_ / "vm.ckpt";
  store();
  put(1, page_of(1));
  ASSERT_TRUE(writer_->seal({.machine = "pc-test"}));
  // The next writer has opened vm.ckpt.partial, and locks it when it has become vm.ckpt.
  test::before_lock = [this] { EXPECT_TRUE(writer_->file().publish()); };
  auto next = PartialFile::create(path);
  ASSERT_TRUE(next) << next.error().message();
  const auto published = CheckpointFile::open(path);
  ASSERT_TRUE(published) << published.error().message();
  EXPECT_EQ(published->stored_pages(), 1U);
  EXPECT_TRUE(std::filesystem::exists(next->name())) << "it has a file of its own";
}

TEST_F(PageStoreTest, AFileThatIsRemovedMeanwhileIsMadeAgain) {
  store();
  test::before_lock = [this] { writer_.reset(); };
  const auto next = PartialFile::create(folder_ / "vm.ckpt");
  ASSERT_TRUE(next) << next.error().message();
  EXPECT_TRUE(std::filesystem::exists(next->name()));
}

TEST_F(PageStoreTest, BlocksThatNoGuestHasAreRefused) {
  const std::vector<std::vector<BlockInfo>> lists = {{},
                                                     {{"", kPage}},
                                                     {{"a", kPage}, {"a", kPage}},
                                                     {{"a", kPage + 1}},
                                                     {{"a", 1ULL << 62}},
                                                     {{"a", 4ULL << 40}, {"b", 4ULL << 40}, {"c", kPage}}};
  for (const auto& list : lists) {
    PageStore pages(-1, "none");
    EXPECT_FALSE(pages.set_blocks(list).has_value());
  }
}

TEST_F(PageStoreTest, ADamagedByteIsFoundWhereverItIs) {
  store(20);
  for (std::uint32_t page = 0; page < 20; page += 2) put(page, page_of(page));
  const std::uint64_t size = sealed().file_bytes();
  const auto path = folder_ / "vm.ckpt";
  for (std::uint64_t at = 0; at < size; at += at % kPage < 64 || at > 10 * kPage ? 1 : 509) {
    std::FILE* file = std::fopen(path.c_str(), "r+b");
    const auto flip = [&] {
      std::fseek(file, static_cast<long>(at), SEEK_SET);
      const int byte = std::fgetc(file);
      std::fseek(file, static_cast<long>(at), SEEK_SET);
      std::fputc(byte ^ 0x10, file);
      std::fflush(file);
    };
    flip();
    bool found = true;
    if (auto damaged = CheckpointFile::open(path)) {
      found = false;
      Page page;
      for (const StoredRun& run : damaged->runs())
        for (std::uint64_t i = 0; i < run.count; ++i)
          found |= !damaged->read(run, i, std::array{Bytes(page)});
    }
    EXPECT_TRUE(found) << "byte " << at;
    flip();
    std::fclose(file);
  }
  EXPECT_TRUE(CheckpointFile::open(path).has_value());
}

TEST_F(PageStoreTest, ACutFileIsNoCheckpoint) {
  store(20);
  put(3, page_of(3));
  const std::uint64_t size = sealed().file_bytes();
  for (std::uint64_t length = size; length-- > 0; length -= std::min<std::uint64_t>(length, 97)) {
    std::filesystem::resize_file(folder_ / "vm.ckpt", length);
    EXPECT_FALSE(CheckpointFile::open(folder_ / "vm.ckpt").has_value()) << length;
  }
}

}  // namespace
}  // namespace ramferry::checkpoint
