#include "kernels/kernel.h"

#include <atomic>
#include <cstdlib>
#include <map>

#include "kernels/cpu/amx.h"

namespace cmir::kernels {
namespace {

std::map<std::string, KernelInfo>& registry() {
  static std::map<std::string, KernelInfo> kernels;
  return kernels;
}

Isa best_isa() {
  for (Isa isa : {Isa::amx, Isa::avx512, Isa::avx2}) {
    if (cpu_supports(isa)) return isa;
  }
  return Isa::baseline;
}

Isa initial_isa() {
  const char* wanted = std::getenv("CMIR_ISA");
  if (wanted == nullptr) return best_isa();
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::amx}) {
    if (name_of(isa) != wanted) continue;
    require(cpu_supports(isa), "CMIR_ISA", "this CPU has no {}; the best it has is {}", wanted,
            name_of(best_isa()));
    return isa;
  }
  fail(ErrorKind::usage, "CMIR_ISA", "'{}' is none of baseline, avx2, avx512, amx", wanted);
}

std::atomic<Isa>& active() {
  static std::atomic<Isa> isa{initial_isa()};
  return isa;
}

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return "baseline";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::amx:
      return "amx";
  }
  return "?";
}

bool cpu_supports(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::baseline:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    case Isa::amx:
      return cpu_supports(Isa::avx512) && cpu::amx_granted();
  }
#endif
  return isa == Isa::baseline;
}

Isa active_isa() { return active().load(std::memory_order_relaxed); }

void set_active_isa(Isa isa) {
  require(cpu_supports(isa), "set_active_isa", "this CPU has no {}", name_of(isa));
  active().store(isa);
}

KernelInfo& detail::registration(const std::string& name) {
  KernelInfo& info = registry()[name];
  info.name = name;
  return info;
}

std::vector<KernelInfo> registered_kernels() {
  std::vector<KernelInfo> kernels;
  for (const auto& [name, info] : registry()) kernels.push_back(info);
  return kernels;
}

}  // namespace cmir::kernels
