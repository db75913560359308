#include "kernels/information/pairs.h"

#include "kernels/information/info_nce.h"
#include "kernels/information/unit_rows.h"
#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class PairsTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, BFloat16>;  // bf16: of a and b
TYPED_TEST_SUITE(PairsTest, Scalars);

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Case {
  std::int64_t n, d;
  double scale;
  bool columns;

  std::string what() const {
    return fmt::format("n {} d {} scale {} columns {}", n, d, scale, columns);
  }
};

/// About tiles of 128, and the CPU's groups of 128 columns; depths about a device's chunks of 32
/// (f32) and 64 (bf16), of AMX's least on, and more than 256; scores near each other, far apart,
/// and beyond exp.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& [n, d] : {std::pair<std::int64_t, std::int64_t>{1, 3},
                             {2, 1},
                             {5, 70},
                             {17, 16},
                             {64, 2},
                             {65, 5},
                             {129, 9},
                             {6, 259},
                             {300, 4},
                             {130, 40}}) {
    for (const double scale : {0.7, 30.0, 3000.0}) {
      all.push_back({n, d, scale, true});
      // The host model takes its time: one scale where there are many pairs.
      if (n < 64 || scale == 30) all.push_back({n, d, scale, false});
    }
  }
  return all;
}

/// The largest relative error of dS by its rounding to bf16.
template <class T>
constexpr double kRounding = std::is_same_v<T, BFloat16> ? 0x1p-8 : 0;
/// That error of a sum of terms of these magnitudes, in eps of the result.
template <class T>
double rounding_norm(double magnitudes) {
  return kRounding<T> * magnitudes / std::numeric_limits<SumOf<T>>::epsilon();
}

/// Inputs, and the scores written out.
template <class T>
struct Problem {
  Case c;
  Guarded<T> a, b;
  Guarded<SumOf<T>> log_scale;
  std::vector<std::vector<double>> s;
  double magnitude = 0, scale;  // a bound of the products that go into a score

  explicit Problem(const Case& which)
      : c(which),
        a(normals(c.n * c.d, 1)),
        b(normals(c.n * c.d, 2)),
        log_scale(std::vector<double>{std::log(c.scale)}) {
    write_scores();
  }
  void write_scores() {
    scale = 0.5 * std::exp(static_cast<double>(log_scale[0]));
    s.assign(c.n, std::vector<double>(c.n));
    magnitude = 0;
    for (std::int64_t i = 0; i < c.n; ++i) {
      for (std::int64_t j = 0; j < c.n; ++j) {
        double absolute = 0;
        for (std::int64_t k = 0; k < c.d; ++k) {
          const double product = scale * exact(a[i * c.d + k]) * exact(b[j * c.d + k]);
          s[i][j] += product;
          absolute += std::abs(product);
        }
        magnitude = std::max(magnitude, absolute);
      }
    }
  }
  PairScores<T> scores() { return {a.data(), b.data(), c.n, c.d, 0.5, log_scale.data()}; }
  double score(std::int64_t i, std::int64_t j, bool transposed) const {
    return transposed ? s[j][i] : s[i][j];
  }
  /// ln sum_{j != i} exp(s_ij).
  std::vector<double> log_sums(bool transposed) const {
    std::vector<double> out(c.n, -kInfinity);
    for (std::int64_t i = 0; i < c.n; ++i) {
      double largest = -kInfinity, sum = 0;
      for (std::int64_t j = 0; j < c.n; ++j) {
        if (i != j) largest = std::max(largest, score(i, j, transposed));
      }
      for (std::int64_t j = 0; j < c.n; ++j) {
        if (i != j) sum += std::exp(score(i, j, transposed) - largest);
      }
      if (c.n > 1) out[i] = largest + std::log(sum);
    }
    return out;
  }
};

template <class T>
struct Sums {
  using Sum = SumOf<T>;
  Guarded<Sum> diagonal, row_largest, column_largest, workspace;
  Guarded<double> row_sum, column_sum, partial;

