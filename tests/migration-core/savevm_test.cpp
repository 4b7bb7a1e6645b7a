// SPDX-License-Identifier: MIT
#include "memory_stream.hpp"

#include <ramferry/migration/global_state.hpp>
#include <ramferry/migration/savevm.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace ramferry::migration {
namespace {

using ramferry::testing::MemoryStream;

/// A live section: begin, two parts, end, each with a word of its own.
class Live final : public SectionHandler {
 public:
  explicit Live(std::string name = "live") : name_(std::move(name)) {}
  SectionId id() const override { return {name_, 0, version}; }
  bool live() const noexcept override { return true; }
  Result<> begin(SectionWriter& out) override { return out.u32(1); }
  Result<Pending> iterate(SectionWriter& out, const Budget&) override {
    RAMFERRY_TRY(out.u32(2));
    return Pending{};
  }
  Result<> finish(SectionWriter& out) override { return out.u32(3); }
  Result<> load(SectionReader& in, std::uint32_t, SectionPart part) override {
    RAMFERRY_TRY_ASSIGN(const auto word, in.u32());
    loaded.emplace_back(part, word);
    return {};
  }
  std::uint32_t version = 1;
  std::vector<std::pair<SectionPart, std::uint32_t>> loaded;

 private:
  std::string name_;
};

/// Device state: one text.
class Device final : public SectionHandler {
 public:
  explicit Device(std::string state, bool is_required = true)
      : text(std::move(state)), required_(is_required) {}
  SectionId id() const override { return {"device", 7, version}; }
  bool needed() const override { return is_needed; }
  bool required() const override { return required_; }
  Result<> finish(SectionWriter& out) override {
    RAMFERRY_TRY(out.u32(static_cast<std::uint32_t>(text.size())));
    return out.put(as_bytes(text));
  }
  Result<> load(SectionReader& in, std::uint32_t, SectionPart) override {
    RAMFERRY_TRY_ASSIGN(const auto size, in.u32());
    text.resize(std::min<std::size_t>(size, 1 << 20));
    return in.get(std::as_writable_bytes(std::span(text)));
  }
  std::uint32_t version = 3;
  bool is_needed = true;
  std::string text;

