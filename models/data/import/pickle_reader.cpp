// The opcode machine. Opcodes as in Python's pickletools.py.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>

#include "core/formats/file.h"
#include "models/data/import/pickle_objects.h"

namespace cmir::pickle {
namespace {

constexpr int kMaxDepth = 100;

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

/// Names of opcodes that Python knows and this reader refuses.
std::string_view refused_name(std::uint8_t op) {
  switch (op) {
    case 'P':
      return "PERSID";
    case 'Q':
      return "BINPERSID";
    case 'i':
      return "INST";
    case 'o':
      return "OBJ";
    case 0x82:
    case 0x83:
    case 0x84:
      return "EXT";
    case 0x92:
      return "NEWOBJ_EX";
    case 0x97:
      return "NEXT_BUFFER";
    default:
      return "unknown";
  }
}

bool is_utf8(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto first = static_cast<std::uint8_t>(text[i++]);
    if (first < 0x80) continue;
    const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4) return false;
    std::uint32_t code = first & (0x3F >> more);
    for (int k = 0; k < more; ++k) {
      if (i == text.size() || (text[i] & 0xC0) != 0x80) return false;
      code = code << 6 | (text[i++] & 0x3F);
    }
    if (more == 2 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) return false;
    if (more == 3 && (code < 0x10000 || code > 0x10FFFF)) return false;
  }
  return true;
}

std::optional<std::uint32_t> hex(std::string_view digits) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), value, 16);
  if (error != std::errc() || end != digits.end()) return std::nullopt;
  return value;
}

}  // namespace

class Reader {
 public:
  Reader(Document& document, std::string_view bytes, std::string_view name)
      : document_(document), objects_(*document.objects_), bytes_(bytes), name_(name) {}

  Value run();

 private:
  // Each handles one group of opcodes and returns false when `op` is not of the group.
  bool number(std::uint8_t op);
  bool text(std::uint8_t op);
  bool container(std::uint8_t op);
  bool stack_or_memo(std::uint8_t op);
  bool object(std::uint8_t op);

  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> message, Args&&... args) const {
    fail(ErrorKind::data, name_, "byte {}: {}", at_,
         fmt::format(message, std::forward<Args>(args)...));
  }
  std::string_view take(std::uint64_t count);
  std::string_view line();
  template <class T>
  T little();
  template <class T>
  T parsed(std::string_view digits);

  void push(Value value) { stack_.push_back(value); }
  Value pop();
  Value top();
  std::vector<Value> pop_mark();
  void push_integer(std::int64_t value, Kind kind = Kind::integer);
  void push_long(std::string_view bytes);
  void push_real(double value);
  void push_text(std::string_view bytes, Kind kind);
  void push_decoded(std::string bytes, Kind kind);
  void push_sequence(std::vector<Value> items, Kind kind);
  void push_dict(std::vector<Value> keys_and_values);
  void push_global(std::string_view module, std::string_view name);
  void append(Value container, std::vector<Value> items);
  void set_items(Value container, std::vector<Value> keys_and_values);
  void put(std::uint64_t index);
  void get(std::uint64_t index);

  std::string string_literal(std::string_view quoted);
  std::string unicode_literal(std::string_view escaped);

  void call(Value callable, Value arguments);
  void make_dtype(std::span<const Value> arguments);
  void make_scalar(std::span<const Value> arguments);
  void make_array_from_buffer(std::span<const Value> arguments);
  void encode(std::span<const Value> arguments);
  void make_set(std::span<const Value> arguments);
  void build(Value target, Value state);
  void build_dtype(ElementType& type, std::span<const Value> state);
  void build_array(Array& array, std::span<const Value> state);
  void fill_array(Array& array, const ElementType& type, Value shape, bool fortran, Value data);
  const ElementType& dtype_of_value(Value value);
  bool is_global(Value value, Global global) const;
  std::string_view raw(Value value);

  void check_tree(Value root);

  Document& document_;
  Document::Objects& objects_;
  std::string_view bytes_;
  std::string_view name_;
  std::size_t position_ = 0;
  std::size_t at_ = 0;  // of the current opcode
  std::vector<Value> stack_;
  std::vector<std::size_t> marks_;
  std::vector<std::optional<Value>> memo_;
};