  explicit Sums(const Case& c)
      : diagonal(c.n),
        row_largest(c.n),
        column_largest(c.columns ? c.n : 0),
        workspace(PairSums<T>::workspace_size(c.n)),
        row_sum(c.n),
        column_sum(c.columns ? c.n : 0),
        partial(PairSums<T>::partial_size(c.n)) {}
  PairSums<T> args(Problem<T>& p) {
    return {p.scores(),
            diagonal.data(),
            row_largest.data(),
            row_sum.data(),
            p.c.columns ? column_largest.data() : nullptr,
            p.c.columns ? column_sum.data() : nullptr,
            workspace.data(),
            partial.data()};
  }
  static std::vector<double> logarithms(Guarded<Sum>& largest, Guarded<double>& sum) {
    std::vector<double> out;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(sum.span().size()); ++i) {
      EXPECT_EQ(sum[i] == 0, largest[i] == -std::numeric_limits<Sum>::infinity());
      out.push_back(sum[i] == 0 ? -kInfinity : largest[i] + std::log(sum[i]));
    }
    return out;
  }
};

/// Each within factor eps(T) norm: for results that are kept as a pair, compared in f64.
template <class T>
void expect_near(const std::vector<double>& actual, const std::vector<double>& expected,
                 double norm, double factor, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::isinf(expected[i])) {
      ASSERT_EQ(actual[i], expected[i]) << what;
    } else {
      ASSERT_TRUE(std::abs(actual[i] - expected[i]) <=
                  factor * norm * std::numeric_limits<SumOf<T>>::epsilon())
          << what << ": element " << i << " is " << actual[i] << ", not " << expected[i];
    }
  }
}

template <class T>
void check_sums(Problem<T>& p) {
  Sums<T> sums(p.c);
  run(test_device(), sums.args(p));
  const double norm = 2 + p.magnitude;
  std::vector<double> diagonal;
  for (std::int64_t i = 0; i < p.c.n; ++i) diagonal.push_back(p.s[i][i]);
  expect_close(sums.diagonal, diagonal, p.magnitude, 8, p.c.what() + " diagonal");
  expect_near<T>(Sums<T>::logarithms(sums.row_largest, sums.row_sum), p.log_sums(false), norm, 8,
                 p.c.what() + " rows");
  if (p.c.columns) {
    expect_near<T>(Sums<T>::logarithms(sums.column_largest, sums.column_sum), p.log_sums(true),
                   norm, 8, p.c.what() + " columns");
  }
}

TYPED_TEST(PairsTest, SumsMatchTheScoresWrittenOut) {
  for_each_variant<TypeParam>([] {
    for (const Case& c : cases()) {
      Problem<TypeParam> p(c);
      check_sums(p);
    }
  });
}

/// From 2049 samples on the CPU's groups have more than 128 columns.
TYPED_TEST(PairsTest, ManySamples) {
  for_each_variant<TypeParam>([] {
    Problem<TypeParam> p({2049, 2, 3, true});
    check_sums(p);
  });
}

/// From 4097 samples on a group of the CPU's columns has several tiles, from 2049 on a region of a
/// CUDA block. With one feature, against some rows and columns of the scores.
TYPED_TEST(PairsTest, GroupsOfSeveralTiles) {
  using T = TypeParam;
  for_each_variant<T>([] {
    const std::int64_t n = test_device().is_cpu() ? 4100 : 2300;
    if (test_device().is_cpu()) {
      ASSERT_GT(pair_group(n), kPairColumns);
    } else {
      ASSERT_GT(pair_region(n), kPairTile);
    }
    Guarded<T> a(normals(n, 1)), b(normals(n, 2));
    Guarded<SumOf<T>> diagonal(n), row_largest(n), column_largest(n),
        workspace(PairSums<T>::workspace_size(n)), weight(normals(n, 3)),
        shift(std::vector<double>(n, 20)), da(n), db(n),
        gradient_workspace(PairGradient<T>::workspace_size(test_device(), n, 1));
    Guarded<double> row_sum(n), column_sum(n), partial(PairSums<T>::partial_size(n));
    const PairScores<T> scores{a.data(), b.data(), n, 1, 1.0, nullptr};
    run(test_device(),
        PairSums<T>{scores, diagonal.data(), row_largest.data(), row_sum.data(),
                    column_largest.data(), column_sum.data(), workspace.data(), partial.data()});
    run(test_device(),
        PairGradient<T>{scores, weight.data(), shift.data(), weight.data(), shift.data(),
                        weight.data(), da.data(), db.data(), gradient_workspace.data()});
    const double eps = std::numeric_limits<SumOf<T>>::epsilon();
    for (const std::int64_t i : {std::int64_t{0}, std::int64_t{127}, std::int64_t{128},
                                 std::int64_t{271}, n / 2, n - 5, n - 1}) {
      double row = 0, column = 0, expected_da = 0, expected_db = 0, size = 0;
      for (std::int64_t j = 0; j < n; ++j) {
        const double s_ij = exact(a[i]) * exact(b[j]), s_ji = exact(a[j]) * exact(b[i]);
        if (i != j) row += std::exp(s_ij), column += std::exp(s_ji);
        const double pull = i == j ? double(weight[i]) : double(weight[i]) + weight[j];
        const double da_part = pull * (i == j ? 1 : std::exp(s_ij - 20)) * exact(b[j]);
        const double db_part = pull * (i == j ? 1 : std::exp(s_ji - 20)) * exact(a[j]);
        expected_da += da_part, expected_db += db_part;
        size += std::abs(da_part) + std::abs(db_part);
      }
      EXPECT_NEAR(row_largest[i] + std::log(row_sum[i]), std::log(row), 200 * eps) << i;
      EXPECT_NEAR(column_largest[i] + std::log(column_sum[i]), std::log(column), 200 * eps) << i;
      EXPECT_NEAR(da[i], expected_da, (100 * eps + kRounding<T>)*size) << i;
      EXPECT_NEAR(db[i], expected_db, (100 * eps + kRounding<T>)*size) << i;
    }
  });
}

