#include "autograd/sequences.h"

#include <algorithm>

namespace cmir {

Sequences check_sequences(std::string_view op, const Tensor& offsets, const Tensor& x) {
  require(offsets.defined() && offsets.dtype() == DType::i64 && offsets.rank() == 1 &&
              offsets.numel() >= 1,
          op, "offsets must be i64[samples + 1], got {}",
          offsets.defined() ? offsets.describe() : "nothing");
  const auto at = offsets.span<std::int64_t>();
  const std::int64_t rows = x.size(0);
  Sequences sequences{offsets.on(x.device()), nullptr, offsets.numel() - 1, 0};
  sequences.offsets = sequences.on_device.data<std::int64_t>();
  require(at[0] == 0, op, "offsets must start at 0, got {}", at[0]);
  for (std::int64_t s = 0; s < sequences.samples; ++s) {
    require(at[s] <= at[s + 1], op, "offsets must never fall, but sample {} is from {} to {}", s,
            at[s], at[s + 1]);
    sequences.longest = std::max(sequences.longest, at[s + 1] - at[s]);
  }
  require(at[sequences.samples] == rows, op, "offsets end at {}, but there are {} rows",
          at[sequences.samples], rows);
  return sequences;
}

}  // namespace cmir
