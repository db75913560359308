// Opcodes that build lists, tuples, sets and dicts, and the check of the tree that they make.
#include <algorithm>

#include "models/data/import/pickle_reader.h"

namespace cmir::pickle {
namespace {

constexpr int kMaxDepth = 100;

}  // namespace

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

}  // namespace cmir::pickle