/// Results of all sums and gradients on the active instruction set, where bands and groups have
/// several tiles.
template <class T>
std::vector<double> many_results(std::int64_t n, std::int64_t d, bool kept = false) {
  Guarded<T> a(normals(n * d, 1, 0.3)), b(normals(n * d, 2, 0.3));
  Guarded<SumOf<T>> diagonal(n), row_largest(n), column_largest(n),
      workspace(PairSums<T>::workspace_size(n)), weight(normals(n, 3)),
      shift(std::vector<double>(n, 5)), da(n * d), db(n * d),
      gradient_workspace(PairGradient<T>::workspace_size(test_device(), n, d));
  Guarded<double> row_sum(n), column_sum(n), partial(PairSums<T>::partial_size(n));
  Guarded<SumOf<T>> all_scores(kept ? n * n : 0);
  SumOf<T>* const keep = kept ? all_scores.data() : nullptr;
  PairScores<T> scores{a.data(), b.data(), n, d, 0.7, nullptr};
  run(test_device(), PairSums<T>{scores, diagonal.data(), row_largest.data(), row_sum.data(),
                                 column_largest.data(), column_sum.data(), workspace.data(),
                                 partial.data(), keep});
  run(test_device(),
      PairGradient<T>{scores, weight.data(), shift.data(), weight.data(), shift.data(),
                      weight.data(), da.data(), db.data(), gradient_workspace.data(), keep});
  std::vector<double> all;
  for (std::int64_t i = 0; i < n; ++i) {
    all.insert(all.end(), {diagonal[i], row_largest[i] + std::log(row_sum[i]),
                           column_largest[i] + std::log(column_sum[i])});
  }
  for (std::int64_t e = 0; e < n * d; ++e) all.insert(all.end(), {da[e], db[e]});
  return all;
}

/// The CPU's scores, kept instead of computed again.
TYPED_TEST(PairsTest, KeptScoresGiveTheSameBits) {
  using T = TypeParam;
  for_each_isa([] {
    for (const auto& [n, d] :
         {std::pair<std::int64_t, std::int64_t>{1, 3}, {129, 5}, {600, 40}, {1024, 33}}) {
      EXPECT_EQ(many_results<T>(n, d, true), many_results<T>(n, d)) << n << " x " << d;
    }
  });
}

/// Where loops over all pairs would take too long: AMX against the BLAS, which the cases above
/// check. In bf16 AMX rounds scale dS, the BLAS dS: the diagonal's, up to 3, dominates.
TYPED_TEST(PairsTest, AmxAgreesWithTheBlasOnManyTiles) {
  using T = TypeParam;
  if (!cpu_supports(Isa::amx)) GTEST_SKIP() << "this CPU has no AMX, or the system withholds it";
  const std::int64_t n = 4500, d = 40;
  std::vector<std::vector<double>> results;
  const Isa before = active_isa();
  for (const Isa isa : {Isa::avx512, Isa::amx}) {
    set_active_isa(isa);
    results.push_back(many_results<T>(n, d));
  }
  set_active_isa(before);
  double largest = 0;
  for (const double x : results[0]) largest = std::max(largest, std::abs(x));
  const double bound =
      (std::is_same_v<T, BFloat16> ? 2e-3 : 50 * std::numeric_limits<SumOf<T>>::epsilon()) *
      largest;
  for (std::size_t e = 0; e < results[0].size(); ++e) {
    ASSERT_NEAR(results[0][e], results[1][e], bound) << e;
  }
}