Value Reader::run() {
  if (bytes_.starts_with("version https://git-lfs")) {
    bad("a git-lfs pointer, not the file itself; fetch it with `git lfs pull`");
  }
  for (;;) {
    at_ = position_;
    const std::uint8_t op = little<std::uint8_t>();
    if (op == '.') break;
    if (!(number(op) || text(op) || container(op) || stack_or_memo(op) || object(op))) {
      bad("opcode 0x{:02x} ({}) is not among those that a data file needs{}", op, refused_name(op),
          at_ == 0 ? "; the file is not a pickle" : "");
    }
  }
  const Value root = pop();
  if (!stack_.empty() || !marks_.empty()) bad("{} values are left over at the end", stack_.size());
  if (position_ != bytes_.size()) {
    bad("{} bytes follow the end of the pickle; one object per file is read",
        bytes_.size() - position_);
  }
  check_tree(root);
  return root;
}

// ---- bytes

std::string_view Reader::take(std::uint64_t count) {
  if (count > bytes_.size() - position_) {
    bad("{} bytes are needed and {} are left: the file is truncated or not a pickle", count,
        bytes_.size() - position_);
  }
  const std::string_view part = bytes_.substr(position_, count);
  position_ += count;
  return part;
}

std::string_view Reader::line() {
  const std::size_t end = bytes_.find('\n', position_);
  if (end == std::string_view::npos) bad("a line without an end: the file is truncated");
  const std::string_view text = take(end - position_);
  ++position_;
  return text.ends_with('\r') ? text.substr(0, text.size() - 1) : text;
}

template <class T>
T Reader::little() {
  const std::string_view bytes = take(sizeof(T));
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

template <class T>
T Reader::parsed(std::string_view digits) {
  T value{};
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), value);
  if (error != std::errc() || end != digits.end()) {
    bad("'{}' is not a number of 64 bits", digits.substr(0, 40));
  }
  return value;
}

// ---- the stack

Value Reader::pop() {
  const std::size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() <= floor) bad("a value is taken from an empty stack");
  const Value value = stack_.back();
  stack_.pop_back();
  return value;
}

Value Reader::top() {
  const Value value = pop();
  push(value);
  return value;
}

