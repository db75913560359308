// A place in a kernel's source, for messages.
#pragma once

namespace cmir::kernels::simt {

/// As a default argument, `Location where = Location::current()`, it is the caller's line. (Not
/// std::source_location, which clang 14 lacks.)
struct Location {
  const char* file = "";
  unsigned line = 0;  ///< 0: unknown

  static constexpr Location current(const char* caller_file = __builtin_FILE(),
                                    unsigned caller_line = __builtin_LINE()) {
    return {caller_file, caller_line};
  }
};

}  // namespace cmir::kernels::simt
