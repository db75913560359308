// Access to the values of a pickle, with errors that say what was there instead.
#include "models/data/import/pickle_objects.h"

namespace cmir::pickle {
namespace {

std::string_view name_of(Kind kind) {
  switch (kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::string:
      return "str";
    case Kind::bytes:
      return "bytes";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::set:
      return "set";
    case Kind::dict:
      return "dict";
    case Kind::array:
      return "array";
    case Kind::opaque:
      return "class";
  }
  return "?";
}

[[noreturn]] void mismatch(std::string_view expected, const Value& found) {
  fail(ErrorKind::data, "pickle", "expected {}, found {}", expected, found.describe());
}

/// The single element of an array of one.
bool is_one(const Array& array) { return array.shape.numel() == 1; }

}  // namespace

void append_utf8(std::string& text, std::uint32_t code_point) {
  if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000)) code_point = 0xFFFD;
  const auto tail = [&](int shift) {
    text += static_cast<char>(0x80 | ((code_point >> shift) & 0x3F));
  };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xC0 | code_point >> 6);
    tail(0);
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xE0 | code_point >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | code_point >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string utf8_from_latin1(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) append_utf8(text, static_cast<std::uint8_t>(byte));
  return text;
}

std::int64_t Value::integer() const {
  if (kind_ != Kind::integer && kind_ != Kind::boolean) mismatch("an int", *this);
  return integer_;
}

double Value::number() const {
  if (kind_ == Kind::real) return real_;
  if (kind_ == Kind::integer || kind_ == Kind::boolean) return static_cast<double>(integer_);
  if (kind_ != Kind::array || !array_->is_numeric() || !is_one(*array_))
    mismatch("a number", *this);
  return array_->tensor(DType::f64).item();
}

std::string Value::text() const {
  if (kind_ == Kind::string) return std::string(text_->bytes);
  if (kind_ == Kind::bytes) return utf8_from_latin1(text_->bytes);
  if (kind_ != Kind::array || array_->is_numeric() || !is_one(*array_)) mismatch("a str", *this);
  return array_->strings()[0];
}

std::span<const Value> Value::items() const {
  if (!is_sequence() && kind_ != Kind::set) mismatch("a list or tuple", *this);
  return sequence_->items;
}

std::span<const std::pair<Value, Value>> Value::entries() const {
  if (kind_ != Kind::dict) mismatch("a dict", *this);
  return dict_->entries;
}

const Array& Value::array() const {
  if (kind_ != Kind::array) mismatch("an array", *this);
  return *array_;
}

const Value* Value::find(std::string_view key) const {
  if (kind_ != Kind::dict) return nullptr;
  const auto& entries = dict_->entries;
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    if (entry->first.is_text() && entry->first.text_->bytes == key) return &entry->second;
  }
  return nullptr;
}

const Value& Value::at(std::string_view key) const {
  const Value* const value = find(key);
  if (value == nullptr) mismatch(fmt::format("a dict with the key '{}'", key), *this);
  return *value;
}

const Value& Value::at(std::size_t i) const {
  if (!is_sequence() || i >= sequence_->items.size()) {
    mismatch(fmt::format("a list or tuple of more than {}", i), *this);
  }
  return sequence_->items[i];
}

std::string Value::describe() const {
  switch (kind_) {
    case Kind::none:
      return "None";
    case Kind::integer:
      return fmt::format("the int {}", integer_);
    case Kind::real:
      return fmt::format("the float {}", real_);
    case Kind::string:
      if (text_->bytes.size() <= 40) return fmt::format("the str '{}'", text_->bytes);
      return fmt::format("a str of {} bytes", text_->bytes.size());
    case Kind::bytes:
      return fmt::format("{} bytes", text_->bytes.size());
    case Kind::list:
    case Kind::tuple:
    case Kind::set:
      return fmt::format("a {} of {}", name_of(kind_), sequence_->items.size());
    case Kind::array:
      return fmt::format("an array {} {}", array_->type.name(), array_->shape.to_string());
    case Kind::dict: {
      constexpr std::size_t kShown = 12;
      std::string keys;
      for (const auto& [key, value] : entries().first(std::min(kShown, entries().size()))) {
        keys += fmt::format("{}{}", keys.empty() ? "" : ", ",
                            key.is_text()                 ? "'" + key.text().substr(0, 40) + "'"
                            : key.kind() == Kind::integer ? std::to_string(key.integer())
                                                          : std::string(name_of(key.kind())));
      }
      return fmt::format("a dict of {} with the keys {}{}", entries().size(), keys,
                         entries().size() > kShown ? ", ..." : "");
    }
    default:
      return fmt::format("a {}", name_of(kind_));
  }
}

}  // namespace cmir::pickle
