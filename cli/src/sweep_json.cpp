// SPDX-License-Identifier: MIT
#include "sweep_json.hpp"

#include <nlohmann/json.hpp>

namespace ramferry::cli {

using nlohmann::json;

json sweep_json(bool sweeping, const std::optional<vm::SweepReport>& report) {
  json info = {{"status", sweeping ? "sweeping" : report ? "done" : "none"}};
  if (sweeping || !report) return info;
  info["pages"] = report->pages;
  info["untouched"] = report->untouched;
  info["zero"] = report->zero;
  info["stamped"] = report->stamped;
  info["materialised"] = report->materialised;
  info["wrong"] = report->wrong();
  info["seconds"] = std::chrono::duration<double>(report->took).count();
  info["verdicts"] = json::object();
  for (std::size_t i = 1; i < vm::kVerdicts; ++i)
    info["verdicts"][std::string(to_string(static_cast<vm::Verdict>(i)))] = report->verdicts[i];
  info["first-wrong"] = json::array();
  for (const vm::WrongPage& wrong : report->first_wrong)
    info["first-wrong"].push_back(
        {{"block", wrong.block}, {"page", wrong.page}, {"verdict", to_string(wrong.verdict)}});
  return info;
}

}  // namespace ramferry::cli
