// Ctrl-C as a request to stop at the next safe point.
#pragma once

namespace cmir {

/// While alive, the first SIGINT or SIGTERM only raises a flag; a second one ends the process at
/// once.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// True once a signal arrived (also after the guard that saw it is gone, until the next guard is
  /// made).
  static bool requested();

 private:
  void (*previous_interrupt_)(int);
  void (*previous_terminate_)(int);
};

}  // namespace cmir
