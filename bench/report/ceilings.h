// What ceilings_bench measured on this machine, and how near to it a case comes.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bench/report/results.h"

namespace cmir::bench {

/// Of the CPU or of a GPU. The best of the repetitions: a ceiling is what the machine can do.
class Ceilings {
 public:
  /// `place`: "cpu" or "cuda". Without such cases, empty.
  Ceilings(const std::vector<Case>& cases, std::string_view place);

  bool empty() const { return copies_.empty(); }
  /// Bytes a second of a copy that moves so many: between measured sizes by their logarithms. With
  /// one thread, or with whichever number of those measured is faster.
  double copy_rate(double bytes, bool one_thread = false) const;
  /// The same beyond the caches: of the largest copy.
  double memory_rate(bool one_thread = false) const;
  /// Operations a second of a matrix product, "f32", "bf16", "f64" (on the CPU) or "tf32" (on a
  /// GPU); 0 where it was not measured.
  double product_rate(const std::string& dtype, bool one_thread = false) const;
  /// The fastest way that this machine has to the products of the case, by its dtype: in bf16 that
  /// or f32, since bf16 can be widened; in f32 that or three products in TF32; in the form "tf32"
  /// one of these.
  double product_rate_for(const Case& c, bool one_thread = false) const;
  /// Seconds to start a kernel that does nothing.
  double launch_seconds() const { return launch_; }

  Json to_json() const;

 private:
  using Rates = std::map<double, double>;  // bytes to rate
  static double at(const Rates& rates, double bytes);

  std::map<int, Rates> copies_;                            // by threads
  std::map<std::string, std::map<int, double>> products_;  // by dtype and threads
  double launch_ = 0, parallel_for_ = 0;
};

struct Share {
  double value = 0;        ///< of the ceiling that limits the case; 0 if it counts nothing
  std::string_view limit;  ///< "memory", "arithmetic" or "launch"
};
/// The largest of: bytes a second over a copy's rate (of a cold case, over that of memory),
/// operations a second over the rate of the products (product_rate_for), and the time to start a
/// kernel over the case's time. A case with the size "threads:1" is held against one thread.
Share share_of(const Case& c, const Ceilings& ceilings);

}  // namespace cmir::bench
