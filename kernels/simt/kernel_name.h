// The name of a kernel from its address: launch(kernel, ...) is a plain function and sees no more.
#pragma once

#include <string>
#include <string_view>

namespace cmir::kernels::simt {

/// "reduce_rows<float>" for the address of that function, whatever namespace it is in. Read from
/// the symbol table of the program; "kernel" where it was stripped.
std::string kernel_name(const void* function);

/// The name without its template arguments: "reduce_rows".
std::string_view base_name(std::string_view kernel);

/// "reduce_rows<float>" of "void space::(anonymous namespace)::reduce_rows<float>(float*, long)".
std::string short_name(std::string_view demangled);

}  // namespace cmir::kernels::simt
