// What the ops on packed sequences refuse, and what they say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/attention.h"
#include "autograd/conv1d.h"
#include "autograd/gradcheck.h"
#include "autograd/layer_norm.h"
#include "autograd/mean_pool.h"
#include "autograd/positions.h"
#include "autograd/softmax.h"

namespace cmir {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Variable zeros(const Shape& shape) { return Variable(Tensor::zeros(shape)); }
Tensor offsets(std::initializer_list<std::int64_t> values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
  return "(no error)";
}

TEST(SequenceOps, OffsetsAreChecked) {
  const auto pool = [](const Tensor& bounds) {
    return message_of([&] { ops::mean_pool(zeros({4, 2}), bounds); });
  };
  EXPECT_THAT(pool({}), HasSubstr("got nothing"));
  EXPECT_THAT(pool(Tensor::zeros({3}, DType::i32)), HasSubstr("got i32[3]"));
  EXPECT_THAT(pool(offsets({})), HasSubstr("i64[0]"));
  EXPECT_THAT(pool(offsets({1, 4})), HasSubstr("start at 0, got 1"));
  EXPECT_THAT(pool(offsets({0, 3, 2, 4})), HasSubstr("sample 1 is from 3 to 2"));
  EXPECT_THAT(pool(offsets({0, 3})), HasSubstr("end at 3, but there are 4 rows"));
  EXPECT_THAT(message_of([] {
                ops::mean_pool(zeros({4}), offsets({0, 4}));
              }),
              HasSubstr("[rows, width]"));
}

TEST(SequenceOps, Conv1dNamesTheShapes) {
  const auto at = offsets({0, 4});
  EXPECT_THAT(message_of([&] {
                ops::conv1d(zeros({4, 2}), at, zeros({3, 5, 3}), {});
              }),
              AllOf(HasSubstr("f32[4, 2]"), HasSubstr("f32[3, 5, 3]")));
  EXPECT_THAT(message_of([&] {
                ops::conv1d(zeros({4, 2}), at, zeros({3, 2, 2}), {});
              }),
              HasSubstr("odd"));
  EXPECT_THAT(message_of([&] {
                ops::conv1d(zeros({4, 2}), at, zeros({3, 2, 3}), zeros({2}));
              }),
              HasSubstr("bias [3]"));
  EXPECT_THAT(message_of([&] {
                ops::conv1d(zeros({4, 2}), offsets({0, 5}), zeros({3, 2, 3}), {});
              }),
              HasSubstr("end at 5"));
}

TEST(SequenceOps, LayerNormNamesTheShapes) {
  EXPECT_THAT(message_of([] {
                ops::layer_norm(zeros({4, 3}), zeros({3}), zeros({2}));
              }),
              AllOf(HasSubstr("f32[4, 3]"), HasSubstr("f32[2]")));
  EXPECT_THAT(message_of([] {
                ops::layer_norm(zeros({4, 0}), zeros({0}), zeros({0}));
              }),
              HasSubstr("one feature"));
  EXPECT_THAT(message_of([] {
                ops::layer_norm(zeros({4, 3}), zeros({3}), zeros({3}), 0);
              }),
              HasSubstr("epsilon"));
}

TEST(SequenceOps, LayerNormOfASumNamesTheShapes) {
  EXPECT_THAT(
      message_of([] {
        ops::layer_norm_of_sum(zeros({4, 3}), zeros({2, 3}), zeros({3}), zeros({3}));
      }),
      AllOf(HasSubstr("layer_norm_of_sum"), HasSubstr("f32[4, 3]"), HasSubstr("f32[2, 3]")));
  EXPECT_THAT(message_of([] {
                ops::sum_and_layer_norm(zeros({4, 3}), zeros({4, 3}), zeros({3}), zeros({2}));
              }),
              HasSubstr("f32[2]"));
}

TEST(SequenceOps, SoftmaxChecksLengths) {
  EXPECT_THAT(message_of([] {
                ops::softmax(zeros({2, 3}), offsets({1}));
              }),
              HasSubstr("lengths [2]"));
  EXPECT_THAT(message_of([] {
                ops::softmax(zeros({2, 3}), offsets({1, 4}));
              }),
              HasSubstr("0 .. 3, got 4"));
  EXPECT_THAT(message_of([] { ops::softmax(Variable(Tensor::zeros({2}, DType::i32))); }),
              HasSubstr("i32"));
}

TEST(SequenceOps, AttentionNamesTheShapes) {
  const auto at = offsets({0, 4});
  const auto attend = [&](const Shape& query, const Shape& key, std::int64_t heads,
                          ops::AttentionOptions options) {
    return message_of(
        [&] { ops::attention(zeros(query), zeros(key), zeros(key), at, at, heads, options); });
  };
  EXPECT_THAT(attend({4, 6}, {4, 5}, 1, {}), AllOf(HasSubstr("f32[4, 6]"), HasSubstr("f32[4, 5]")));
  EXPECT_THAT(attend({4, 6}, {4, 6}, 4, {}), HasSubstr("width 6 does not divide into 4 heads"));
  EXPECT_THAT(attend({4, 6}, {4, 6}, 0, {}), HasSubstr("0 heads"));
  EXPECT_THAT(attend({4, 6}, {4, 6}, 2, {.dropout = 1}), HasSubstr("[0, 1), got 1"));
  EXPECT_THAT(attend({4, 6}, {4, 6}, 2, {.dropout = std::nan("")}), HasSubstr("[0, 1), got nan"));
  EXPECT_THAT(attend({4, 6}, {4, 6}, 2, {.scale = -1}), HasSubstr("scale"));
  EXPECT_THAT(
      message_of([&] {
        ops::attention(zeros({4, 6}), zeros({4, 6}), zeros({4, 6}), at, offsets({0, 2, 4}), 2);
      }),
      HasSubstr("query_offsets hold 1 samples, key_offsets 2"));
  EXPECT_THAT(message_of([&] {
                ops::self_attention(zeros({4, 7}), at, 1);
              }),
              HasSubstr("f32[4, 7]"));
}

TEST(SequenceOps, SelfAttentionIsAttentionOfThreeParts) {
  const auto at = offsets({0, 3, 3, 7});
  const Tensor qkv = random_normal({7, 12}, 1);
  std::vector<Tensor> parts(3, Tensor::empty({7, 4}, DType::f64));
  for (int part = 0; part < 3; ++part) {
    parts[part] = Tensor::empty({7, 4}, DType::f64);
    for (int i = 0; i < 28; ++i) {
      parts[part].mutable_data<double>()[i] = qkv.data<double>()[i / 4 * 12 + part * 4 + i % 4];
    }
  }
  const auto fused = ops::self_attention(Variable(qkv), at, 2);
  const auto split =
      ops::attention(Variable(parts[0]), Variable(parts[1]), Variable(parts[2]), at, at, 2);
  EXPECT_EQ(fused.value().to_vector(), split.value().to_vector());
}

TEST(SequenceOps, PositionsNameTheLongestSampleAndTheTable) {
  EXPECT_THAT(message_of([] {
                ops::add_positions(zeros({7, 2}), offsets({0, 5, 7}), zeros({4, 2}));
              }),
              AllOf(HasSubstr("a sample has 5 rows"), HasSubstr("only 4 positions")));
  EXPECT_THAT(message_of([] {
                ops::add_positions(zeros({7, 2}), offsets({0, 5, 7}), zeros({8, 3}));
              }),
              HasSubstr("f32[8, 3]"));
}

TEST(SequenceOps, SinusoidsAreVaswanis) {
  const Tensor table = ops::sinusoids(12, 5, DType::f64);
  for (int p = 0; p < 12; ++p) {
    const double* row = table.data<double>() + p * 5;
    EXPECT_DOUBLE_EQ(row[0], std::sin(p));
    EXPECT_DOUBLE_EQ(row[1], std::cos(p));
    EXPECT_NEAR(row[2], std::sin(p / std::pow(10000, 0.4)), 1e-14);
    EXPECT_NEAR(row[3], std::cos(p / std::pow(10000, 0.4)), 1e-14);
    EXPECT_NEAR(row[4], std::sin(p / std::pow(10000, 0.8)), 1e-14);
  }
  // Positions count from each sample's start, and a longer batch after a shorter one still gets the
  // right rows.
  const auto encode = [&](const Tensor& at, std::int64_t rows) {
    return ops::add_positions(Variable(Tensor::zeros({rows, 5}, DType::f64)), at).value();
  };
  EXPECT_EQ(encode(offsets({0, 2}), 2).to_vector(), table.slice(0, 2).to_vector());
  const Tensor batch = encode(offsets({0, 3, 12}), 12);
  EXPECT_EQ(batch.slice(0, 3).to_vector(), table.slice(0, 3).to_vector());
  EXPECT_EQ(batch.slice(3, 12).to_vector(), table.slice(0, 9).to_vector());
}

}  // namespace
}  // namespace cmir
