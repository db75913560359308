#include "models/data/import/pickle.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/models/import/format_files.h"

namespace cmir {
namespace {

using pickle::Document;
using pickle::Kind;
using pickle::Value;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Parses a copy whose bytes end exactly where the buffer does.
Document parse(std::string_view bytes) {
  const auto copy = std::make_shared<const std::vector<char>>(bytes.begin(), bytes.end());
  return Document::parse({copy->data(), copy->size()}, "test.pkl", copy);
}

template <std::size_t n>
Document parse_literal(const char (&bytes)[n]) {
  return parse(std::string_view(bytes, n - 1));
}

std::filesystem::path fixture(int protocol) {
  return std::filesystem::path(CMIR_SOURCE_DIR) /
         fmt::format("tests/fixtures/pickle/protocol{}.pkl", protocol);
}

/// The value under "/key[2]/key": a key may be a str or an int.
const Value& resolve(const Value& root, std::string_view path) {
  const Value* value = &root;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find_first_of("/[", 1), path.size());
    const std::string_view step = path.substr(1, end - 1);
    if (path[0] == '[') {
      value = &value->items()[std::stoul(std::string(step))];
    } else if (const Value* found = value->find(step)) {
      value = found;
    } else {
      const auto entries = value->entries();
      const auto entry = std::ranges::find_if(entries, [&](const auto& e) {
        return e.first.kind() == Kind::integer && std::to_string(e.first.integer()) == step;
      });
      if (entry == entries.end()) fail(ErrorKind::data, "test", "no key '{}'", step);
      value = &entry->second;
    }
    path.remove_prefix(end);
  }
  return *value;
}

void expect_array(const pickle::Array& array, const nlohmann::json& expected) {
  EXPECT_EQ(array.type.name(), expected["dtype"]);
  EXPECT_EQ(array.shape, Shape(expected["shape"].get<std::vector<std::int64_t>>()));
  if (!array.is_numeric()) {
    const auto strings = array.strings();
    for (std::size_t i = 0; i < expected["first"].size(); ++i) {
      const std::string text = expected["first"][i];
      EXPECT_EQ(array.type.kind == 'S' ? "b'" + strings[i] + "'" : strings[i], text);
    }
    return;
  }
  const auto values = array.tensor().to_vector();
  double sum = 0, magnitude = 0;
  std::int64_t nonfinite = 0;
  for (const double value : values) {
    if (std::isfinite(value)) {
      sum += value;
      magnitude += std::abs(value);
    } else {
      ++nonfinite;
    }
  }
  EXPECT_NEAR(sum, expected["sum_finite"], 1e-12 * magnitude);
  EXPECT_EQ(nonfinite, expected["nonfinite"]);
  for (std::size_t i = 0; i < expected["first"].size(); ++i) {
    const auto& first = expected["first"][i];
    EXPECT_EQ(values[i],
              first.is_string() ? std::stod(first.get<std::string>()) : first.get<double>());
  }
}

void expect_value(const Value& value, const nlohmann::json& expected) {
  if (expected.contains("dtype")) return expect_array(value.array(), expected);
  if (expected.contains("type")) {
    const std::string type = expected["type"], text = expected["value"];
    if (type == "str") {
      EXPECT_EQ(value.text(), text);
    } else if (type == "int") {
      EXPECT_EQ(value.integer(), std::stoll(text));
    } else {
      EXPECT_EQ(value.number(), std::stod(text));
    }
    return;
  }
  for (const auto& [kind, size] : expected.items()) {
    if (kind == "dict") {
      EXPECT_EQ(value.entries().size(), size);
    } else {
      EXPECT_EQ(value.kind(), kind == "list"    ? Kind::list
                              : kind == "tuple" ? Kind::tuple
                                                : Kind::set);
      EXPECT_EQ(value.items().size(), size);
    }
  }
}

