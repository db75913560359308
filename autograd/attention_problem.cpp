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

void Problem::check(std::int64_t heads) const {
  static constexpr const char* kForms[] = {
      "qkv [rows, 3 width]", "query [query rows, width] and key with value [key rows, 2 width]",
      "query [query rows, width], key and value [key rows, width]"};
  bool right = true;
  for (const Tensor& x : projections)
    right = right && x.rank() == 2 && x.dtype() == query().dtype();
  right = right && (projections.size() > 1 || query().size(1) % 3 == 0);
  if (right && projections.size() > 1)
    right = key().size(1) == (projections.size() == 2 ? 2 : 1) * width();
  right = right && (projections.size() < 3 || key().shape() == projections[2].shape());
  std::string got;
  for (const Tensor& x : projections) got += (got.empty() ? "" : ", ") + x.describe();
  require(right, kName, "needs {} of one dtype, got {}", kForms[projections.size() - 1], got);
  require(heads >= 1 && width() >= 1 && width() % heads == 0, kName,
          "width {} does not divide into {} heads", width(), heads);
}

}  // namespace cmir::ops::attention_detail
