// Contiguous, row-major tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace cmir {

class CachingAllocator;

/// A block of device memory with a version that counts the times somebody asked to write to it.
class Storage {
 public:
  /// Uninitialised memory from the device's allocator.
  Storage(std::size_t bytes, Device device);
  /// Memory owned by somebody else (a mapped file), kept alive by `owner`; read-only.
  Storage(const void* data, std::size_t bytes, std::shared_ptr<const void> owner);
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage();

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  std::uint64_t version() const { return version_; }
  bool read_only() const { return owner_ != nullptr; }
  void bump_version() { ++version_; }
  /// The same bytes in the memory of another device, brought up to date with this storage; made
  /// once, so the address stays.
  std::shared_ptr<Storage> mirror(Device device);

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_;
  std::uint64_t version_ = 0;
  std::shared_ptr<const void> owner_;
  CachingAllocator* allocator_ = nullptr;  // null with an owner
  std::shared_ptr<Storage> mirror_;
  std::uint64_t mirrored_version_ = 0;
};

/// A handle to (part of) a Storage. Copies share the memory; `clone` copies it. Views are reshapes
/// and slices of the leading dimension, so every tensor is contiguous. A default-constructed Tensor
/// is "undefined" and holds nothing.
///
/// Reading and writing: `data<T>()` and `mutable_data<T>()` are addresses in the device's memory,
/// for kernels. `span<T>()` and `mutable_span<T>()` are for code on the host, and Errors unless the
/// tensor is on the CPU. What is mutable raises the storage's version, by which autograd notices
/// that a tensor saved for backward was changed in place.
///
/// Devices: filling, copying and conversion work on all. Small integer tensors that ops check on
/// the host (offsets, lengths, indices, classes) stay on the CPU; ops give kernels their
/// `on(device)`.
class Tensor {
 public:
  Tensor() = default;

  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = {});
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = {});
  /// Every element `value`, converted to `dtype`.
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32,
                     Device device = {});
  static Tensor scalar(double value, DType dtype = DType::f32) { return full({}, value, dtype); }
  /// A copy of `values`; their count must equal shape.numel().
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, Device device = {});
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = {}) {
    return from(std::span<const T>(values), shape, device);
  }
  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape, Device device = {}) {
    return from(std::span<const T>(values.begin(), values.size()), shape, device);
  }
  /// A read-only tensor over foreign memory, which `owner` keeps alive. `data` must be aligned to
  /// the element.
  static Tensor wrap(const void* data, const Shape& shape, DType dtype,
                     std::shared_ptr<const void> owner);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  std::int64_t size(int i) const { return shape_[i]; }
  int rank() const { return shape_.rank(); }
  std::int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device() : Device{}; }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }
  std::uint64_t version() const { return storage_ ? storage_->version() : 0; }

  const std::byte* raw() const;
  std::byte* mutable_raw();
  /// Typed access; a T that is not the tensor's dtype is an Error.
  template <class T>
  const T* data() const {
    check_dtype(dtype_of<T>);
    return reinterpret_cast<const T*>(raw());
  }
  template <class T>
  T* mutable_data() {
    check_dtype(dtype_of<T>);
    return reinterpret_cast<T*>(mutable_raw());
  }
  /// Typed access from the host.
  template <class T>
  std::span<const T> span() const {
    check_host();
    return {data<T>(), static_cast<std::size_t>(numel())};
  }
  template <class T>
  std::span<T> mutable_span() {
    check_host();
    return {mutable_data<T>(), static_cast<std::size_t>(numel())};
  }
  std::span<const std::byte> byte_span() const {
    check_host();
    return {raw(), bytes()};
  }
  std::span<std::byte> mutable_byte_span() {
    check_host();
    return {mutable_raw(), bytes()};
  }
  /// The single element, converted to double.
  double item() const;
  /// Every element converted to double (any dtype): for tests, metrics and reports, not for
  /// kernels.
  std::vector<double> to_vector() const;

  /// The same memory with other sizes of equal product; one size may be -1 and is then deduced.
  Tensor reshape(std::initializer_list<std::int64_t> sizes) const;
  Tensor reshape(const Shape& shape) const;
  /// Rows [begin, end) of the leading dimension, sharing memory.
  Tensor slice(std::int64_t begin, std::int64_t end) const;
  Tensor clone() const;
  /// A converted copy, or the same tensor when the dtype is already right. Floats to integers
  /// truncate; values out of range become the nearest integer that the dtype has, NaN becomes 0.
  Tensor to(DType dtype) const;
  /// A copy on the device, or the same tensor when it is there already. To a GPU the copy goes into
  /// cuda::current_stream(), and the call does not wait for it.
  Tensor to(Device device) const;
  /// Like to(device), but the copy is kept with this tensor's storage and made anew, at the same
  /// address, only after somebody wrote to it. For what many kernels read; not to be written to.
  Tensor on(Device device) const;
  /// Overwrites this tensor's elements; shape and dtype must agree, devices may differ.
  void copy_from(const Tensor& source);
  void fill(double value);

  /// True when both are handles to the same storage.
  bool shares_storage(const Tensor& other) const { return defined() && storage_ == other.storage_; }
  /// True when no other Tensor shares the storage.
  bool unique() const { return storage_.use_count() == 1; }
  /// "f32[48, 150] on cpu"
  std::string describe() const;

 private:
  void check_dtype(DType wanted) const;
  void check_host() const {
    if (!device().is_cpu()) [[unlikely]]
      fail_host_access();
  }
  [[noreturn]] void fail_host_access() const;

  std::shared_ptr<Storage> storage_;
  std::size_t offset_ = 0;  // bytes
  Shape shape_;
  DType dtype_ = DType::f32;
};

/// Throws unless all elements of the floating tensor are finite; the message names `what` and the
/// first bad index.
void require_finite(const Tensor& tensor, std::string_view what);

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape, Device device) {
  require(static_cast<std::int64_t>(values.size()) == shape.numel(), "tensor",
          "{} values do not fill the shape {}", values.size(), shape.to_string());
  Tensor tensor = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), tensor.mutable_data<T>());
  return tensor.to(device);
}

}  // namespace cmir