TEST(PickleFiles, EveryExpectedValueIsRead) {
  if (test::format_files().empty()) GTEST_SKIP() << "no format samples on this machine";
  int files = 0, values = 0;
  const nlohmann::json all = test::expected_values();
  for (const auto& [name, paths] : all.items()) {
    if (!name.ends_with(".pkl") && !name.ends_with(".pickle")) continue;
    const Document document = Document::open(test::format_files() / name);
    ++files;
    for (const auto& [path, expected] : paths.items()) {
      SCOPED_TRACE(name + ": " + path);
      expect_value(resolve(document.root(), path), expected);
      ++values;
    }
  }
  EXPECT_EQ(files, 14);
  EXPECT_EQ(values, 864);
}

class PickleProtocol : public ::testing::TestWithParam<int> {};

TEST_P(PickleProtocol, EveryKindOfValueIsRead) {
  const Document document = Document::open(fixture(GetParam()));
  const Value& root = document.root();
  EXPECT_EQ(root.at("none").kind(), Kind::none);
  EXPECT_EQ(root.at("true").integer(), 1);
  EXPECT_EQ(root.at("false").integer(), 0);
  EXPECT_EQ(root.at("true").kind(), GetParam() < 2 ? root.at("true").kind() : Kind::boolean);
  EXPECT_EQ(root.at("small").integer(), 7);
  EXPECT_EQ(root.at("negative").integer(), -70000);
  EXPECT_EQ(root.at("large").integer(), std::int64_t{1} << 62);
  EXPECT_EQ(root.at("real").number(), 0.1);
  EXPECT_EQ(root.at("text").text(), "d\u00e9j\u00e0");
  EXPECT_EQ(root.at("bytes").text(), std::string_view("\0\u00ff", 3));
  EXPECT_EQ(root.at("empty").text(), "");
  EXPECT_EQ(root.at("words").items()[3].text(), "\u6f22\U0001f600");
  EXPECT_EQ(root.at("again").items().data(),
            root.at("words").items().data());  // shared, not copied
  EXPECT_EQ(root.at("tuple").at(1).at(0).number(), 2.5);
  EXPECT_TRUE(root.at("tuple").at(2).items().empty());
  EXPECT_EQ(root.at("set").kind(), Kind::set);
  EXPECT_EQ(root.at("set").items()[0].integer(), 3);
  EXPECT_EQ(root.at("ordered").at("x").integer(), 1);
  EXPECT_EQ(root.at("counts").at("y").integer(), 2);
  EXPECT_EQ(resolve(root, "/5").text(), "int key");
  EXPECT_EQ(root.at("scalar").number(), -0.8);
}

TEST_P(PickleProtocol, EveryKindOfArrayIsRead) {
  const Document document = Document::open(fixture(GetParam()));
  const auto array = [&](std::string_view key) { return document.root().at(key).array(); };
  const Tensor f4 = array("f4").tensor();
  EXPECT_EQ(f4.dtype(), DType::f32);
  EXPECT_EQ(f4.shape(), (Shape{2, 3}));
  EXPECT_THAT(f4.to_vector(), ElementsAre(1, 2, 3, 4, 5, -INFINITY));
  EXPECT_THAT(array("f4")[1].tensor(DType::f64).to_vector(), ElementsAre(4, 5, -INFINITY));
  EXPECT_THAT(array("same dtype").tensor().to_vector(), ElementsAre(9));
  EXPECT_THAT(array("f8 big-endian").tensor().span<double>(), ElementsAre(1.5, -2));
  EXPECT_THAT(array("f8 fortran").tensor().span<double>(), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(array("f2").tensor().span<float>(),
              ElementsAre(1.5F, std::ldexp(1.F, -24), -65504.F));
  EXPECT_THAT(array("i2").tensor().span<std::int32_t>(), ElementsAre(-2, 300));
  EXPECT_THAT(array("i8").tensor().span<std::int64_t>(), ElementsAre(-(std::int64_t{1} << 40)));
  EXPECT_EQ(document.root().at("i8").number(), -std::ldexp(1., 40));
  EXPECT_THAT(array("u1").tensor().span<std::uint8_t>(), ElementsAre(0, 7, 255));
  EXPECT_THAT(array("b1").tensor().span<std::uint8_t>(), ElementsAre(1, 0));
  EXPECT_THAT(array("U").strings(), ElementsAre("h\u00e9", "wo\u6f22ld"));
  EXPECT_THAT(array("S").strings(), ElementsAre("ab", "xyz"));
  EXPECT_THAT(array("O").strings(), ElementsAre("one", "two"));
  EXPECT_EQ(array("no rows").tensor().shape(), (Shape{0, 4}));
  EXPECT_THAT([&] { array("f4").tensor(DType::i32); }, ThrowsMessage<Error>(HasSubstr("inf")));
  EXPECT_THAT([&] { array("i8").tensor(DType::i32); }, ThrowsMessage<Error>(HasSubstr("fit")));
  EXPECT_THAT([&] { array("U").tensor(); }, ThrowsMessage<Error>(HasSubstr("numbers")));
  EXPECT_THAT([&] { array("f4").strings(); }, ThrowsMessage<Error>(HasSubstr("str")));
  EXPECT_THROW(array("f8 fortran")[0], Error);
}

TEST_P(PickleProtocol, CutAnywhereItIsRefused) {
  const std::string bytes = test::read_bytes(fixture(GetParam()));
  ASSERT_GT(bytes.size(), 1000u);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    try {
      parse(std::string_view(bytes).substr(0, size));
      ADD_FAILURE() << size << " of " << bytes.size() << " bytes were accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data);
    }
  }
}

