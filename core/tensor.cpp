#include "core/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <type_traits>
#include <utility>

#include "core/allocator.h"
#include "core/cuda/runtime.h"
#include "core/range.h"
#include "core/recording.h"

namespace cmir {
namespace {

/// Copies between any two devices. The ranges may overlap.
void copy_bytes(std::byte* to, Device to_device, const std::byte* from, Device from_device,
                std::size_t bytes) {
  if (bytes == 0) return;
  if (to_device.has_host_memory() && from_device.has_host_memory()) {
    require(to_device == from_device || !(records(to_device) || records(from_device)),
            op_under_way(),
            "copies from or to the host inside a graph capture, which would repeat the values of "
            "the capture; copy before or after it");
    do_or_record(to_device, [=] { std::memmove(to, from, bytes); });
  } else if (to_device.has_host_memory()) {
    cuda::copy_to_host(to, from, bytes);
  } else if (from_device.has_host_memory()) {
    cuda::copy_to_device(to, from, bytes);
  } else {
    cuda::copy_on_device(to, from, bytes);  // a process has one GPU
  }
}

}  // namespace

Storage::Storage(std::size_t bytes, Device device)
    : bytes_(bytes), device_(device), allocator_(&allocator_of(device)) {
  data_ = static_cast<std::byte*>(allocator_->allocate(bytes));
}

Storage::Storage(const void* data, std::size_t bytes, std::shared_ptr<const void> owner)
    : data_(static_cast<std::byte*>(const_cast<void*>(data))),
      bytes_(bytes),
      owner_(std::move(owner)) {
  require(owner_ != nullptr, "tensor", "foreign memory needs an owner");
}

Storage::~Storage() {
  if (allocator_ != nullptr) allocator_->deallocate(data_, bytes_);
}

std::shared_ptr<Storage> Storage::mirror(Device device) {
  static std::mutex mutex;  // ops on several threads may share a table
  const std::lock_guard lock(mutex);
  const bool made = mirror_ == nullptr || mirror_->device_ != device;
  if (made) mirror_ = std::make_shared<Storage>(bytes_, device);
  if (made || mirrored_version_ != version_) {
    copy_bytes(mirror_->data_, device, data_, device_, bytes_);
    mirror_->bump_version();
    mirrored_version_ = version_;
  }
  return mirror_;
}

namespace {

/// Calls f with a value-initialised element of the runtime dtype.
template <class F>
decltype(auto) dispatch_all(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::bf16:
      return f(BFloat16{});
    case DType::i32:
      return f(std::int32_t{});
    case DType::i64:
      return f(std::int64_t{});
    case DType::u8:
      return f(std::uint8_t{});
  }
  fail(ErrorKind::internal, "tensor", "unknown dtype {}", static_cast<int>(dtype));
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<From, BFloat16>) {
    return convert<To>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, BFloat16>) {
    return BFloat16(static_cast<float>(value));
  } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    // The language leaves the conversion of NaN and of values out of range undefined. 2^digits =
    // max() + 1 is exact in From, unlike max().
    using Limits = std::numeric_limits<To>;
    if (std::isnan(value)) return 0;
    if (value >= std::ldexp(From{1}, Limits::digits)) return Limits::max();
    if (value <= static_cast<From>(Limits::min())) return Limits::min();
    return static_cast<To>(value);
  } else if constexpr (std::is_integral_v<To>) {
    return std::in_range<To>(value)
               ? static_cast<To>(value)
               : (value < 0 ? std::numeric_limits<To>::min() : std::numeric_limits<To>::max());
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor tensor;
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  tensor.storage_ = std::make_shared<Storage>(tensor.bytes(), device);
  return tensor;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor tensor = empty(shape, dtype, device);
  if (tensor.numel() == 0) return tensor;
  if (device.has_host_memory()) {
    do_or_record(
        device, [to = tensor.mutable_raw(), bytes = tensor.bytes()] { std::memset(to, 0, bytes); });
  } else {
    tensor.fill(0);
  }
  return tensor;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor tensor = empty(shape, dtype, device);
  tensor.fill(value);
  return tensor;
}

Tensor Tensor::wrap(const void* data, const Shape& shape, DType dtype,
                    std::shared_ptr<const void> owner) {
  require(reinterpret_cast<std::uintptr_t>(data) % size_of(dtype) == 0, "tensor",
          "memory of dtype {} must be aligned to {} bytes", name_of(dtype), size_of(dtype));
  Tensor tensor;
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  tensor.storage_ = std::make_shared<Storage>(data, tensor.bytes(), std::move(owner));
  return tensor;
}

void Tensor::check_dtype(DType wanted) const {
  require(defined(), "tensor", "an undefined tensor has no data");
  if (dtype_ != wanted) [[unlikely]] {  // describe() costs a microsecond: only for the message
    fail(ErrorKind::usage, "tensor", "asked for {} data of {}; convert with Tensor::to",
         name_of(wanted), describe());
  }
}

