// Which environment each training sample is of, where environments are groups of samples and not
// noisy variants.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "losses/environment_groups.h"
#include "models/data/dataset.h"

namespace cmir {

struct SampleEnvironments {
  Tensor labels;           ///< i32 [samples of the data set], 0 .. count - 1; -1: not for training
  std::int64_t count = 0;  ///< 0: none

  /// Of a batch of training samples, which need not have samples of every environment.
  losses::EnvironmentGroups groups(std::span<const std::int64_t> samples) const;
};

/// The integers `name` of the data set (Dataset::integers), those that the training samples have
/// numbered 0, 1, ... in ascending order. Errors: no such integers (the message lists those that
/// there are), one below 0, fewer than two environments in the training part.
SampleEnvironments environments_of_data(const Dataset& dataset, const std::string& name,
                                        std::span<const std::int64_t> train);

}  // namespace cmir
