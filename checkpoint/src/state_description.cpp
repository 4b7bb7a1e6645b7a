// SPDX-License-Identifier: MIT
#include "state_description.hpp"

#include <ramferry/migration/savevm.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace ramferry::checkpoint {
namespace {

using migration::savevm::Mark;
using nlohmann::json;

constexpr std::byte kFull{static_cast<unsigned char>(Mark::full)};
constexpr std::byte kLiveEnd{static_cast<unsigned char>(Mark::end)};
constexpr std::byte kFooter{static_cast<unsigned char>(Mark::footer)};
constexpr std::size_t kFooterBytes = 5, kNumberedBytes = 5;  // a mark and the section's number
constexpr std::size_t kMostName = 255;

/// What is said of a device that tells its section from others.
struct Device {
  std::string name;
  std::optional<std::uint32_t> instance;
  std::optional<std::uint32_t> version;  ///< not said of devices without a described layout
};

/// Finds the devices' sections one after another.
class Sections {
 public:
  explicit Sections(ConstBytes bytes) : bytes_(bytes) {}

  /// The next section is this device's. A section's number is known of the last one only.
  bool take(const Device& device, bool last) {
    const std::vector<std::byte> head = head_of(device);
    if (head.empty()) return false;
    // What comes before the devices' sections are ends of live ones: then the first device is behind those.
    const bool first = from_ == 0 && !bytes_.empty() && bytes_[0] != kLiveEnd;
    for (std::size_t at = next_full(from_); at < bytes_.size() && (at == 0 || !first);
         at = next_full(at + 1)) {
      if (!is_head(at, head, last)) continue;
      from_ = at + kNumberedBytes + head.size() + kFooterBytes;
      return true;
    }
    from_ = bytes_.size();
    return false;
  }
  bool empty() const noexcept { return bytes_.empty(); }
  std::size_t looked() const noexcept { return from_; }

 private:
  /// What follows the section's number.
  static std::vector<std::byte> head_of(const Device& device) {
    std::vector<std::byte> head;
    if (device.name.empty() || device.name.size() > kMostName || !device.instance) return head;
    WireWriter out(head);
    out.text8(device.name).u32(*device.instance);
    if (device.version) out.u32(*device.version);
    return head;
  }
  /// Where the next section might begin, at `from` or behind; the size if nowhere.
  std::size_t next_full(std::size_t from) const noexcept {
    const ConstBytes rest = bytes_.subspan(std::min(from, bytes_.size()));
    return bytes_.size() - static_cast<std::size_t>(rest.end() - std::find(rest.begin(), rest.end(), kFull));
  }
  bool is_head(std::size_t at, ConstBytes head, bool last) const {
    if (at + kNumberedBytes + head.size() + kFooterBytes > bytes_.size()) return false;
    if (at != 0 && (at < kFooterBytes || bytes_[at - kFooterBytes] != kFooter)) return false;
    const ConstBytes there = bytes_.subspan(at + kNumberedBytes, head.size());
    if (!std::equal(head.begin(), head.end(), there.begin())) return false;
    const ConstBytes footer = bytes_.last(kFooterBytes), number = bytes_.subspan(at + 1, 4);
    return !last || (footer[0] == kFooter && std::equal(number.begin(), number.end(), footer.begin() + 1));
  }

  ConstBytes bytes_;
  std::size_t from_ = 0;  ///< where the next head may begin
};

/// Takes devices to their sections while the text is parsed, and ends that at the first one without. The one
/// that was read last waits for the next, or the end: it may be the last of all.
class Reading final : public nlohmann::json_sax<json> {
 public:
  explicit Reading(ConstBytes sections) : sections_(sections) {}

  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return true; }
  bool binary(binary_t& /*value*/) override { return true; }
  bool number_integer(number_integer_t value) override {
    if (value >= std::numeric_limits<std::int32_t>::min()) number(static_cast<std::uint32_t>(value));
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (value <= std::numeric_limits<std::uint32_t>::max()) number(static_cast<std::uint32_t>(value));
    return true;
  }
  bool string(string_t& value) override {
    if (of_device() && key_ == "name") device_.name = std::move(value);
    return true;
  }
  bool key(string_t& value) override {
    if (depth_ == 1) in_devices_ = value == "devices";
    if (of_device()) key_ = std::move(value);
    return true;
  }
  bool start_object(std::size_t /*size*/) override {
    if (++depth_ == kDeviceDepth) device_ = {};
    key_.clear();
    return true;
  }
  bool end_object() override {
    if (!of_device()) return --depth_, true;
    --depth_;
    const bool first = !std::exchange(any_, true);
    if (!first && !take(false)) return false;
    waiting_ = std::move(device_);
    return true;
  }
  bool start_array(std::size_t /*size*/) override {
    ++depth_;
    key_.clear();
    if (depth_ == kDeviceDepth - 1 && in_devices_) listed_ = true;
    return true;
  }
  bool end_array() override { return --depth_, true; }
  bool parse_error(std::size_t at, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*why*/) override {
    problem_ = "it is no JSON from its byte " + std::to_string(at) + " on";
    return false;
  }

  /// After the text.
  bool finish() {
    if (any_) return take(true);
    if (listed_ && sections_.empty()) return true;
    problem_ = "it names no device";
    return false;
  }
  const std::string& problem() const noexcept { return problem_; }
  std::size_t looked() const noexcept { return sections_.looked(); }

 private:
  static constexpr int kDeviceDepth = 3;  // the text's own object, the list, a device

  bool of_device() const noexcept { return in_devices_ && listed_ && depth_ == kDeviceDepth; }
  void number(std::uint32_t value) {
    if (!of_device()) return;
    if (key_ == "instance_id") device_.instance = value;
    if (key_ == "version") device_.version = value;
  }
  bool take(bool last) {
    if (sections_.take(waiting_, last)) return true;
    problem_ = "it names the device '" + waiting_.name + "', which does not follow in the state";
    return false;
  }

  Sections sections_;
  int depth_ = 0;
  bool in_devices_ = false, listed_ = false, any_ = false;
  std::string key_, problem_;
  Device device_, waiting_;
};

}  // namespace

Agreement compare(std::string_view description, ConstBytes sections) {
  Reading reading(sections);
  const bool agrees = !description.empty() && description.front() == '{' &&
                      json::sax_parse(description.begin(), description.end(), &reading) && reading.finish();
  Agreement result{.problem = {}, .looked = reading.looked() + description.size()};
  if (!agrees) result.problem = reading.problem().empty() ? "it is no JSON" : reading.problem();
  return result;
}

}  // namespace ramferry::checkpoint