/// dS from arbitrary weights, and the products.
template <class T>
void check_gradient(const Case& c) {
  Problem<T> p(c);
  const std::int64_t n = c.n, d = c.d;
  using Sum = SumOf<T>;
  Guarded<Sum> row_weight(normals(n, 3)), column_weight(normals(n, 4)), diagonal(normals(n, 5)),
      da(n * d), db(n * d), only(n * d),
      workspace(PairGradient<T>::workspace_size(test_device(), n, d));
  const auto finite = [](std::vector<double> shifts) {
    for (double& shift : shifts) shift = std::isinf(shift) ? 0.0 : shift;
    return shifts;
  };
  Guarded<Sum> row_shift(finite(p.log_sums(false))), column_shift(finite(p.log_sums(true)));
  std::vector<double> expected_da(n * d), expected_db(n * d), size_a(n), size_b(n);
  std::vector<double> terms(2 * n * d);  // sums of the magnitudes that an element adds
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double ds = i == j ? static_cast<double>(diagonal[i])
                         : row_weight[i] * std::exp(p.s[i][j] - row_shift[i]);
      double size = std::abs(ds);
      if (i != j && c.columns) {
        const double part = column_weight[j] * std::exp(p.s[i][j] - column_shift[j]);
        ds += part;
        size += std::abs(part);
      }
      size_a[i] += size;
      size_b[j] += size;
      for (std::int64_t k = 0; k < d; ++k) {
        const double da_part = p.scale * ds * exact(p.b[j * d + k]),
                     db_part = p.scale * ds * exact(p.a[i * d + k]);
        expected_da[i * d + k] += da_part;
        expected_db[j * d + k] += db_part;
        terms[i * d + k] += std::abs(da_part);
        terms[(n + j) * d + k] += std::abs(db_part);
      }
    }
  }
  PairGradient<T> args{p.scores(),
                       row_weight.data(),
                       row_shift.data(),
                       c.columns ? column_weight.data() : nullptr,
                       c.columns ? column_shift.data() : nullptr,
                       diagonal.data(),
                       da.data(),
                       db.data(),
                       workspace.data()};
  run(test_device(), args);
  const double largest = *std::ranges::max_element(size_a) + *std::ranges::max_element(size_b);
  const double norm = 5 * p.scale * largest * (2 + p.magnitude) +
                      rounding_norm<T>(*std::ranges::max_element(terms)) / 4;
  expect_close(da, expected_da, norm, 4, c.what() + " da");
  expect_close(db, expected_db, norm, 4, c.what() + " db");
  args.da = nullptr;
  args.db = only.data();
  run(test_device(), args);
  expect_close(only, expected_db, norm, 4, c.what() + " db only");
}

TYPED_TEST(PairsTest, GradientMatchesTheScoresWrittenOut) {
  for_each_variant<TypeParam>([] {
    for (const Case& c : cases()) check_gradient<TypeParam>(c);
  });
}

/// losses, and the two gradients of cotangent . losses; their mean, and the two of cotangent_0
/// mean.
template <class T>
struct InfoNceResult {
  using Sum = SumOf<T>;
  Guarded<Sum> losses, da, db, mean, mean_da, mean_db;

  explicit InfoNceResult(Problem<T>& p)
      : losses(p.c.n),
        da(p.c.n * p.c.d),
        db(p.c.n * p.c.d),
        mean(1),
        mean_da(p.c.n * p.c.d),
        mean_db(p.c.n * p.c.d) {
    const std::int64_t n = p.c.n;
    const bool columns = p.c.columns;
    Sums<T> sums(p.c);
    Guarded<Sum> cotangent(normals(n, 6)), row_weight(n), row_shift(n), diagonal(n),
        column_weight(columns ? n : 0), column_shift(columns ? n : 0),
        workspace(PairGradient<T>::workspace_size(test_device(), n, p.c.d));
    Sum* const weight = columns ? column_weight.data() : nullptr;
    Sum* const shift = columns ? column_shift.data() : nullptr;
    InfoNceForward<T> forward{
        sums.args(p),
        losses.data(),
        nullptr,
        {row_weight.data(), row_shift.data(), weight, shift, diagonal.data()}};
    PairGradient<T> backward{p.scores(),      row_weight.data(), row_shift.data(), weight,
                             shift,           diagonal.data(),   da.data(),        db.data(),
                             workspace.data()};
    backward.cotangent = cotangent.data();
    run(test_device(), forward);
    run(test_device(), backward);
    // The same with the mean, for a cotangent of it.
    forward.mean = mean.data();
    backward.da = mean_da.data();
    backward.db = mean_db.data();
    backward.shared_cotangent = true;
    run(test_device(), forward);
    run(test_device(), backward);
  }
};

