#include "kernels/simt/warpgroup_product.h"

#include <bit>
#include <deque>
#include <vector>

#include "kernels/simt/mbarrier.h"
#include "kernels/simt/ptx.h"

namespace cmir::kernels::simt {
namespace {

using Group = std::vector<WarpgroupProduct>;
struct Queue {
  Group open;
  std::deque<Group> groups;
};

std::vector<Queue>& queues() {
  static std::vector<Queue> of_threads;
  return of_threads;
}

constexpr unsigned kDepth = 16;
using Piece = std::array<BFloat16, 8>;  // 16 bytes

/// The 16 bytes that begin at a byte behind a descriptor's start.
Piece read_piece(const MatrixDescriptor& matrix, std::ptrdiff_t byte) {
  const SharedPlace& start = matrix.start;
  const auto begin = static_cast<std::ptrdiff_t>(start.region->begin);
  const auto address = static_cast<std::size_t>(begin + start.offset + byte);
  const SharedPlace place{start.region, static_cast<std::ptrdiff_t>(swizzled(address)) - begin,
                          start.where};
  Piece piece;
  std::memcpy(&piece, use_shared(place, sizeof(piece), SharedUse::read, sizeof(BFloat16)),
              sizeof(piece));
  return piece;
}

/// f(row, k, value) for `rows` rows from `first` on of a factor whose depth lies in a row.
template <class F>
void for_each_of_rows(const MatrixDescriptor& matrix, int first, int rows, const F& f) {
  for (int r = 0; r < rows; ++r) {
    for (int half = 0; half < 2; ++half) {
      const int row = first + r;
      const Piece piece = read_piece(matrix, row / 8 * matrix.stride + row % 8 * 128 + 16 * half);
      for (int k = 0; k < 8; ++k) f(r, 8 * half + k, static_cast<float>(piece[k]));
    }
  }
}
/// f(row, k, value) for `rows` rows from `first` on of a factor of which they lie one behind
/// another.
template <class F>
void for_each_of_columns(const MatrixDescriptor& matrix, int first, int rows, const F& f) {
  for (int k = 0; k < static_cast<int>(kDepth); ++k) {
    for (int r = 0; r < rows; r += 8) {
      const int row = first + r;
      const Piece piece = read_piece(
          matrix, row / 64 * matrix.leading + row % 64 * 2 + k / 8 * matrix.stride + k % 8 * 128);
      for (int i = 0; i < 8; ++i) f(r + i, k, static_cast<float>(piece[i]));
    }
  }
}
/// The same of either kind.
template <class F>
void for_each_of(const MatrixDescriptor& matrix, bool mn_major, int first, int rows, const F& f) {
  mn_major ? for_each_of_columns(matrix, first, rows, f) : for_each_of_rows(matrix, first, rows, f);
}

using Products = Lanes<const WarpgroupProduct*, int>;

/// One product of a warp: its 16 rows. Sums in f64, rounded once.
void multiply(const Products& lanes) {
  const WarpgroupProduct& one = **lanes.in[0];
  double left[16][kDepth];
  static double right[256][kDepth];
  if (one.in_registers) {
    lanes.for_each([&](unsigned lane) {
      for (unsigned r = 0; r < 4; ++r) {
        for (unsigned half = 0; half < 2; ++half) {
          const detail::Element e = detail::Bf16::of_a(lane, r, half);
          left[e.row][e.column] = detail::Bf16::value((*lanes.in[lane])->registers[r], half);
        }
      }
    });
  } else {
    const int warp = static_cast<int>(thread_rank()) / 32 % 4;
    for_each_of(one.left, one.left_mn_major, 16 * warp, 16,
                [&](int row, int k, float value) { left[row][k] = value; });
  }
  for_each_of(one.right, one.right_mn_major, 0, 8 * static_cast<int>(one.tiles),
              [&](int column, int k, float value) { right[column][k] = value; });
  lanes.for_each([&](unsigned lane) {
    for (unsigned i = 0; i < 4 * one.tiles; ++i) {
      const unsigned row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      float& result = (*lanes.in[lane])->sums[i];
      double sum = one.keep ? result : 0.0;
      for (unsigned k = 0; k < kDepth; ++k) sum += left[row][k] * right[column][k];
      result = static_cast<float>(sum);
    }
  });
}

}  // namespace

void begin_warpgroup_products(std::size_t threads) { queues().assign(threads, Queue{}); }

void end_warpgroup_products() {
  const Queue& queue = queues()[thread_rank()];
  if (queue.open.empty() && queue.groups.empty()) return;
  fault({}, "returns without having waited for its warpgroup's products");
}

void issue_warpgroup_product(const WarpgroupProduct& product) {
  queues()[thread_rank()].open.push_back(product);
}

void commit_warpgroup_products() {
  Queue& queue = queues()[thread_rank()];
  queue.groups.push_back(std::move(queue.open));
  queue.open.clear();
}

void wait_for_warpgroup_products(std::size_t keep, Location where) {
  Queue& queue = queues()[thread_rank()];
  while (queue.groups.size() > keep) {
    for (const WarpgroupProduct& product : queue.groups.front()) {
      warp_operation<int>(
          "wgmma_wait", 0xFFFFFFFF, &product, [](const Products& lanes) { multiply(lanes); },
          where);
    }
    queue.groups.pop_front();
  }
}

}  // namespace cmir::kernels::simt
