#include "autograd/attention_problem.h"

#include "autograd/sequences.h"

namespace cmir::ops::attention_detail {

Rows::Rows(const Tensor& bounds, const Tensor& x) {
  padded = bounds.defined() && bounds.rank() == 2;
  if (!padded) {
    const Sequences sequences = check_sequences(kName, bounds, x);
    on_device = sequences.on_device;
    begins = sequences.offsets;
    ends = begins + 1;
    samples = sequences.samples;
    longest = sequences.longest;
    return;
  }
  check_padded(bounds, x.size(0));
  on_device = bounds.on(x.device());
  begins = on_device.data<std::int64_t>();
  ends = begins + samples;
}

void Rows::check_padded(const Tensor& bounds, std::int64_t rows) {
  require(bounds.dtype() == DType::i64 && bounds.size(0) == 2, kName,
          "rows of samples are i64[samples + 1] offsets or i64[2, samples] begins and ends, got "
          "{}",
          bounds.describe());
  const auto at = bounds.span<std::int64_t>();
  samples = bounds.size(1);
  longest = 0;
  std::int64_t last = 0;
  for (std::int64_t s = 0; s < samples; ++s) {
    const std::int64_t begin = at[s], end = at[samples + s];
    require(last <= begin && begin <= end && end <= rows, kName,
            "sample {} has the rows {} to {} of {}, after one that ends at {}", s, begin, end, rows,
            last);
    last = end;
    longest = std::max(longest, end - begin);
  }
}

void add_work(kernels::AttentionWork& work, const Problem& tensors) {
  const auto length = [](const Tensor& bounds, std::int64_t sample) {
    const auto at = bounds.span<std::int64_t>();
    return static_cast<double>(at[sample + (bounds.rank() == 2 ? bounds.size(1) : 1)] - at[sample]);
  };
  const Tensor& bounds = tensors.query_bounds;
  const std::int64_t samples = bounds.rank() == 2 ? bounds.size(1) : bounds.size(0) - 1;
  for (std::int64_t s = 0; s < samples; ++s) {
    const double queries = length(bounds, s), keys = length(tensors.key_bounds, s);
    work.rows += queries + keys;
    work.pairs += queries * keys;
  }
}

const Variable& variable_of(const AttentionInput& input, int part) {
  if (part == 2 && input.value.defined()) return input.value;
  return part > 0 && input.key.defined() ? input.key : input.query;
}

Problem problem_of(const AttentionInput& input, std::int64_t heads) {
  require(input.query.defined() && (input.key.defined() || !input.value.defined()), kName,
          "needs a query, and a key where there is a value");
  static constexpr const char* kForms[] = {
      "qkv [rows, 3 width]", "query [query rows, width] and key with value [key rows, 2 width]",
      "query [query rows, width], key and value [key rows, width]",
      "columns from 0 on of a query and of a key with value"};
  const int count = 1 + (input.key.defined() ? 1 : 0) + (input.value.defined() ? 1 : 0);
  const bool of_columns = input.width != 0;
  const Shape& query = input.query.shape();
  const std::int64_t width =
      of_columns || query.rank() == 0 ? input.width : query.width() / (count == 1 ? 3 : 1);
  const std::int64_t first[] = {input.query_column, input.key_column, 0};
  bool right = of_columns ? count == 2 : first[0] == 0 && first[1] == 0;
  std::string got;
  Problem problem{
      {{}, {}, width}, {}, input.options.bias.value(), input.query_offsets, input.key_offsets};
  for (int part = 0; part < 3; ++part) {
    const int at = std::min(part, count - 1);  // which variable
    const Tensor& x = problem.projections[part] = variable_of(input, part).value();
    const std::int64_t begin = problem.parts.columns[part] = first[at] + (part - at) * width;
    right = right && x.rank() == 2 && x.dtype() == input.query.dtype() && begin >= 0 &&
            begin + width <= x.size(1) && (at == 0 || x.size(0) == problem.key().size(0));
    const bool last_of_x = part == 2 || part < count - 1;
    right = right && (of_columns || !last_of_x || begin + width == x.size(1));
    if (part == at) got += (at == 0 ? "" : ", ") + x.describe();
  }
  require(right, kName, "needs {} of one dtype, got {}", kForms[of_columns ? 3 : count - 1], got);
  require(heads >= 1 && width >= 1 && width % heads == 0, kName,
          "width {} does not divide into {} heads", width, heads);
  return problem;
}

}  // namespace cmir::ops::attention_detail
