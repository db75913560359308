// cp.async on the host: the bytes arrive in shared memory only when the thread waits for them.
#pragma once

#include <cstddef>

#include "kernels/simt/shared.h"

namespace cmir::kernels::simt {

/// Copies `copied` of `bytes` bytes and zeros the rest, when waited for. The target counts as not
/// written until then, so that a missing wait is a read before a write.
void issue_async_copy(const SharedPlace& target, const void* source, std::size_t bytes,
                      std::size_t copied);
/// Closes the running thread's group of copies.
void commit_async_copies();
/// Finishes the running thread's closed groups, all but the newest `keep` of them.
void wait_async_copies(std::size_t keep);

/// Called at the start of each block.
void begin_async_copies(std::size_t threads);

}  // namespace cmir::kernels::simt