 private:
  bool required_;
};

struct Machine {
  explicit Machine(std::string text = {}, bool device_required = true)
      : device(std::move(text), device_required) {
    registrations.push_back(*registry.add(live));
    registrations.push_back(*registry.add(device));
  }
  Live live;
  Device device;
  SectionRegistry registry;
  std::vector<SectionRegistry::Registration> registrations;
};

std::vector<std::byte> saved(Machine& machine, std::string_view name = "box") {
  MemoryStream stream;
  SavevmWriter out(stream, machine.registry);
  EXPECT_TRUE(out.begin(name));
  EXPECT_TRUE(out.start_all());
  for (int round = 0; round < 2; ++round) EXPECT_TRUE(out.iterate(machine.live, {}));
  EXPECT_TRUE(out.finish_all());
  EXPECT_TRUE(out.end());
  return stream.content;
}

Result<> load(Machine& into, std::vector<std::byte> bytes) {
  MemoryStream stream(std::move(bytes));
  stream.most_at_once = 7;
  StreamReader in(stream);
  SavevmReader reader(in, into.registry);
  return reader.load("box");
}

TEST(Savevm, LoadsWhatWasSavedInOrder) {
  Machine source(std::string(200'000, 'x')), destination;
  ASSERT_TRUE(load(destination, saved(source)));
  EXPECT_EQ(destination.device.text, source.device.text);
  const std::vector<std::pair<SectionPart, std::uint32_t>> expected = {
      {SectionPart::start, 1}, {SectionPart::part, 2}, {SectionPart::part, 2}, {SectionPart::end, 3}};
  EXPECT_EQ(destination.live.loaded, expected);
}

TEST(Savevm, WritesQemusFrame) {
  Machine source("ab");
  const auto bytes = saved(source, "m");
  std::string text;
  for (const std::byte each : bytes) text += static_cast<char>(each);
  using std::string_literals::operator""s;
  const std::string frame = "QEVM\0\0\0\3"s + "\7\0\0\0\1m"s +                         // configuration
                            "\1\0\0\0\0\4live\0\0\0\0\0\0\0\1\0\0\0\1\x7e\0\0\0\0"s +  // start
                            "\2\0\0\0\0\0\0\0\2\x7e\0\0\0\0"s + "\2\0\0\0\0\0\0\0\2\x7e\0\0\0\0"s +  // parts
                            "\3\0\0\0\0\0\0\0\3\x7e\0\0\0\0"s +                                      // end
                            "\4\0\0\0\1\6device\0\0\0\7\0\0\0\3\0\0\0\2ab\x7e\0\0\0\1"s +
                            "\0\6"s;  // full, eof, description
  ASSERT_GT(text.size(), frame.size() + 4);
  EXPECT_EQ(text.substr(0, frame.size()), frame);
  const auto description = nlohmann::json::parse(text.substr(frame.size() + 4));
  ASSERT_EQ(description["devices"].size(), 1u);
  EXPECT_EQ(description["devices"][0]["name"], "device");
  EXPECT_EQ(description["devices"][0]["instance_id"], 7);
  EXPECT_EQ(description["devices"][0]["x-ramferry-bytes"], 6);
}

TEST(Savevm, SendsManyFieldsAtOnce) {
  MemoryStream stream;
  StreamWriter out(stream);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(out.u64(1));
  EXPECT_EQ(stream.sends, 0u);
  ASSERT_TRUE(out.flush());
  EXPECT_EQ(stream.sends, 1u);
  const std::vector<std::byte> large(kStreamBuffer);
  ASSERT_TRUE(out.put(large));
  EXPECT_EQ(stream.sends, 2u) << "a large piece is sent from where it lies";
  EXPECT_EQ(out.written(), 8000 + kStreamBuffer);
}

TEST(Savevm, LeavesOutWhatIsNotNeededAndAcceptsThatIfItIsNotRequired) {
  Machine source("text");
  source.device.is_needed = false;
  const auto bytes = saved(source);
  Machine strict, lenient({}, false);
  const auto refused = load(strict, bytes);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("'device'"), std::string::npos);
  EXPECT_TRUE(load(lenient, bytes));
}

/// Replaces the first `from` by `to`, of equal length.
std::vector<std::byte> patched(std::vector<std::byte> bytes, std::string_view from, std::string_view to) {
  const auto pattern = as_bytes(from);
  const auto at = std::search(bytes.begin(), bytes.end(), pattern.begin(), pattern.end());
  EXPECT_NE(at, bytes.end());
  std::copy(as_bytes(to).begin(), as_bytes(to).end(), at);
  return bytes;
}

void expect_refused(std::vector<std::byte> bytes, errc condition, std::string_view words) {
  Machine destination;
  const auto result = load(destination, std::move(bytes));
  ASSERT_FALSE(result) << words;
  EXPECT_TRUE(result.error().is(condition)) << result.error().message();
  EXPECT_NE(result.error().message().find(words), std::string::npos) << result.error().message();
}

TEST(Savevm, RefusesWhatIsNoStreamOfThisMachine) {
  using std::string_literals::operator""s;
  Machine source("text");
  const auto good = saved(source);
  expect_refused(patched(good, "QEVM", "QFVM"), errc::protocol_mismatch, "QEVM");
  expect_refused(patched(good, "QEVM\0\0\0\3"s, "QEVM\0\0\0\2"s), errc::unsupported, "version 2");
  expect_refused(patched(good, "\7\0\0\0\3box"s, "\7\0\0\0\3bux"s), errc::invalid_argument, "'bux'");
  expect_refused(patched(good, "\7\0\0\0\3"s, "\7\x7f\0\0\3"s), errc::protocol_mismatch, "machine name");
  expect_refused(patched(good, "device", "gadget"), errc::not_found, "'gadget' instance 7");
  expect_refused(patched(good, "device\0\0\0\7\0\0\0\3"s, "device\0\0\0\7\0\0\0\4"s), errc::unsupported,
                 "'device'");
  expect_refused(patched(good, "\x7e\0\0\0\1"s, "\x7e\0\0\0\2"s), errc::protocol_mismatch, "'device'");
  expect_refused(patched(good, "text\x7e"s, "text\x7d"s), errc::protocol_mismatch, "footer");
  expect_refused(patched(good, "\2\0\0\0\0\0\0\0\2"s, "\2\0\0\0\5\0\0\0\2"s), errc::protocol_mismatch,
                 "number 5");
  expect_refused(patched(good, "\4\0\0\0\1\6"s, "\4\0\0\0\0\6"s), errc::protocol_mismatch,
                 "number 0 is taken by 'live'");
  expect_refused(patched(good, "\3\0\0\0\0\0\0\0\3"s, "\2\0\0\0\0\0\0\0\3"s), errc::protocol_mismatch,
                 "ends before");
  expect_refused(patched(good, "\2\0\0\0\0\0\0\0\2"s, "\3\0\0\0\0\0\0\0\2"s), errc::protocol_mismatch,
                 "after its end");
  expect_refused(patched(good, "\2\0\0\0\0\0\0\0\2"s, "\x09\0\0\0\0\0\0\0\2"s), errc::protocol_mismatch,
                 "type 0x9");
}

TEST(Savevm, RefusesASectionThatComesTwice) {
  Machine source("text");
  auto bytes = saved(source);
  const std::string_view name = "device";
  const auto at = std::search(bytes.begin(), bytes.end(), as_bytes(name).begin(), as_bytes(name).end()) - 6;
  std::vector<std::byte> again(at, at + 1 + 4 + 7 + 4 + 4 + 4 + 4 + 5);
  again[4] = std::byte{9};  // another number
  again[again.size() - 1] = std::byte{9};
  bytes.insert(at, again.begin(), again.end());
  expect_refused(bytes, errc::protocol_mismatch, "twice");
}

TEST(Savevm, NamesTheSectionInWhichAStreamIsCut) {
  Machine source("text");
  const auto good = saved(source);
  for (std::size_t length = 0; length < good.size(); ++length) {
    Machine destination;
    const auto result = load(destination, {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length)});
    // Without its description the stream is complete all the same.
    if (result) {
      EXPECT_EQ(good[length - 1], std::byte{0});
      continue;
    }
    EXPECT_TRUE(result.error().is(errc::peer_gone)) << length << ": " << result.error().message();
  }
  const std::string_view text = "text";
  const auto at = std::search(good.begin(), good.end(), as_bytes(text).begin(), as_bytes(text).end());
  Machine destination;
  const auto result = load(destination, {good.begin(), at});
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("'device'"), std::string::npos);
}

