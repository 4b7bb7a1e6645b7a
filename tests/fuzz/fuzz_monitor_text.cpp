// SPDX-License-Identifier: MIT
// What a client of the monitor says: the framer's pieces are the same however the bytes arrive, each within
// bounds, and each is either a complaint or a text that the parser takes or refuses in peace.
//
// The first byte says in what pieces the bytes arrive.
#include "fuzz/replay.hpp"
#include "json_framer.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

using namespace ramferry;
using namespace ramferry::migration;

namespace {

std::vector<std::string> texts_of(ConstBytes bytes, std::size_t most) {
  std::vector<std::string> texts;
  JsonFramer framer;
  const auto take = [&texts](JsonFramer::Piece piece) {
    RAMFERRY_FUZZ_CHECK(piece.text.size() <= JsonFramer::kMostBytes);
    RAMFERRY_FUZZ_CHECK(piece.error.empty() != piece.text.empty());
    texts.push_back(piece.error.empty() ? std::move(piece.text) : "error: " + piece.error);
  };
  while (!bytes.empty()) {
    const std::size_t count = std::min(most, bytes.size());
    framer.feed(bytes.first(count), take);
    bytes = bytes.subspan(count);
  }
  return texts;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ConstBytes said = fuzz::input(data, size).subspan(1);
  const std::vector<std::string> texts = texts_of(said, said.size());
  RAMFERRY_FUZZ_CHECK(texts == texts_of(said, std::size_t{1} + data[0]));
  for (const std::string& text : texts) {
    const auto value = nlohmann::json::parse(text, nullptr, false);
    if (!value.is_discarded()) (void)value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  }
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  std::vector<Input> all;
  for (const std::string_view text :
       {R"({"execute":"qmp_capabilities"}{"execute":"migrate","arguments":{"uri":"tcp:a:1","blk":true}})",
        R"( {"a":"\"}]","b":[1.5e9,-2,null,{"c":[[]]}]} [] 17 "x\u00e9" nosuch )",
        "}{]\xff\xfe{\"execute\":"}) {
    all.emplace_back();
    WireWriter(all.back()).u8(6).raw(as_bytes(text));
  }
  return all;
}
