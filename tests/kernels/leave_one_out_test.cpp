#include "kernels/information/leave_one_out.h"

#include "kernels/information/gaussian_scores.h"
#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;
using Matrix = std::vector<std::vector<double>>;

template <class T>
class LeaveOneOutTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LeaveOneOutTest, Scalars);

constexpr double kCotangent = -1.5;

/// mu, logvar and y about mu, each `shift` elements into its array, and the factors of the scores.
template <class T>
struct Gaussians {
  std::int64_t rows, width, shift, depth;
  Guarded<T> mu, logvar, y, a, b, cotangent, dmu, dlogvar, dy;
  Guarded<double> means, own;

  Gaussians(std::int64_t samples, std::int64_t features, std::int64_t offset, double mean = 0)
      : rows(samples),
        width(features),
        shift(offset),
        depth(gaussian_score_depth(width)),
        mu(normals(rows * width + shift, 1)),
        logvar(normals(rows * width + shift, 2)),
        y(normals(rows * width + shift, 3)),
        a(rows * depth),
        b(rows * depth),
        cotangent(std::vector<double>{kCotangent}),
        dmu(rows * width),
        dlogvar(rows * width),
        dy(rows * width),
        means(2 * width),
        own(rows) {
    for (std::int64_t i = 0; i < rows * width + shift; ++i) {
      mu[i] = static_cast<T>(mu[i] + mean);
      y[i] = static_cast<T>(0.5 * (mu[i] - mean) + y[i] + mean);
    }
  }
  double scale() const { return 0.3 / static_cast<double>(rows); }
  double factor() const { return scale() * kCotangent; }
  std::string what() const { return fmt::format("[{}, {}] shift {}", rows, width, shift); }
  double at(Guarded<T>& array, std::int64_t row, std::int64_t k) const {
    return array[shift + row * width + k];
  }

  void forward() {
    run(test_device(),
        GaussianScoresForward<T>{mu.data() + shift, logvar.data() + shift, y.data() + shift, rows,
                                 width, means.data(), a.data(), b.data(), own.data()});
  }
  void backward(T* da, T* db) {
    run(test_device(),
        GaussianScoresBackward<T>{mu.data() + shift, logvar.data() + shift, y.data() + shift,
                                  means.data(), da, db, cotangent.data(), rows, width, scale(),
                                  db ? dmu.data() : nullptr, db ? dlogvar.data() : nullptr,
                                  da ? dy.data() : nullptr});
  }
  /// ln q(y_i|x_j) without the constant, and the magnitudes that the factors' form adds for it.
  double score(std::int64_t i, std::int64_t j, double& magnitude) {
    long double sum = 0;
    for (std::int64_t k = 0; k < width; ++k) {
      const long double w = std::exp(static_cast<long double>(-at(logvar, j, k)));
      const long double apart = at(y, i, k) - static_cast<long double>(at(mu, j, k));
      const double p = at(y, i, k) - means[k], q = at(mu, j, k) - means[k];
      sum -= 0.5L * (w * apart * apart + at(logvar, j, k));
      magnitude += (static_cast<double>(w) + 1 / means[width + k]) * p * p +
                   static_cast<double>(w) * q * q + std::abs(at(logvar, j, k));
    }
    return static_cast<double>(sum);
  }
  /// r_i
  double of_row(std::int64_t i) {
    double sum = 0;
    for (std::int64_t k = 0; k < width; ++k) {
      const double p = at(y, i, k) - means[k];
      sum -= 0.5 * p * p / means[width + k];
    }
    return sum;
  }
  double product(std::int64_t i, std::int64_t j) {
    long double sum = 0;
    for (std::int64_t k = 0; k < depth; ++k) {
      sum += static_cast<long double>(a[i * depth + k]) * b[j * depth + k];
    }
    return static_cast<double>(sum);
  }
};

const std::vector<std::pair<std::int64_t, std::int64_t>> kShapes = {
    {1, 1}, {2, 3}, {5, 2}, {7, 33}, {65, 4}, {31, 130}, {129, 9}, {3, 1028}, {521, 6}};

