// SPDX-License-Identifier: MIT
// docs/tuning.md and the code name the same options: neither has one that the other lacks.
#include "catalog_setup.hpp"

#include <ramferry/log.hpp>

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

}  // namespace
}  // namespace ramferry::cli
