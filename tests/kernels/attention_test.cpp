#include <sys/mman.h>

#include <memory>

#include "tests/kernels/attention_batch.h"
#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class AttentionTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, BFloat16>;
TYPED_TEST_SUITE(AttentionTest, Scalars);

/// With bf16 factors, k and eps are those of the factors' rounding.
template <class T>
void expect_near(Guarded<SumOf<T>>& actual, const std::vector<double>& expected, double norm,
                 const std::string& at) {
  constexpr double kBf16 = 2.0 * 0x1p-8 / std::numeric_limits<float>::epsilon();
  expect_close(actual, expected, norm, std::is_same_v<T, BFloat16> ? kBf16 : 40, at);
}

template <class T>
void expect_oracles(Batch<T>& b, const std::string& at) {
  const Expected e = oracle(b);
  const AttentionProblem<T>& p = b.problem;
  // A logit's rounding error, eps |q| |k| scale, is the relative error of a probability.
  const double logits = std::max(1.0, p.scale * static_cast<double>(p.head_width));
  expect_near<T>(b.output, e.output, 3 * logits, at + " output");
  expect_close(b.log_sum_exp, e.log_sum_exp, 3 * logits, 40, at + " log_sum_exp");
  const double norm = logits * std::max<double>(1.0, p.scale) * 10 * std::sqrt(1.0 * p.head_width);
  expect_near<T>(b.dvalue, e.dvalue, norm, at + " dvalue");
  expect_near<T>(b.dquery, e.dquery, norm, at + " dquery");
  expect_near<T>(b.dkey, e.dkey, norm, at + " dkey");
  expect_near<T>(b.dbias, e.dbias, norm * std::sqrt(1.0 * p.samples), at + " dbias");
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
                                   {{9}, {35}, 1, 130},
                                   {ragged, other, 2, 5, false, 0, 0.3, true},
                                   {other, ragged, 2, 7, true, 0.3F, 0.3, true},
                                   {{9}, {12}, 1, 16, false, 0, 1000}};  // logits of 1e4
  for_each_variant<T>([&] {
    for (std::size_t number = 0; number < cases.size(); ++number) {
      if (cases[number].width > kAttentionDeviceWidth && !test_device().is_cpu()) continue;
      for (const std::int64_t gap : {0, 3}) {
        Batch<T> b(cases[number], gap);
        b.run_forward();
        b.run_backward();
        expect_oracles(b, fmt::format("case {} gap {}", number, gap));
      }
    }
  });
}

/// The relative error of a whole array.
template <class T>
double error_of(Guarded<T>& actual, const std::vector<double>& expected) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(actual[static_cast<std::int64_t>(i)] - expected[i], 2);
    norm += std::pow(expected[i], 2);
  }
  return norm == 0 ? std::sqrt(error) : std::sqrt(error / norm);
}

TYPED_TEST(AttentionTest, RandomLengthsAndWidthsAreWithinARelativeError) {
  using T = TypeParam;
  const double bound = std::is_same_v<T, BFloat16> ? 2e-2 : std::is_same_v<T, float> ? 1e-5 : 1e-13;
  const RandomStream draw{.seed = 11};
  const std::vector<std::int64_t> widths = {4, 8, 30, 31, 50, 64, 127, 128};
  std::vector<Case> cases;
  for (std::uint64_t i = 0; i < widths.size(); ++i) {
    const auto below = [&](std::uint64_t k, std::uint32_t n) {
      return static_cast<std::int64_t>(draw.word(16 * i + k) % n);
    };
    Case c{{1 + below(0, 130), 1 + below(1, 130)}, {1 + below(2, 130), 1 + below(3, 130)}};
    c.heads = 1 + below(4, 3);
    c.width = widths[i];
    c.causal = below(5, 3) == 0;
    c.bias = below(6, 2) == 0;
    c.scale = 1 / std::sqrt(1.0 * c.width);
    cases.push_back(c);
  }
  // Several of the CPU's blocks of 128 keys and tiles of 54 queries, and tasks that share a head.
  cases.push_back({{200, 3}, {390, 260}, 1, 9, false, 0.1F, 0.5, true});
  cases.push_back({{300}, {300}, 2, 33, true, 0, 0.2});
  // So many heads that one task has all tiles of a head's queries, over two blocks.
  cases.push_back({{130, 110}, {140, 20}, 16, 5});
  for_each_isa([&] {
    for (const Case& c : cases) {
      Batch<T> b(c);
      b.run_forward();
      b.run_backward();
      const Expected e = oracle(b);
      EXPECT_LE(error_of(b.output, e.output), bound) << c.width;
      EXPECT_LE(error_of(b.dquery, e.dquery), bound) << c.width;
      EXPECT_LE(error_of(b.dkey, e.dkey), bound) << c.width;
      EXPECT_LE(error_of(b.dvalue, e.dvalue), bound) << c.width;
      EXPECT_LE(error_of(b.dbias, e.dbias), bound) << c.width;
    }
  });
}