std::vector<Value> Reader::pop_mark() {
  if (marks_.empty()) bad("there is no mark on the stack");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<Value> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

bool Reader::stack_or_memo(std::uint8_t op) {
  switch (op) {
    case 0x80:  // PROTO
      if (const int protocol = little<std::uint8_t>(); protocol > 5) {
        bad("protocol {} is newer than 5", protocol);
      }
      return true;
    case 0x95:  // FRAME
      if (const auto length = little<std::uint64_t>(); length > bytes_.size() - position_) {
        bad("a frame of {} bytes where {} are left: the file is truncated", length,
            bytes_.size() - position_);
      }
      return true;
    case '(':
      marks_.push_back(stack_.size());
      return true;
    case '0':  // POP, of a value or of a mark
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case '1':  // POP_MARK
      pop_mark();
      return true;
    case '2':  // DUP
      push(top());
      return true;
    case 0x94:  // MEMOIZE
      put(memo_.size());
      return true;
    case 'p':
      put(parsed<std::uint64_t>(line()));
      return true;
    case 'q':
      put(little<std::uint8_t>());
      return true;
    case 'r':
      put(little<std::uint32_t>());
      return true;
    case 'g':
      get(parsed<std::uint64_t>(line()));
      return true;
    case 'h':
      get(little<std::uint8_t>());
      return true;
    case 'j':
      get(little<std::uint32_t>());
      return true;
    default:
      return false;
  }
}

void Reader::put(std::uint64_t index) {
  // Python numbers memo entries from 0, so an index beyond the bytes read so far was not written by
  // it.
  if (index > position_) bad("memo entry {} is out of order", index);
  if (index >= memo_.size()) memo_.resize(index + 1);
  memo_[index] = top();
}

void Reader::get(std::uint64_t index) {
  if (index >= memo_.size() || !memo_[index]) bad("memo entry {} does not exist", index);
  push(*memo_[index]);
}

// ---- numbers

void Reader::push_integer(std::int64_t value, Kind kind) {
  Value integer;
  integer.kind_ = kind;
  integer.integer_ = value;
  push(integer);
}

void Reader::push_real(double value) {
  Value real;
  real.kind_ = Kind::real;
  real.real_ = value;
  push(real);
}

void Reader::push_long(std::string_view bytes) {
  if (bytes.size() > 8) bad("an integer of {} bytes does not fit in 64 bits", bytes.size());
  std::uint64_t bits = !bytes.empty() && (bytes.back() & 0x80) ? ~std::uint64_t{0} : 0;
  std::memcpy(&bits, bytes.data(), bytes.size());
  push_integer(static_cast<std::int64_t>(bits));
}

bool Reader::number(std::uint8_t op) {
  switch (op) {
    case 'G': {  // BINFLOAT, big-endian
      std::array<char, 8> swapped;
      std::ranges::reverse_copy(take(8), swapped.begin());
      push_real(std::bit_cast<double>(swapped));
      return true;
    }
    case 'K':
      push_integer(little<std::uint8_t>());
      return true;
    case 'M':
      push_integer(little<std::uint16_t>());
      return true;
    case 'J':
      push_integer(little<std::int32_t>());
      return true;
    case 'N':
      push(Value());
      return true;
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      push_integer(op == 0x88, Kind::boolean);
      return true;
    case 0x8a:  // LONG1
      push_long(take(little<std::uint8_t>()));
      return true;
    case 0x8b: {  // LONG4
      const auto length = little<std::int32_t>();
      if (length < 0) bad("an integer of {} bytes", length);
      push_long(take(length));
      return true;
    }
    case 'I': {  // INT; 00 and 01 are the booleans
      const std::string_view digits = line();
      const bool boolean = digits == "00" || digits == "01";
      push_integer(parsed<std::int64_t>(digits), boolean ? Kind::boolean : Kind::integer);
      return true;
    }
    case 'L': {  // LONG
      std::string_view digits = line();
      if (digits.ends_with('L')) digits.remove_suffix(1);
      push_integer(parsed<std::int64_t>(digits));
      return true;
    }
    case 'F':
      push_real(parsed<double>(line()));
      return true;
    default:
      return false;
  }
}

// ---- text

void Reader::push_text(std::string_view bytes, Kind kind) {
  if (kind == Kind::string && !is_utf8(bytes)) bad("a str of {} bytes is not UTF-8", bytes.size());
  Value value;
  value.kind_ = kind;
  value.text_ = &objects_.texts.emplace_back(Text{bytes});
  push(value);
}

void Reader::push_decoded(std::string bytes, Kind kind) {
  push_text(objects_.strings.emplace_back(std::move(bytes)), kind);
}

bool Reader::text(std::uint8_t op) {
  switch (op) {
    case 0x8c:  // SHORT_BINUNICODE
      push_text(take(little<std::uint8_t>()), Kind::string);
      return true;
    case 'X':  // BINUNICODE
      push_text(take(little<std::uint32_t>()), Kind::string);
      return true;
    case 0x8d:  // BINUNICODE8
      push_text(take(little<std::uint64_t>()), Kind::string);
      return true;
    case 'C':  // SHORT_BINBYTES
    case 'U':  // SHORT_BINSTRING
      push_text(take(little<std::uint8_t>()), Kind::bytes);
      return true;
    case 'B':  // BINBYTES
      push_text(take(little<std::uint32_t>()), Kind::bytes);
      return true;
    case 'T': {  // BINSTRING
      const auto length = little<std::int32_t>();
      if (length < 0) bad("a string of {} bytes", length);
      push_text(take(length), Kind::bytes);
      return true;
    }
    case 0x8e:  // BINBYTES8
    case 0x96:  // BYTEARRAY8
      push_text(take(little<std::uint64_t>()), Kind::bytes);
      return true;
    case 0x98:  // READONLY_BUFFER
      if (top().kind() != Kind::bytes) bad("a buffer is {}", top().describe());
      return true;
    case 'S':
      push_decoded(string_literal(line()), Kind::bytes);
      return true;
    case 'V':
      push_decoded(unicode_literal(line()), Kind::string);
      return true;
    default:
      return false;
  }
}

/// STRING's argument: a Python 2 string literal.
std::string Reader::string_literal(std::string_view quoted) {
  if (quoted.size() < 2 || quoted.front() != quoted.back() ||
      (quoted.front() != '\'' && quoted.front() != '"')) {
    bad("a string literal without quotes");
  }
  const std::string_view body = quoted.substr(1, quoted.size() - 2);
  std::string bytes;
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (body[i] != '\\') {
      bytes += body[i];
      continue;
    }
    if (++i == body.size()) bad("a string literal ends in a backslash");
    constexpr std::string_view kNames = "\\'\"abfnrtv", kBytes = "\\'\"\a\b\f\n\r\t\v";
    if (body[i] == 'x') {
      const auto code = hex(body.substr(i + 1, 2));
      if (!code || i + 2 >= body.size())
        bad("\\x in a string literal needs two hexadecimal digits");
      bytes += static_cast<char>(*code);
      i += 2;
    } else if (const auto k = kNames.find(body[i]); k != kNames.npos) {
      bytes += kBytes[k];
    } else {
      bad("\\{} in a string literal is not supported", body[i]);
    }
  }
  return bytes;
}