template <class T>
void check_scores(std::int64_t rows, std::int64_t width, std::int64_t shift, double mean = 0,
                  double factor = 2) {
  Gaussians<T> in(rows, width, shift, mean);
  in.forward();
  for (std::int64_t i = 0; i < rows; ++i) {
    double magnitude = 0;
    const double own = in.score(i, i, magnitude) - in.of_row(i);
    ASSERT_NEAR(in.own[i], own, 1e-6 * magnitude) << in.what();
    EXPECT_EQ(in.a[i * in.depth + 2 * width], 1);
    for (std::int64_t k = 2 * width + 1; k < in.depth; ++k) EXPECT_EQ(in.a[i * in.depth + k], 0);
    for (std::int64_t j = 0; j < rows; ++j) {
      magnitude = 0;
      const double expected = in.score(i, j, magnitude) - in.of_row(i);
      ASSERT_NEAR(in.product(i, j), expected,
                  factor * std::numeric_limits<T>::epsilon() * magnitude)
          << in.what() << " scores " << i << ", " << j;
    }
  }
}

TYPED_TEST(LeaveOneOutTest, GaussianScoresAreTheProductsOfTheirFactors) {
  for_each_variant<TypeParam>([] {
    for (const auto& [rows, width] : kShapes) {
      for (const std::int64_t shift : {0, 1}) check_scores<TypeParam>(rows, width, shift);
    }
  });
}

/// A mean of 1e4 standard deviations costs what rounding that mean to f64 does, which f32 does not
/// see.
TYPED_TEST(LeaveOneOutTest, ACommonMeanDoesNotReachTheScores) {
  using T = TypeParam;
  constexpr double mean = 1e4, factor = std::is_same_v<T, double> ? 2 * mean : 2;
  for_each_variant<T>([] {
    check_scores<T>(33, 5, 0, mean, factor);
    check_scores<T>(777, 3, 0, mean, factor);
  });
}

/// Beyond 256 rows some tell the means, spread over all: so the means are those of all within what
/// so many say, also where the rows come sorted, and one read of y and logvar is counted.
TYPED_TEST(LeaveOneOutTest, RowsSpreadOverAllTellTheMeans) {
  using T = TypeParam;
  for_each_variant<T>([] {
    constexpr std::int64_t rows = 2000, width = 3;
    Gaussians<T> in(rows, width, 0);
    for (std::int64_t i = 0; i < rows * width; ++i) {  // from -100 to 100, variances from 1 to e^2
      const double place = static_cast<double>(i / width) / static_cast<double>(rows);
      in.y[i] = static_cast<T>(200 * place - 100);
      in.logvar[i] = static_cast<T>(2 * place);
    }
    in.forward();
    for (std::int64_t k = 0; k < width; ++k) {
      EXPECT_NEAR(in.means[k], 0, 1) << "column " << k;
      EXPECT_NEAR(in.means[width + k], (std::exp(2.0) - 1) / 2, 0.1) << "column " << k;
    }
    GaussianScoresForward<T> args{};
    args.rows = rows;
    args.width = width;
    EXPECT_EQ(args.bytes(),
              sizeof(T) * (rows * (3 * width + 2 * gaussian_score_depth(width)) + 2 * 256 * width) +
                  8 * rows);
  });
}

/// Any weights of the pairs whose rows sum to 0 with the factor of own_i, as they must.
Matrix weights_of_pairs(std::int64_t n, double factor) {
  Matrix weights(n, normals(n, 4));
  const auto numbers = normals(n * n, 5);
  for (std::int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::int64_t j = 0; j < n; ++j) sum += weights[i][j] = i == j ? 0 : numbers[i * n + j];
    weights[i][(i + 1) % n] -= sum + factor;
  }
  return weights;
}

/// The gradients of sum_ij weight_ij ln q(y_i|x_j) + factor sum_i ln q(y_i|x_i), pair by pair.
template <class T>
void check_scores_gradient(std::int64_t rows, std::int64_t width, std::int64_t shift) {
  Gaussians<T> in(rows, width, shift);
  in.forward();
  const Matrix weights = weights_of_pairs(rows, in.factor());
  const std::int64_t depth = in.depth;
  std::vector<double> da(rows * depth), db(rows * depth), dmu(rows * width), dlogvar(dmu), dy(dmu);
  double largest = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < rows; ++j) {
      for (std::int64_t k = 0; k < depth; ++k) {
        da[i * depth + k] += weights[i][j] * in.b[j * depth + k];
        db[j * depth + k] += weights[i][j] * in.a[i * depth + k];
      }
      const double weight = weights[i][j] + (i == j ? in.factor() : 0);
      for (std::int64_t k = 0; k < width; ++k) {
        const double w = std::exp(-in.at(in.logvar, j, k));
        const double apart = in.at(in.y, i, k) - in.at(in.mu, j, k);
        dmu[j * width + k] += weight * w * apart;
        dlogvar[j * width + k] += 0.5 * weight * (w * apart * apart - 1);
        dy[i * width + k] -= weight * w * apart;
        largest = std::max(largest, std::abs(weight) * w * (1 + apart * apart));
      }
    }
  }
  const double norm = largest * static_cast<double>(rows);
  Guarded<T> of_a(da), of_b(db);
  in.backward(of_a.data(), of_b.data());
  expect_close(in.dmu, dmu, norm, 16, in.what() + " dmu");
  expect_close(in.dlogvar, dlogvar, norm, 16, in.what() + " dlogvar");
  expect_close(in.dy, dy, norm, 16, in.what() + " dy");
  Gaussians<T> half(rows, width, shift);
  half.forward();
  half.backward(nullptr, of_b.data());
  expect_close(half.dmu, in.dmu.to_vector(), norm, 0, in.what() + " dmu alone");
  half.backward(of_a.data(), nullptr);
  expect_close(half.dy, in.dy.to_vector(), norm, 0, in.what() + " dy alone");
}

