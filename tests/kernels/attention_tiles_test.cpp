// The CUDA kernels of attention at the edges of their tiles, against the CPU's f64 kernel, which
// attention_test.cpp compares with plain loops; and how their work is cut into blocks.
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_launch.h"
#include "tests/kernels/kernel_test.h"
#include "tests/kernels/packed_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;
using Lengths = std::vector<std::int64_t>;

struct Shape {
  Lengths queries, keys;
  bool causal = false;
  float dropout = 0;
  bool bias = false;
  std::int64_t gap = 0;  ///< elements between rows
};
struct Case {
  std::vector<Shape> problems;
  std::int64_t heads, width;
};

/// What T makes of normals.
template <class T>
std::vector<double> rounded(std::int64_t count, std::uint64_t seed) {
  std::vector<double> values = normals(count, seed);
  for (double& value : values) value = exact(static_cast<T>(static_cast<float>(value)));
  return values;
}

/// A problem with the inputs that `Rounded` can hold and buffers of T.
template <class T, class Rounded>
struct Problem {
  Shared<std::int64_t> query_offsets, key_offsets;
  std::int64_t queries, keys, total, stride;
  Guarded<T> query, key, value, doutput;
  Guarded<SumOf<T>> bias, output, log_sum_exp, dquery, dkey, dvalue, dbias;
  AttentionProblem<T> problem{};

  Problem(const Shape& shape, std::int64_t heads, std::int64_t width, std::uint64_t seed)
      : query_offsets(offsets_of(shape.queries)),
        key_offsets(offsets_of(shape.keys)),
        queries(query_offsets.back()),
        keys(key_offsets.back()),
        total(heads * width),
        stride(total + shape.gap),
        query(rounded<Rounded>(queries * stride, seed)),
        key(rounded<Rounded>(keys * stride, seed + 1)),
        value(rounded<Rounded>(keys * stride, seed + 2)),
        doutput(rounded<Rounded>(queries * total, seed + 3)),
        bias(rounded<float>(heads * bias_size(shape), seed + 4)),
        output(queries * total),
        log_sum_exp(queries * heads),
        dquery(queries * stride),
        dkey(keys * stride),
        dvalue(keys * stride),
        dbias(heads * bias_size(shape)) {
    problem = {query.data(), key.data(), value.data(), stride, stride, stride};
    problem.query_begins = query_offsets.data();
    problem.query_ends = query_offsets.data() + 1;
    problem.key_begins = key_offsets.data();
    problem.key_ends = key_offsets.data() + 1;
    problem.samples = static_cast<std::int64_t>(shape.queries.size());
    problem.heads = heads;
    problem.head_width = width;
    problem.most_queries = std::ranges::max(shape.queries);
    problem.most_keys = std::ranges::max(shape.keys);
    problem.scale = 1 / std::sqrt(static_cast<float>(width));
    problem.causal = shape.causal;
    problem.dropout = shape.dropout;
    problem.stream = {.seed = seed, .step = 2, .site = 3};
    problem.query_rows = queries;
    problem.key_rows = keys;
    if (!shape.bias) return;
    problem.bias = bias.data();
    problem.bias_queries = problem.most_queries + 1;
    problem.bias_keys = problem.most_keys + 2;
    for (std::int64_t i = 0; i < heads * bias_size(shape); i += 7) {
      bias[i] = -std::numeric_limits<SumOf<T>>::infinity();
    }
  }
  static std::int64_t bias_size(const Shape& shape) {
    return shape.bias ? (std::ranges::max(shape.queries) + 1) * (std::ranges::max(shape.keys) + 2)
                      : 0;
  }
  AttentionBackwardItem<T> backward_item() {
    return {
        problem,       output.data(), log_sum_exp.data(), doutput.data(),
        dquery.data(), dkey.data(),   dvalue.data(),      problem.bias ? dbias.data() : nullptr};
  }
};

