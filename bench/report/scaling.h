// How time and memory grow with a size.
#pragma once

#include <string>
#include <vector>

#include "bench/report/results.h"

namespace cmir::bench {

/// value = constant * size^exponent, by least squares of the logarithms.
struct Fit {
  double exponent = 0;
  double error = 0;  ///< standard error of the exponent; NaN for two points
};
/// At least two points with different sizes, all positive.
Fit fit_power(const std::vector<double>& sizes, const std::vector<double>& values);

/// Cases of one kernel, place and variant that differ in one size. Their variant is "over_SIZE"; of
/// a training step, the cases that differ in the threads are one too.
struct Sweep {
  std::string name;   ///< "info_nce (cpu)"
  std::string size;   ///< the one that differs
  std::string fixed;  ///< the others: "d 128"
  std::vector<double> sizes, seconds, megabytes;
  Fit time, memory;  ///< memory.exponent is NaN where the memory was not measured
};
std::vector<Sweep> sweeps(const std::vector<Case>& cases);

Json to_json(const std::vector<Sweep>& sweeps);

}  // namespace cmir::bench