TEST_P(PickleProtocol, OneWrongByteNeverCrashes) {
  const std::string bytes = test::read_bytes(fixture(GetParam()));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const int change : {0x01, 0x80, 0xFF}) {
      std::string wrong = bytes;
      wrong[i] = static_cast<char>(wrong[i] ^ change);
      try {
        parse(wrong);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, PickleProtocol, ::testing::Range(0, 6));

TEST(Pickle, GlobalsBeyondTheAllowListAreRefusedByName) {
  for (const std::string name :
       {"os\nsystem", "posix\nsystem", "builtins\neval", "__builtin__\neval", "builtins\ngetattr",
        "subprocess\nPopen", "torch._utils\n_rebuild_tensor_v2",
        "joblib.numpy_pickle\nNumpyArrayWrapper", "pandas.core.frame\nDataFrame", "numpy\nload",
        "numpy.core.multiarray\nfromfile", "collections\nCounter", "copy_reg\n_reconstructor",
        "pickle\nloads"}) {
    std::string dotted = name;
    dotted[dotted.find('\n')] = '.';
    EXPECT_THAT([&] { parse("c" + name + "\n(S'echo'\ntR."); },
                ThrowsMessage<Error>(HasSubstr("byte 0: refused to load " + dotted)));
    const std::string module = dotted.substr(0, name.find('\n')),
                      last = dotted.substr(module.size() + 1);
    const std::string stacked = "\x80\x04\x8c" + std::string(1, char(module.size())) + module +
                                "\x8c" + std::string(1, char(last.size())) + last + "\x93)R.";
    EXPECT_THAT([&] { parse(stacked); },
                ThrowsMessage<Error>(HasSubstr("refused to load " + dotted)));
  }
}

TEST(Pickle, OpcodesBeyondTheAllowListAreRefusedByName) {
  EXPECT_THAT([] { parse("Pid\n."); }, ThrowsMessage<Error>(HasSubstr("PERSID")));
  EXPECT_THAT([] { parse("NQ."); },
              ThrowsMessage<Error>(HasSubstr("byte 1: opcode 0x51 (BINPERSID)")));
  EXPECT_THAT([] { parse("(S'ls'\nios\nsystem\n."); }, ThrowsMessage<Error>(HasSubstr("INST")));
  EXPECT_THAT([] { parse("(cnumpy\nndarray\no."); }, ThrowsMessage<Error>(HasSubstr("OBJ")));
  EXPECT_THAT([] { parse("\x82\x01."); }, ThrowsMessage<Error>(HasSubstr("EXT")));
  EXPECT_THAT([] { parse(")\x97."); }, ThrowsMessage<Error>(HasSubstr("NEXT_BUFFER")));
  EXPECT_THAT([] { parse("hello"); }, ThrowsMessage<Error>(HasSubstr("")));
  EXPECT_THAT([] { parse("\x1f\x8b\x08"); }, ThrowsMessage<Error>(HasSubstr("not a pickle")));
  EXPECT_THAT([] { parse("version https://git-lfs.github.com/spec/v1\n"); },
              ThrowsMessage<Error>(HasSubstr("git lfs pull")));
}

TEST(Pickle, MalformedProgramsAreRefused) {
  const auto refused = [](std::string_view bytes, const char* reason) {
    EXPECT_THAT([&] { parse(bytes); }, ThrowsMessage<Error>(HasSubstr(reason)));
  };
  using namespace std::string_view_literals;
  refused("", "needed");
  refused(".", "empty stack");
  refused("(0.", "empty stack");
  refused("NN.", "left over");
  refused("(N.", "left over");
  refused("N.N.", "follow the end");
  refused("h\0."sv, "memo entry 0 does not exist");
  refused("r\xff\xff\xff\x7f.", "out of order");
  refused("Nr\xff\xff\xff\x7f.", "out of order");
  refused("Nq\0\x8d\xff\xff\xff\xff\xff\xff\xff\xff."sv, "are left");
  refused("X\xff\xff\xff\xff.", "are left");
  refused("T\xff\xff\xff\xff.", "-1 bytes");
  refused("\x95\xff\xff\xff\xff\xff\xff\xff\xff.", "frame");
  refused("t.", "no mark");
  refused("Na.", "empty stack");
  refused("NNa.", "added to");
  refused("NNNs.", "set in");
  refused("}(Nu.", "without a value");
  refused("\x80\x06.", "newer");
  refused("I12x\n.", "number");
  refused("I99999999999999999999\n.", "number");
  refused("\x8a\x09\0\0\0\0\0\0\0\0\x01."sv, "64 bits");
  refused("S'a\n.", "quotes");
  refused("S'\\q'\n.", "supported");
  refused("S'\\x4'\n.", "hexadecimal");
  refused("V\\u12\n.", "hexadecimal");
  refused("\x8c\x02\xc3\x28.", "UTF-8");
  refused("NNR.", "called");
  refused("cnumpy\nndarray\n)R.", "names a type");
  refused("cnumpy\ndtype\n)R.", "without a name");
  refused("cnumpy\ndtype\n(S'M8'\ntR.", "not supported");
  refused("cnumpy\ndtype\n(S'f3'\ntR.", "not supported");
  refused("NNb.", "state");
  refused("N)b.", "state is given");
  refused("cnumpy.core.multiarray\n_reconstruct\n(NNNtR.", "numpy.ndarray");
  refused("c_codecs\nencode\n(VA\nVhex\ntR.", "latin1");
  refused("c_codecs\nencode\n(V\\u6f22\nVlatin1\ntR.", "beyond Latin-1");
}

/// A pickle of numpy.ndarray with the given shape opcodes, dtype code and data opcodes.
std::string array_pickle(const std::string& shape, const std::string& code,
                         const std::string& data) {
  return "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n" + shape +
         "cnumpy\ndtype\n(S'" + code + "'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n" + data +
         "tb.";
}

TEST(Pickle, ArraysThatLieAboutTheirSizeAreRefused) {
  EXPECT_EQ(parse(array_pickle("(I2\nt", "u1", "S'ab'\n")).root().array().tensor().numel(), 2);
  for (const std::string shape : {"(I3\nt", "(I1\nt", "(I-2\nt", "(I4294967296\nI4294967296\nt",
                                  "(I9223372036854775807\nI2\nt", "(I0\nt",
                                  "(I1\nI1\nI1\nI1\nI1\nI1\nI1\nI1\nI2\nt", "(VA\nt", "I2\n"}) {
    EXPECT_THROW(parse(array_pickle(shape, "u1", "S'ab'\n")), Error) << shape;
  }
  EXPECT_THROW(parse(array_pickle("(I2305843009213693952\nt", "f8", "S''\n")), Error);
  EXPECT_THROW(parse(array_pickle("(I2\nt", "O8", "(S'one'\nl")), Error);
  EXPECT_THROW(parse(array_pickle("(I2\nt", "U0", "S''\n")), Error);
  EXPECT_THAT(
      [] { parse("cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR."); },
      ThrowsMessage<Error>(HasSubstr("without data")));
}

TEST(Pickle, AnObjectArrayWhoseListChangesLaterIsStillSafe) {
  // The list of elements is memoised, put into the array, and emptied of nothing but grown
  // afterwards.
  const std::string pickled = "(" + array_pickle("(I1\nt", "O8", "(S'one'\nlp7\n");
  const std::string grown = pickled.substr(0, pickled.size() - 1) + "g7\nS'two'\natp8\n.";
  const Document document = parse(grown);
  EXPECT_THAT(document.root().at(0).array().strings(), ElementsAre("one"));
}

TEST(Pickle, ValuesThatContainThemselvesAreRefused) {
  const auto circular = ThrowsMessage<Error>(HasSubstr("contains itself"));
  EXPECT_THAT([] { parse_literal("]\x94h\0a."); }, circular);
  EXPECT_THAT([] { parse_literal("}\x94Nh\0s."); }, circular);
  EXPECT_THAT([] { parse_literal("]\x94(h\0ta."); }, circular);  // through a tuple
  const std::string array = array_pickle("(I1\nt", "O8", "(Np7\nlp8\n");
  EXPECT_THAT([&] { parse(array.substr(0, array.size() - 1) + "p9\n0g8\ng9\na."); }, circular);
}

TEST(Pickle, DepthIsBounded) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, ']') + std::string(depth - 1, 'a') + ".";
  };
  EXPECT_NO_THROW(parse(nested(100)));
  EXPECT_THAT([&] { parse(nested(101)); }, ThrowsMessage<Error>(HasSubstr("deeper")));
  EXPECT_THROW(parse(nested(2'000'000)), Error);
  // The same through sharing: each list holds the one before.
  std::string chain = "]q";
  chain += '\0';
  for (int i = 0; i < 150; ++i) chain += std::string("0]h") + '\0' + "aq" + '\0';
  EXPECT_THAT([&] { parse(chain + "."); }, ThrowsMessage<Error>(HasSubstr("deeper")));
}