template <class T, class Rounded>
using Problems = std::vector<std::unique_ptr<Problem<T, Rounded>>>;

/// All of a case's problems in one call on `device`.
template <class T, class Rounded>
Problems<T, Rounded> run_case(const TestDevice& device, const Case& c, bool tf32) {
  Problems<T, Rounded> problems;
  AttentionForward<T> forward{};
  AttentionBackward<T> backward{};
  for (const Shape& shape : c.problems) {
    auto& p = *problems.emplace_back(
        std::make_unique<Problem<T, Rounded>>(shape, c.heads, c.width, 10 * problems.size() + 1));
    forward.items[forward.count++] = {p.problem, p.output.data(), p.log_sum_exp.data()};
    backward.items[backward.count++] = p.backward_item();
  }
  forward.tf32 = backward.tf32 = tf32;
  Guarded<SumOf<T>> forward_workspace(attention_forward_workspace(forward));
  Guarded<SumOf<T>> backward_workspace(attention_backward_workspace(backward));
  forward.workspace = forward_workspace.data();
  backward.workspace = backward_workspace.data();
  run(device, forward);
  run(device, backward);
  return problems;
}

/// Within `bound` of the largest element; the sentinels between rows untouched.
template <class T>
void expect_near(Guarded<T>& actual, Guarded<double>& expected, double bound,
                 const std::string& what) {
  double largest = 0;
  for (const double x : expected.span()) {
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  }
  for (std::size_t i = 0; i < expected.span().size(); ++i) {
    const double x = expected.span()[i], y = actual.span()[i];
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(y)) << what << " element " << i << " is written: " << y;
    } else if (std::isinf(x)) {
      ASSERT_EQ(y, x) << what << " element " << i;
    } else {
      ASSERT_TRUE(std::abs(y - x) <= bound * largest)
          << what << " element " << i << " is " << y << ", not " << x << "; largest " << largest;
    }
  }
}

template <class T>
void expect_like_f64(const Case& c, double bound, bool tf32 = false) {
  const auto expected = run_case<double, T>({}, c, false);
  const auto actual = run_case<T, T>(test_device(), c, tf32);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    auto &a = *actual[i], &e = *expected[i];
    const std::string at = fmt::format("width {} problem {} ", c.width, i);
    expect_near(a.output, e.output, bound, at + "output");
    expect_near(a.log_sum_exp, e.log_sum_exp, bound, at + "log_sum_exp");
    expect_near(a.dquery, e.dquery, bound, at + "dquery");
    expect_near(a.dkey, e.dkey, bound, at + "dkey");
    expect_near(a.dvalue, e.dvalue, bound, at + "dvalue");
    if (e.problem.bias != nullptr) expect_near(a.dbias, e.dbias, bound, at + "dbias");
  }
}

/// About the edges of 16 rows of a warp, 32 of the other side, 64 of a team; every width of a tile,
/// rows that are aligned to 16 bytes, 4, or an element; warps alone, several to a block, and teams,
/// alone and of several heads and samples to a block, with walks of different lengths.
const std::vector<Case> kCases = {
    {{{.queries = {1, 31, 32, 33}, .keys = {32, 33, 1, 31}, .bias = true, .gap = 2}}, 2, 30},
    {{{.queries = {63, 64, 65}, .keys = {130, 1, 64}, .causal = true}}, 1, 64},
    {{{.queries = {130}, .keys = {63}, .causal = true, .dropout = 0.3F}}, 1, 128},
    {{{.queries = {1, 31, 32}, .keys = {33, 0, 31}, .causal = true, .dropout = 0.2F, .bias = true}},
     3,
     50},
    {{{.queries = {17, 3}, .keys = {5, 12}, .gap = 1}, {.queries = {0, 16}, .keys = {65, 33}}},
     1,
     31},
    {{{.queries = {2}, .keys = {65}, .dropout = 0.5F},
      {.queries = {64}, .keys = {2}, .causal = true},
      {.queries = {0}, .keys = {9}},
      {.queries = {7}, .keys = {0}, .bias = true}},
     2,
     4},
    {{{.queries = {50, 0, 64, 33}, .keys = {64, 7, 1, 50}, .dropout = 0.1F, .bias = true},
      {.queries = {5}, .keys = {60}, .causal = true}},
     3,
     30},
    {{{.queries = {64, 34}, .keys = {0, 63}, .causal = true, .bias = true}}, 3, 64},
    {{{.queries = {40, 64, 1}, .keys = {64, 33, 50}}}, 1, 100}};

