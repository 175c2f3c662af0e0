// The gradients of the GRU's weights on the CPU: products over all valid frames, left transposed times right.
#pragma once

#include <ATen/Parallel.h>

#include <deque>
#include <functional>

#include "gru_layers.h"

namespace crrl {

inline constexpr int64_t kFrameBlock = 128;  // rows of the two factors that are multiplied at once

// Collects products  left' right  with left (rows, m), right (rows, n), and forms all in one parallel region. Rows are
// summed up in their order, whatever the number of threads.
template <class T, class Factor>
class WeightGrads {
 public:
  explicit WeightGrads(Dtype dtype /* of the gradients */) : dtype_(dtype) {}

  // Takes a left factor by its rows, of which a missing one is zero, and returns its number.
  int64_t add_left(std::vector<const Factor*> rows, int64_t width) {
    const int64_t blocks = ceil_div(static_cast<int64_t>(rows.size()), kFrameBlock);
    lefts_.push_back({std::move(rows), width, blocks, Buffer<Factor>(blocks * width * kFrameBlock)});
    return static_cast<int64_t>(lefts_.size()) - 1;
  }

  // Column c of the product, without the padding of `segments`, becomes row `row_of(c)` of `weight`, if that is not
  // negative; the sum of column c of `right`, if there is a bias, becomes its number `row_of(c)`.
  void add_product(int64_t left, Matrix<Factor> right, int64_t columns, const Segments& segments,
                   std::function<int64_t(int64_t)> row_of, void* weight, void* bias) {
    products_.push_back({left, right, columns, segments, std::move(row_of), weight, bias});
  }

  void run() {
    std::vector<std::pair<const Left*, int64_t>> blocks;
    for (const Left& left : lefts_) {
      for (int64_t block = 0; block < left.blocks; ++block) {
        blocks.emplace_back(&left, block);
      }
    }
    at::parallel_for(0, static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        transpose_block(*blocks[task].first, blocks[task].second);
      }
    });

    std::vector<std::pair<const Product*, int64_t>> panels;
    for (const Product& product : products_) {
      for (int64_t first = 0; first < product.columns; first += kPanel) {
        panels.emplace_back(&product, first);
      }
    }
    at::parallel_for(0, static_cast<int64_t>(panels.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        form_panel(*panels[task].first, panels[task].second);
      }
    });
  }

 private:
  struct Left {
    std::vector<const Factor*> rows;
    int64_t width;
    int64_t blocks;
    Buffer<Factor> transposed;  // (blocks, width, kFrameBlock), zero past the rows
  };
  struct Product {
    int64_t left;
    Matrix<Factor> right;
    int64_t columns;
    Segments segments;
    std::function<int64_t(int64_t)> row_of;
    void* weight;
    void* bias;
  };

  void transpose_block(const Left& left, int64_t block) const {
    constexpr int64_t lanes = kLanes<Word<Factor>>, step = lanes * kWordFactors<Factor>;
    std::vector<Word<Factor>> words(lanes * left.width);
    auto* target = reinterpret_cast<Word<Factor>*>(left.transposed.data() + block * left.width * kFrameBlock);
    for (int64_t first = 0; first < kFrameBlock; first += step) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const Factor* rows[kWordFactors<Factor>];
        for (int64_t i = 0; i < kWordFactors<Factor>; ++i) {
          const int64_t row = block * kFrameBlock + first + lane * kWordFactors<Factor> + i;
          rows[i] = row < static_cast<int64_t>(left.rows.size()) ? left.rows[row] : nullptr;
        }
        interleave_rows<Factor>(rows, left.width, words.data() + lane * left.width);
      }
      transpose_words(words.data(), left.width, left.width, target + first / kWordFactors<Factor>,
                      kFrameBlock / kWordFactors<Factor>);
    }
  }

  void form_panel(const Product& product, int64_t first_column) const {
    const Left& left = lefts_[product.left];
    const int64_t total = static_cast<int64_t>(left.rows.size());
    const int64_t width = std::min(kPanel, product.columns - first_column), height = left.width;
    const Buffer<T> sums(2 * height * kPanel);
    const Buffer<Factor> right(kFrameBlock * kPanel);
    T column_sums[kPanel] = {};
    if (total == 0) {
      std::fill_n(sums.data(), height * kPanel, T(0));
    }
    for (int64_t block = 0; block < left.blocks; ++block) {
      const int64_t first_row = block * kFrameBlock;
      const Factor* source = product.right.data + first_row * product.right.stride + first_column;
      const int64_t count = std::min(kFrameBlock, total - first_row);
      load_right(source, product.right.stride, count, width, right.data());
      add_columns(source, product.right.stride, count, width, column_sums);
      tile_product(height, width, kFrameBlock,
                   Matrix<Factor>{left.transposed.data() + block * height * kFrameBlock, kFrameBlock},
                   Matrix<Factor>{right.data(), width}, sums.data(), kPanel, block > 0);
    }
    T* rows = sums.data() + height * kPanel;  // (kPanel, height)
    for (int64_t k = 0; k < height; k += kLanes<T>) {
      transpose_words(sums.data() + k * kPanel, kPanel, kPanel, rows + k, height);
    }
    for (int64_t column = 0; column < width; ++column) {
      const int64_t row = product.row_of(first_column + column);
      if (row < 0) {
        continue;
      }
      for (int64_t segment = 0; segment < product.segments.count; ++segment) {
        store_numbers(dtype_, rows + column * height + segment * product.segments.padded, product.segments.size,
                      product.weight, row * product.segments.source_width() + segment * product.segments.size);
      }
      if (product.bias != nullptr) {
        store_numbers(dtype_, column_sums + column, 1, product.bias, row);
      }
    }
  }

  static void load_right(const Factor* source, int64_t stride, int64_t count, int64_t width, Factor* target) {
    for (int64_t row = 0; row < kFrameBlock; row += kWordFactors<Factor>) {
      const Factor* rows[kWordFactors<Factor>];
      for (int64_t i = 0; i < kWordFactors<Factor>; ++i) {
        rows[i] = row + i < count ? source + (row + i) * stride : nullptr;
      }
      interleave_rows<Factor>(rows, width, reinterpret_cast<Word<Factor>*>(target + row * width));
    }
  }

  CRRL_SIMD_CLONES static void add_columns(const Factor* source, int64_t stride, int64_t count, int64_t width,
                                           T* sums /* (kPanel) */) {
    for (int64_t column = 0; column < width; column += kLanes<T>) {
      Lanes<T> sum{};
      for (int64_t row = 0; row < count; ++row) {
        sum += load_widened(source + row * stride + column);
      }
      store_lanes(sums + column, load_lanes<Lanes<T>>(sums + column) + sum);
    }
  }

  const Dtype dtype_;
  std::deque<Left> lefts_;  // which the list of blocks points into
  std::deque<Product> products_;
};

}  // namespace crrl
