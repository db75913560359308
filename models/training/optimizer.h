// AdamW over parameter groups.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/optimizer/adamw.h"
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

  /// The arrays of addresses that the kernels of one step read, and what they report. A recorded
  /// step has its own, which must live as long as the graph.
  class Tables;
  /// step() in parts, so that a graph can capture the device's part of it: stage_step() notes the
  /// addresses of the gradients that there are and of `losses`, scalars on the device;
  /// tables.upload() copies the addresses, after a capture; run_step() gives the kernels to the
  /// device and reads nothing back. `factors` f64 [steps] on the device: the learning rate's factor
  /// by step. Each run, and each replay, counts as a step. After a loss or a gradient that is not
  /// finite nothing changes any more: see the report.
  void stage_step(Tables& tables, const std::vector<Tensor>& losses) const;
  void run_step(Tables& tables, const Tensor& factors, double max_gradient_norm);
  void count_step() { ++step_count_; }
  /// Where kernels find the number of steps done, for RandomStreams::counter.
  const std::int64_t* step_counter() const;
  Device device() const { return scalars_.device(); }
  DType dtype() const { return dtype_; }
  std::size_t parameter_count() const;
  bool empty() const { return groups_.empty(); }

 private:
  struct Slot {
    Parameter parameter;
    Tensor first_moment, second_moment;
  };
  struct Group {
    double learning_rate, weight_decay, beta1, beta2, epsilon;
    std::vector<Slot> slots;
  };
  template <class T>
  void run_step_of(Tables& tables, const Tensor& factors, double max_gradient_norm);
  void write_scalars();

  std::vector<Group> groups_;
  Tensor scalars_;  ///< a kernels::AdamWScalars
  DType dtype_ = DType::f32;
  std::int64_t step_count_ = 0;
  std::shared_ptr<Tables> tables_;  ///< of step()
};

class AdamW::Tables {
 public:
  /// Allocates for all parameters of the optimizer.
  explicit Tables(const AdamW& optimizer, std::size_t losses = 0);

  /// Copies to the device what changed since the last call.
  void upload();
  /// What the last step wrote, on the device: a kernels::AdamWReport, then the losses as f64. u8.
  const Tensor& report() const { return report_; }
  /// Of a report that was copied to the host.
  static kernels::AdamWReport report_of(const Tensor& report);
  static std::vector<double> losses_of(const Tensor& report);
  /// The parameters that AdamWReport::nonfinite_tensor counts.
  const std::vector<std::string>& parameter_names() const { return names_; }

 private:
  friend class AdamW;

  /// An array on the device, written by the host.
  class Array {
   public:
    Array(Device device, std::size_t bytes)
        : on_device_(Tensor::empty({static_cast<std::int64_t>(bytes)}, DType::u8, device)) {}
    /// Notes the values for upload(); no more bytes than the constructor was given.
    template <class Element>
    void stage(const std::vector<Element>& values);
    void upload();
    template <class Element>
    const Element* data() const {
      return reinterpret_cast<const Element*>(on_device_.raw());
    }

   private:
    std::vector<std::byte> staged_;
    Tensor on_device_;
    bool changed_ = false;
  };
  struct GroupTables {
    Array tensors, offsets;
    std::int64_t count = 0, elements = 0;
  };

  /// Takes the addresses of the gradients that there are now, and of the losses.
  template <class T>
  void stage(const AdamW& optimizer, const std::vector<Tensor>& losses);

  std::vector<GroupTables> groups_;
  Array gradients_, gradient_offsets_, losses_;
  std::int64_t loss_count_ = 0, elements_ = 0;
  std::vector<std::string> names_;
  Tensor workspace_, norm_, report_;
};

}  // namespace cmir
