#include "core/tensor.h"
#include "tests/message_of.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cmir {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Tensor, HoldsWhatItWasMadeFrom) {
  const Tensor tensor = Tensor::from<std::int32_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_EQ(tensor.describe(), "i32[2, 3] on cpu");
  EXPECT_EQ(tensor.bytes(), 24U);
  EXPECT_THAT(tensor.to_vector(), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.raw()) % 64, 0U);
  EXPECT_EQ(Tensor::scalar(2.5).item(), 2.5);
  EXPECT_THAT(Tensor::full({2}, 1.0, DType::bf16).to_vector(), ElementsAre(1, 1));
  EXPECT_EQ(Tensor::zeros({0, 3}).numel(), 0);
  EXPECT_THAT(message_of([] {
                Tensor::from<float>({1, 2}, {3});
              }),
              HasSubstr("2 values do not fill the shape [3]"));
  EXPECT_THAT(message_of([&] { (void)tensor.item(); }),
              HasSubstr("exactly one element, got i32[2, 3]"));
}

TEST(Tensor, AnUndefinedTensorIsRefusedEverywhere) {
  Tensor tensor;
  EXPECT_FALSE(tensor.defined());
  EXPECT_EQ(tensor.describe(), "undefined tensor");
  EXPECT_THAT(message_of([&] { (void)tensor.data<float>(); }),
              HasSubstr("undefined tensor has no data"));
  EXPECT_THAT(message_of([&] { tensor.mutable_raw(); }), HasSubstr("undefined tensor has no data"));
  EXPECT_FALSE(tensor.shares_storage(Tensor()));
}

TEST(Tensor, TypedAccessChecksTheDType) {
  Tensor tensor = Tensor::zeros({2});
  EXPECT_THAT(message_of([&] { (void)tensor.data<double>(); }),
              AllOf(HasSubstr("asked for f64 data of f32[2]"), HasSubstr("Tensor::to")));
  EXPECT_THAT(message_of([&] { tensor.mutable_data<std::int64_t>(); }), HasSubstr("i64"));
}

TEST(Tensor, ViewsShareMemoryAndClonesDoNot) {
  Tensor tensor = Tensor::from<double>({0, 1, 2, 3, 4, 5}, {3, 2});
  Tensor row = tensor.slice(1, 2), flat = tensor.reshape({-1}), copy = tensor.clone();
  row.mutable_data<double>()[0] = 20;
  EXPECT_THAT(flat.to_vector(), ElementsAre(0, 1, 20, 3, 4, 5));
  EXPECT_THAT(copy.to_vector(), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_TRUE(row.shares_storage(tensor) && flat.shares_storage(tensor) &&
              !copy.shares_storage(tensor));
  EXPECT_FALSE(tensor.unique());
  EXPECT_TRUE(copy.unique());
  EXPECT_THAT(tensor.slice(1, 3).slice(1, 2).to_vector(), ElementsAre(4, 5));
  EXPECT_EQ(tensor.slice(3, 3).numel(), 0);
  EXPECT_EQ(Tensor::zeros({0, 2}).slice(0, 0).numel(), 0);
}

TEST(Tensor, VersionsRiseWithEveryWriteThroughAnyView) {
  Tensor tensor = Tensor::zeros({4});
  const Tensor view = tensor.slice(0, 2);
  const auto before = view.version();
  (void)tensor.data<float>();
  EXPECT_EQ(view.version(), before);
  tensor.fill(1);
  EXPECT_GT(view.version(), before);
  const auto after_fill = view.version();
  tensor.slice(2, 4).copy_from(Tensor::zeros({2}));
  EXPECT_GT(view.version(), after_fill);
}

TEST(Tensor, ReshapeDeducesOneSize) {
  const Tensor tensor = Tensor::zeros({4, 6});
  EXPECT_EQ(tensor.reshape({-1, 3}).shape(), (Shape{8, 3}));
  EXPECT_EQ(tensor.reshape({2, -1, 2}).shape(), (Shape{2, 6, 2}));
  EXPECT_EQ(Tensor::zeros({0, 6}).reshape({-1, 3}).shape(), (Shape{0, 3}));
  EXPECT_THAT(message_of([&] {
                tensor.reshape({5, -1});
              }),
              HasSubstr("cannot deduce the size -1 for f32[4, 6]"));
  EXPECT_THAT(message_of([&] { tensor.reshape({-1, 0}); }), HasSubstr("cannot deduce"));
  EXPECT_THAT(message_of([&] { tensor.reshape({-1, -1}); }), HasSubstr("negative size"));
  EXPECT_THAT(message_of([&] { tensor.reshape({5, 5}); }), HasSubstr("do not fit [5, 5]"));
}

TEST(Tensor, SliceChecksItsBounds) {
  const Tensor tensor = Tensor::zeros({4, 6});
  for (const auto& [begin, end] : std::vector<std::pair<int, int>>{{-1, 2}, {3, 2}, {0, 5}}) {
    EXPECT_THAT(message_of([&, b = begin, e = end] { tensor.slice(b, e); }),
                HasSubstr("not within f32[4, 6]"));
  }
  EXPECT_THAT(message_of([] { Tensor::scalar(1).slice(0, 1); }), HasSubstr("slice"));
}

TEST(Tensor, WrappedMemoryIsReadOnlyAlignedAndKeptAlive) {
  auto memory = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3, 4});
  std::weak_ptr<std::vector<float>> alive = memory;
  Tensor tensor = Tensor::wrap(memory->data(), {2, 2}, DType::f32, memory);
  EXPECT_THAT(message_of([&] {
                Tensor::wrap(reinterpret_cast<char*>(memory->data()) + 2, {1}, DType::f32, memory);
              }),
              HasSubstr("aligned to 4 bytes"));
  EXPECT_THAT(message_of([&] { Tensor::wrap(memory->data(), {1}, DType::f32, nullptr); }),
              HasSubstr("needs an owner"));
  memory.reset();
  EXPECT_FALSE(alive.expired());
  EXPECT_THAT(message_of([&] { tensor.fill(0); }),
              AllOf(HasSubstr("read-only"), HasSubstr("clone")));
  Tensor copy = tensor.clone();
  copy.fill(0);
  EXPECT_THAT(tensor.to_vector(), ElementsAre(1, 2, 3, 4));
  tensor = Tensor();
  EXPECT_TRUE(alive.expired());
}

