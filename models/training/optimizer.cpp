#include "models/training/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <span>

#include "kernels/optimizer/adamw.h"

namespace cmir {
namespace {

constexpr const char* kPrefix = "adamw.";

}  // namespace

AdamW::AdamW(std::vector<AdamWGroup> groups) {
  std::set<std::string> names;
  for (AdamWGroup& options : groups) {
    Group decayed{.learning_rate = options.learning_rate,
                  .weight_decay = options.weight_decay,
                  .beta1 = options.beta1,
                  .beta2 = options.beta2,
                  .epsilon = options.epsilon};
    Group undecayed = decayed;
    undecayed.weight_decay = 0;
    for (Parameter& parameter : options.parameters) {
      if (!parameter.variable.requires_gradient()) continue;
      const Tensor& value = parameter.variable.value();
      if (names.empty()) dtype_ = value.dtype();
      require(names.insert(parameter.name).second, "AdamW", "parameter '{}' is given twice",
              parameter.name);
      require(value.dtype() == dtype_, "AdamW", "parameter '{}' is {}, the others are {}",
              parameter.name, value.describe(), cmir::name_of(dtype_));
      const auto zeros = [shape = value.shape(), device = value.device(), this] {
        return Tensor::zeros(shape, dtype_, device);
      };
      Group& group = options.decay_bias_and_norm || value.rank() > 1 ? decayed : undecayed;
      group.slots.push_back({std::move(parameter), zeros(), zeros()});
    }
    if (!decayed.slots.empty()) groups_.push_back(std::move(decayed));
    if (!undecayed.slots.empty()) groups_.push_back(std::move(undecayed));
  }
}

template <class Element>
const Element* AdamW::KernelArray::on(Device device, const std::vector<Element>& values) {
  const auto wanted = std::as_bytes(std::span(values));
  if (!bytes_.defined() || !std::ranges::equal(bytes_.byte_span(), wanted)) {
    const auto count = static_cast<std::int64_t>(wanted.size());
    if (!bytes_.defined() || bytes_.numel() != count) bytes_ = Tensor::empty({count}, DType::u8);
    std::ranges::copy(wanted, bytes_.mutable_byte_span().begin());
  }
  on_device_ = bytes_.on(device);
  return reinterpret_cast<const Element*>(on_device_.raw());
}

template <class T>
double AdamW::gradient_norm() {
  std::vector<Tensor> gradients;
  std::vector<const T*> pointers;
  std::vector<const std::string*> names;
  std::vector<std::int64_t> offsets{0};
  for (const Group& group : groups_) {
    for (const Slot& slot : group.slots) {
      const Tensor gradient = slot.parameter.variable.gradient();
      if (!gradient.defined()) continue;
      pointers.push_back(gradient.data<T>());
      names.push_back(&slot.parameter.name);
      offsets.push_back(offsets.back() + gradient.numel());
      gradients.push_back(gradient);
    }
  }
  if (gradients.empty()) return 0;
  using Partial = kernels::SquaredNormPartial;
  const Device device = gradients[0].device();
  const auto bytes = static_cast<std::int64_t>(sizeof(Partial));
  Tensor workspace =
      Tensor::empty({bytes * kernels::squared_norm_workspace(offsets.back())}, DType::u8, device);
  Tensor written = Tensor::empty({bytes}, DType::u8, device);
  kernels::run(device, kernels::SquaredNorm<T>{gradients_.on(device, pointers),
                                               gradient_offsets_.on(device, offsets),
                                               static_cast<std::int64_t>(pointers.size()),
                                               reinterpret_cast<Partial*>(workspace.mutable_raw()),
                                               reinterpret_cast<Partial*>(written.mutable_raw())});
  const Tensor read_back = written.to(Device{});
  Partial result{};
  std::memcpy(&result, read_back.byte_span().data(), sizeof(result));
  if (result.nonfinite_tensor >= 0) {
    fail(ErrorKind::numeric, "AdamW",
         "the gradient of parameter '{}' holds a NaN or an infinity; lower the learning "
         "rate or clip gradients",
         *names[result.nonfinite_tensor]);
  }
  return std::sqrt(result.sum);
}

template <class T>
void AdamW::update(Group& group, double learning_rate_factor, double gradient_scale) {
  std::vector<kernels::AdamWTensor<T>> tensors;
  std::vector<std::int64_t> offsets{0};
  for (Slot& slot : group.slots) {
    const Tensor gradient = slot.parameter.variable.gradient();
    if (!gradient.defined()) continue;
    tensors.push_back({slot.parameter.variable.mutable_value().mutable_data<T>(),
                       gradient.data<T>(), slot.first_moment.mutable_data<T>(),
                       slot.second_moment.mutable_data<T>()});
    offsets.push_back(offsets.back() + gradient.numel());
  }
  const Device device = group.slots[0].first_moment.device();
  kernels::run(device,
               kernels::AdamWStep<T>{.tensors = group.tensors.on(device, tensors),
                                     .offsets = group.offsets.on(device, offsets),
                                     .tensor_count = static_cast<std::int64_t>(tensors.size()),
                                     .learning_rate = group.learning_rate * learning_rate_factor,
                                     .weight_decay = group.weight_decay,
                                     .beta1 = group.beta1,
                                     .beta2 = group.beta2,
                                     .epsilon = group.epsilon,
                                     .gradient_scale = gradient_scale,
                                     .step = step_count_});
}

double AdamW::step(double learning_rate_factor, double max_gradient_norm) {
  return dispatch_float(dtype_, "AdamW", [&]<class T>() {
    const double norm = gradient_norm<T>();
    const bool clip = max_gradient_norm > 0;
    const double scale = clip ? std::min(1.0, max_gradient_norm / (norm + 1e-6)) : 1.0;
    ++step_count_;
    for (Group& group : groups_) update<T>(group, learning_rate_factor, scale);
    return norm;
  });
}

void AdamW::zero_gradients() {
  for (Group& group : groups_) {
    for (Slot& slot : group.slots) slot.parameter.variable.clear_gradient();
  }
}

std::map<std::string, Tensor> AdamW::state() const {
  std::map<std::string, Tensor> state;
  state.emplace(fmt::format("{}step", kPrefix), Tensor::from<std::int64_t>({step_count_}, {}));
  for (const Group& group : groups_) {
    for (const Slot& slot : group.slots) {
      state.emplace(fmt::format("{}first_moment.{}", kPrefix, slot.parameter.name),
                    slot.first_moment);
      state.emplace(fmt::format("{}second_moment.{}", kPrefix, slot.parameter.name),
                    slot.second_moment);
    }
  }
  return state;
}

void AdamW::load_state(const std::map<std::string, Tensor>& saved) {
  const auto mine = state();
  for (const auto& [name, tensor] : mine) {
    const auto found = saved.find(name);
    if (found == saved.end()) {
      fail(ErrorKind::data, "AdamW", "the saved state has no '{}': it is of another model", name);
    }
    if (found->second.shape() != tensor.shape() || found->second.dtype() != tensor.dtype()) {
      fail(ErrorKind::data, "AdamW", "the saved '{}' is {}, this model needs {}", name,
           found->second.describe(), tensor.describe());
    }
  }
  for (const auto& [name, tensor] : saved) {
    if (name.starts_with(kPrefix) && !mine.contains(name)) {
      fail(ErrorKind::data, "AdamW", "the saved state has '{}', which this model has not", name);
    }
  }
  for (auto [name, tensor] : mine) tensor.copy_from(saved.at(name));
  step_count_ = saved.at(fmt::format("{}step", kPrefix)).span<std::int64_t>()[0];
}

}  // namespace cmir