void Tensor::fail_host_access() const {
  fail(ErrorKind::usage, op_under_way(),
       "host code reads or writes {}; copy it to the cpu first: tensor.to(Device{{}})", describe());
}

const std::byte* Tensor::raw() const {
  require(defined(), "tensor", "an undefined tensor has no data");
  return storage_->data() + offset_;
}

std::byte* Tensor::mutable_raw() {
  require(defined(), "tensor", "an undefined tensor has no data");
  if (storage_->read_only()) [[unlikely]] {
    fail(ErrorKind::usage, "tensor", "{} is read-only (a mapped file); clone it to write",
         describe());
  }
  storage_->bump_version();
  return storage_->data() + offset_;
}

double Tensor::item() const {
  require(numel() == 1, "item", "needs exactly one element, got {}", describe());
  return to_vector()[0];
}

std::vector<double> Tensor::to_vector() const {
  if (!device().is_cpu()) return to(Device{}).to_vector();
  std::vector<double> values(numel());
  dispatch_all(dtype_, [&](auto element) {
    using T = decltype(element);
    std::ranges::transform(span<T>(), values.begin(), [](T x) { return convert<double>(x); });
  });
  return values;
}

Tensor Tensor::reshape(const Shape& shape) const {
  require(shape.numel() == numel(), "reshape", "{} elements of {} do not fit {}", numel(),
          describe(), shape.to_string());
  Tensor view = *this;
  view.shape_ = shape;
  return view;
}

Tensor Tensor::reshape(std::initializer_list<std::int64_t> sizes) const {
  std::vector<std::int64_t> resolved(sizes);
  const auto deduced = std::ranges::find(resolved, -1);
  if (deduced != resolved.end()) {
    *deduced = 1;
    const std::int64_t others = Shape(resolved).numel();
    require(others > 0 && numel() % others == 0, "reshape", "cannot deduce the size -1 for {}",
            describe());
    *deduced = numel() / others;
  }
  return reshape(Shape(resolved));
}

Tensor Tensor::slice(std::int64_t begin, std::int64_t end) const {
  require(rank() > 0 && 0 <= begin && begin <= end && end <= shape_[0], "slice",
          "rows [{}, {}) are not within {}", begin, end, describe());
  Tensor view = *this;
  view.shape_ = shape_.with_leading(end - begin);
  if (shape_[0] > 0) view.offset_ += bytes() / shape_[0] * begin;
  return view;
}

Tensor Tensor::clone() const {
  Tensor copy = empty(shape_, dtype_, device());
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  if (!device().is_cpu()) return to(Device{}).to(dtype).to(device());  // rare: through the host
  Tensor result = empty(shape_, dtype, device());
  dispatch_all(dtype_, [&](auto from) {
    dispatch_all(dtype, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      std::ranges::transform(span<From>(), result.mutable_data<To>(),
                             [](From x) { return convert<To>(x); });
    });
  });
  return result;
}

Tensor Tensor::to(Device device) const {
  if (!defined() || device == this->device()) return *this;
  Tensor copy = empty(shape_, dtype_, device);
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::on(Device device) const {
  if (!defined() || device == this->device()) return *this;
  Tensor copy = *this;
  copy.storage_ = storage_->mirror(device);
  return copy;
}

void Tensor::copy_from(const Tensor& source) {
  require(shape_ == source.shape_ && dtype_ == source.dtype_, "copy_from", "cannot copy {} into {}",
          source.describe(), describe());
  if (numel() == 0) return;
  copy_bytes(mutable_raw(), device(), source.raw(), source.device(), bytes());
}

void Tensor::fill(double value) {
  dispatch_all(dtype_, [&](auto element) {
    using T = decltype(element);
    const T converted = convert<T>(value);
    T* elements = mutable_data<T>();
    if (device().has_host_memory()) {
      do_or_record(device(), [elements, count = numel(), converted] {
        std::fill_n(elements, count, converted);
      });
    } else {
      cuda::fill(elements, &converted, sizeof(T), numel());
    }
  });
}

std::string Tensor::describe() const {
  if (!defined()) return "undefined tensor";
  return fmt::format("{}{} on {}", name_of(dtype_), shape_.to_string(), device().to_string());
}

void require_finite(const Tensor& tensor, std::string_view what) {
  const Tensor on_host = tensor.to(Device{});
  dispatch_float(tensor.dtype(), "require_finite", [&]<class T>() {
    const auto values = on_host.span<T>();
    const auto bad = std::ranges::find_if(values, [](T x) { return !std::isfinite(x); });
    if (bad != values.end()) {
      fail(ErrorKind::numeric, what, "element {} of {} is {}", bad - values.begin(),
           tensor.describe(), *bad);
    }
  });
}

}  // namespace cmir
