// AdamW over parameter groups.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/networks/module.h"

namespace cmir {

/// Parameters that share a learning rate and decay. Parameters that require no gradient are left
/// out.
struct AdamWGroup {
  ParameterList parameters;
  double learning_rate = 1e-3;
  double weight_decay = 0.01;
  bool decay_bias_and_norm =
      true;  ///< false: no decay for tensors of rank 0 or 1 (biases, layer norm gains)
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
};

/// AdamW as torch.optim.AdamW computes it (kernels/optimizer/adamw.h has the formula). A parameter
/// without a gradient is not touched in that step; the bias correction counts the steps of the
/// optimizer, not of the parameter.
class AdamW {
 public:
  /// Parameter names must be distinct, all of one floating dtype.
  explicit AdamW(std::vector<AdamWGroup> groups);

  /// Updates all parameters with their group's rate times `learning_rate_factor`, from gradients
  /// scaled down to a joint norm of at most `max_gradient_norm` (0: no limit; the factor is max /
  /// (norm + 1e-6), as torch's clip_grad_norm_). Returns the norm before clipping. A non-finite
  /// gradient is an Error of kind numeric that names the parameter; nothing was changed then.
  double step(double learning_rate_factor = 1.0, double max_gradient_norm = 0.0);
  void zero_gradients();
  std::int64_t step_count() const { return step_count_; }

  /// All that a checkpoint needs to go on with the same bits: "adamw.step" (i64 scalar), and per
  /// parameter "adamw.first_moment.<name>" and "adamw.second_moment.<name>". The tensors share
  /// memory with the optimizer.
  std::map<std::string, Tensor> state() const;
  /// Copies from such a map; names that do not start with "adamw." are ignored. A missing or
  /// unknown name or another shape is an Error of kind data, and nothing was changed then.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  /// An array that kernels read: on the CPU, with a copy on the device that is made anew only when
  /// a value changed, so that steps with the same addresses upload nothing.
  class KernelArray {
   public:
    template <class Element>
    const Element* on(Device device, const std::vector<Element>& values);

   private:
    Tensor bytes_;
    Tensor on_device_;
  };

  struct Slot {
    Parameter parameter;
    Tensor first_moment, second_moment;
  };
  struct Group {
    double learning_rate, weight_decay, beta1, beta2, epsilon;
    std::vector<Slot> slots;
    KernelArray tensors, offsets;
  };
  template <class T>
  double gradient_norm();
  template <class T>
  void update(Group& group, double learning_rate_factor, double gradient_scale);

  std::vector<Group> groups_;
  KernelArray gradients_, gradient_offsets_;
  DType dtype_ = DType::f32;
  std::int64_t step_count_ = 0;
};

}  // namespace cmir
