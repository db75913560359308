// numpy's dtypes, scalars and arrays: what their calls and states build.
#include "models/data/import/pickle_reader.h"

namespace cmir::pickle {

void Reader::make_dtype(std::span<const Value> arguments) {  // ('f8', align, copy)
  if (arguments.empty() || !arguments[0].is_text()) bad("a numpy.dtype without a name");
  const std::string_view code = arguments[0].text_->bytes;
  const auto unsupported = [&] {
    bad("numpy dtype '{}' is not supported (f i u b S U O are); convert the array",
        utf8_from_latin1(code.substr(0, 40)));
  };
  if (code.empty() || std::string_view("fiubSUO").find(code[0]) == std::string_view::npos) {
    unsupported();
  }
  ElementType type{code[0], code.size() > 1 ? parsed<std::int64_t>(code.substr(1)) : 0};
  switch (type.kind) {
    case 'f':
      if (type.size != 2 && type.size != 4 && type.size != 8) unsupported();
      break;
    case 'b':
      if (type.size != 1) unsupported();
      break;
    case 'i':
    case 'u':
      if (type.size != 1 && type.size != 2 && type.size != 4 && type.size != 8) unsupported();
      break;
    case 'U':  // UCS-4
      if (type.size < 1 || type.size > (1 << 28)) unsupported();
      type.size *= 4;
      break;
    case 'S':
      if (type.size < 1) unsupported();
      break;
    default:
      type.size = 8;  // O: references, kept as a list
  }
  Value value;
  value.kind_ = Kind::opaque;
  value.opaque_ = &objects_.opaques.emplace_back(Opaque{Global::dtype, true, type});
  push(value);
}

const ElementType& Reader::dtype_of_value(Value value) {
  if (value.kind() != Kind::opaque || !value.opaque_->is_dtype) {
    bad("expected a numpy.dtype, found {}", value.describe());
  }
  return value.opaque_->type;
}

void Reader::make_scalar(std::span<const Value> arguments) {  // (dtype, bytes)
  if (arguments.size() != 2) bad("a numpy scalar with {} arguments", arguments.size());
  Array array;
  array.type = dtype_of_value(arguments[0]);
  array.data = raw(arguments[1]);
  if (array.type.kind == 'O' || array.data.size() != static_cast<std::size_t>(array.type.size)) {
    bad("a numpy scalar {} of {} bytes", array.type.name(), array.data.size());
  }
  if (!array.is_numeric()) return push_decoded(array.strings()[0], Kind::string);
  const double value = array.tensor(DType::f64).item();
  if (array.type.kind == 'f') return push_real(value);
  if (array.type.kind == 'b') return push_integer(value != 0, Kind::boolean);
  push_integer(array.tensor(DType::i64).span<std::int64_t>()[0]);
}

void Reader::make_array_from_buffer(
    std::span<const Value> arguments) {  // (data, dtype, shape, order)
  if (arguments.size() != 4 || !arguments[3].is_text()) bad("numpy _frombuffer: wrong arguments");
  Value value;
  value.kind_ = Kind::array;
  value.array_ = &objects_.arrays.emplace_back();
  fill_array(*value.array_, dtype_of_value(arguments[1]), arguments[2], raw(arguments[3]) == "F",
             arguments[0]);
  push(value);
}

void Reader::build(Value target, Value state) {
  if (state.kind() != Kind::tuple) bad("the state of an object is {}", state.describe());
  if (target.kind() == Kind::opaque && target.opaque_->is_dtype) {
    build_dtype(target.opaque_->type, state.items());
  } else if (target.kind() == Kind::array) {
    build_array(*target.array_, state.items());
  } else {
    bad("a state is given to {}", target.describe());
  }
}

/// (version, byte order, sub-array, names, fields, item size, alignment, flags [, metadata])
void Reader::build_dtype(ElementType& type, std::span<const Value> state) {
  if (state.size() < 8 || !state[1].is_text()) bad("a numpy.dtype with an unknown state");
  for (const int i : {2, 3, 4}) {
    if (state[i].kind() != Kind::none) bad("structured numpy arrays are not supported");
  }
  const std::string_view order = raw(state[1]);
  if (order != "<" && order != ">" && order != "=" && order != "|") bad("unknown byte order");
  type.big_endian = order == ">";
}

/// ([version,] shape, dtype, is_fortran, data)
void Reader::build_array(Array& array, std::span<const Value> state) {
  if (state.size() == 5) state = state.subspan(1);
  if (state.size() != 4) bad("a numpy array with a state of {} parts", state.size());
  fill_array(array, dtype_of_value(state[1]), state[0], state[2].integer() != 0, state[3]);
}

void Reader::fill_array(Array& array, const ElementType& type, Value shape, bool fortran,
                        Value data) {
  if (array.type.kind != 0) bad("a numpy array is filled twice");
  if (shape.kind() != Kind::tuple || shape.items().size() > Shape::kMaxRank) {
    bad("a numpy array has {} for its shape (up to {} dimensions are supported)", shape.describe(),
        Shape::kMaxRank);
  }
  std::vector<std::int64_t> sizes;
  std::int64_t count = 1;
  for (const Value& size : shape.items()) {
    sizes.push_back(size.integer());
    if (sizes.back() < 0 || __builtin_mul_overflow(count, sizes.back(), &count)) {
      bad("a numpy array with the impossible size {}", sizes.back());
    }
  }
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(count, type.size, &bytes)) bad("a numpy array of impossible size");
  if (type.kind == 'O') {
    if (data.kind() != Kind::list ||
        data.sequence_->items.size() != static_cast<std::size_t>(count)) {
      bad("an object array of {} elements holds {}", count, data.describe());
    }
    array.objects = data.sequence_;
  } else {
    array.data = raw(data);
    if (array.data.size() != static_cast<std::size_t>(bytes)) {
      bad("a numpy array {} of {} elements has {} bytes instead of {}", type.name(), count,
          array.data.size(), bytes);
    }
  }
  array.type = type;
  array.shape = Shape(sizes);
  array.fortran = fortran;
}

}  // namespace cmir::pickle