TEST(Savevm, ToleratesWhatQemuAddsToTheConfigurationAndItsCommands) {
  using std::string_literals::operator""s;
  Machine source("text"), destination;
  auto bytes = saved(source);
  const std::string extra = "\5\x1e"s + "configuration/target-page-bits" + "\0\0\0\1\0\0\0\x0c"s + "\5\x1a"s +
                            "configuration/capabilities" + "\0\0\0\1\0\0\0\1\7options"s + "\5\x12"s +
                            "configuration/uuid" + "\0\0\0\1"s + std::string(16, 'u') +
                            "\x08\0\2\0\4\0\0\0\1"s;  // ping
  const auto insert = as_bytes(extra);
  bytes.insert(bytes.begin() + 16, insert.begin(), insert.end());
  const auto result = load(destination, bytes);
  EXPECT_TRUE(result) << result.error().message();

  Machine other;
  const std::string return_path = "\x08\0\1\0\0"s;
  bytes = saved(source);
  bytes.insert(bytes.begin() + 16, as_bytes(return_path).begin(), as_bytes(return_path).end());
  const auto refused = load(other, bytes);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("return-path"), std::string::npos);
}

TEST(GlobalState, CarriesTheRunStateInQemusHundredBytes) {
  std::string state = "running";
  NullLog log;
  GlobalStateSection source([&] { return state; }, log);
  GlobalStateSection destination([] { return std::string("inmigrate"); }, log);
  MemoryStream stream;
  StreamWriter out(stream);
  ASSERT_TRUE(source.attach(nullptr));
  state = "suspended";
  source.about_to_pause();
  state = "finish-migrate";
  ASSERT_TRUE(source.finish(out));
  ASSERT_TRUE(out.flush());
  EXPECT_EQ(stream.content.size(), 104u);
  StreamReader in(stream);
  ASSERT_TRUE(destination.load(in, 1, SectionPart::full));
  EXPECT_EQ(destination.loaded(), "suspended");
}

TEST(GlobalState, IsLeftOutOnlyWhereOptionalAndOrdinary) {
  std::string state = "running";
  NullLog log;
  GlobalStateSection section([&] { return state; }, log);
  section.about_to_pause();
  EXPECT_TRUE(section.needed());
  section.set_optional(true);
  EXPECT_FALSE(section.needed());
  state = "shutdown";
  section.about_to_pause();
  EXPECT_TRUE(section.needed());
}

TEST(GlobalState, RefusesNamesThatAreUnknownOrTooLong) {
  MemoryStream stream;
  StreamWriter out(stream);
  NullLog log;
  GlobalStateSection odd([] { return std::string("dancing"); }, log);
  GlobalStateSection longer([] { return std::string(32, 'x'); }, log);
  odd.about_to_pause();
  longer.about_to_pause();
  ASSERT_TRUE(odd.finish(out));
  ASSERT_TRUE(out.flush());
  StreamReader in(stream);
  const auto refused = odd.load(in, 1, SectionPart::full);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("dancing"), std::string::npos);
  EXPECT_FALSE(longer.finish(out));
}

}  // namespace
}  // namespace ramferry::migration