TYPED_TEST(LeaveOneOutTest, GaussianScoresGradientMatchesThePairsWrittenOut) {
  for_each_variant<TypeParam>([] {
    for (const auto& [rows, width] : kShapes) {
      if (rows == 1) continue;  // no other whose weight could make up for the factor
      for (const std::int64_t shift : {0, 1}) check_scores_gradient<TypeParam>(rows, width, shift);
    }
  });
}

/// Factors and own scores, the scores written out, and what the kernels make of them.
template <class T>
struct Problem {
  std::int64_t n, depth;
  Guarded<T> a, b, diagonal, largest, value, cotangent, weight, shift, diagonal_weight, da, db;
  Guarded<double> own, of_rows, sum;
  Matrix s;
  double magnitude = 0;  // of what is added up for a score

  Problem(std::int64_t samples, std::int64_t products, double spread)
      : n(samples),
        depth(products),
        a(normals(n * depth, 1, spread)),
        b(normals(n * depth, 2)),
        diagonal(n),
        largest(n),
        value(1),
        cotangent(std::vector<double>{kCotangent}),
        weight(n),
        shift(n),
        diagonal_weight(n),
        da(n * depth),
        db(n * depth),
        own(normals(n, 3, spread)),
        of_rows(n),
        sum(n) {
    write_scores();
  }
  std::string what() const { return fmt::format("{} samples, depth {}", n, depth); }
  double scale() const { return 0.7 / static_cast<double>(n); }

  void write_scores() {
    s.assign(n, std::vector<double>(n));
    magnitude = 1;
    for (std::int64_t i = 0; i < n; ++i) {
      magnitude = std::max(magnitude, std::abs(own[i]));
      for (std::int64_t j = 0; j < n; ++j) {
        double absolute = 0;
        for (std::int64_t k = 0; k < depth; ++k) {
          const double product = static_cast<double>(a[i * depth + k]) * b[j * depth + k];
          s[i][j] += product;
          absolute += std::abs(product);
        }
        magnitude = std::max(magnitude, absolute);
      }
    }
  }
  double log_sum(std::int64_t i) const {
    double top = -std::numeric_limits<double>::infinity(), total = 0;
    for (std::int64_t j = 0; j < n; ++j) top = j == i ? top : std::max(top, s[i][j]);
    for (std::int64_t j = 0; j < n; ++j) total += j == i ? 0 : std::exp(s[i][j] - top);
    return top + std::log(total);
  }
  PairScores<T> scores() { return {a.data(), b.data(), n, depth, 1.0, nullptr}; }
  void forward() {
    Guarded<T> workspace(PairSums<T>::workspace_size(n));
    Guarded<double> partial(PairSums<T>::partial_size(n));
    const PairSums<T> sums{scores(), diagonal.data(), largest.data(),   sum.data(),
                           nullptr,  nullptr,         workspace.data(), partial.data()};
    run(test_device(), LeaveOneOutForward<T>{sums,
                                             own.data(),
                                             scale(),
                                             of_rows.data(),
                                             value.data(),
                                             {weight.data(), shift.data(), nullptr, nullptr,
                                              diagonal_weight.data()}});
  }
  void backward(T* of_a, T* of_b) {
    Guarded<T> workspace(PairGradient<T>::workspace_size(test_device(), n, depth));
    PairGradient<T> args{scores(), weight.data(), shift.data(),
                         nullptr,  nullptr,       diagonal_weight.data(),
                         of_a,     of_b,          workspace.data()};
    args.cotangent = cotangent.data();
    args.shared_cotangent = true;
    run(test_device(), args);
  }
};

