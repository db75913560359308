#include "kernels/simt/async_copy.h"

#include <deque>
#include <vector>

namespace cmir::kernels::simt {
namespace {

struct Copy {
  SharedPlace target;
  const std::byte* source;
  std::size_t bytes, copied;
};
struct Queue {
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> groups;
};

std::vector<Queue>& queues() {
  static std::vector<Queue> of_threads;
  return of_threads;
}

}  // namespace

void begin_async_copies(std::size_t threads) { queues().assign(threads, Queue{}); }

void issue_async_copy(const SharedPlace& target, const void* source, std::size_t bytes,
                      std::size_t copied) {
  if (reinterpret_cast<std::uintptr_t>(source) % bytes != 0) {
    fault(target.where, fmt::format("cp_async of {} bytes from a misaligned address", bytes));
  }
  begin_async_write(target, bytes);
  queues()[thread_rank()].open.push_back(
      {target, static_cast<const std::byte*>(source), bytes, copied});
}

void commit_async_copies() {
  Queue& queue = queues()[thread_rank()];
  queue.groups.push_back(std::move(queue.open));
  queue.open.clear();
}

void wait_async_copies(std::size_t keep) {
  Queue& queue = queues()[thread_rank()];
  while (queue.groups.size() > keep) {
    for (const Copy& copy : queue.groups.front()) {
      std::byte* target = finish_async_write(copy.target, copy.bytes);
      std::memcpy(target, copy.source, copy.copied);
      std::memset(target + copy.copied, 0, copy.bytes - copy.copied);
    }
    queue.groups.pop_front();
  }
}

}  // namespace cmir::kernels::simt