/// -ln softmax_j(s_ij)[i] and its derivatives, as written in the papers.
template <class T>
void check_info_nce(Problem<T>& p) {
  const std::int64_t n = p.c.n, d = p.c.d;
  const double share = p.c.columns ? 0.5 : 1;
  Guarded<SumOf<T>> cotangent(normals(n, 6));
  std::vector<double> losses(n), da(n * d), db(n * d), da_terms(n * d), db_terms(n * d);
  std::vector<double> mean(1), mean_da(n * d), mean_db(n * d);
  for (const bool transposed : {false, true}) {
    if (transposed && !p.c.columns) continue;
    for (std::int64_t i = 0; i < n; ++i) {
      double largest = -kInfinity, sum = 0;
      for (std::int64_t j = 0; j < n; ++j) largest = std::max(largest, p.score(i, j, transposed));
      for (std::int64_t j = 0; j < n; ++j) sum += std::exp(p.score(i, j, transposed) - largest);
      losses[i] += share * (largest + std::log(sum) - p.s[i][i]);
      for (std::int64_t j = 0; j < n; ++j) {
        const double softmax = std::exp(p.score(i, j, transposed) - largest) / sum;
        const double ds = share * cotangent[i] * (softmax - (i == j ? 1 : 0)) * p.scale;
        const double of_mean = ds / cotangent[i] * cotangent[0] / n;
        const std::int64_t row = transposed ? j : i, column = transposed ? i : j;
        for (std::int64_t k = 0; k < d; ++k) {
          const double da_part = ds * exact(p.b[column * d + k]),
                       db_part = ds * exact(p.a[row * d + k]);
          da[row * d + k] += da_part;
          db[column * d + k] += db_part;
          mean_da[row * d + k] += of_mean * exact(p.b[column * d + k]);
          mean_db[column * d + k] += of_mean * exact(p.a[row * d + k]);
          da_terms[row * d + k] += std::abs(da_part);
          db_terms[column * d + k] += std::abs(db_part);
        }
      }
    }
  }
  InfoNceResult<T> actual(p);
  const double norm = 2 + p.magnitude;
  expect_close(actual.losses, losses, norm, 8, p.c.what() + " losses");
  // The largest dS is about 5, the sum of a column's magnitudes at most some of those.
  const auto gradient_norm = [&](const std::vector<double>& terms) {
    return norm * p.scale * 50 + rounding_norm<T>(*std::ranges::max_element(terms)) / 8;
  };
  expect_close(actual.da, da, gradient_norm(da_terms), 8, p.c.what() + " da");
  expect_close(actual.db, db, gradient_norm(db_terms), 8, p.c.what() + " db");
  for (const double loss : losses) mean[0] += loss / n;
  expect_close(actual.mean, mean, norm, 8, p.c.what() + " mean");
  expect_close(actual.mean_da, mean_da, gradient_norm(da_terms), 8, p.c.what() + " da of the mean");
  expect_close(actual.mean_db, mean_db, gradient_norm(db_terms), 8, p.c.what() + " db of the mean");
}

TYPED_TEST(PairsTest, InfoNceMatchesTheFormula) {
  for_each_variant<TypeParam>([] {
    for (const Case& c : cases()) {
      Problem<TypeParam> p(c);
      check_info_nce(p);
    }
  });
}

TYPED_TEST(PairsTest, OneSampleHasLossZeroExactly) {
  for_each_variant<TypeParam>([] {
    for (const bool columns : {false, true}) {
      Problem<TypeParam> p({1, 5, 1e4, columns});
      InfoNceResult<TypeParam> actual(p);
      EXPECT_EQ(actual.losses[0], 0);
      for (const auto x : actual.da.span()) EXPECT_EQ(x, 0);
      for (const auto x : actual.db.span()) EXPECT_EQ(x, 0);
    }
  });
}

