// SPDX-License-Identifier: MIT
#include "userfaultfd.hpp"

#include "kernel_abi.hpp"
#include "memory_map.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

namespace ramferry::migration {
namespace {

constexpr const char* kOpening = "opening a userfaultfd";

uffdio_range range_of(Bytes memory) noexcept {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast)
  return {.start = reinterpret_cast<std::uintptr_t>(memory.data()), .len = memory.size()};
}

Failure refused(int error) {
  if (error == ENOSYS)
    return fail(errc::unsupported, kOpening, "this kernel was built without CONFIG_USERFAULTFD");
  return fail_errno(error, kOpening,
                    "run as root, or with CAP_SYS_PTRACE, or let this user open /dev/userfaultfd, or set "
                    "vm.unprivileged_userfaultfd=1; a container's seccomp filter must allow userfaultfd");
}

/// By system call where that is allowed, by device where that is.
Result<UniqueFd> open_any(Userfaultfd::Faults faults) {
  const int mode = faults == Userfaultfd::Faults::resolved_by_kernel ? kernel::kUserModeOnly : 0;
  UniqueFd fd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | mode)));
  if (fd) return fd;
  const int error = errno;
  const UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!device) return refused(error);
  fd.reset(ioctl(device.get(), kernel::kNewFromDevice, O_CLOEXEC | O_NONBLOCK));
  if (!fd) return refused(errno);
  return fd;
}

/// The handshake: once per descriptor, for those features and no others. Returns what the kernel offers.
Result<std::uint64_t> agree(const UniqueFd& fd, std::uint64_t features) {
  uffdio_api api{.api = UFFD_API, .features = features, .ioctls = 0};
  if (ioctl(fd.get(), UFFDIO_API, &api) != 0)
    return fail_errno(errno, "agreeing with the kernel on userfaultfd");
  return api.features;
}

std::string oldest_kernel_for(std::uint64_t missing) {
  if ((missing & kernel::kWriteProtectAsync) != 0)
    return "write protection that the kernel resolves needs Linux 6.7";
  if ((missing & kernel::kWriteProtectUnpopulated) != 0) return "protecting untouched pages needs Linux 6.4";
  if ((missing & kernel::kWriteProtectShared) != 0) return "write-protecting shared memory needs Linux 5.19";
  return "write protection needs Linux 5.7 on this architecture";
}

}  // namespace

Result<Userfaultfd> Userfaultfd::open(Faults faults, std::uint64_t required, std::uint64_t wanted) {
  RAMFERRY_TRY_ASSIGN(const UniqueFd asked, open_any(faults));
  RAMFERRY_TRY_ASSIGN(const std::uint64_t offered, agree(asked, 0));
  if ((offered & required) != required)
    return fail(errc::unsupported, kOpening, oldest_kernel_for(required & ~offered));
  RAMFERRY_TRY_ASSIGN(UniqueFd fd, open_any(faults));
  const std::uint64_t features = required | (wanted & offered);
  RAMFERRY_TRY(agree(fd, features));
  return Userfaultfd(std::move(fd), features);
}

Result<> Userfaultfd::watch(Bytes memory, Untouched untouched) const {
  uffdio_register request{.range = range_of(memory), .mode = UFFDIO_REGISTER_MODE_WP, .ioctls = 0};
  if (untouched == Untouched::report) request.mode |= UFFDIO_REGISTER_MODE_MISSING;
  if (ioctl(fd_.get(), UFFDIO_REGISTER, &request) == 0) return {};
  const int error = errno;
  std::string advice;
  if (error == EBUSY) advice = "another userfaultfd watches it";
  if (error == EINVAL)
    advice = "it must be mapped throughout, and be anonymous, or memfd or hugetlbfs memory on Linux 5.19";
  return fail_errno(error, "registering guest memory with userfaultfd", std::move(advice));
}

void Userfaultfd::forget(Bytes memory) const noexcept {
  uffdio_range range = range_of(memory);
  // It fails only when the range is not mapped any more, and then there is nothing to lift.
  static_cast<void>(ioctl(fd_.get(), UFFDIO_UNREGISTER, &range));
}

Result<> Userfaultfd::fill_zero(Bytes memory) const {
  uffdio_zeropage request{.range = range_of(memory), .mode = 0, .zeropage = 0};
  if (ioctl(fd_.get(), UFFDIO_ZEROPAGE, &request) == 0) return {};
  if (errno != EEXIST) return fail_errno(errno, "filling an untouched page of guest memory");
  wake(memory);  // somebody else was quicker
  return {};
}

void Userfaultfd::wake(Bytes memory) const noexcept {
  uffdio_range range = range_of(memory);
  static_cast<void>(ioctl(fd_.get(), UFFDIO_WAKE, &range));
}

Result<> Userfaultfd::write_protect(Bytes memory, bool on) const {
  const char* const doing =
      on ? "write-protecting guest memory" : "lifting write protection from guest memory";
  uffdio_writeprotect request{.range = range_of(memory), .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
  if (ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request) == 0) return {};
  if (errno != ENOENT) return fail_errno(errno, doing);
  // Older kernels do not reach across two mappings, as where only a part is advised to use huge pages.
  for (const Mapping& mapping : mappings_of(memory)) {
    const std::uint64_t begin = std::max<std::uint64_t>(mapping.begin, range_of(memory).start);
    const std::uint64_t end = std::min<std::uint64_t>(mapping.end, range_of(memory).start + memory.size());
    request.range = {.start = begin, .len = end - begin};
    if (ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request) != 0) return fail_errno(errno, doing);
  }
  return {};
}

}  // namespace ramferry::migration
