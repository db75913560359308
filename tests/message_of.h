// The message of the Error that a call throws.
#pragma once

#include <string>

#include "core/error.h"

namespace cmir {

/// "no error" where it throws none.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace cmir
