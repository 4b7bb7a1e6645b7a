// SPDX-License-Identifier: MIT
// The reader that every decoder stands on: no read leaves the input, and a reader that failed stays failed.
//
// The first half of the input says which fields to read, the second half is what they are read from.
#include "fuzz/replay.hpp"

#include <algorithm>

using namespace ramferry;

namespace {

/// Reads one field; how many bytes it would take, were they there.
std::size_t read_field(WireReader& reader, std::uint8_t kind) {
  const std::size_t before = reader.left();
  switch (kind % 7) {
    case 0: return reader.u8(), 1;
    case 1: return reader.u16(), 2;
    case 2: return reader.u32(), 4;
    case 3: return reader.u64(), 8;
    case 4: {
      const std::size_t wanted = kind * std::size_t{3};
      const ConstBytes raw = reader.raw(wanted);
      RAMFERRY_FUZZ_CHECK(raw.size() == (reader.ok() ? wanted : 0));
      return wanted;
    }
    case 5: return reader.ok() ? reader.text8().size() + 1 : before + 1;
    default: return reader.ok() ? reader.text16().size() + 2 : before + 1;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ConstBytes all = fuzz::input(data, size);
  const ConstBytes fields = all.first(size / 2);
  WireReader reader(all.subspan(size / 2));
  for (const std::byte field : fields) {
    const bool was_ok = reader.ok();
    const std::size_t before = reader.left();
    const std::size_t taken = read_field(reader, std::to_integer<std::uint8_t>(field));
    RAMFERRY_FUZZ_CHECK(was_ok || !reader.ok());
    RAMFERRY_FUZZ_CHECK(reader.left() <= before);
    if (reader.ok()) RAMFERRY_FUZZ_CHECK(before - reader.left() == taken);
  }
  RAMFERRY_FUZZ_CHECK(reader.finish_prefix("the fields").has_value() == reader.ok());
  RAMFERRY_FUZZ_CHECK(reader.finish("the fields").has_value() == (reader.ok() && reader.left() == 0));
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  std::vector<Input> all;
  Input fields, values;
  for (std::uint8_t kind = 0; kind < 28; ++kind) {
    fields.push_back(static_cast<std::byte>(kind));
    WireWriter writer(values);
    switch (kind % 7) {
      case 0: writer.u8(kind); break;
      case 1: writer.u16(kind); break;
      case 2: writer.u32(kind); break;
      case 3: writer.u64(kind); break;
      case 4: writer.zeros(kind * std::size_t{3}); break;
      case 5: writer.text8("eight"); break;
      default: writer.text16("sixteen"); break;
    }
    // Both halves have the same size, so the fields are followed by more of those that take a byte or two.
    Input both = fields;
    both.resize(std::max(fields.size(), values.size()));
    Input right = values;
    right.resize(both.size());
    both.insert(both.end(), right.begin(), right.end());
    all.push_back(both);
  }
  return all;
}
