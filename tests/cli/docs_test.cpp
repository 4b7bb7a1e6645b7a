// SPDX-License-Identifier: MIT
// docs/tuning.md and the code name the same settings: neither has one that the other lacks.
#include "catalog_setup.hpp"

#include <ramferry/clock.hpp>
#include <ramferry/log.hpp>
#include <ramferry/migration/vm_controller.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace ramferry::cli {
namespace {

using Names = std::set<std::string>;

std::string tuning_page() {
  std::ifstream in(RAMFERRY_SOURCE_DIR "/docs/tuning.md");
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

/// The first column of the tables in the section whose heading has `word`.
Names documented(const std::string& word) {
  std::istringstream page(tuning_page());
  Names names;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("#")) inside = line.find(word) != line.npos;
    if (inside && line.starts_with("| `")) names.insert(line.substr(3, line.find('`', 3) - 3));
  }
  return names;
}

Names known(const Transport& transport) {
  Names names;
  for (const OptionSpec& option : transport.options()) names.emplace(option.name);
  return names;
}

TEST(TuningPage, HasEveryOptionOfEveryScheme) {
  NullLog log;
  const TransportCatalog catalog = make_catalog(log);
  for (const std::string& scheme : catalog.schemes())
    EXPECT_EQ(documented("`" + scheme + ":`"), known(**catalog.find(scheme))) << scheme;
}

class NoGuest final : public migration::GuestControl {
 public:
  Result<> pause() override { return {}; }
  Result<> resume() override { return {}; }
  bool running() const noexcept override { return false; }
};

TEST(TuningPage, HasEveryParameterAndCapability) {
  NullLog log;
  SystemClock clock;
  NoGuest guest;
  migration::SectionRegistry sections;
  migration::IncomingSteps steps;
  const TransportCatalog catalog = make_catalog(log);
  migration::VmController vm({guest, sections, steps, catalog, clock, log});
  const nlohmann::json values = vm.parameters().all(), switches = vm.capabilities().all();
  Names parameters, capabilities;
  for (const auto& [name, value] : values.items()) parameters.insert(name);
  for (const auto& each : switches) capabilities.insert(each.at("capability"));
  capabilities.insert("rdma-pin-all");  // also where this program was built without that transport
  EXPECT_EQ(documented("Parameters"), parameters);
  EXPECT_EQ(documented("Capabilities"), capabilities);
}

}  // namespace
}  // namespace ramferry::cli