/// kCases, and lengths of 1 to 130 at random.
std::vector<Case> edges_and_random() {
  std::vector<Case> cases = kCases;
  const RandomStream draw{.seed = 17};
  for (const std::int64_t width : {8, 30, 33, 64, 127}) {
    Shape shape;
    for (std::uint64_t i = 0; i < 4; ++i)
      (i % 2 == 0 ? shape.queries : shape.keys).push_back(1 + draw.word(4 * width + i) % 130);
    shape.causal = width % 2 == 1;
    cases.push_back({{shape}, 1 + width % 3, width});
  }
  return cases;
}

TEST(AttentionTilesTest, F32IsWithin1em5) {
  for_each_cuda_device([] {
    for (const Case& c : edges_and_random()) expect_like_f64<float>(c, 1e-5);
  });
}

TEST(AttentionTilesTest, Bf16IsWithin2em2) {
  for_each_cuda_device([] {
    for (const Case& c : edges_and_random()) expect_like_f64<BFloat16>(c, 2e-2);
  });
}

/// Factors have 10 bits of mantissa. A sample's only key has the most of it: the errors of all its
/// queries, and a gradient of 0.
TEST(AttentionTilesTest, Tf32IsWithin5em3) {
  for_each_cuda_device([] {
    for (const Case& c : kCases) expect_like_f64<float>(c, 5e-3, true);
  });
}

TEST(AttentionTilesTest, ShortSequencesShareABlock) {
  constexpr std::size_t of_hopper = std::size_t{227} << 10;
  for (const std::int64_t width : {4, 30, 32, 64, 128}) {
    for (const std::size_t bytes : {2, 4}) {
      for (const int tiles : {1, 2}) {
        for (const std::int64_t length : {1, 16, 32, 33, 50, 64}) {
          const AttentionLaunch l = attention_launch(width, length, 500, tiles, bytes, of_hopper);
          SCOPED_TRACE(
              fmt::format("{} of {} bytes, {} rows, {} tiles", width, bytes, length, tiles));
          EXPECT_EQ(l.team_warps, length <= 32 && width <= 64 ? 1 : 4);
          EXPECT_GT(l.block_teams, 1);
        }
        EXPECT_EQ(attention_launch(width, 65, 500, tiles, bytes, of_hopper).block_teams, 1);
      }
    }
  }
}

TEST(AttentionTilesTest, ABlockFitsEveryGpu) {
  for (std::int64_t width = 1; width <= kAttentionDeviceWidth; ++width) {
    for (const std::int64_t own : {1, 32, 33, 4096}) {
      for (const std::int64_t other : {1, 32, 33, 4096}) {
        for (const int tiles : {1, 2}) {
          for (const std::size_t bytes : {2, 4}) {
            for (const std::size_t most : {kAttentionSharedBytes, std::size_t{227} << 10}) {
              const AttentionLaunch l = attention_launch(width, own, other, tiles, bytes, most);
              EXPECT_GE(l.width, width);
              EXPECT_LE(l.shared_bytes(), most);
              const int groups = l.team_warps == 4 ? attention_groups(l.width, tiles, bytes) : 1;
              EXPECT_LE(l.threads(), kAttentionThreads * groups);
              EXPECT_GE(l.block_teams, 1);
              EXPECT_EQ(l.slots, other > l.other_rows ? 2 : 1)
                  << width << " " << own << " " << other;
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace cmir::kernels