TEST(Tensor, ConvertsBetweenAllDTypes) {
  const std::vector<DType> dtypes = {DType::f32, DType::f64, DType::bf16,
                                     DType::i32, DType::i64, DType::u8};
  for (DType from : dtypes) {
    for (DType to : dtypes) {
      const Tensor source = Tensor::full({3}, 100, from);
      const Tensor result = source.to(to);
      EXPECT_EQ(result.dtype(), to);
      EXPECT_THAT(result.to_vector(), ElementsAre(100, 100, 100));
      EXPECT_EQ(result.shares_storage(source), from == to);
    }
  }
}

TEST(Tensor, ConversionToIntegersTruncatesAndSaturates) {
  const double huge = 1e30, nan = std::nan("");
  const Tensor values =
      Tensor::from<double>({1.9, -1.9, huge, -huge, nan, 0x1p31, -0x1p31, 0x1p63}, {8});
  using I32 = std::numeric_limits<std::int32_t>;
  using I64 = std::numeric_limits<std::int64_t>;
  EXPECT_THAT(values.to(DType::i32).to_vector(),
              ElementsAre(1, -1, I32::max(), I32::min(), 0, I32::max(), I32::min(), I32::max()));
  EXPECT_EQ(values.to(DType::i64).data<std::int64_t>()[2], I64::max());
  EXPECT_EQ(values.to(DType::i64).data<std::int64_t>()[3], I64::min());
  EXPECT_EQ(values.to(DType::i64).data<std::int64_t>()[5], 0x80000000LL);
  EXPECT_EQ(values.to(DType::i64).data<std::int64_t>()[7], I64::max());
  EXPECT_THAT(values.to(DType::u8).to_vector(), ElementsAre(1, 0, 255, 0, 0, 255, 0, 255));
  EXPECT_THAT(values.to(DType::f32).to(DType::i32).to_vector()[5], I32::max());
  const Tensor wide = Tensor::from<std::int64_t>({I64::max(), I64::min(), -5, 300}, {4});
  EXPECT_THAT(wide.to(DType::i32).to_vector(), ElementsAre(I32::max(), I32::min(), -5, 300));
  EXPECT_THAT(wide.to(DType::u8).to_vector(), ElementsAre(255, 0, 0, 255));
}

TEST(Tensor, CopyFromNeedsTheSameShapeAndDType) {
  Tensor target = Tensor::zeros({2});
  target.copy_from(Tensor::full({2}, 3));
  EXPECT_THAT(target.to_vector(), ElementsAre(3, 3));
  EXPECT_THAT(message_of([&] { target.copy_from(Tensor::zeros({3})); }),
              HasSubstr("f32[3] on cpu into f32[2]"));
  EXPECT_THAT(message_of([&] { target.copy_from(Tensor::zeros({2}, DType::f64)); }),
              HasSubstr("f64[2]"));
  Tensor overlapping = Tensor::from<float>({1, 2, 3}, {3});
  overlapping.slice(1, 3).copy_from(overlapping.slice(0, 2));
  EXPECT_THAT(overlapping.to_vector(), ElementsAre(1, 1, 2));
}

