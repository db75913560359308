// What ops::attention makes of its inputs: groups, projections side by side, padded batches, bias,
// and the errors. The numbers are the kernel's (tests/kernels/attention_test.cpp), the gradients
// the registry's.
#include "autograd/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "autograd/gradcheck.h"
#include "autograd/precision.h"
#include "autograd/rows.h"
#include "tests/message_of.h"

namespace cmir {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Tensor ints(const std::vector<std::int64_t>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}
Variable leaf(const Shape& shape, std::uint64_t seed) {
  return Variable(random_normal(shape, seed).to(DType::f32), true);
}
/// The gradients of `inputs` for a random cotangent of `output`.
std::vector<std::vector<double>> gradients_of(const Variable& output,
                                              std::vector<Variable> inputs) {
  for (Variable& x : inputs) x.clear_gradient();
  backward(output, {.seed = random_normal(output.shape(), 77).to(output.dtype())});
  std::vector<std::vector<double>> gradients;
  for (const Variable& x : inputs) gradients.push_back(x.gradient().to_vector());
  return gradients;
}

TEST(AttentionOp, AGroupIsItsProblemsOneByOne) {
  const Variable a = leaf({9, 6}, 1), b = leaf({7, 6}, 2), c = leaf({5, 12}, 3);
  const Tensor at_a = ints({0, 4, 9}), at_b = ints({0, 7, 7}), at_c = ints({0, 2, 5});
  const std::vector<ops::AttentionInput> inputs = {
      {a, b, b, at_a, at_b, {.dropout = 0.3, .stream = {.seed = 1}}},
      {b, c, {}, at_b, at_c, {}},
      {a, c, {}, at_a, at_c, {.scale = 2, .causal = true}}};
  const auto group = ops::attention_group(inputs, 3);
  ASSERT_EQ(group.size(), 3U);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto one = ops::attention_group({&inputs[i], 1}, 3);
    EXPECT_EQ(group[i].value().to_vector(), one[0].value().to_vector()) << i;
  }
  const auto together =
      gradients_of(ops::concat({ops::slice_rows(group[0], 0, 7), group[1]}), {a, b, c});
  const auto first = ops::attention_group({&inputs[0], 1}, 3),
             second = ops::attention_group({&inputs[1], 1}, 3);
  const auto apart =
      gradients_of(ops::concat({ops::slice_rows(first[0], 0, 7), second[0]}), {a, b, c});
  for (std::size_t i = 0; i < apart.size(); ++i) {
    for (std::size_t j = 0; j < apart[i].size(); ++j)
      EXPECT_NEAR(together[i][j], apart[i][j], 1e-5) << i << " " << j;
  }
}

/// [batch, longest, width] with lengths: the rows of the packed form, and zeros for padding,
/// whatever the padding holds; the same for a sample by itself.
TEST(AttentionOp, APaddedBatchIsThePackedOne) {
  const std::vector<std::int64_t> lengths = {3, 0, 5, 1}, offsets = {0, 3, 3, 8, 9};
  const Variable packed = leaf({9, 12}, 1);
  Tensor values = Tensor::full({20, 12}, std::numeric_limits<double>::quiet_NaN());
  std::vector<std::int64_t> rows;  // of the packed rows in the padded batch
  for (std::int64_t s = 0; s < 4; ++s) {
    for (std::int64_t i = 0; i < lengths[s]; ++i) rows.push_back(5 * s + i);
  }
  const auto row_of = [](const std::vector<double>& matrix, std::int64_t row, std::int64_t width) {
    return std::vector<double>(matrix.begin() + row * width, matrix.begin() + (row + 1) * width);
  };
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(packed.value().data<float>() + i * 12, 12,
                values.mutable_data<float>() + rows[i] * 12);
  }
  const Variable padded(values, true);
  const Tensor at = ops::padded_rows(ints(lengths), 5);
  const Variable from_padded = ops::self_attention(padded, at, 2);
  const Variable from_packed = ops::self_attention(packed, ints(offsets), 2);
  Tensor seed = random_normal({9, 4}, 5).to(DType::f32), padded_seed = Tensor::zeros({20, 4});
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::copy_n(seed.data<float>() + i * 4, 4, padded_seed.mutable_data<float>() + rows[i] * 4);
  backward(from_packed, {.seed = seed});
  backward(from_padded, {.seed = padded_seed});
  std::vector<double> output(20 * 4), gradient(20 * 12);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::ranges::copy(row_of(from_packed.value().to_vector(), i, 4), output.begin() + rows[i] * 4);
    std::ranges::copy(row_of(packed.gradient().to_vector(), i, 12),
                      gradient.begin() + rows[i] * 12);
  }
  EXPECT_EQ(from_padded.value().to_vector(), output);
  EXPECT_EQ(padded.gradient().to_vector(), gradient);
  const Variable alone(packed.value().slice(3, 8).clone(), true);
  const Variable from_alone = ops::self_attention(alone, ints({0, 5}), 2);
  backward(from_alone, {.seed = seed.slice(3, 8)});
  EXPECT_EQ(from_alone.value().to_vector(), from_packed.value().slice(3, 8).to_vector());
  EXPECT_EQ(alone.gradient().to_vector(), packed.gradient().slice(3, 8).to_vector());
}

