// Matrices as lists of rows, and what a Transformer does with them, written out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace cmir::test {

using Matrix = std::vector<std::vector<double>>;

inline Matrix rows_of(const Tensor& x) {
  const auto values = x.to_vector();
  Matrix rows;
  for (std::int64_t r = 0; r < x.shape().rows(); ++r) {
    rows.emplace_back(values.begin() + r * x.shape().width(),
                      values.begin() + (r + 1) * x.shape().width());
  }
  return rows;
}
inline Matrix affine(const Matrix& x, const Matrix& weight, const std::vector<double>& bias) {
  Matrix y(x.size(), bias);
  for (std::size_t r = 0; r < x.size(); ++r) {
    for (std::size_t o = 0; o < bias.size(); ++o) {
      for (std::size_t i = 0; i < x[r].size(); ++i) y[r][o] += x[r][i] * weight[o][i];
    }
  }
  return y;
}
inline Matrix normalised(Matrix x) {
  for (auto& row : x) {
    double mean = 0, variance = 0;
    for (const double v : row) mean += v / row.size();
    for (const double v : row) variance += (v - mean) * (v - mean) / row.size();
    for (double& v : row) v = (v - mean) / std::sqrt(variance + 1e-5);
  }
  return x;
}
inline Matrix sum(const Matrix& a, const Matrix& b) {
  Matrix c = a;
  for (std::size_t r = 0; r < a.size(); ++r) {
    for (std::size_t i = 0; i < a[r].size(); ++i) c[r][i] += b[r][i];
  }
  return c;
}

inline Matrix columns(const Matrix& x, std::size_t begin, std::size_t end) {
  Matrix part;
  for (const auto& row : x) part.emplace_back(row.begin() + begin, row.begin() + end);
  return part;
}
/// softmax(query key^T / sqrt(head_width)) value of each head.
inline Matrix attention(const Matrix& query, const Matrix& key, const Matrix& value,
                        std::size_t head_width) {
  const std::size_t width = query[0].size();
  Matrix mixed(query.size(), std::vector<double>(width));
  for (std::size_t head = 0; head < width; head += head_width) {
    for (std::size_t q = 0; q < query.size(); ++q) {
      std::vector<double> weights;
      double total = 0;
      for (const auto& k : key) {
        double score = 0;
        for (std::size_t i = head; i < head + head_width; ++i) score += query[q][i] * k[i];
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(head_width))));
        total += weights.back();
      }
      for (std::size_t k = 0; k < key.size(); ++k) {
        for (std::size_t i = head; i < head + head_width; ++i)
          mixed[q][i] += weights[k] / total * value[k][i];
      }
    }
  }
  return mixed;
}

}  // namespace cmir::test