/// The last page of a mapping, behind which no byte can be read: an array's end.
template <class T>
class BeforeForbiddenPage {
 public:
  explicit BeforeForbiddenPage(const std::vector<double>& values) {
    const std::size_t bytes = values.size() * sizeof(T);
    size_ = (bytes + kPage - 1) / kPage * kPage + kPage;
    void* mapped = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(mapped, MAP_FAILED);
    begin_ = static_cast<std::byte*>(mapped);
    EXPECT_EQ(mprotect(begin_ + size_ - kPage, kPage, PROT_NONE), 0);
    data_ = reinterpret_cast<T*>(begin_ + size_ - kPage - bytes);
    for (std::size_t i = 0; i < values.size(); ++i) data_[i] = static_cast<T>(values[i]);
  }
  ~BeforeForbiddenPage() { munmap(begin_, size_); }
  BeforeForbiddenPage(const BeforeForbiddenPage&) = delete;
  BeforeForbiddenPage& operator=(const BeforeForbiddenPage&) = delete;
  T* data() { return data_; }

 private:
  static constexpr std::size_t kPage = 4096;
  std::byte* begin_;
  std::size_t size_;
  T* data_;
};

/// The CPU reads keys and values in whole vectors where they lie; never past the arrays.
TYPED_TEST(AttentionTest, ReadsNothingBehindItsArrays) {
  using T = TypeParam;
  for_each_isa([] {
    for (const std::int64_t width : {1, 5, 30, 33}) {
      const Case c{{3, 33}, {2, 40}, 1, width};
      Batch<T> b(c);
      BeforeForbiddenPage<T> query(b.query.to_vector()), key(b.key.to_vector()),
          value(b.value.to_vector()), doutput(b.doutput.to_vector());
      b.problem.query = query.data();
      b.problem.key = key.data();
      b.problem.value = value.data();
      AttentionForward<T> forward{.items = {b.forward_item()}, .count = 1};
      AttentionBackward<T> backward{.items = {b.backward_item()}, .count = 1};
      backward.items[0].doutput = doutput.data();
      Guarded<SumOf<T>> workspace(
          std::max(attention_forward_workspace(forward), attention_backward_workspace(backward)));
      forward.workspace = backward.workspace = workspace.data();
      run(test_device(), forward);
      run(test_device(), backward);
      expect_oracles(b, fmt::format("width {}", width));
    }
  });
}

/// Bias hides all keys of a query, some of another, and with them what their rows hold.
TYPED_TEST(AttentionTest, ABiasOfMinusInfinityHidesKeys) {
  using T = TypeParam;
  using Sum = SumOf<T>;
  for_each_variant<T>([] {
    Batch<T> b({{3, 2}, {5, 4}, 2, 7, false, 0, 0.3, true});
    const std::int64_t keys = b.problem.bias_keys;
    for (std::int64_t h = 0; h < 2; ++h) {
      for (std::int64_t j = 0; j < keys; ++j)  // query 1 sees nothing, query 0 not its last keys
        for (const std::int64_t i : {0, 1})
          if (i == 1 || j >= 2)
            b.bias[(h * b.problem.bias_queries + i) * keys + j] =
                -std::numeric_limits<Sum>::infinity();
    }
    b.run_forward();
    b.run_backward();
    expect_oracles(b, "hidden");
    for (const std::int64_t row : {1, 4}) {  // query 1 of both samples
      for (std::int64_t d = 0; d < b.total; ++d) {
        EXPECT_EQ(b.output[row * b.total + d], 0);
        EXPECT_EQ(b.dquery[row * b.total + d], 0);
      }
    }
  });
}

/// Rows between the samples are nobody's: not written, and what they hold is not seen.
TYPED_TEST(AttentionTest, PaddingIsNeitherReadNorWritten) {
  using T = TypeParam;
  for_each_variant<T>([] {
    const Case c{{4, 0, 3}, {35, 2, 3}, 2, 5};
    Batch<T> packed(c), padded({{6, 6, 6}, {40, 40, 40}, 2, 5});
    packed.run_forward();
    packed.run_backward();
    const auto spread = [&](auto& from, auto& to, const Offsets& offsets, std::int64_t longest) {
      for (std::int64_t i = 0; i < 3 * longest * 10; ++i) to[i] = static_cast<T>(std::nanf(""));
      for (std::int64_t s = 0; s < 3; ++s)
        std::copy_n(&from[offsets[s] * 10], (offsets[s + 1] - offsets[s]) * 10,
                    &to[s * longest * 10]);
    };
    spread(packed.query, padded.query, packed.query_offsets, 6);
    spread(packed.doutput, padded.doutput, packed.query_offsets, 6);
    spread(packed.key, padded.key, packed.key_offsets, 40);
    spread(packed.value, padded.value, packed.key_offsets, 40);
    Shared<std::int64_t> ends = {4, 6, 15, 35, 42, 83};
    padded.problem.query_ends = ends.data();
    padded.problem.key_ends = ends.data() + 3;
    padded.run_forward();
    padded.run_backward();
    const auto expect_spread = [&](auto& from, auto& to, const Offsets& offsets,
                                   std::int64_t longest) {
      for (std::int64_t i = 0; i < 3 * longest * 10; ++i) {
        const std::int64_t s = i / 10 / longest, row = i / 10 % longest;
        if (row < offsets[s + 1] - offsets[s]) {
          EXPECT_EQ(to[i], from[(offsets[s] + row) * 10 + i % 10]) << i;
        } else {
          EXPECT_TRUE(std::isnan(to[i])) << i;
        }
      }
    };
    expect_spread(packed.output, padded.output, packed.query_offsets, 6);
    expect_spread(packed.dquery, padded.dquery, packed.query_offsets, 6);
    expect_spread(packed.dkey, padded.dkey, packed.key_offsets, 40);
    expect_spread(packed.dvalue, padded.dvalue, packed.key_offsets, 40);
  });
}

