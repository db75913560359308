#include "kernels/attention/attention.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/packed_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;
using Lengths = std::vector<std::int64_t>;
using Offsets = Shared<std::int64_t>;

struct Case {
  Lengths queries, keys;
  std::int64_t heads, width;
  bool causal = false;
  float dropout = 0;
  double scale = 0.3;
};

/// A batch with buffers of its own; with `gap` extra elements between rows, as when query, key,
/// value share a projection.
template <class T>
struct Batch {
  Offsets query_offsets, key_offsets;
  std::int64_t total, query_stride, key_stride;
  Guarded<T> query, key, value, doutput, output, log_sum_exp, dquery, dkey, dvalue;
  AttentionProblem<T> problem;

  explicit Batch(const Case& c, std::int64_t gap = 0)
      : query_offsets(offsets_of(c.queries)),
        key_offsets(offsets_of(c.keys)),
        total(c.heads * c.width),
        query_stride(total + gap),
        key_stride(total + 2 * gap),
        query(normals(query_offsets.back() * query_stride, 1)),
        key(normals(key_offsets.back() * key_stride, 2)),
        value(normals(key_offsets.back() * key_stride, 3)),
        doutput(normals(query_offsets.back() * total, 4)),
        output(query_offsets.back() * total),
        log_sum_exp(query_offsets.back() * c.heads),
        dquery(query_offsets.back() * query_stride),
        dkey(key_offsets.back() * key_stride),
        dvalue(key_offsets.back() * key_stride) {
    problem = {query.data(), key.data(), value.data(), query_stride, key_stride, key_stride};
    problem.query_offsets = query_offsets.data();
    problem.key_offsets = key_offsets.data();
    problem.samples = static_cast<std::int64_t>(c.queries.size());
    problem.heads = c.heads;
    problem.head_width = c.width;
    problem.most_queries = *std::max_element(c.queries.begin(), c.queries.end());
    problem.most_keys = *std::max_element(c.keys.begin(), c.keys.end());
    problem.scale = static_cast<T>(c.scale);
    problem.causal = c.causal;
    problem.dropout = c.dropout;
    problem.stream = {.seed = 7, .step = 2, .site = 3};
  }

  void run_forward() {
    Guarded<T> workspace(attention_forward_workspace(problem));
    run(test_device(),
        AttentionForward<T>{problem, output.data(), log_sum_exp.data(), workspace.data()});
  }
  void run_backward() {
    Guarded<T> workspace(attention_backward_workspace(problem));
    run(test_device(),
        AttentionBackward<T>{problem, output.data(), log_sum_exp.data(), doutput.data(),
                             dquery.data(), dkey.data(), dvalue.data(), workspace.data()});
  }
};

/// Attention of head h of sample s written out: probabilities, then the derivative of every step.
template <class T>
void oracle(Batch<T>& b, std::int64_t s, std::int64_t h, std::vector<double>& output,
            std::vector<double>& lse, std::vector<double>& dquery, std::vector<double>& dkey,
            std::vector<double>& dvalue) {
  const AttentionProblem<T>& p = b.problem;
  const std::int64_t q0 = b.query_offsets[s], k0 = b.key_offsets[s];
  const std::int64_t queries = b.query_offsets[s + 1] - q0, keys = b.key_offsets[s + 1] - k0;
  const auto dot = [&](auto& x, std::int64_t i, auto& y, std::int64_t j) {
    double sum = 0;
    for (std::int64_t d = 0; d < p.head_width; ++d) sum += static_cast<double>(x[i + d]) * y[j + d];
    return sum;
  };
  for (std::int64_t i = 0; i < queries; ++i) {
    const std::int64_t q = (q0 + i) * b.query_stride + h * p.head_width;
    const std::int64_t o = (q0 + i) * b.total + h * p.head_width;
    const auto k_at = [&](std::int64_t j) { return (k0 + j) * b.key_stride + h * p.head_width; };
    std::vector<double> probability(keys), mask(keys), dprobability(keys);
    double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
    const auto sees = [&](std::int64_t j) { return !p.causal || j <= i + keys - queries; };
    for (std::int64_t j = 0; j < keys; ++j) {
      if (sees(j)) maximum = std::max(maximum, p.scale * dot(b.query, q, b.key, k_at(j)));
    }
    for (std::int64_t j = 0; j < keys; ++j) {
      if (sees(j)) probability[j] = std::exp(p.scale * dot(b.query, q, b.key, k_at(j)) - maximum);
      sum += probability[j];
    }
    lse[(q0 + i) * p.heads + h] = maximum + std::log(sum);
    double mean = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      if (sum > 0) probability[j] /= sum;
      const auto element = (static_cast<std::uint64_t>((q0 + i) * p.heads + h) << 24) +
                           static_cast<std::uint64_t>(j);
      mask[j] = p.stream.uniform(element) < p.dropout ? 0 : 1 / (1.0 - p.dropout);
      dprobability[j] = mask[j] * dot(b.doutput, o, b.value, k_at(j));
      mean += probability[j] * dprobability[j];
    }
    for (std::int64_t j = 0; j < keys; ++j) {
      const double dscore = p.scale * probability[j] * (dprobability[j] - mean);
      for (std::int64_t d = 0; d < p.head_width; ++d) {
        output[o + d] += mask[j] * probability[j] * b.value[k_at(j) + d];
        dvalue[k_at(j) + d] += mask[j] * probability[j] * b.doutput[o + d];
        dquery[q + d] += dscore * b.key[k_at(j) + d];
        dkey[k_at(j) + d] += dscore * b.query[q + d];
      }
    }
  }
}

template <class T>
class AttentionTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(AttentionTest, Scalars);

