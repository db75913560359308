// How a kernel is declared, registered and run.
//
// A kernel is a struct of pointers and sizes (its arguments, and with its comment the whole
// contract) plus functions that take it: one per instruction set of the CPU, one for CUDA, and the
// CUDA one compiled for the host model (kernels/cuda/device.h registers these two). The argument
// type is the key: `run(device, LayerNormForward<float>{...})` finds the best registered variant.
// Kernels never print. Scratch memory is an argument, but for a library's own (cuda/scratch.h).
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/range.h"
#include "core/recording.h"
#include "core/trace_span.h"

namespace cmir::kernels {

/// Instruction sets that the CPU kernels are compiled for, in rising order. `baseline` is any
/// x86-64 (or other CPU); `amx` is avx512 with products on AMX tiles (kernels/cpu/amx.h), and only
/// kernels that gain by them have that variant.
enum class Isa { baseline, avx2, avx512, amx };
inline constexpr int kIsaCount = 4;
std::string_view name_of(Isa isa);

/// The best set that this CPU has, or the lower one named by the environment variable CMIR_ISA.
Isa active_isa();
/// For tests and benchmarks: use a set that the CPU has. Throws if it lacks it.
void set_active_isa(Isa isa);
bool cpu_supports(Isa isa);

struct KernelInfo {
  std::string name;  ///< Args::name plus the dtype: "layer_norm_forward<f32>"
  std::array<bool, kIsaCount> cpu{};
  bool cuda = false;
  bool simt = false;
};
/// Every registered kernel, by name.
std::vector<KernelInfo> registered_kernels();

template <class Args>
struct Variants {
  using Function = void (*)(const Args&);
  static inline constinit std::array<Function, kIsaCount> cpu{};
  static inline constinit Function cuda = nullptr;
  static inline constinit Function simt = nullptr;
};

template <class Args>
struct ScalarOf;
template <template <class> class Args, class T>
struct ScalarOf<Args<T>> {
  using type = T;
};

/// "layer_norm_forward<f32>"
template <class Args>
std::string registered_name() {
  return fmt::format("{}<{}>", Args::name, cmir::name_of(dtype_of<typename ScalarOf<Args>::type>));
}

namespace detail {
/// The registry's entry of that name, made if it is new.
KernelInfo& registration(const std::string& name);
}  // namespace detail

/// Registers the functions as the CPU variants of their argument types for one instruction set:
/// `const RegisterCpu registered{kIsa, &forward<float>, &forward<double>};`
struct RegisterCpu {
  template <class... Args>
  explicit RegisterCpu([[maybe_unused]] Isa isa, void (*... functions)(const Args&)) {
    ((Variants<Args>::cpu[static_cast<int>(isa)] = functions), ...);
    ((detail::registration(registered_name<Args>()).cpu[static_cast<int>(isa)] = true), ...);
  }
};

/// Runs the function and notes it under its registered name, with its cost, for a thread that is
/// traced.
template <class Args, class... Work>
[[gnu::noinline]] void run_traced(Device device, typename Variants<Args>::Function function,
                                  const Args& args, const Work&... work) {
  static const std::string name = registered_name<Args>();
  TraceCost cost = kNoTraceCost;
  if constexpr (sizeof...(Work) > 0 || requires { args.bytes(); }) {
    cost = {.bytes = static_cast<std::int64_t>(args.bytes(work...)),
            .operations = static_cast<std::int64_t>(args.operations(work...))};
  }
  const TracedKernel traced(device, name.c_str(), cost);
  function(args);
}

/// The best registered function not above active_isa(); null if there is none.
template <class Args>
typename Variants<Args>::Function cpu_variant() {
  for (int isa = static_cast<int>(active_isa()); isa >= 0; --isa) {
    if (Variants<Args>::cpu[isa] != nullptr) return Variants<Args>::cpu[isa];
  }
  return nullptr;
}

/// Runs the kernel on the device; on the CPU with the best registered instruction set not above
/// active_isa(). Inside a graph capture it is recorded, with the arguments as they are now. `work`:
/// what bytes() and operations() need where they count by arrays, which may be on the device; a
/// trace does not know the cost of a call without it.
template <class Args, class... Work>
void run(Device device, const Args& args, const Work&... work) {
  using Function = typename Variants<Args>::Function;
  Function function = nullptr;
  if (device.is_cpu()) {
    function = cpu_variant<Args>();
  } else {
    function = device.type == DeviceType::cuda ? Variants<Args>::cuda : Variants<Args>::simt;
  }
  if (function == nullptr) {
    fail(ErrorKind::usage, registered_name<Args>(),
         "has no kernel for device {} in this build; use cpu", device.to_string());
  }
  do_or_record(device, [device, function, args, work...] {
    const Range range(Args::name);
    if (tracing()) [[unlikely]]
      return run_traced(device, function, args, work...);
    function(args);
  });
}

}  // namespace cmir::kernels
