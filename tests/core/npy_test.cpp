#include "core/formats/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

namespace cmir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string npy(std::string header, std::string_view data, int major = 1) {
  std::string bytes = "\x93NUMPY";
  bytes += static_cast<char>(major);
  bytes += '\0';
  const std::uint32_t length = header.size();
  bytes.append(reinterpret_cast<const char*>(&length), major == 1 ? 2 : 4);
  return bytes.append(header).append(data);
}
std::string header(std::string_view descr, std::string_view shape,
                   std::string_view order = "False") {
  return fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}\n", descr, order,
                     shape);
}
Tensor parse(const std::string& bytes) {
  const auto owner = std::make_shared<const std::string>(bytes);
  return parse_npy(std::as_bytes(std::span(*owner)), owner, "lie");
}
template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
    return error.what();
  }
  return "no error";
}
std::string refused(const std::string& bytes) {
  return refusal([&] { parse(bytes); });
}

std::vector<double> formula(double offset, double scale = 1) {
  std::vector<double> values;
  for (int i = 0; i < 6; ++i) values.push_back(scale * i + offset);
  return values;
}

TEST(Npz, ReadsWhatNumpyWrote) {
  const auto arrays = read_npz(CMIR_SOURCE_DIR "/tests/fixtures/arrays.npz");
  EXPECT_EQ(arrays.size(), 14U);
  const auto expect = [&](const char* name, DType dtype, const std::vector<double>& values) {
    EXPECT_EQ(arrays.at(name).dtype(), dtype) << name;
    EXPECT_EQ(arrays.at(name).shape(), (Shape{2, 3})) << name;
    EXPECT_EQ(arrays.at(name).to_vector(), values) << name;
  };
  expect("f2", DType::f32, formula(0, 0.5));
  expect("f4", DType::f32, formula(0, 0.5));
  expect("f8", DType::f64, formula(0, 0.5));
  expect("i1", DType::i32, formula(-3));
  expect("i2", DType::i32, formula(-300));
  expect("i4", DType::i32, formula(-70000));
  expect("i8", DType::i64, formula(-0x1p40));
  expect("u1", DType::u8, formula(200));
  expect("u2", DType::i32, formula(65000));
  expect("u4", DType::i64, formula(4294967290));
  expect("b1", DType::u8, {0, 1, 0, 1, 0, 1});
  EXPECT_EQ(arrays.at("scalar").item(), 2.5);
  EXPECT_EQ(arrays.at("scalar").rank(), 0);
  EXPECT_EQ(arrays.at("empty").shape(), (Shape{0, 4}));
  const Tensor fortran = arrays.at("fortran");
  EXPECT_EQ(fortran.shape(), (Shape{2, 3, 4}));
  for (int i = 0; i < 24; ++i) EXPECT_EQ(fortran.data<float>()[i], i);
}

TEST(Npz, InflatesCompressedArrays) {
  const auto arrays = read_npz(CMIR_SOURCE_DIR "/tests/fixtures/compressed.npz");
  EXPECT_EQ(arrays.at("features").shape(), (Shape{100, 50}));
  EXPECT_EQ(arrays.at("labels").data<std::int64_t>()[99], 99);
}

TEST(Npy, ReadsAllVersionsAndLayouts) {
  const float values[] = {1, 2, 3, 4, 5, 6};
  const std::string_view data(reinterpret_cast<const char*>(values), sizeof(values));
  for (int major : {1, 2, 3}) {
    EXPECT_THAT(parse(npy(header("<f4", "(2, 3)"), data, major)).to_vector(),
                ElementsAre(1, 2, 3, 4, 5, 6));
  }
  EXPECT_THAT(parse(npy(header("<f4", "(2, 3)", "True"), data)).to_vector(),
              ElementsAre(1, 3, 5, 2, 4, 6));
  EXPECT_EQ(parse(npy(header("<f4", "(6,)"), data)).shape(), (Shape{6}));
  EXPECT_EQ(parse(npy(header("<f4", "(2L, 3L)"), data)).shape(), (Shape{2, 3}));
  EXPECT_EQ(parse(npy("{\"shape\":(6,),\"fortran_order\":True,\"descr\":\"=f4\"}", data)).numel(),
            6);
}

TEST(Npy, ConvertsEveryHalf) {
  std::string data;
  for (std::uint32_t half = 0; half < 0x10000; ++half)
    data.append(reinterpret_cast<const char*>(&half), 2);
  const auto values = parse(npy(header("<f2", "(65536,)"), data)).to_vector();
  for (std::uint32_t half = 0; half < 0x10000; ++half) {
    const double sign = half >> 15 != 0 ? -1 : 1;
    const std::uint32_t exponent = half >> 10 & 31, mantissa = half & 1023;
    if (exponent == 31) {
      ASSERT_TRUE(mantissa != 0 ? std::isnan(values[half]) : values[half] == sign * INFINITY)
          << half;
    } else {
      const double magnitude = exponent == 0
                                   ? mantissa * 0x1p-24
                                   : (1 + mantissa / 1024.0) * std::pow(2.0, exponent - 15.0);
      ASSERT_EQ(values[half], sign * magnitude) << half;
    }
  }
}

