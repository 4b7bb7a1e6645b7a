// SPDX-License-Identifier: MIT
#include "diagnosis.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace ramferry::cli {
namespace {

using Verdict = Check::Verdict;

std::string_view to_string(CheckGroup::Need need) noexcept {
  switch (need) {
    case CheckGroup::Need::any: return "any";
    case CheckGroup::Need::all: return "all";
    case CheckGroup::Need::nothing: break;
  }
  return "nothing";
}

std::string title_of(const Transport& transport) {
  std::string title;
  for (const std::string_view scheme : transport.schemes())
    title += (title.empty() ? "" : " ") + std::string(scheme) + ":";
  return title;
}

bool speaks(const Transport& transport, std::string_view scheme) {
  const auto schemes = transport.schemes();
  return std::find(schemes.begin(), schemes.end(), scheme) != schemes.end();
}

/// Each transport once, in the order of the catalogue.
std::vector<Transport*> transports_of(const TransportCatalog& catalog) {
  std::vector<Transport*> all;
  for (const std::string& scheme : catalog.schemes()) {
    const auto found = catalog.find(scheme);
    if (found && std::find(all.begin(), all.end(), *found) == all.end()) all.push_back(*found);
  }
  return all;
}

CheckGroup rdma_left_out() {
  return {"rdma:",
          {{"built in", Verdict::no, "this ramferry was built without it",
            "apt-get install libibverbs-dev librdmacm-dev && ./dev build"}},
          CheckGroup::Need::nothing};
}

Result<CheckGroup> diagnose_way(const TransportCatalog& catalog, const std::string& uri) {
  RAMFERRY_TRY_ASSIGN(const Endpoint endpoint, Endpoint::parse(uri));
  RAMFERRY_TRY_ASSIGN(const Transport* transport, catalog.find(endpoint.scheme));
  RAMFERRY_TRY(check_options(endpoint, transport->options()));
  return CheckGroup{title_of(*transport), transport->examine(&endpoint), CheckGroup::Need::all};
}

/// Whether it was gone all the way. Looking at a file, a descriptor or a command does not do what a migration
/// would; and a QEMU's listener is left alone.
bool was_tried(const Diagnosis& diagnosis) {
  const auto tried = [](const Check& check) {
    return check.verdict == Verdict::yes &&
           (check.name.starts_with("connect to ") || check.name.starts_with("listen on "));
  };
  return std::any_of(diagnosis.groups.begin(), diagnosis.groups.end(), [&](const CheckGroup& group) {
    return std::any_of(group.checks.begin(), group.checks.end(), tried);
  });
}

std::string good_news(const Diagnosis& diagnosis) {
  if (diagnosis.uri.empty()) return "this machine can migrate guests";
  return was_tried(diagnosis) ? diagnosis.uri + " works"
                              : "nothing here speaks against " + diagnosis.uri + "; it was not tried";
}

std::string summary_of(const Diagnosis& diagnosis) {
  if (!diagnosis.works()) {
    std::string failing;
    for (const CheckGroup& group : diagnosis.groups)
      if (!group.works()) failing += (failing.empty() ? "" : ", ") + group.title;
    return (diagnosis.uri.empty() ? "this machine cannot migrate guests" : diagnosis.uri + " does not work") +
           " yet: see 'no' under " + failing;
  }
  std::string lacking;
  for (const CheckGroup& group : diagnosis.groups)
    if (std::any_of(group.checks.begin(), group.checks.end(),
                    [](const Check& check) { return check.verdict == Verdict::no; }))
      lacking += (lacking.empty() ? "" : ", ") + group.title;
  return good_news(diagnosis) +
         (lacking.empty() ? "" : "; what does not work here: see 'no' under " + lacking);
}

void append_check(std::string& text, const Check& check, std::size_t name_width) {
  constexpr std::size_t kVerdictWidth = 6;
  const auto padded = [](std::string word, std::size_t width) {
    word.resize(std::max(width, word.size() + 1), ' ');
    return word;
  };
  text += "  " + padded(std::string(to_string(check.verdict)), kVerdictWidth);
  text += check.value.empty() ? check.name : padded(check.name, name_width + 2) + check.value;
  text += '\n';
  if (!check.fix.empty()) text += "        fix: " + check.fix + '\n';
}

}  // namespace

bool CheckGroup::works() const noexcept {
  const auto is = [](Verdict verdict) {
    return [verdict](const Check& check) { return check.verdict == verdict; };
  };
  switch (need) {
    case Need::any: return std::any_of(checks.begin(), checks.end(), is(Verdict::yes));
    case Need::all: return std::none_of(checks.begin(), checks.end(), is(Verdict::no));
    case Need::nothing: break;
  }
  return true;
}

bool Diagnosis::works() const noexcept {
  return std::all_of(groups.begin(), groups.end(), [](const CheckGroup& group) { return group.works(); });
}

Result<Diagnosis> diagnose(const TransportCatalog& catalog, const SystemFiles& files,
                           const std::string& uri) {
  Diagnosis diagnosis{.uri = uri};
  std::vector<CheckGroup> ways;
  if (!uri.empty()) {
    RAMFERRY_TRY_ASSIGN(CheckGroup way, diagnose_way(catalog, uri));
    ways.push_back(std::move(way));
  }
  diagnosis.groups = {diagnose_machine(files), diagnose_huge_pages(files), diagnose_tracking(files)};
  if (uri.empty()) {
    diagnosis.groups.back().need = CheckGroup::Need::any;
    bool rdma = false;
    for (const Transport* transport : transports_of(catalog)) {
      ways.push_back({title_of(*transport), transport->examine(nullptr),
                      speaks(*transport, "tcp") ? CheckGroup::Need::all : CheckGroup::Need::nothing});
      rdma = rdma || speaks(*transport, "rdma");
    }
    if (!rdma) ways.push_back(rdma_left_out());
  }
  for (CheckGroup& way : ways) diagnosis.groups.push_back(std::move(way));
  return diagnosis;
}

std::string to_text(const Diagnosis& diagnosis) {
  std::size_t width = 0;
  for (const CheckGroup& group : diagnosis.groups)
    for (const Check& check : group.checks)
      if (!check.value.empty()) width = std::max(width, std::min<std::size_t>(check.name.size(), 36));
  std::string text;
  for (const CheckGroup& group : diagnosis.groups) {
    text += group.title + '\n';
    for (const Check& check : group.checks) append_check(text, check, width);
    text += '\n';
  }
  return text + summary_of(diagnosis) + '\n';
}

nlohmann::ordered_json to_json(const Diagnosis& diagnosis) {
  nlohmann::ordered_json groups = nlohmann::ordered_json::array();
  for (const CheckGroup& group : diagnosis.groups) {
    nlohmann::ordered_json checks = nlohmann::ordered_json::array();
    for (const Check& check : group.checks)
      checks.push_back({{"name", check.name},
                        {"verdict", to_string(check.verdict)},
                        {"value", check.value},
                        {"fix", check.fix}});
    groups.push_back({{"title", group.title},
                      {"need", to_string(group.need)},
                      {"works", group.works()},
                      {"checks", std::move(checks)}});
  }
  return {{"uri", diagnosis.uri}, {"works", diagnosis.works()}, {"groups", std::move(groups)}};
}

}  // namespace ramferry::cli