/// UNICODE's argument: Latin-1 with \uXXXX and \UXXXXXXXX.
std::string Reader::unicode_literal(std::string_view escaped) {
  std::string text;
  for (std::size_t i = 0; i < escaped.size(); ++i) {
    const char next = escaped[i] == '\\' && i + 1 < escaped.size() ? escaped[i + 1] : 0;
    const std::size_t digits = next == 'u' ? 4 : next == 'U' ? 8 : 0;
    if (digits == 0) {
      append_utf8(text, static_cast<std::uint8_t>(escaped[i]));
      continue;
    }
    const auto code = hex(escaped.substr(i + 2, digits));
    if (!code || i + 2 + digits > escaped.size())
      bad("\\{} needs {} hexadecimal digits", next, digits);
    append_utf8(text, *code);
    i += 1 + digits;
  }
  return text;
}

// ---- containers

void Reader::push_sequence(std::vector<Value> items, Kind kind) {
  Value value;
  value.kind_ = kind;
  value.sequence_ = &objects_.sequences.emplace_back(Sequence{std::move(items)});
  push(value);
}

void Reader::push_dict(std::vector<Value> keys_and_values) {
  Value value;
  value.kind_ = Kind::dict;
  value.dict_ = &objects_.dicts.emplace_back();
  set_items(value, std::move(keys_and_values));
  push(value);
}

void Reader::append(Value container, std::vector<Value> items) {
  if (container.kind() != Kind::list && container.kind() != Kind::set) {
    bad("items are added to {}", container.describe());
  }
  auto& list = container.sequence_->items;
  list.insert(list.end(), items.begin(), items.end());
}

void Reader::set_items(Value container, std::vector<Value> keys_and_values) {
  if (container.kind() != Kind::dict) bad("items are set in {}", container.describe());
  if (keys_and_values.size() % 2 != 0) bad("a dict key without a value");
  auto& entries = container.dict_->entries;
  for (std::size_t i = 0; i < keys_and_values.size(); i += 2) {
    entries.emplace_back(keys_and_values[i], keys_and_values[i + 1]);
  }
}

