// "Did you mean ...?"
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cmir {

/// The candidate with the least Levenshtein distance to `word`, the first among equals; "" if there
/// are none.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

/// The same, but "" where it differs in more than a third of the letters: then it is no slip of the
/// pen.
std::string similar_name(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace cmir
