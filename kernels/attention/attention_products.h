// The products of the CPU's attention forward, by the register tiles of small_matrix.h or on AMX
// tiles. Include it after kernels/cpu/amx.h and kernels/cpu/isa_begin.h.
#include "kernels/attention/attention_tile.h"

namespace cmir::kernels::CMIR_ISA {
namespace {

/// The products of forward for the queries [begin, end) of one (sample, head), by the register
/// tiles of small_matrix.h.
template <class T>
class PanelProducts {
 public:
  using Sum = SumOf<T>;
  static constexpr bool kRoundsWeights = false;

  PanelProducts(const AttentionProblem<T>& problem, const Head<T>& of, std::int64_t begin,
                std::int64_t end, Scratch<Sum>& scratch)
      : p_(problem), head_(of), begin_(begin), in_place_(end - begin <= kAttentionInPlace) {
    const std::int64_t rows = end - begin, keys = std::min(head_.keys, kAttentionKeys);
    query_ = scratch.take(rows * padded_width_);
    key_columns_ = scratch.take(padded_columns<Sum>(keys) * p_.head_width);
    for (Sum*& copy : copies_) copy = scratch.take(keys * padded_width_);
    copy_padded(head_.query + begin * p_.query_stride, p_.query_stride, rows,
                rows_with_panels<Sum>(rows, p_.head_width, p_.query_stride), p_.head_width, query_);
  }

  /// What follows is with the keys [j, j + keys).
  void take_block(std::int64_t j, std::int64_t keys) {
    const BlockRows<Sum> key(head_.key, p_.key_stride, p_.head_width, head_.keys, j, keys,
                             in_place_, copies_[0]);
    value_.emplace(head_.value, p_.value_stride, p_.head_width, head_.keys, j, keys, in_place_,
                   copies_[1]);
    pack_transposed(key, key_columns_);
  }
  /// scores [rows, kAttentionKeys] of a tile of queries.
  void score(std::int64_t first, std::int64_t rows, Sum* scores) {
    multiply<false>(rows, padded_columns<Sum>(value_->count), p_.head_width,
                    query_ + (first - begin_) * padded_width_, padded_width_, std::int64_t{1},
                    key_columns_, scores, kAttentionKeys);
  }
  /// output [rows, padded width] += weights [rows, kAttentionKeys] times the values.
  void add_values(std::int64_t rows, const Sum* weights, Sum* output) {
    value_->add_product(rows, weights, kAttentionKeys, output);
  }

 private:
  const AttentionProblem<T>& p_;
  const Head<T>& head_;
  const std::int64_t begin_, padded_width_ = padded_columns<Sum>(p_.head_width);
  const bool in_place_;
  Sum* query_;        // [end - begin, padded width]
  Sum* key_columns_;  // packed [width, a block's keys]
  Sum* copies_[2];    // [a block's keys, padded width]
  std::optional<BlockRows<Sum>> value_;
};

/// The same on AMX tiles, of bf16, whose sums are f32 and which need no copies in f32.
template <class T>
class AmxProducts {
 public:
  static constexpr bool kRoundsWeights = true;

  AmxProducts(const AttentionProblem<T>& problem, const Head<T>& of, std::int64_t begin,
              std::int64_t end, Scratch<float>&)
      : p_(problem),
        head_(of),
        query_(std::min(end - begin, kAttentionTile), p_.head_width),
        key_(std::min(head_.keys, kAttentionKeys), p_.head_width),
        value_(p_.head_width, std::min(head_.keys, kAttentionKeys)),
        weights_(std::min(end - begin, kAttentionTile), std::min(head_.keys, kAttentionKeys)) {}

  void take_block(std::int64_t j, std::int64_t keys) {
    keys_ = keys;
    key_.pack_right(true, head_.key + j * p_.key_stride, p_.key_stride, p_.head_width, keys);
    value_.pack_right(false, head_.value + j * p_.value_stride, p_.value_stride, keys,
                      p_.head_width);
  }
  void score(std::int64_t first, std::int64_t rows, float* scores) {
    if (first != packed_) {
      packed_ = first;
      query_.pack_left(false, head_.query + first * p_.query_stride, p_.query_stride, rows,
                       p_.head_width);
    }
    cpu::multiply(1.0F, query_, key_, false, scores, kAttentionKeys);
  }
  void add_values(std::int64_t rows, const float* weights, float* output) {
    weights_.pack_left(false, weights, kAttentionKeys, rows, keys_);
    cpu::multiply(1.0F, weights_, value_, true, output, padded_columns<float>(p_.head_width));
  }

 private:
  using Factor = cpu::AmxFactor<cpu::kAmxParts<T>>;

  const AttentionProblem<T>& p_;
  const Head<T>& head_;
  const cpu::AmxTiles tiles_;
  Factor query_, key_, value_, weights_;
  std::int64_t packed_ = -1, keys_ = 0;  // the first query of the tile that is packed
};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