TEST(Pickle, SharingCostsNoMemory) {
  // 60 doublings: as a tree this would be 2^60 lists.
  std::string doubling = "]";
  for (int i = 0; i < 60; ++i)
    doubling += "q" + std::string(1, '\0') + "0](h" + '\0' + "h" + '\0' + "e";
  const Document document = parse(doubling + ".");
  const Value* value = &document.root();
  for (int i = 0; i < 60; ++i) value = &value->at(1);
  EXPECT_TRUE(value->items().empty());
}

TEST(Pickle, AccessorsSayWhatTheyFound) {
  const Document document = Document::open(fixture(4));
  const Value& root = document.root();
  EXPECT_THAT([&] { root.at("missing"); }, ThrowsMessage<Error>(HasSubstr("'none', 'true'")));
  EXPECT_THAT([&] { root.items(); }, ThrowsMessage<Error>(HasSubstr("found a dict")));
  EXPECT_THAT([&] { root.at("words").at(4); }, ThrowsMessage<Error>(HasSubstr("a list of 4")));
  EXPECT_THAT([&] { root.at("text").number(); }, ThrowsMessage<Error>(HasSubstr("the str")));
  EXPECT_THAT([&] { root.at("f4").number(); }, ThrowsMessage<Error>(HasSubstr("float32 [2, 3]")));
  EXPECT_EQ(root.find("missing"), nullptr);
  EXPECT_EQ(root.at("words").find("x"), nullptr);
  EXPECT_THROW(Document::open("/nonexistent.pkl"), Error);
}

}  // namespace
}  // namespace cmir
