// launch(kernel, LaunchConfig{grid, block, shared_bytes}, arguments...) on the host model.
#pragma once

#include <type_traits>

#include "kernels/simt/grid.h"

namespace cmir::kernels::simt {

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;  ///< dynamic shared memory
};

/// Shared memory that a block may have.
inline std::size_t most_shared_bytes() { return kSharedLimit; }

/// Runs the kernel to its end; what the model finds wrong is an Error that names the kernel, block
/// and thread.
template <class... Parameters>
void launch(void (*kernel)(Parameters...), const LaunchConfig& config,
            std::type_identity_t<Parameters>... arguments) {
  const auto body = [&] { kernel(arguments...); };
  run_grid(reinterpret_cast<const void*>(kernel), config.grid, config.block, config.shared_bytes,
           {[](const void* state) { (*static_cast<const decltype(body)*>(state))(); }, &body});
}

}  // namespace cmir::kernels::simt
