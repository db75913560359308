#include "models/training/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <span>
#include <utility>

namespace cmir {
namespace {

constexpr const char* kPrefix = "adamw.";

/// One T in a tensor's memory.
template <class T>
Tensor tensor_of_bytes(const T& value, Device device) {
  Tensor bytes = Tensor::empty({static_cast<std::int64_t>(sizeof(T))}, DType::u8);
  std::memcpy(bytes.mutable_byte_span().data(), &value, sizeof(T));
  return bytes.to(device);
}

template <class T>
T* address(Tensor& bytes) {
  return reinterpret_cast<T*>(bytes.mutable_raw());
}

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
  const Device device = groups_.empty() ? Device{} : groups_[0].slots[0].first_moment.device();
  scalars_ = tensor_of_bytes(kernels::AdamWScalars{}, device);
}

template <class Element>
void AdamW::Tables::Array::stage(const std::vector<Element>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  if (std::ranges::equal(staged_, bytes)) return;
  require(static_cast<std::int64_t>(bytes.size()) <= on_device_.numel(), "AdamW",
          "a table of {} bytes has no room for {}", on_device_.numel(), bytes.size());
  staged_.assign(bytes.begin(), bytes.end());
  changed_ = true;
}

void AdamW::Tables::Array::upload() {
  if (!std::exchange(changed_, false)) return;
  const auto count = static_cast<std::int64_t>(staged_.size());
  Tensor bytes = Tensor::empty({count}, DType::u8);
  std::ranges::copy(staged_, bytes.mutable_byte_span().begin());
  on_device_.slice(0, count).copy_from(bytes);
}

AdamW::Tables::Tables(const AdamW& optimizer, std::size_t losses)
    : gradients_(optimizer.device(), sizeof(void*) * optimizer.parameter_count()),
      gradient_offsets_(optimizer.device(),
                        sizeof(std::int64_t) * (optimizer.parameter_count() + 1)),
      losses_(optimizer.device(), sizeof(void*) * losses),
      loss_count_(static_cast<std::int64_t>(losses)) {
  std::int64_t elements = 0;
  for (const Group& group : optimizer.groups_) {
    const std::size_t count = group.slots.size();
    groups_.push_back({{optimizer.device(), sizeof(kernels::AdamWTensor<double>) * count},
                       {optimizer.device(), sizeof(std::int64_t) * (count + 1)}});
    for (const Slot& slot : group.slots) elements += slot.first_moment.numel();
  }
  const auto bytes = [&](std::size_t size, std::int64_t count) {
    return Tensor::empty({static_cast<std::int64_t>(size) * count}, DType::u8, optimizer.device());
  };
  workspace_ =
      bytes(sizeof(kernels::SquaredNormPartial), kernels::squared_norm_workspace(elements));
  norm_ = bytes(sizeof(kernels::SquaredNormPartial), 1);
  report_ = bytes(sizeof(kernels::AdamWReport) + sizeof(double) * losses, 1);
}

void AdamW::Tables::upload() {
  for (GroupTables& group : groups_) {
    group.tensors.upload();
    group.offsets.upload();
  }
  for (Array* array : {&gradients_, &gradient_offsets_, &losses_}) array->upload();
}

kernels::AdamWReport AdamW::Tables::report_of(const Tensor& report) {
  kernels::AdamWReport result{};
  std::memcpy(&result, report.byte_span().data(), sizeof(result));
  return result;
}

std::vector<double> AdamW::Tables::losses_of(const Tensor& report) {
  const auto bytes = report.byte_span().subspan(sizeof(kernels::AdamWReport));
  std::vector<double> losses(bytes.size() / sizeof(double));
  std::memcpy(losses.data(), bytes.data(), bytes.size());
  return losses;
}

template <class T>
void AdamW::Tables::stage(const AdamW& optimizer, const std::vector<Tensor>& losses) {
  std::vector<const T*> gradients, loss_addresses;
  std::vector<std::int64_t> gradient_offsets{0};
  names_.clear();
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    std::vector<kernels::AdamWTensor<T>> tensors;
    std::vector<std::int64_t> offsets{0};
    for (Slot slot : optimizer.groups_[g].slots) {  // handles
      const Tensor gradient = slot.parameter.variable.gradient();
      if (!gradient.defined()) continue;
      tensors.push_back({slot.parameter.variable.mutable_value().mutable_data<T>(),
                         gradient.data<T>(), slot.first_moment.mutable_data<T>(),
                         slot.second_moment.mutable_data<T>()});
      offsets.push_back(offsets.back() + gradient.numel());
      gradients.push_back(gradient.data<T>());
      names_.push_back(slot.parameter.name);
      gradient_offsets.push_back(gradient_offsets.back() + gradient.numel());
    }
    groups_[g].count = static_cast<std::int64_t>(tensors.size());
    groups_[g].elements = offsets.back();
    groups_[g].tensors.stage(tensors);
    groups_[g].offsets.stage(offsets);
  }
  gradients_.stage(gradients);
  gradient_offsets_.stage(gradient_offsets);
  elements_ = gradient_offsets.back();
  for (const Tensor& loss : losses) loss_addresses.push_back(loss.data<T>());
  losses_.stage(loss_addresses);
}

