// SPDX-License-Identifier: MIT
#include "verbs_drivers.hpp"

#include "verbs.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>

namespace ramferry::rdma {
namespace {

/// "mlx5" of "mlx5_0", "rxe" of "rxe0".
std::string without_number(std::string name) {
  name.erase(name.find_last_not_of("0123456789") + 1);
  if (name.ends_with('_')) name.pop_back();
  return name;
}

/// "mlx5" for mlx5_core; empty for a device without hardware.
std::string kernels_driver(const SystemFiles& files, const std::string& device) {
  constexpr std::string_view kKey = "\nDRIVER=";
  const std::string about =
      "\n" + files.text("/sys/class/infiniband/" + device + "/device/uevent").value_or("");
  const std::size_t key = about.find(kKey);
  if (key == about.npos) return {};
  const std::size_t begin = key + kKey.size();
  std::string name = about.substr(begin, about.find('\n', begin) - begin);
  if (name.ends_with("_core")) name.erase(name.size() - 5);
  return name;
}

/// What the device's driver may be called: after the device, or where that has been renamed, after the
/// kernel's driver of the hardware.
std::vector<std::string> names_for(const SystemFiles& files, const std::string& device) {
  return {without_number(device), kernels_driver(files, device)};
}

/// Where libibverbs keeps them: a folder beside it. Empty if it is not known where that is.
std::string driver_folder() {
  Dl_info found{};
  if (::dladdr(reinterpret_cast<void*>(&ibv_get_device_list), &found) == 0 || found.dli_fname == nullptr)
    return {};
  const std::string library = found.dli_fname;
  const std::size_t slash = library.rfind('/');
  return slash == std::string::npos ? std::string() : library.substr(0, slash) + "/libibverbs";
}

void load() {
  if (std::getenv("RDMAV_DRIVERS") != nullptr || std::getenv("IBV_DRIVERS") != nullptr) return;
  const std::string folder = driver_folder();
  if (folder.empty()) return;
  // Each makes itself known to libibverbs as it is loaded, and stays for good; one that cannot be is missed
  // there.
  for (const std::string& each : needed_drivers(SystemFiles(), folder))
    static_cast<void>(::dlopen((folder + "/" + each).c_str(), RTLD_NOW));
}

}  // namespace

std::vector<std::string> needed_drivers(const SystemFiles& files, std::string_view folder) {
  std::vector<std::string> needed;
  const auto installed = files.list(folder);
  for (const std::string& device : files.list("/sys/class/infiniband")) {
    for (const std::string& name : names_for(files, device)) {
      const std::string begin = "lib" + name + "-rdmav";
      const auto fits = [&](const std::string& file) {
        return file.starts_with(begin) && file.ends_with(".so");
      };
      const auto found = std::find_if(installed.begin(), installed.end(), fits);
      // Of several versions only libibverbs knows its own.
      if (found == installed.end() || std::count_if(installed.begin(), installed.end(), fits) > 1) continue;
      if (std::find(needed.begin(), needed.end(), *found) == needed.end()) needed.push_back(*found);
      break;
    }
  }
  return needed;
}

void load_needed_drivers() {
  static std::once_flag once;
  std::call_once(once, load);
}

}  // namespace ramferry::rdma
