// Python pickles read as data: an interpreter of an allow-list of opcodes and globals that builds
// values and calls nothing.
//
// Read: pickle protocols 0 to 5; None, bool, int of 64 bits, float, str, bytes, list, tuple, dict
// (also OrderedDict and defaultdict), set, numpy arrays and numpy scalars. Everything else (a
// function, a class, pandas, torch, joblib) is an Error of kind `data` that names the global or
// opcode and its byte. Lengths are checked against the bytes that are left before anything is
// allocated; memory is linear in the size of the file; values may be shared but not contain
// themselves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace cmir::pickle {

struct Array;
struct Dict;
struct Opaque;
struct Sequence;
struct Text;
class Reader;

enum class Kind : std::uint8_t {
  none,
  boolean,
  integer,
  real,
  string,
  bytes,  // also python 2's str
  list,
  tuple,
  set,
  dict,
  array,
  opaque,  // a dtype or a class where data may be: it can be carried, not used
};

/// A handle to a Python object inside a Document, valid as long as that is. Accessors throw an
/// Error of kind `data` that says what was expected and what was found.
class Value {
 public:
  Value() = default;

  Kind kind() const { return kind_; }
  bool is_text() const { return kind_ == Kind::string || kind_ == Kind::bytes; }
  bool is_sequence() const { return kind_ == Kind::list || kind_ == Kind::tuple; }

  /// An int or bool.
  std::int64_t integer() const;
  /// An int, bool, float, or an array of one number.
  double number() const;
  /// A str, bytes (taken as Latin-1), or an array of one string; UTF-8.
  std::string text() const;
  /// The elements of a list, tuple or set.
  std::span<const Value> items() const;
  /// The (key, value) pairs of a dict in file order; a repeated key may occur twice, the later one
  /// counts.
  std::span<const std::pair<Value, Value>> entries() const;
  const Array& array() const;

  /// The value under a str or bytes key of a dict, or nullptr (also when this is no dict).
  const Value* find(std::string_view key) const;
  /// The same; a missing key is an Error that lists the keys found.
  const Value& at(std::string_view key) const;
  /// Element i of a list or tuple.
  const Value& at(std::size_t i) const;

  /// "dict with the keys 'train', 'valid', 'test'", "list of 62", "array float64 [6, 50, 5]"
  std::string describe() const;

 private:
  friend class Reader;
  Kind kind_ = Kind::none;
  union {
    std::int64_t integer_ = 0;
    double real_;
    const Text* text_;
    Sequence* sequence_;
    Dict* dict_;
    Array* array_;
    Opaque* opaque_;
  };
};

struct ElementType {
  char kind = 0;          // numpy's: f i u b S U O
  std::int64_t size = 0;  // bytes
  bool big_endian = false;

  /// As numpy prints it: "float64", "<U88", "|S13", "object".
  std::string name() const;
};

/// A numpy array as it lies in the file; nothing is copied before `tensor` or `strings`.
struct Array {
  ElementType type;
  Shape shape;
  bool fortran = false;  // the first index varies fastest
  std::string_view data;
  const Sequence* objects = nullptr;  // the elements of an object array

  /// Part i along the leading dimension (C order only).
  Array operator[](std::int64_t i) const;
  /// The numbers in C order, as dtype. A float without an integer value of that dtype is an Error
  /// when dtype is an integer.
  Tensor tensor(DType dtype) const;
  /// In the nearest dtype that holds every value: f2 f4 -> f32, f8 -> f64, b1 u1 -> u8, i1 i2 u2 i4
  /// -> i32, u4 i8 u8 -> i64.
  Tensor tensor() const;
  /// The elements of an array of str, bytes or str objects in C order, UTF-8.
  std::vector<std::string> strings() const;
  bool is_numeric() const { return type.kind != 'S' && type.kind != 'U' && type.kind != 'O'; }
};

/// A pickle and everything its values refer to.
class Document {
 public:
  /// Maps the file and reads it. Errors: kind `io` when it cannot be opened, `data` when it is not
  /// an acceptable pickle.
  static Document open(const std::filesystem::path& path);
  /// Reads `bytes`, which `owner` keeps alive; errors begin with `name`.
  static Document parse(std::string_view bytes, std::string_view name,
                        std::shared_ptr<const void> owner);
  Document(Document&&) noexcept;
  Document& operator=(Document&&) noexcept;
  ~Document();

  const Value& root() const { return root_; }
  /// Size of the pickle in bytes.
  std::size_t bytes() const { return bytes_; }

 private:
  friend class Reader;
  struct Objects;
  Document();
  std::unique_ptr<Objects> objects_;
  Value root_;
  std::size_t bytes_ = 0;
  std::shared_ptr<const void> owner_;
};

}  // namespace cmir::pickle