template <class T>
void AdamW::run_step_of(Tables& tables, const Tensor& factors, double max_gradient_norm) {
  using Partial = kernels::SquaredNormPartial;
  auto* norm = address<Partial>(tables.norm_);
  auto* report = address<kernels::AdamWReport>(tables.report_);
  auto* scalars = address<kernels::AdamWScalars>(scalars_);
  kernels::run(device(),
               kernels::SquaredNorm<T>{tables.gradients_.data<const T*>(),
                                       tables.gradient_offsets_.data<std::int64_t>(),
                                       static_cast<std::int64_t>(tables.names_.size()),
                                       address<Partial>(tables.workspace_), norm},
               tables.elements_);
  kernels::run(device(),
               kernels::AdamWPrepare<T>{.norm = norm,
                                        .factors = factors.data<double>(),
                                        .factor_count = factors.numel(),
                                        .max_gradient_norm = max_gradient_norm,
                                        .losses = tables.losses_.data<const T*>(),
                                        .loss_count = tables.loss_count_,
                                        .scalars = scalars,
                                        .report = report,
                                        .loss_values = reinterpret_cast<double*>(report + 1)});
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    const Tables::GroupTables& addresses = tables.groups_[g];
    kernels::run(device(),
                 kernels::AdamWStep<T>{.tensors = addresses.tensors.data<kernels::AdamWTensor<T>>(),
                                       .offsets = addresses.offsets.data<std::int64_t>(),
                                       .tensor_count = addresses.count,
                                       .learning_rate = group.learning_rate,
                                       .weight_decay = group.weight_decay,
                                       .beta1 = group.beta1,
                                       .beta2 = group.beta2,
                                       .epsilon = group.epsilon,
                                       .scalars = scalars},
                 addresses.elements);
  }
}

double AdamW::step(double learning_rate_factor, double max_gradient_norm) {
  if (tables_ == nullptr) tables_ = std::make_shared<Tables>(*this);
  stage_step(*tables_, {});
  tables_->upload();
  run_step(*tables_, Tensor::from({learning_rate_factor}, {1}, device()), max_gradient_norm);
  const auto report = Tables::report_of(tables_->report().to(Device{}));
  require(report.stopped_before == 0, "AdamW",
          "an earlier step was not finite; load_state() before the next one");
  if (report.nonfinite_tensor >= 0) {
    write_scalars();  // the caller may go on
    fail(ErrorKind::numeric, "AdamW",
         "the gradient of parameter '{}' holds a NaN or an infinity; lower the learning "
         "rate or clip gradients",
         tables_->parameter_names().at(report.nonfinite_tensor));
  }
  count_step();
  return report.gradient_norm;
}

void AdamW::stage_step(Tables& tables, const std::vector<Tensor>& losses) const {
  dispatch_float(dtype_, "AdamW", [&]<class T>() { tables.stage<T>(*this, losses); });
}

void AdamW::run_step(Tables& tables, const Tensor& factors, double max_gradient_norm) {
  dispatch_float(dtype_, "AdamW",
                 [&]<class T>() { run_step_of<T>(tables, factors, max_gradient_norm); });
}

const std::int64_t* AdamW::step_counter() const {
  return &reinterpret_cast<const kernels::AdamWScalars*>(scalars_.raw())->step;
}

std::size_t AdamW::parameter_count() const {
  std::size_t count = 0;
  for (const Group& group : groups_) count += group.slots.size();
  return count;
}

void AdamW::write_scalars() {
  scalars_.copy_from(tensor_of_bytes(kernels::AdamWScalars{.step = step_count_}, Device{}));
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
  write_scalars();
}

}  // namespace cmir
