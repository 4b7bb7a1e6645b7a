// SPDX-License-Identifier: MIT
// The fabric of this machine: libibverbs and librdmacm.
#pragma once

#include "fabric.hpp"

#include <memory>

namespace ramferry::rdma {

std::unique_ptr<Fabric> make_verbs_fabric();

}  // namespace ramferry::rdma
