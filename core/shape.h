// The sizes of a tensor's dimensions.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace cmir {

/// Up to 8 dimension sizes, each >= 0, with a product that fits in 63 bits. Rank 0 is a scalar (one
/// element).
class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes)
      : Shape(std::span<const std::int64_t>(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const std::int64_t> sizes);

  int rank() const { return rank_; }
  std::int64_t numel() const { return numel_; }
  /// Size of dimension `i`; negative `i` counts from the end (-1 is the last).
  std::int64_t operator[](int i) const;
  /// Product of all sizes but the last: the number of rows when the tensor is read as a matrix. 1
  /// for a scalar.
  std::int64_t rows() const;
  /// Size of the last dimension; 1 for a scalar.
  std::int64_t width() const { return rank_ == 0 ? 1 : sizes_[rank_ - 1]; }
  /// The same shape with the last dimension replaced.
  Shape with_width(std::int64_t width) const;
  /// The same shape with the first dimension replaced.
  Shape with_leading(std::int64_t size) const;
  std::span<const std::int64_t> sizes() const {
    return {sizes_.data(), static_cast<std::size_t>(rank_)};
  }

  bool operator==(const Shape& other) const;
  /// "[48, 150]"
  std::string to_string() const;

 private:
  std::array<std::int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
  std::int64_t numel_ = 1;
};

}  // namespace cmir
