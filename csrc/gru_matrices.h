// The matrices of the CPU's GRU: conversion to what the products multiply, right matrices packed into panels, and the
// parallel product of many rows.
#pragma once

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "gru.h"
#include "lanes.h"
#include "tile_gemm.h"

namespace crrl {

inline constexpr int64_t kPanel = 64;     // columns; oneDNN's kernels run fastest on so many
inline constexpr int64_t kRowBlock = 64;  // rows of a product that are formed at once
inline constexpr int64_t kRowStep = 16;   // fewer are computed in such steps: each number is a kernel
inline constexpr int64_t kPanelGroupBytes =
    512 * 1024;  // of right panels: with a block of rows they fit the second cache

// What a product takes from the right matrix at once: one number, or two of bfloat16 from neighbouring rows. Words are
// moved, never computed with.
template <class Factor>
struct WordTraits {
  using Word = Factor;
  static constexpr int64_t factors = 1;
};

template <>
struct WordTraits<c10::BFloat16> {
  using Word = float;
  static constexpr int64_t factors = 2;
};

template <class Factor>
using Word = typename WordTraits<Factor>::Word;
template <class Factor>
inline constexpr int64_t kWordFactors = WordTraits<Factor>::factors;

// ---- Rows ----

template <class Source, class Target>
CRRL_SIMD_CLONES void convert_numbers(const Source* __restrict__ source, int64_t count, Target* __restrict__ target) {
  int64_t i = 0;
  if constexpr (std::is_same_v<Source, float> && std::is_same_v<Target, c10::BFloat16>) {
    for (; i + kLanes<float> <= count; i += kLanes<float>) {
      store_rounded(target + i, load_lanes<Lanes<float>>(source + i));
    }
  }
  for (; i < count; ++i) {
    target[i] = static_cast<Target>(source[i]);
  }
}

template <class Target>
void convert(Dtype dtype, const void* source, int64_t begin, int64_t count, Target* target) {
  const auto from = [&](auto* typed) { convert_numbers(typed + begin, count, target); };
  switch (dtype) {
    case Dtype::float32:
      return from(static_cast<const float*>(source));
    case Dtype::float64:
      return from(static_cast<const double*>(source));
    case Dtype::float16:
      return from(static_cast<const c10::Half*>(source));
    case Dtype::bfloat16:
      return from(static_cast<const c10::BFloat16*>(source));
  }
}

template <class Source>
void store_numbers(Dtype dtype, const Source* source, int64_t count, void* target, int64_t begin) {
  const auto to = [&](auto* typed) { convert_numbers(source, count, typed + begin); };
  switch (dtype) {
    case Dtype::float32:
      return to(static_cast<float*>(target));
    case Dtype::float64:
      return to(static_cast<double*>(target));
    case Dtype::float16:
      return to(static_cast<c10::Half*>(target));
    case Dtype::bfloat16:
      return to(static_cast<c10::BFloat16*>(target));
  }
}

// A row of a few segments, each padded with zeros: the directions of a layer's output, or one segment.
struct Segments {
  int64_t count;
  int64_t size;
  int64_t padded;

  int64_t source_width() const { return count * size; }
  int64_t width() const { return count * padded; }
};

template <class Target>
void convert_row(Dtype dtype, const void* source, int64_t row, const Segments& segments, Target* target) {
  for (int64_t segment = 0; segment < segments.count; ++segment) {
    Target* padded = target + segment * segments.padded;
    convert(dtype, source, (row * segments.count + segment) * segments.size, segments.size, padded);
    std::fill(padded + segments.size, padded + segments.padded, Target(0));
  }
}

// As many rows as a word has factors, as one row of words; a missing row is zero.
template <class Factor>
CRRL_SIMD_CLONES void interleave_rows(const Factor* const* rows, int64_t count, Word<Factor>* __restrict__ words) {
  if constexpr (kWordFactors<Factor> == 1) {
    if (rows[0] == nullptr) {
      std::fill_n(words, count, Factor(0));
    } else {
      std::memcpy(words, rows[0], count * sizeof(Factor));
    }
  } else {
    const auto* even = reinterpret_cast<const uint16_t*>(rows[0]);
    const auto* odd = reinterpret_cast<const uint16_t*>(rows[1]);
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t pair = (even == nullptr ? 0u : even[i]) | (odd == nullptr ? 0u : uint32_t{odd[i]} << 16);
      std::memcpy(words + i, &pair, sizeof pair);
    }
  }
}

// Turns kLanes<Word> rows of words into columns.
template <class W>
CRRL_SIMD_CLONES void transpose_words(const W* __restrict__ source, int64_t source_stride, int64_t columns,
                                      W* __restrict__ target, int64_t target_stride) {
  constexpr int lanes = kLanes<W>;
  int64_t column = 0;
  for (; column + lanes <= columns; column += lanes) {
    Lanes<W> block[lanes];
    for (int row = 0; row < lanes; ++row) {
      block[row] = load_lanes<Lanes<W>>(source + row * source_stride + column);
    }
    transpose<W>(block);
    for (int row = 0; row < lanes; ++row) {
      store_lanes(target + (column + row) * target_stride, block[row]);
    }
  }
  for (; column < columns; ++column) {
    for (int row = 0; row < lanes; ++row) {
      target[column * target_stride + row] = source[row * source_stride + column];
    }
  }
}

// ---- Right matrices ----