const Device kSimt{DeviceType::simt};

TEST(Tensor, FillsCopiesAndConvertsOnAnotherDevice) {
  const Tensor tensor = Tensor::from<float>({1, 2, 3, 4}, {2, 2}, kSimt);
  EXPECT_EQ(tensor.describe(), "f32[2, 2] on simt");
  EXPECT_THAT(tensor.to_vector(), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(tensor.slice(1, 2).reshape({2}).slice(1, 2).item(), 4);
  EXPECT_EQ(tensor.clone().device(), kSimt);
  EXPECT_FALSE(tensor.clone().shares_storage(tensor));
  const Tensor converted = tensor.to(DType::i32);
  EXPECT_EQ(converted.describe(), "i32[2, 2] on simt");
  EXPECT_THAT(converted.to_vector(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Tensor::zeros({2}, DType::f32, kSimt).to_vector(), ElementsAre(0, 0));
  EXPECT_THAT(Tensor::full({2}, 5, DType::u8, kSimt).to_vector(), ElementsAre(5, 5));
  EXPECT_EQ(Tensor::zeros({0, 3}, DType::f32, kSimt).to(Device{}).numel(), 0);
  require_finite(tensor, "fine");
}

TEST(Tensor, GoesToADeviceAndBack) {
  const Tensor host = Tensor::from<double>({1, 2, 3}, {3});
  const Tensor there = host.to(kSimt);
  EXPECT_EQ(there.device(), kSimt);
  EXPECT_FALSE(there.shares_storage(host));
  EXPECT_TRUE(host.to(Device{}).shares_storage(host));
  EXPECT_TRUE(there.to(kSimt).shares_storage(there));
  EXPECT_THAT(there.to(Device{}).to_vector(), ElementsAre(1, 2, 3));
  EXPECT_FALSE(Tensor().to(kSimt).defined());
  Tensor target = Tensor::zeros({3}, DType::f64, kSimt);
  target.copy_from(host);
  EXPECT_THAT(target.to_vector(), ElementsAre(1, 2, 3));
}

TEST(Tensor, AMirrorIsMadeOnceAndFollowsWhatIsWritten) {
  Tensor host = Tensor::from<std::int64_t>({0, 2, 5}, {3});
  const Tensor first = host.on(kSimt);
  EXPECT_EQ(first.device(), kSimt);
  EXPECT_THAT(first.to_vector(), ElementsAre(0, 2, 5));
  EXPECT_EQ(host.on(kSimt).raw(), first.raw());
  EXPECT_EQ(host.slice(1, 3).on(kSimt).raw(), first.raw() + 8);
  host.mutable_span<std::int64_t>()[2] = 9;
  EXPECT_THAT(first.to_vector(), ElementsAre(0, 2, 5));
  EXPECT_EQ(host.on(kSimt).raw(), first.raw());  // the same address, the new values
  EXPECT_THAT(first.to_vector(), ElementsAre(0, 2, 9));
  EXPECT_TRUE(host.on(Device{}).shares_storage(host));
}

TEST(Tensor, HostAccessToAnotherDeviceIsAnError) {
  Tensor tensor = Tensor::zeros({2}, DType::f32, kSimt);
  const auto expected = AllOf(HasSubstr("f32[2] on simt"),
                              HasSubstr("copy it to the cpu first: tensor.to(Device{})"));
  EXPECT_THAT(message_of([&] { (void)tensor.span<float>(); }), expected);
  EXPECT_THAT(message_of([&] { tensor.mutable_span<float>(); }), expected);
  EXPECT_THAT(message_of([&] { (void)tensor.byte_span(); }), expected);
  EXPECT_THAT(message_of([&] { tensor.mutable_byte_span(); }), expected);
  EXPECT_NE(tensor.data<float>(), nullptr);
  EXPECT_NE(tensor.mutable_data<float>(), nullptr);
}

TEST(Tensor, RequireFiniteNamesTheElement) {
  require_finite(Tensor::zeros({3}), "fine");
  const Tensor bad = Tensor::from<float>({0, 1, std::numeric_limits<float>::infinity()}, {3});
  try {
    require_finite(bad, "loss");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
    EXPECT_STREQ(error.what(), "loss: element 2 of f32[3] on cpu is inf");
  }
}

}  // namespace
}  // namespace cmir
