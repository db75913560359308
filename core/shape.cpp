#include "core/shape.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "core/error.h"

namespace cmir {

Shape::Shape(std::span<const std::int64_t> sizes) {
  require(sizes.size() <= kMaxRank, "shape", "rank {} exceeds {}", sizes.size(), kMaxRank);
  rank_ = static_cast<int>(sizes.size());
  std::int64_t product = 1;
  for (int i = 0; i < rank_; ++i) {
    require(sizes[i] >= 0, "shape", "dimension {} has the negative size {}", i, sizes[i]);
    sizes_[i] = sizes[i];
    // A zero anywhere makes the product zero, but the other sizes must still not overflow it.
    require(!__builtin_mul_overflow(product, std::max<std::int64_t>(sizes[i], 1), &product),
            "shape", "the element count overflows 63 bits at dimension {} of size {}", i, sizes[i]);
  }
  numel_ = std::find(sizes.begin(), sizes.end(), 0) == sizes.end() ? product : 0;
}

std::int64_t Shape::operator[](int i) const {
  const int index = i < 0 ? i + rank_ : i;
  if (index < 0 || index >= rank_) [[unlikely]] {
    fail(ErrorKind::usage, "shape", "dimension {} of {} does not exist", i, to_string());
  }
  return sizes_[index];
}

std::int64_t Shape::rows() const {
  std::int64_t rows = 1;
  for (int i = 0; i + 1 < rank_; ++i) rows *= sizes_[i];
  return rows;
}

Shape Shape::with_width(std::int64_t width) const {
  require(rank_ > 0, "shape", "a scalar has no last dimension to replace");
  std::array<std::int64_t, kMaxRank> sizes = sizes_;
  sizes[rank_ - 1] = width;
  return Shape(std::span<const std::int64_t>(sizes.data(), rank_));
}

Shape Shape::with_leading(std::int64_t size) const {
  require(rank_ > 0, "shape", "a scalar has no first dimension to replace");
  std::array<std::int64_t, kMaxRank> sizes = sizes_;
  sizes[0] = size;
  return Shape(std::span<const std::int64_t>(sizes.data(), rank_));
}

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(sizes(), other.sizes());
}

std::string Shape::to_string() const { return fmt::format("[{}]", fmt::join(sizes(), ", ")); }

}  // namespace cmir
