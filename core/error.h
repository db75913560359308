// Errors: one exception type whose message names the operation, the offending values and the
// remedy.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace cmir {

/// What went wrong, so that a program can choose an exit code (the number) without parsing the
/// message.
enum class ErrorKind {
  internal = 1,  ///< a broken invariant: a bug in this library
  usage = 2,     ///< a wrong call: shapes, dtypes, option or config values
  data = 3,      ///< a file or data set whose content is invalid
  io = 4,        ///< the operating system refused: missing, unwritable, full
  numeric = 5,   ///< a non-finite value where a finite one is needed
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string_view op, std::string_view message)
      : std::runtime_error(fmt::format("{}: {}", op, message)), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// Throws an Error of the given kind: `fail(ErrorKind::usage, "matmul", "inner sizes {} and {}
/// differ", k, l)`.
template <class... Args>
[[noreturn]] void fail(ErrorKind kind, std::string_view op, fmt::format_string<Args...> text,
                       Args&&... args) {
  throw Error(kind, op, fmt::format(text, std::forward<Args>(args)...));
}

/// Throws an Error of kind `usage` unless `holds`.
template <class... Args>
void require(bool holds, std::string_view op, fmt::format_string<Args...> text, Args&&... args) {
  if (!holds) [[unlikely]] {
    fail(ErrorKind::usage, op, text, std::forward<Args>(args)...);
  }
}

}  // namespace cmir
