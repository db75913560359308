// What the values of a pickle::Document point to. Internal to the pickle reader.
#pragma once

#include <deque>

#include "models/data/import/pickle.h"

namespace cmir::pickle {

/// The callables and classes that a pickle may name.
enum class Global : std::uint8_t {
  reconstruct,
  frombuffer,
  scalar,
  ndarray,
  dtype,
  encode,
  ordered_dict,
  default_dict,
  bytes,
  set,
  plain,  // a builtin that occurs as a defaultdict's factory; never called
};

struct Text {
  std::string_view bytes;
  const Text* latin1 = nullptr;  // this str encoded, kept so that a repeated request costs nothing
};

struct Sequence {
  std::vector<Value> items;
  int depth = 0;  // of the tree below; 0: not walked yet, -1: being walked
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  int depth = 0;
};

struct Opaque {
  Global global;
  bool is_dtype = false;  // an instance of numpy.dtype, else the global itself
  ElementType type;
};

/// All objects in one place: handles are plain pointers, sharing is free, and destruction does not
/// recurse.
struct Document::Objects {
  std::deque<Text> texts;
  std::deque<std::string> strings;  // decoded bytes that do not lie in the file as they are
  std::deque<Sequence> sequences;
  std::deque<Dict> dicts;
  std::deque<Array> arrays;
  std::deque<Opaque> opaques;
};

/// Latin-1 bytes as UTF-8.
std::string utf8_from_latin1(std::string_view bytes);
void append_utf8(std::string& text, std::uint32_t code_point);

}  // namespace cmir::pickle