/// The elements between rows are nobody's: they must still hold the sentinel NaN.
std::vector<double> with_gaps(std::int64_t rows, std::int64_t width, std::int64_t stride) {
  std::vector<double> matrix(rows * stride, std::nan(""));
  for (std::int64_t r = 0; r < rows; ++r) std::fill_n(matrix.begin() + r * stride, width, 0.0);
  return matrix;
}

TYPED_TEST(AttentionTest, MatchesTheFormula) {
  using T = TypeParam;
  const Lengths ragged = {0, 1, 5, 0, 12, 33, 3}, other = {2, 1, 0, 0, 7, 17, 50};
  const std::vector<Case> cases = {{ragged, ragged, 5, 30},
                                   {ragged, other, 2, 25},
                                   {other, ragged, 1, 1},
                                   {ragged, other, 3, 5, true},
                                   {other, ragged, 2, 9, true, 0.3F},
                                   {ragged, ragged, 2, 10, false, 0.5F},
                                   {{1}, {1}, 1, 47},
                                   {{0, 0}, {0, 3}, 2, 4},
                                   {{130}, {97}, 2, 8, true},
                                   {ragged, other, 2, 20, false, 0, 100.0},
                                   // About the tiles of 32 and the registers of a device's kernels.
                                   {{32, 31, 64}, {33, 64, 32}, 1, 50, false, 0.2F},
                                   {{40}, {70}, 1, 128, true},
                                   {{70}, {40}, 1, 4, true, 0.2F},
                                   {{9}, {35}, 1, 130}};
  for_each_variant<T>([&] {
    for (std::size_t number = 0; number < cases.size(); ++number) {
      const Case& c = cases[number];
      for (const std::int64_t gap : {0, 3}) {
        Batch<T> b(c, gap);
        b.run_forward();
        b.run_backward();
        const std::int64_t rows = b.query_offsets.back(), key_rows = b.key_offsets.back();
        std::vector<double> output(rows * b.total), lse(rows * c.heads),
            dquery = with_gaps(rows, b.total, b.query_stride),
            dkey = with_gaps(key_rows, b.total, b.key_stride),
            dvalue = with_gaps(key_rows, b.total, b.key_stride);
        for (std::int64_t s = 0; s < b.problem.samples; ++s) {
          for (std::int64_t h = 0; h < c.heads; ++h)
            oracle(b, s, h, output, lse, dquery, dkey, dvalue);
        }
        // A logit's rounding error, eps |q| |k| scale, is the relative error of a probability.
        const double logits = std::max(1.0, c.scale * static_cast<double>(c.width));
        const std::string at = fmt::format("case {} gap {}", number, gap);
        expect_close(b.output, output, 3 * logits, 40, at + " output");
        expect_close(b.log_sum_exp, lse, 3 * logits, 40, at + " log_sum_exp");
        const double norm = logits * std::max(1.0, c.scale) * 10 * std::sqrt(1.0 * c.width);
        expect_close(b.dvalue, dvalue, norm, 40, at + " dvalue");
        expect_close(b.dquery, dquery, norm, 40, at + " dquery");
        expect_close(b.dkey, dkey, norm, 40, at + " dkey");
      }
    }
  });
}

TYPED_TEST(AttentionTest, ASampleGivesTheSameBitsAloneAndInABatch) {
  using T = TypeParam;
  const Case c{{5, 0, 12, 50, 1}, {7, 3, 12, 50, 0}, 2, 15};
  for_each_variant<T>([&] {
    Batch<T> b(c);
    b.run_forward();
    b.run_backward();
    for (std::size_t s = 0; s < c.queries.size(); ++s) {
      Batch<T> alone({{c.queries[s]}, {c.keys[s]}, c.heads, c.width});
      const std::int64_t q = b.query_offsets[s] * b.total, k = b.key_offsets[s] * b.total;
      const std::int64_t own_q = c.queries[s] * b.total, own_k = c.keys[s] * b.total;
      std::copy_n(b.query.data() + q, own_q, alone.query.data());
      std::copy_n(b.doutput.data() + q, own_q, alone.doutput.data());
      std::copy_n(b.key.data() + k, own_k, alone.key.data());
      std::copy_n(b.value.data() + k, own_k, alone.value.data());
      alone.run_forward();
      alone.run_backward();
      EXPECT_EQ(std::memcmp(alone.output.data(), b.output.data() + q, own_q * sizeof(T)), 0) << s;
      EXPECT_EQ(std::memcmp(alone.dquery.data(), b.dquery.data() + q, own_q * sizeof(T)), 0) << s;
      EXPECT_EQ(std::memcmp(alone.dkey.data(), b.dkey.data() + k, own_k * sizeof(T)), 0) << s;
      EXPECT_EQ(std::memcmp(alone.dvalue.data(), b.dvalue.data() + k, own_k * sizeof(T)), 0) << s;
    }
  });
}

TYPED_TEST(AttentionTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<T>([] {
    Batch<T> b({Lengths(12, 11), Lengths(12, 35), 3, 7, false, 0.2F});
    b.run_forward();
    b.run_backward();
    return joined(b.output, b.log_sum_exp, b.dquery, b.dkey, b.dvalue);
  });
}

TYPED_TEST(AttentionTest, NaNStaysInItsSample) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Batch<T> b({{3, 4}, {3, 4}, 2, 5});
    b.key[0] = std::numeric_limits<T>::quiet_NaN();  // sample 0, head 0
    b.run_forward();
    b.run_backward();
    for (std::int64_t i = 0; i < 7 * 10; ++i) {
      const bool poisoned = i / 10 < 3 && i % 10 < 5;
      EXPECT_EQ(std::isnan(b.output[i]), poisoned) << i;
      EXPECT_EQ(std::isnan(b.dquery[i]), poisoned) << i;
    }
  });
}

}  // namespace
}  // namespace cmir::kernels
