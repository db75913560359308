#include "kernels/simt/fiber.h"

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <cstddef>
#include <vector>

// AddressSanitizer keeps the bounds of the running stack and ThreadSanitizer its history: both must
// be told of a switch.
#if defined(__SANITIZE_ADDRESS__)
#define CMIR_ADDRESS_SANITIZER 1
#elif defined(__SANITIZE_THREAD__)
#define CMIR_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CMIR_ADDRESS_SANITIZER 1
#elif __has_feature(thread_sanitizer)
#define CMIR_THREAD_SANITIZER 1
#endif
#endif
#if defined(CMIR_ADDRESS_SANITIZER)
#include <sanitizer/common_interface_defs.h>
#elif defined(CMIR_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
#endif

namespace cmir::kernels::simt {

struct Fiber::Context {
  boost::context::fiber registers;
  const void* stack_bottom = nullptr;
  std::size_t stack_bytes = 0;
  void* sanitizer = nullptr;  // ASan: the fake stack of the left fiber; TSan: its fiber
};

namespace {

// Kernels keep little on their stack; the sanitizers' frames are larger. A guard page ends it.
#if defined(CMIR_ADDRESS_SANITIZER) || defined(CMIR_THREAD_SANITIZER)
constexpr std::size_t kStackBytes = 256 * 1024;
#else
constexpr std::size_t kStackBytes = 64 * 1024;
#endif

Fiber::Context* running = nullptr;
Fiber::Context* left = nullptr;  // the one that the last switch came from

// The pool outlives every static object: a suspended stack is never unwound at exit.
std::vector<Fiber*>& idle() {
  static auto& fibers = *new std::vector<Fiber*>;
  return fibers;
}

void before_switch([[maybe_unused]] Fiber::Context& to) {
  left = running;
  running = &to;
#if defined(CMIR_ADDRESS_SANITIZER)
  __sanitizer_start_switch_fiber(&left->sanitizer, to.stack_bottom, to.stack_bytes);
#elif defined(CMIR_THREAD_SANITIZER)
  left->sanitizer = __tsan_get_current_fiber();  // the launcher is another OS thread at times
  __tsan_switch_to_fiber(to.sanitizer, 0);
#endif
}

void after_switch(boost::context::fiber&& previous) {
#if defined(CMIR_ADDRESS_SANITIZER)
  __sanitizer_finish_switch_fiber(running->sanitizer, &left->stack_bottom, &left->stack_bytes);
#endif
  left->registers = std::move(previous);
}

Fiber::Context* new_context(void (*work)()) {
  auto* context = new Fiber::Context;
  boost::context::protected_fixedsize_stack allocator(kStackBytes);
  const boost::context::stack_context stack = allocator.allocate();
  context->stack_bottom = static_cast<char*>(stack.sp) - stack.size;
  context->stack_bytes = stack.size;
#if defined(CMIR_THREAD_SANITIZER)
  context->sanitizer = __tsan_create_fiber(0);
#endif
  context->registers = boost::context::fiber(
      std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack), allocator,
      [work](boost::context::fiber&& previous) {
        after_switch(std::move(previous));
        work();
        return boost::context::fiber{};
      });
  return context;
}

}  // namespace

Fiber& Fiber::take(void (*work)()) {
  if (idle().empty()) return *new Fiber(new_context(work));
  Fiber& fiber = *idle().back();
  idle().pop_back();
  return fiber;
}

void Fiber::give_back(Fiber& fiber) { idle().push_back(&fiber); }

Fiber& Fiber::launcher() {
  static auto& fiber = *new Fiber(new Context);
  if (running == nullptr) running = fiber.context_;
  return fiber;
}

void Fiber::resume() {
  if (running == context_) return;
  before_switch(*context_);
  after_switch(std::move(context_->registers).resume());
}

}  // namespace cmir::kernels::simt
