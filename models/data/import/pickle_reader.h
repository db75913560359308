// The opcode machine: its state, and what each of the pickle_*.cpp files adds. Internal to the
// pickle reader.
#pragma once

#include <charconv>
#include <cstring>
#include <optional>

#include "core/error.h"
#include "models/data/import/pickle_objects.h"

namespace cmir::pickle {

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

}  // namespace cmir::pickle