bool Reader::container(std::uint8_t op) {
  switch (op) {
    case ']':
      push_sequence({}, Kind::list);
      return true;
    case ')':
      push_sequence({}, Kind::tuple);
      return true;
    case '}':
      push_dict({});
      return true;
    case 0x8f:  // EMPTY_SET
      push_sequence({}, Kind::set);
      return true;
    case 'l':
      push_sequence(pop_mark(), Kind::list);
      return true;
    case 't':
      push_sequence(pop_mark(), Kind::tuple);
      return true;
    case 'd':
      push_dict(pop_mark());
      return true;
    case 0x91:  // FROZENSET
      push_sequence(pop_mark(), Kind::set);
      return true;
    case 0x85:  // TUPLE1 to TUPLE3
    case 0x86:
    case 0x87: {
      std::vector<Value> items(op - 0x84);
      for (auto item = items.rbegin(); item != items.rend(); ++item) *item = pop();
      push_sequence(std::move(items), Kind::tuple);
      return true;
    }
    case 'a': {
      const Value item = pop();
      append(top(), {item});
      return true;
    }
    case 'e':     // APPENDS
    case 0x90: {  // ADDITEMS
      auto items = pop_mark();
      append(top(), std::move(items));
      return true;
    }
    case 's': {
      const Value value = pop();
      const Value key = pop();
      set_items(top(), {key, value});
      return true;
    }
    case 'u': {
      auto items = pop_mark();
      set_items(top(), std::move(items));
      return true;
    }
    default:
      return false;
  }
}

// ---- globals and calls

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

// ---- the finished tree

/// Refuses values that contain themselves, nesting beyond kMaxDepth, and arrays without data.
/// Iterative, each object once.
void Reader::check_tree(Value root) {
  struct Frame {
    Value value;
    std::size_t next;
    int deepest;
  };
  std::vector<Frame> path;
  int below = 0;  // depth of the subtree finished last
  const auto depth_of = [](Value value) -> int* {
    switch (value.kind()) {
      case Kind::list:
      case Kind::tuple:
      case Kind::set:
        return &value.sequence_->depth;
      case Kind::dict:
        return &value.dict_->depth;
      default:
        return nullptr;
    }
  };
  const auto enter = [&](Value value) {
    if (value.kind() == Kind::array) {
      if (value.array_->type.kind == 0) bad("a numpy array without data");
      if (value.array_->objects == nullptr) return;
      value.kind_ = Kind::list;
      value.sequence_ = const_cast<Sequence*>(value.array_->objects);
    }
    int* const depth = depth_of(value);
    if (depth == nullptr) return;
    if (*depth < 0) bad("a value contains itself");
    below = *depth;
    if (static_cast<int>(path.size()) + std::max(1, below) > kMaxDepth) {
      bad("values are nested deeper than {}", kMaxDepth);
    }
    if (*depth > 0) return;
    *depth = -1;
    path.push_back({value, 0, 0});
  };
  enter(root);
  while (!path.empty()) {
    Frame& frame = path.back();
    frame.deepest = std::max(frame.deepest, below);
    below = 0;
    const std::size_t i = frame.next++;
    if (frame.value.kind() == Kind::dict) {
      const auto& entries = frame.value.dict_->entries;
      if (i < 2 * entries.size()) {
        enter(i % 2 == 0 ? entries[i / 2].first : entries[i / 2].second);
        continue;
      }
    } else if (const auto& items = frame.value.sequence_->items; i < items.size()) {
      enter(items[i]);
      continue;
    }
    below = frame.deepest + 1;
    *depth_of(frame.value) = below;
    path.pop_back();
  }
}

// ---- Document

Document::Document() : objects_(std::make_unique<Objects>()) {}
Document::Document(Document&&) noexcept = default;
Document& Document::operator=(Document&&) noexcept = default;
Document::~Document() = default;

Document Document::parse(std::string_view bytes, std::string_view name,
                         std::shared_ptr<const void> owner) {
  Document document;
  document.owner_ = std::move(owner);
  document.bytes_ = bytes.size();
  document.root_ = Reader(document, bytes, name).run();
  return document;
}

Document Document::open(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string(), file);
}

}  // namespace cmir::pickle