// A right matrix (k, n) as panels of kPanel columns that lie one after the other, each in words of rows: what a product
// walks through is contiguous. k is even; n is a multiple of kGruUnitStep.
template <class Factor>
struct Panels {
  Factor* data;
  int64_t k, n;

  int64_t count() const { return ceil_div(n, kPanel); }
  int64_t width(int64_t panel) const { return std::min(kPanel, n - panel * kPanel); }
  Factor* panel(int64_t index) const { return data + index * kPanel * k; }
  Word<Factor>* words(int64_t column) const {  // of row 0
    return reinterpret_cast<Word<Factor>*>(panel(column / kPanel)) + column % kPanel;
  }
  static int64_t size(int64_t k, int64_t n) { return k * n; }
};

// out (rows, width of the panel) = left (rows, k) panel, or out += that.
template <class T, class Factor>
void panel_product(int64_t rows, Matrix<Factor> left, const Panels<Factor>& right, int64_t panel, T* out,
                   int64_t out_stride, bool accumulate) {
  const int64_t width = right.width(panel);
  tile_product(rows, width, right.k, left, {right.panel(panel), width}, out, out_stride, accumulate);
}

// Fills columns [first, first + kLanes<Word>) of a right matrix: column c is `row_of(c)` of `source`, a row-major
// matrix whose rows have the segments, or zero where that is negative. `scratch` has kLanes<Word> * k numbers.
template <class Factor, class RowOf>
void pack_columns(Dtype dtype, const void* source, const Segments& segments, RowOf row_of, int64_t first,
                  const Panels<Factor>& target, Factor* scratch) {
  constexpr int64_t lanes = kLanes<Word<Factor>>;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int64_t row = row_of(first + lane);
    if (row < 0) {
      std::fill_n(scratch + lane * target.k, target.k, Factor(0));
    } else {
      convert_row(dtype, source, row, segments, scratch + lane * target.k);
    }
  }
  const int64_t words = target.k / kWordFactors<Factor>;
  transpose_words(reinterpret_cast<const Word<Factor>*>(scratch), words, words, target.words(first),
                  target.width(first / kPanel));
}

// Fills rows [first, first + kWordFactors) of a right matrix: row k is `row_of(k)` of `source`, or zero. `scratch` has
// (kWordFactors + 1) * n numbers and as many again for words.
template <class Factor, class RowOf>
void pack_rows(Dtype dtype, const void* source, const Segments& segments, RowOf row_of, int64_t first,
               const Panels<Factor>& target, Factor* scratch) {
  const Factor* rows[kWordFactors<Factor>];
  for (int64_t i = 0; i < kWordFactors<Factor>; ++i) {
    const int64_t row = row_of(first + i);
    rows[i] = row < 0 ? nullptr : scratch + i * target.n;
    if (row >= 0) {
      convert_row(dtype, source, row, segments, scratch + i * target.n);
    }
  }
  auto* words = reinterpret_cast<Word<Factor>*>(scratch + kWordFactors<Factor> * target.n);
  interleave_rows<Factor>(rows, target.n, words);
  for (int64_t panel = 0; panel < target.count(); ++panel) {
    const int64_t width = target.width(panel);
    std::copy_n(words + panel * kPanel, width,
                reinterpret_cast<Word<Factor>*>(target.panel(panel)) + first / kWordFactors<Factor> * width);
  }
}

// ---- Products of many rows ----

template <class Factor>
struct Term {
  Matrix<Factor> left;
  Panels<Factor> right;
};

// out (rows, n) = sum over the terms of left right. All have the same n.
template <class T, class Factor>
struct RowsProduct {
  std::vector<Term<Factor>> terms;
  T* out;
};

// Forms the products in parallel. Left matrices and results have memory for a multiple of kRowBlock rows; what is
// computed past `rows` is not specified.
template <class T, class Factor>
void form_products(int64_t rows, const std::vector<RowsProduct<T, Factor>>& products, int64_t out_stride) {
  struct Group {  // of panels that stay in the cache while all rows pass
    const RowsProduct<T, Factor>* product;
    int64_t first_panel, last_panel;
  };
  std::vector<Group> groups;
  for (const RowsProduct<T, Factor>& product : products) {
    int64_t bytes = 0;
    for (const Term<Factor>& term : product.terms) {
      bytes += term.right.k * kPanel * static_cast<int64_t>(sizeof(Factor));
    }
    const int64_t panels = product.terms[0].right.count();
    const int64_t step = std::max<int64_t>(1, kPanelGroupBytes / bytes);
    for (int64_t panel = 0; panel < panels; panel += step) {
      groups.push_back({&product, panel, std::min(panel + step, panels)});
    }
  }
  const int64_t blocks = ceil_div(rows, kRowBlock);
  at::parallel_for(0, static_cast<int64_t>(groups.size()) * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const Group& group = groups[task / blocks];
      const int64_t first = task % blocks * kRowBlock;
      for (int64_t panel = group.first_panel; panel < group.last_panel; ++panel) {
        bool accumulate = false;
        for (const Term<Factor>& term : group.product->terms) {
          const Matrix<Factor> left{term.left.data + first * term.left.stride, term.left.stride};
          panel_product(std::min(kRowBlock, round_up(rows - first, kRowStep)), left, term.right, panel,
                        group.product->out + first * out_stride + panel * kPanel, out_stride, accumulate);
          accumulate = true;
        }
      }
    }
  });
}

}  // namespace crrl