TEST(Npy, RefusesLies) {
  const std::string data(24, '\0');
  EXPECT_THAT(refused(""), HasSubstr("no NPY file"));
  EXPECT_THAT(refused("PK345678901234567890"), HasSubstr("no NPY file"));
  EXPECT_THAT(refused(npy(header("<f4", "(6,)"), data, 4)), HasSubstr("version 4"));
  EXPECT_THAT(refused(npy(header("<f4", "(7,)"), data)),
              HasSubstr("24 bytes are not [7] elements"));
  EXPECT_THAT(refused(npy(header("<f4", "(5,)"), data)),
              HasSubstr("24 bytes are not [5] elements"));
  EXPECT_THAT(refused(npy(header("<f4", "(-6,)"), data)), HasSubstr("no size"));
  EXPECT_THAT(refused(npy(header("<f4", "(99999999999999999999,)"), data)), HasSubstr("no size"));
  EXPECT_THAT(refused(npy(header("<f4", "(4611686018427387904, 4)"), data)),
              HasSubstr("overflows"));
  EXPECT_THAT(refused(npy(header("<f4", "(1,1,1,1,1,1,1,1,6)"), data)), HasSubstr("rank 9"));
  EXPECT_THAT(refused(npy(header("|O", "(3,)"), data)),
              AllOf(HasSubstr("Python objects"), HasSubstr("'|O'")));
  EXPECT_THAT(refused(npy(header("<U2", "(3,)"), data)), HasSubstr("'<U2'"));
  EXPECT_THAT(refused(npy(header(">f4", "(6,)"), data)), HasSubstr("'>f4'"));
  EXPECT_THAT(refused(npy(header("|f4", "(6,)"), data)), HasSubstr("'|f4'"));
  EXPECT_THAT(refused(npy(header("", "(6,)"), data)), HasSubstr("dtype ''"));
  EXPECT_THAT(refused(npy(header("<f4", "(6,)", "Maybe"), data)),
              HasSubstr("neither True nor False"));
  EXPECT_THAT(
      refused(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}", data)),
      HasSubstr("structured"));
  EXPECT_THAT(refused(npy("{'descr': '<f4', 'shape': (6,)}", data)), HasSubstr("not all of"));
  EXPECT_THAT(refused(npy("{'descr': '<f4', 'descr': '<f4'}", data)), HasSubstr("'descr' twice"));
  EXPECT_THAT(refused(npy("{'other': 1}", data)), HasSubstr("unknown key 'other'"));
  EXPECT_THAT(refused(npy(header("<f4", "(6,)") + "x", data)), HasSubstr("text after its end"));
}

TEST(Npy, EveryTruncationIsRefused) {
  const std::string whole = npy(header("<f8", "(2, 2)"), std::string(32, '\1'), 2);
  EXPECT_EQ(refused(whole), "no error");
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(refused(whole.substr(0, size)), "no error") << size;
}

// ---- Archives
// -----------------------------------------------------------------------------------------------

std::string compressed_fixture() {
  std::ifstream stream(CMIR_SOURCE_DIR "/tests/fixtures/compressed.npz", std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}
std::string refused_archive(const std::string& bytes) {
  return refusal([&] {
    const auto owner = std::make_shared<const std::string>(bytes);
    parse_npz(std::as_bytes(std::span(*owner)), owner, "lie");
  });
}
/// The fixture with `value` written at `offset` bytes into its first directory entry.
template <class T>
std::string with_entry_field(std::size_t offset, T value) {
  std::string bytes = compressed_fixture();
  std::memcpy(bytes.data() + bytes.find("PK\1\2") + offset, &value, sizeof(T));
  return bytes;
}

TEST(Npz, RefusesLyingDirectories) {
  EXPECT_EQ(refused_archive(compressed_fixture()), "no error");
  EXPECT_THAT(refused_archive(with_entry_field<std::uint16_t>(8, 1)), HasSubstr("encrypted"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint16_t>(10, 12)),
              HasSubstr("compression method 12"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint32_t>(16, 1)), HasSubstr("checksum"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint32_t>(20, 0x7FFFFFFF)),
              HasSubstr("past its end"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint32_t>(24, 0x7FFFFFFF)),
              HasSubstr("cannot have 2147483647 bytes"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint32_t>(24, 20127)),
              HasSubstr("not of 20127 bytes"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint32_t>(24, 20129)),
              HasSubstr("not of 20129 bytes"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint32_t>(24, 0xFFFFFFFF)), HasSubstr("ZIP64"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint32_t>(42, 3)), HasSubstr("differ"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint32_t>(42, 0x7FFFFFFF)),
              HasSubstr("past its end"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint16_t>(28, 60000)),
              HasSubstr("past its end"));
  EXPECT_THAT(refused_archive(with_entry_field<std::uint16_t>(30, 5)),
              HasSubstr("broken at entry 1"));
}

TEST(Npz, RefusesTwoEntriesForOneMember) {
  // Both directory entries point at the first member: a small archive could so grow without bound.
  std::string bytes = compressed_fixture();
  const auto first = bytes.find("PK\1\2"), second = bytes.find("PK\1\2", first + 4),
             end = bytes.find("PK\5\6");
  std::string entry = bytes.substr(first, second - first);
  const std::string head = bytes.substr(0, first);
  std::string tail = bytes.substr(end);
  const std::uint32_t size = 2 * entry.size();
  std::memcpy(tail.data() + 12, &size, 4);
  EXPECT_THAT(refused_archive(head + entry + entry + tail),
              HasSubstr("holds 'features.npy' twice"));
  std::string renamed = head;
  renamed.replace(renamed.find("features"), 8, "faatures");
  EXPECT_THAT(refused_archive(renamed + entry + entry + tail), HasSubstr("differ"));
}

TEST(Npz, RefusesEveryTruncationAndEveryFlippedByteOrReadsIt) {
  const std::string whole = compressed_fixture();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(refused_archive(whole.substr(0, size)), "no error") << size;
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x41);
    refused_archive(flipped);  // unread fields (dates, attributes) may change; nothing may crash or
                               // throw another kind
  }
}

}  // namespace
}  // namespace cmir