template <class T>
void expect_value(Problem<T>& p) {
  const double eps = std::numeric_limits<T>::epsilon();
  double value = 0;
  for (std::int64_t i = 0; i < p.n; ++i) {
    const double log_sum = p.log_sum(i);
    ASSERT_NEAR(p.largest[i] + std::log(p.sum[i]), log_sum, 8 * eps * p.magnitude)
        << p.what() << " row " << i;
    value += p.scale() * (p.own[i] + std::log(p.n - 1.0) - log_sum);
  }
  expect_close(p.value, {value}, p.magnitude, 8, p.what() + " value");
}

template <class T>
void expect_gradients(Problem<T>& p) {
  std::vector<double> da(p.n * p.depth), db(p.n * p.depth), weight_of(p.n);
  for (std::int64_t i = 0; i < p.n; ++i) {
    const double log_sum = p.log_sum(i);
    for (std::int64_t j = 0; j < p.n; ++j) {
      if (i == j) continue;
      const double weight = -p.scale() * kCotangent * std::exp(p.s[i][j] - log_sum);
      weight_of[j] += std::abs(weight);
      for (std::int64_t k = 0; k < p.depth; ++k) {
        da[i * p.depth + k] += weight * p.b[j * p.depth + k];
        db[j * p.depth + k] += weight * p.a[i * p.depth + k];
      }
    }
  }
  double largest_a = 1;
  for (const T x : p.a.span()) largest_a = std::max(largest_a, std::abs(double{x}));
  const double columns = *std::ranges::max_element(weight_of);
  // A weight errs by eps times the magnitude of its score; 5 is the largest element of b.
  expect_close(p.da, da, 5 * p.scale() * 1.5 * p.magnitude, 8, p.what() + " da");
  expect_close(p.db, db, largest_a * columns * p.magnitude, 8, p.what() + " db");
}

/// About tiles of 128, a single sample in the last one, whose tile is all diagonal. Scores near
/// each other, and beyond exp.
TYPED_TEST(LeaveOneOutTest, ValueAndGradientsMatchTheScoresWrittenOut) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [n, depth] : {std::pair<std::int64_t, std::int64_t>{2, 1},
                                   {3, 4},
                                   {17, 133},
                                   {127, 3},
                                   {128, 8},
                                   {129, 20},
                                   {257, 5},
                                   {515, 4}}) {
      for (const double spread : {0.3, 3.0, 1e4}) {
        Problem<T> p(n, depth, spread);
        p.forward();
        expect_value(p);
        p.backward(p.da.data(), p.db.data());
        expect_gradients(p);
        const auto da = p.da.to_vector(), db = p.db.to_vector();
        p.backward(p.da.data(), nullptr);
        expect_close(p.da, da, 1, 0, p.what() + " da alone");
        p.backward(nullptr, p.db.data());
        expect_close(p.db, db, 1, 0, p.what() + " db alone");
      }
    }
  });
}

/// All scores of a row equal, of magnitude 1e4: each other sample has weight 1 / (n - 1).
TYPED_TEST(LeaveOneOutTest, EqualScoresWeighTheSame) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Problem<T> p(130, 4, 1);
    std::ranges::fill(p.a.span(), T{50});
    std::ranges::fill(p.b.span(), T{50});
    std::ranges::fill(p.own.span(), 10000.0);
    p.forward();
    EXPECT_NEAR(p.value[0], 0, 1e-9);
    for (const double sum : p.sum.span()) EXPECT_EQ(sum, 129);
    p.backward(p.da.data(), p.db.data());
    for (const T x : p.da.span()) EXPECT_NEAR(x, 1.5 * p.scale() * 50, 1e-6);
    for (const T x : p.db.span()) EXPECT_NEAR(x, 1.5 * p.scale() * 50, 1e-6);
  });
}

TYPED_TEST(LeaveOneOutTest, NaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Problem<T> p(130, 4, 1);
    p.b[129 * 4] = std::numeric_limits<T>::quiet_NaN();
    p.forward();
    EXPECT_TRUE(std::isnan(p.value[0]));
  });
}

TEST(LeaveOneOutKernels, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    Problem<float> p(300, 9, 1);
    Gaussians<float> in(130, 37, 0);
    in.forward();
    p.forward();
    p.backward(p.da.data(), p.db.data());
    in.backward(in.a.data(), in.b.data());
    return joined(p.value, p.largest, p.da, p.db, in.a, in.b, in.dmu, in.dlogvar, in.dy);
  });
}

}  // namespace
}  // namespace cmir::kernels