/// All scores equal, of magnitude 1e4: every softmax is 1 / N, and nothing is lost to the
/// magnitude.
TYPED_TEST(PairsTest, IdenticalRowsOfHugeScores) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Problem<T> p({70, 4, 2, true});
    for (std::int64_t i = 0; i < 70 * 4; ++i) p.a[i] = p.b[i] = T(50);
    p.log_scale[0] = static_cast<SumOf<T>>(std::log(2.0));
    InfoNceResult<T> actual(p);
    for (const auto loss : actual.losses.span()) EXPECT_NEAR(loss, std::log(70.0), 1e-6);
    p.write_scores();
    check_info_nce(p);
  });
}

/// A loss of 1e-12 and its gradient keep their digits, which 1 - softmax would lose.
TYPED_TEST(PairsTest, TinyLossesKeepTheirDigits) {
  using T = TypeParam;
  for_each_variant<T>([] {
    const std::int64_t n = 40;  // unit vectors at a scale of 27.5: exp(-27.5) = 1e-12
    Problem<T> p({n, n, 1, true});
    for (std::int64_t i = 0; i < n * n; ++i) p.a[i] = p.b[i] = T(i % (n + 1) == 0 ? 1.0F : 0.0F);
    p.log_scale[0] = static_cast<SumOf<T>>(std::log(2 * 27.5));
    InfoNceResult<T> actual(p);
    const double scale = 0.5 * std::exp(static_cast<double>(p.log_scale[0]));
    const double loss = std::log1p((n - 1) * std::exp(-scale));
    for (const auto x : actual.losses.span()) EXPECT_NEAR(x, loss, 1e-5 * loss);
    Guarded<SumOf<T>> cotangent(normals(n, 6));
    for (std::int64_t i = 0; i < n; ++i) {
      const double expected = -scale * cotangent[i] * loss;
      EXPECT_NEAR(actual.da[i * n + i], expected, (1e-5 + kRounding<T>)*std::abs(expected));
    }
  });
}

TYPED_TEST(PairsTest, NaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Problem<T> p({67, 5, 1, true});
    p.b[66 * 5] = std::numeric_limits<T>::quiet_NaN();
    InfoNceResult<T> actual(p);
    for (const auto loss : actual.losses.span()) EXPECT_TRUE(std::isnan(loss));
  });
}

TEST(Pairs, SameBitsForAnyThreadCountAndSchedule) {
  for (const std::int64_t n : {70, 300}) {
    expect_same_bits<float>([n] {
      Problem<float> p({n, n == 70 ? 65 : 3, 3, true});
      InfoNceResult<float> result(p);
      Guarded<float> unit(p.c.n * p.c.d), back(p.c.n * p.c.d);
      Guarded<double> inverse(p.c.n);
      run(test_device(),
          UnitRowsForward<float>{p.a.data(), unit.data(), inverse.data(), p.c.n, p.c.d});
      run(test_device(), UnitRowsBackward<float>{unit.data(), inverse.data(), p.b.data(),
                                                 back.data(), p.c.n, p.c.d});
      return joined(result.losses, result.da, result.db, unit, back);
    });
  }
}

/// A column whose one score in the last tile is the diagonal's, beside scores that are far larger.
TYPED_TEST(PairsTest, ALoneDiagonalScoreDoesNotCount) {
  using T = TypeParam;
  const std::int64_t n = 2049, last = n - 1;  // one row, and more than one column, in that tile
  Guarded<T> a(std::vector<double>(n, 1.0)), b(std::vector<double>(n, 1.0));
  Guarded<SumOf<T>> diagonal(n), row_largest(n), column_largest(n),
      workspace(PairSums<T>::workspace_size(n));
  Guarded<double> row_sum(n), column_sum(n), partial(PairSums<T>::partial_size(n));
  a[last] = Guarded<T>(std::vector<double>{1000})[0];
  b[last] = Guarded<T>(std::vector<double>{0})[0];
  run(Device{}, PairSums<T>{{a.data(), b.data(), n, 1, 1.0, nullptr},
                            diagonal.data(),
                            row_largest.data(),
                            row_sum.data(),
                            column_largest.data(),
                            column_sum.data(),
                            workspace.data(),
                            partial.data()});
  const auto logarithm = [](Guarded<SumOf<T>>& largest, Guarded<double>& sum, std::int64_t i) {
    return largest[i] + std::log(sum[i]);
  };
  EXPECT_NEAR(logarithm(column_largest, column_sum, last), std::log(2048.0), 1e-5);
  EXPECT_NEAR(logarithm(column_largest, column_sum, 0), 1000, 1e-3);
  EXPECT_NEAR(logarithm(row_largest, row_sum, last), 1000 + std::log(2048.0), 1e-3);
}