/// A query whose every logit is -inf: zeros, and nothing flows back from it.
TEST(AttentionOp, AFullyMaskedRowGivesZerosAndNoGradient) {
  const Variable query = leaf({2, 3}, 1), key = leaf({4, 3}, 2), value = leaf({4, 3}, 3);
  Tensor mask = Tensor::zeros({1, 2, 4});
  for (int j = 0; j < 4; ++j)
    mask.mutable_data<float>()[4 + j] = -std::numeric_limits<float>::infinity();
  const Variable bias(mask, true);
  const Variable output =
      ops::attention(query, key, value, ints({0, 2}), ints({0, 4}), 1, {.bias = bias});
  Tensor seed = Tensor::zeros({2, 3});
  for (int d = 0; d < 3; ++d) seed.mutable_data<float>()[3 + d] = 1;  // of the masked row alone
  EXPECT_EQ(output.value().slice(1, 2).to_vector(), std::vector<double>(3));
  backward(output, {.seed = seed});
  for (const Variable& x : {query, key, value, bias})
    EXPECT_EQ(x.gradient().to_vector(), std::vector<double>(x.value().numel()));
}

TEST(AttentionOp, RoundsItsFactorsInBf16) {
  const Variable qkv = leaf({40, 90}, 1);
  const Tensor at = ints({0, 15, 40});
  const auto run = [&](Precision precision) {
    const PrecisionScope scope(precision);
    const Variable output = ops::self_attention(qkv, at, 3);
    auto results = gradients_of(output, {qkv});
    results.push_back(output.value().to_vector());
    return results;
  };
  const auto f32 = run(Precision::f32), bf16 = run(Precision::bf16);
  for (std::size_t i = 0; i < f32.size(); ++i) {
    double error = 0, norm = 0;
    for (std::size_t j = 0; j < f32[i].size(); ++j) {
      error += std::pow(bf16[i][j] - f32[i][j], 2);
      norm += std::pow(f32[i][j], 2);
    }
    EXPECT_GT(error, 0);
    EXPECT_LT(std::sqrt(error / norm), 2e-2) << i;
  }
}

TEST(AttentionOp, NamesWhatIsWrong) {
  const auto x = [](std::int64_t rows, std::int64_t width) {
    return Variable(Tensor::zeros({rows, width}));
  };
  const Tensor at = ints({0, 4});
  const auto with_bias = [&](const Shape& shape) {
    return message_of(
        [&] { ops::self_attention(x(4, 6), at, 2, {.bias = Variable(Tensor::zeros(shape))}); });
  };
  EXPECT_THAT(with_bias({2, 4, 3}),
              AllOf(HasSubstr("2 heads, 4 queries"), HasSubstr("f32[2, 4, 3]")));
  EXPECT_THAT(with_bias({1, 4, 4}), HasSubstr("bias"));
  const auto group = [&](std::vector<ops::AttentionInput> inputs) {
    return message_of([&] { ops::attention_group(inputs, 2); });
  };
  EXPECT_THAT(group({}), HasSubstr("at least one"));
  EXPECT_THAT(group({{x(4, 6), {}, {}, at, at, {}}, {x(4, 12), {}, {}, at, at, {}}}),
              AllOf(HasSubstr("problem 1"), HasSubstr("width 4"), HasSubstr("width 2")));
  const ops::AttentionOptions dropout{.dropout = 0.5, .stream = {.seed = 3}};
  EXPECT_THAT(group({{x(4, 6), {}, {}, at, at, dropout}, {x(4, 6), {}, {}, at, at, dropout}}),
              HasSubstr("problems 0 and 1 have dropout of one random stream"));
  EXPECT_THAT(group({{x(4, 2), x(4, 6), {}, at, at, {}}}),
              AllOf(HasSubstr("2 width"), HasSubstr("f32[4, 6]")));
  EXPECT_THAT(group({{x(4, 2), {}, x(4, 2), at, at, {}}}),
              HasSubstr("a key where there is a value"));
  EXPECT_THAT(message_of([] {
                ops::padded_rows(ints({2, 6}), 5);
              }),
              HasSubstr("sample 1 has 6 rows, padded to 5"));
  EXPECT_THAT(message_of([&] {
                ops::self_attention(x(4, 6), Tensor::from<std::int64_t>({0, 1, 2, 3}, {2, 2}), 2);
              }),
              HasSubstr("after one that ends at 2"));
}

}  // namespace
}  // namespace cmir
