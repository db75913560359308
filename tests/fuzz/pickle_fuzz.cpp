#include "models/data/import/pickle.h"

#include <memory>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace cmir {
namespace {

/// Reads every scalar, string and array; `budget` bounds the walk, since shared values make trees
/// larger than files.
void visit(const pickle::Value& value, int& budget) {
  using pickle::Kind;
  if (--budget < 0) return;
  switch (value.kind()) {
    case Kind::boolean:
    case Kind::integer:
    case Kind::real:
      value.number();
      break;
    case Kind::string:
    case Kind::bytes:
      value.text();
      break;
    case Kind::list:
    case Kind::tuple:
    case Kind::set:
      for (const auto& item : value.items()) visit(item, budget);
      break;
    case Kind::dict:
      for (const auto& [key, item] : value.entries()) {
        visit(key, budget);
        visit(item, budget);
      }
      break;
    case Kind::array:
      if (value.array().is_numeric()) {
        value.array().tensor();
      } else {
        value.array().strings();
      }
      break;
    default:
      break;
  }
  value.describe();
}

void fuzz(std::span<const std::byte> bytes) {
  // An exact copy on the heap, so that a sanitizer sees a read past its end.
  const auto copy = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
  const auto document = pickle::Document::parse(
      {reinterpret_cast<const char*>(copy->data()), copy->size()}, "fuzz", copy);
  int budget = 10000;
  visit(document.root(), budget);
}

const bool registered = fuzz::register_target("pickle", &fuzz);

}  // namespace
}  // namespace cmir
