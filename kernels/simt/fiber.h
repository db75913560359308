// Stacks that the host model switches between (Boost.Context does the switch itself).
#pragma once

namespace cmir::kernels::simt {

/// A stack on which `work` runs. Fibers are kept for the life of the process and used again.
/// All switches are made under the launch lock, so one fiber of the process runs at a time.
class Fiber {
 public:
  /// An idle fiber, made if there is none. When resumed it starts or goes on with work(), which
  /// never returns and leaves only through resume() of another.
  static Fiber& take(void (*work)());
  /// Makes a fiber available to take() from its next switch on.
  static void give_back(Fiber& fiber);
  /// The stack of the OS thread that launched.
  static Fiber& launcher();

  /// Leaves the running fiber and goes on where this one last left; returns when the one that was
  /// left is itself resumed.
  void resume();

  struct Context;  ///< registers, stack, and what the sanitizers know of it

 private:
  explicit Fiber(Context* context) : context_(context) {}
  Context* context_;
};

}  // namespace cmir::kernels::simt