TYPED_TEST(AttentionTest, ASampleGivesTheSameBitsAloneAndInABatch) {
  using T = TypeParam;
  // The second crosses the CPU's parts of 54 queries and blocks of 128 keys, and CUDA's 64 rows.
  const Case cases[] = {{{5, 0, 12, 50, 1}, {7, 3, 12, 50, 0}, 2, 15},
                        {{3, 131, 60}, {200, 140, 9}, 1, 30}};
  const auto check = [](const Case& c) {
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
      EXPECT_EQ(std::memcmp(alone.output.data(), b.output.data() + q, own_q * sizeof(SumOf<T>)), 0)
          << s;
      EXPECT_EQ(std::memcmp(alone.dquery.data(), b.dquery.data() + q, own_q * sizeof(SumOf<T>)), 0)
          << s;
      EXPECT_EQ(std::memcmp(alone.dkey.data(), b.dkey.data() + k, own_k * sizeof(SumOf<T>)), 0)
          << s;
      EXPECT_EQ(std::memcmp(alone.dvalue.data(), b.dvalue.data() + k, own_k * sizeof(SumOf<T>)), 0)
          << s;
    }
  };
  for_each_variant<T>([&] { std::ranges::for_each(cases, check); });
}

TYPED_TEST(AttentionTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<T>([] {
    Batch<T> b({Lengths(12, 11), Lengths(12, 35), 3, 7, false, 0.2F, 0.3, true});
    b.run_forward();
    b.run_backward();
    return joined(b.output, b.log_sum_exp, b.dquery, b.dkey, b.dvalue, b.dbias);
  });
}

/// Several problems in one call: the bits of one call each.
TYPED_TEST(AttentionTest, AGroupGivesTheBitsOfItsProblems) {
  using T = TypeParam;
  const std::vector<Case> cases = {{{3, 0, 40}, {7, 2, 5}, 2, 9, false, 0.2F},
                                   {{}, {}, 2, 9},
                                   {{100}, {3}, 2, 9, true},
                                   {{1, 1, 1, 1}, {70, 0, 1, 2}, 2, 9, false, 0, 0.5, true}};
  for_each_variant<T>([&] {
    std::vector<std::unique_ptr<Batch<T>>> group, single;
    std::vector<Batch<T>*> pointers;
    for (const Case& c : cases) {
      group.push_back(std::make_unique<Batch<T>>(c));
      single.push_back(std::make_unique<Batch<T>>(c));
      pointers.push_back(group.back().get());
      single.back()->run_forward();
      single.back()->run_backward();
    }
    run_group(pointers);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      Batch<T>&a = *group[i], &b = *single[i];
      const auto x = joined(a.output, a.log_sum_exp, a.dquery, a.dkey, a.dvalue, a.dbias);
      const auto y = joined(b.output, b.log_sum_exp, b.dquery, b.dkey, b.dvalue, b.dbias);
      ASSERT_EQ(x.size(), y.size());
      if (x.empty()) continue;
      EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size() * sizeof(x[0])), 0) << i;
    }
  });
}

/// Of twice the queries and keys, at most twice the memory: nothing is as large as the scores.
TYPED_TEST(AttentionTest, TheWorkspaceGrowsWithTheRows) {
  using T = TypeParam;
  const auto sizes = [](std::int64_t length) {
    AttentionProblem<T> p{.samples = 8, .heads = 4, .head_width = 30};
    p.most_queries = p.most_keys = length;
    return std::pair{attention_forward_workspace(AttentionForward<T>{{{p}}, 1}),
                     attention_backward_workspace(AttentionBackward<T>{{{p}}, 1})};
  };
  const auto [forward, backward] = sizes(4096);
  const auto [twice_forward, twice_backward] = sizes(8192);
  EXPECT_LE(twice_forward, 2 * forward);
  EXPECT_LE(twice_backward, 2 * backward);
  EXPECT_LE(backward, 32 * 4096 * 200);  // chunks, rows, elements of a row of 30
}

TYPED_TEST(AttentionTest, NaNStaysInItsSample) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Batch<T> b({{3, 4}, {3, 4}, 2, 5});
    b.key[0] = static_cast<T>(std::nanf(""));  // sample 0, head 0
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
