// SPDX-License-Identifier: MIT
#include <ramferry/migration/given_descriptors.hpp>

#include <utility>

namespace ramferry::migration {

Result<> GivenDescriptors::add(std::string name, UniqueFd fd) {
  if (!name.empty() && name.front() >= '0' && name.front() <= '9')
    return fail(errc::invalid_argument, "Parameter 'fdname' expects a name not starting with a digit");
  const std::lock_guard lock(mutex_);
  descriptors_.insert_or_assign(std::move(name), std::move(fd));
  return {};
}

Result<> GivenDescriptors::close(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto at = descriptors_.find(name);
  if (at == descriptors_.end())
    return fail(errc::not_found, "File descriptor named '" + std::string(name) + "' not found");
  descriptors_.erase(at);
  return {};
}

bool GivenDescriptors::has(std::string_view name) {
  const std::lock_guard lock(mutex_);
  return descriptors_.contains(name);
}

Result<UniqueFd> GivenDescriptors::take(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto at = descriptors_.find(name);
  if (at == descriptors_.end())
    return fail(errc::not_found, "File descriptor named '" + std::string(name) + "' has not been found");
  UniqueFd fd = std::move(at->second);
  descriptors_.erase(at);
  return fd;
}

}  // namespace ramferry::migration