TEST(Pairs, Bf16HasTheSameBitsForAnyThreadCountAndSchedule) {
  for (const auto& [n, d] : {std::pair{70, 65}, {150, 264}}) {
    expect_same_bits<BFloat16>([n = n, d = d] {
      Problem<BFloat16> p({n, d, 3, true});
      InfoNceResult<BFloat16> result(p);
      return joined(result.losses, result.da, result.db);
    });
  }
}

template <class T>
class PairsOnTensorCores : public ::testing::Test {};
using Factors = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(PairsOnTensorCores, Factors);

/// Several chunks of features over several tiles.
TYPED_TEST(PairsOnTensorCores, ManyFeatures) {
  for_each_cuda_device([] {
    for (const auto& [n, d] : {std::pair{150, 264}, {70, 520}, {130, 130}, {140, 72}}) {
      check_gradient<TypeParam>({n, d, 0.7, true});
      Problem<TypeParam> p({n, d, 0.7, true});
      check_sums(p);
    }
  });
}

/// By copies of 16 bytes and by plain loads, which a GPU takes where rows do not begin at multiples
/// of 16 bytes. Their products are the same.
TYPED_TEST(PairsOnTensorCores, FactorsMayBeMisaligned) {
  using T = TypeParam;
  const std::int64_t n = 140, d = 72;
  const auto values_a = normals(n * d, 1), values_b = normals(n * d, 2);
  for_each_cuda_device([&] {
    std::vector<std::vector<float>> results;
    for (const std::int64_t shift : {0, 1}) {
      Guarded<T> a(n * d + shift), b(n * d + shift);
      for (std::int64_t i = 0; i < n * d; ++i) {
        a[shift + i] = T(static_cast<float>(values_a[i]));
        b[shift + i] = T(static_cast<float>(values_b[i]));
      }
      Guarded<float> weight(normals(n, 3)), at(std::vector<double>(n, 60)), da(n * d), db(n * d),
          workspace(PairGradient<T>::workspace_size(test_device(), n, d));
      run(test_device(), PairGradient<T>{{a.data() + shift, b.data() + shift, n, d, 1.0, nullptr},
                                         weight.data(),
                                         at.data(),
                                         weight.data(),
                                         at.data(),
                                         weight.data(),
                                         da.data(),
                                         db.data(),
                                         workspace.data()});
      results.push_back(joined(da, db));
    }
    EXPECT_EQ(results[0], results[1]);
  });
}

/// dS is held whole, or by blocks of whole tiles.
TYPED_TEST(PairsOnTensorCores, BlocksAreBounded) {
  using T = TypeParam;
  const auto bytes = [](std::int64_t n) {
    return PairGradient<T>::workspace_size(Device{DeviceType::cuda}, n, 64) *
           static_cast<std::int64_t>(sizeof(SumOf<T>));
  };
  EXPECT_EQ(pair_block_rows(100), 100);
  EXPECT_EQ(pair_block_columns<T>(100), 104);
  for (const std::int64_t n : {4096, 32768, 131072, 500000, 4000000}) {
    EXPECT_EQ(pair_block_rows(n) % kPairTile, 0);
    EXPECT_EQ(pair_block_columns<T>(n) % kPairTile, 0);
    EXPECT_LE(bytes(n), n <= 500000 ? kPairBlockBytes : kPairBlockBytes * 2);
  }
}

/// Scores far enough apart that the parts of rows and of columns do not share an exp, beside some
/// that do.
TYPED_TEST(PairsOnTensorCores, ShiftsFarApart) {
  for_each_cuda_device([] {
    for (const double scale : {5.0, 60.0}) {
      Problem<TypeParam> p({200, 6, scale, true});
      for (std::int64_t e = 0; e < 30 * 6; ++e) p.a[e] = TypeParam(static_cast<float>(p.a[e]) * 9);
      p.write_scores();
      check_info_nce(p);
    }
  });
}

}  // namespace
}  // namespace cmir::kernels
