#include "losses/environment_penalty.h"

#include "kernels/loss/prediction.h"

namespace cmir::losses {

Penalty environment_penalty(std::string_view op, const kernels::EnvironmentPenaltyForm& form,
                            const Tensor& values, const EnvironmentGroups& groups,
                            bool derivatives) {
  const EnvironmentsOnDevice environments(op, groups, values);
  Penalty out{Tensor::empty({}, values.dtype(), values.device()), {}};
  if (derivatives) out.derivatives = Tensor::empty(values.shape(), values.dtype(), values.device());
  dispatch_float(values.dtype(), op, [&]<class T>() {
    using Kernel = kernels::EnvironmentPenalty<T>;
    Tensor scratch =
        Tensor::empty({Kernel::workspace(environments.rows.environments, environments.rows.rows)},
                      DType::f64, values.device());
    kernels::run(values.device(),
                 Kernel{form, values.data<T>(), environments.rows, scratch.mutable_data<double>(),
                        out.value.mutable_data<T>(),
                        derivatives ? out.derivatives.mutable_data<T>() : nullptr});
  });
  return out;
}

Tensor times_cotangent(const Tensor& derivatives, const Tensor& cotangent) {
  Tensor out = Tensor::empty(derivatives.shape(), derivatives.dtype(), derivatives.device());
  dispatch_float(out.dtype(), "scale_rows", [&]<class T>() {
    kernels::run(out.device(),
                 kernels::ScaleRows<T>{derivatives.data<T>(), cotangent.data<T>(), true, 1.0,
                                       out.mutable_data<T>(), out.numel(), 1});
  });
  return out;
}

}  // namespace cmir::losses
