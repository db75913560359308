// Opcodes that name a global or call one: an allow-list of names, and what each call builds.
#include "models/data/import/pickle_reader.h"

namespace cmir::pickle {
namespace {

struct AllowedGlobal {
  std::string_view module, name;
  Global global;
};

constexpr AllowedGlobal kAllowed[] = {
    {"numpy.core.multiarray", "_reconstruct", Global::reconstruct},
    {"numpy._core.multiarray", "_reconstruct", Global::reconstruct},
    {"numpy.core.numeric", "_frombuffer", Global::frombuffer},
    {"numpy._core.numeric", "_frombuffer", Global::frombuffer},
    {"numpy.core.multiarray", "scalar", Global::scalar},
    {"numpy._core.multiarray", "scalar", Global::scalar},
    {"numpy", "ndarray", Global::ndarray},
    {"numpy", "dtype", Global::dtype},
    {"_codecs", "encode", Global::encode},
    {"collections", "OrderedDict", Global::ordered_dict},
    {"collections", "defaultdict", Global::default_dict},
    {"builtins", "bytes", Global::bytes},
    {"__builtin__", "bytes", Global::bytes},
    {"builtins", "set", Global::set},
    {"__builtin__", "set", Global::set},
    {"builtins", "frozenset", Global::set},
    {"__builtin__", "frozenset", Global::set},
    {"builtins", "list", Global::plain},
    {"__builtin__", "list", Global::plain},
    {"builtins", "dict", Global::plain},
    {"__builtin__", "dict", Global::plain},
    {"builtins", "int", Global::plain},
    {"__builtin__", "int", Global::plain},
    {"__builtin__", "long", Global::plain},
    {"builtins", "float", Global::plain},
    {"__builtin__", "float", Global::plain},
    {"builtins", "str", Global::plain},
    {"__builtin__", "str", Global::plain},
};

}  // namespace

bool Reader::object(std::uint8_t op) {
  switch (op) {
    case 'c': {  // GLOBAL
      const std::string_view module = line();
      push_global(module, line());
      return true;
    }
    case 0x93: {  // STACK_GLOBAL
      const Value name = pop();
      const Value module = pop();
      if (!name.is_text() || !module.is_text()) bad("a global is named by {}", name.describe());
      push_global(module.text_->bytes, name.text_->bytes);
      return true;
    }
    case 'R':     // REDUCE
    case 0x81: {  // NEWOBJ
      const Value arguments = pop();
      call(pop(), arguments);
      return true;
    }
    case 'b': {  // BUILD
      const Value state = pop();
      build(top(), state);
      return true;
    }
    default:
      return false;
  }
}

void Reader::push_global(std::string_view module, std::string_view name) {
  for (const AllowedGlobal& allowed : kAllowed) {
    if (allowed.module == module && allowed.name == name) {
      Value value;
      value.kind_ = Kind::opaque;
      value.opaque_ = &objects_.opaques.emplace_back(Opaque{allowed.global});
      push(value);
      return;
    }
  }
  bad("refused to load {}.{}: only numpy arrays and plain containers are read; write the data "
      "again as such",
      utf8_from_latin1(module.substr(0, 80)), utf8_from_latin1(name.substr(0, 80)));
}

bool Reader::is_global(Value value, Global global) const {
  return value.kind() == Kind::opaque && !value.opaque_->is_dtype &&
         value.opaque_->global == global;
}

void Reader::call(Value callable, Value arguments) {
  if (callable.kind() != Kind::opaque || callable.opaque_->is_dtype) {
    bad("{} is called", callable.describe());
  }
  if (arguments.kind() != Kind::tuple) bad("a call with {} for arguments", arguments.describe());
  const std::span<const Value> values = arguments.items();
  switch (callable.opaque_->global) {
    case Global::reconstruct: {  // (ndarray, (0,), b'b'); BUILD fills it
      if (values.size() != 3 || !is_global(values[0], Global::ndarray)) {
        bad("numpy _reconstruct is called for something other than numpy.ndarray");
      }
      Value array;
      array.kind_ = Kind::array;
      array.array_ = &objects_.arrays.emplace_back();
      return push(array);
    }
    case Global::frombuffer:
      return make_array_from_buffer(values);
    case Global::scalar:
      return make_scalar(values);
    case Global::dtype:
      return make_dtype(values);
    case Global::encode:
      return encode(values);
    case Global::bytes:  // protocol 2 writes b'' so
      if (!values.empty()) bad("bytes is called with {} arguments", values.size());
      return push_text({}, Kind::bytes);
    case Global::set:
      return make_set(values);
    case Global::ordered_dict:
    case Global::default_dict:  // (factory,) or (); items follow by SETITEMS
      if (values.size() > 1 || (values.size() == 1 && values[0].kind() != Kind::opaque)) {
        bad("an OrderedDict or defaultdict with arguments is not supported; write a plain dict");
      }
      return push_dict({});
    case Global::ndarray:
    case Global::plain:
      bad("a class is called that only names a type");
  }
}

/// _codecs.encode(str, 'latin1'): how Python 3 writes bytes into protocol 2.
void Reader::encode(std::span<const Value> arguments) {
  if (arguments.size() != 2 || arguments[0].kind() != Kind::string || !arguments[1].is_text() ||
      raw(arguments[1]) != "latin1") {
    bad("_codecs.encode is allowed for a str and 'latin1' only");
  }
  auto* source = const_cast<Text*>(arguments[0].text_);
  if (source->latin1 == nullptr) {
    std::string encoded;
    encoded.reserve(source->bytes.size());
    for (std::size_t i = 0; i < source->bytes.size(); ++i) {
      auto byte = static_cast<std::uint8_t>(source->bytes[i]);
      if (byte >= 0xC4) bad("_codecs.encode: a character beyond Latin-1");
      if (byte >= 0xC2) byte = static_cast<std::uint8_t>(byte << 6 | (source->bytes[++i] & 0x3F));
      encoded += static_cast<char>(byte);
    }
    push_decoded(std::move(encoded), Kind::bytes);
    source->latin1 = pop().text_;
  }
  Value value;
  value.kind_ = Kind::bytes;
  value.text_ = source->latin1;
  push(value);
}

void Reader::make_set(std::span<const Value> arguments) {  // set([..])
  if (arguments.empty()) return push_sequence({}, Kind::set);
  if (arguments.size() != 1 || !arguments[0].is_sequence()) bad("a set of something but a list");
  Value value = arguments[0];
  value.kind_ = Kind::set;
  push(value);
}

std::string_view Reader::raw(Value value) {
  if (!value.is_text()) bad("expected bytes, found {}", value.describe());
  return value.text_->bytes;
}

}  // namespace cmir::pickle
