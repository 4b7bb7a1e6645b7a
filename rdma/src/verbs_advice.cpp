// SPDX-License-Identifier: MIT
#include "verbs_advice.hpp"

#include <ramferry/endpoint.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

namespace ramferry::rdma {

Error registering_failed(int error_number, std::uint64_t bytes, std::uint64_t pinned,
                         const DeviceFacts& device) {
  std::string doing = "registering " + format_size(bytes) + " of memory with " + device.name;
  const auto limited = make_error_code(errc::memory_lock_limit);
  if (error_number == EFAULT)
    return {{error_number, std::generic_category()},
            std::move(doing),
            "memory that is not mapped for writing, or is a disk file's, cannot be: use anonymous memory, a "
            "memfd, tmpfs or hugetlbfs"};
  if (error_number != ENOMEM && error_number != EAGAIN)
    return {{error_number, std::generic_category()}, std::move(doing), {}};
  if (bytes > device.lockable_bytes - std::min(pinned, device.lockable_bytes))
    return {limited, doing + ": RLIMIT_MEMLOCK is " + format_size(device.lockable_bytes),
            "raise it (`ulimit -l unlimited`, LimitMEMLOCK=infinity), or use pin=demand, if need be with a "
            "smaller pin-budget"};
  return {limited, std::move(doing),
          "the device has room for " + std::to_string(device.max_regions) +
              " registrations of all programs, and a control group may allow less (rdma.max, memory.max): a "
              "larger chunk needs fewer, pin=demand with a smaller pin-budget less memory"};
}

Error making_failed(int error_number, std::string doing, const std::string& limit) {
  Error error{{error_number, std::generic_category()}, std::move(doing), {}};
  if (error_number == ENOMEM || error_number == EAGAIN || error_number == ENOSPC || error_number == EINVAL)
    error.advice = "the device may have no more (`ibv_devinfo -v`: " + limit +
                   ") or none so long, or the control group may not (rdma.max); fewer lanes= need less";
  return error;
}

std::string opening_advice(std::error_code error) {
  if (error == std::errc::permission_denied || error == std::errc::operation_not_permitted)
    return "this user may not open /dev/infiniband/rdma_cm: give it access, or run as root";
  if (error == std::errc::no_such_device || error == std::errc::no_such_file_or_directory ||
      error == std::errc::no_such_device_or_address)
    return "load the kernel module rdma_ucm";
  return {};
}

std::uint64_t pinned_bytes(const SystemFiles& files) {
  const auto words = words_of(files.field("/proc/self/status", "VmPin").value_or(""));  // "1024 kB"
  return words.empty() ? 0 : std::strtoull(words[0].c_str(), nullptr, 10) << 10;
}

bool is_software(const SystemFiles& files, std::string_view device) {
  // Older kernels give a software device the parent of its network interface.
  if (device.starts_with("rxe") || device.starts_with("siw")) return true;
  const std::string folder = "/sys/class/infiniband/" + std::string(device);
  return files.exists(folder) && !files.exists(folder + "/device");
}

}  // namespace ramferry::rdma
