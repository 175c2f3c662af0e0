// One tile of an online softmax on the CPU, in the SIMD registers of whatever instruction set the caller is compiled
// for.
//
// A tile of logits comes as (keys, rows), one column a row of the batch, so that the running maxima and sums of 16 rows
// fill a register and nothing is reduced across one. The weights leave as (rows, keys), transposed in registers: that
// is how the product with the keys wants them.
#pragma once

#include <cstdint>
#include <limits>

#include "info_nce.h"
#include "lanes.h"
#include "simd.h"

namespace crrl {

inline constexpr int64_t kSoftmaxStep = 16;  // rows and keys of a tile come in multiples of it

// Takes a tile into the running state of its rows.
template <class T, class Weight>
CRRL_SIMD_CLONES void softmax_tile(const T* __restrict__ logits /* (keys, rows), before `scale` */, int64_t keys,
                                   int64_t rows, T scale, const T* __restrict__ threshold /* (rows), before `scale` */,
                                   T* __restrict__ max /* (rows), times `scale` */, T* __restrict__ sum /* (rows) */,
                                   Count<T>* __restrict__ rank /* (rows): logits at or above the threshold */,
                                   T* __restrict__ shrink /* (rows), out: what the old sum was multiplied with */,
                                   Weight* __restrict__ weights /* (rows, keys), out: 2^(scale * logit - max) */) {
  constexpr int lanes = kLanes<T>;
  for (int64_t row = 0; row < rows; row += lanes) {
    const T* column = logits + row;
    Lanes<T> peak = load_lanes<Lanes<T>>(column);
    for (int64_t key = 1; key < keys; ++key) {
      const auto logit = load_lanes<Lanes<T>>(column + key * rows);
      peak = logit > peak ? logit : peak;
    }
    const auto old_max = load_lanes<Lanes<T>>(max + row);
    const Lanes<T> tile_max = peak * scale;
    const Lanes<T> new_max = tile_max > old_max ? tile_max : old_max;
    store_lanes(max + row, new_max);
    for (int lane = 0; lane < lanes; ++lane) {
      shrink[row + lane] = raise(old_max[lane], new_max[lane]);
    }

    const auto limit = load_lanes<Lanes<T>>(threshold + row);
    Lanes<T> total{};  // of this tile alone: added to the long sum one by one, its weights would lose digits
    auto count = load_lanes<Mask<T>>(rank + row);
    for (int64_t key = 0; key < keys; key += lanes) {
      Lanes<T> block[lanes];
      for (int step = 0; step < lanes; ++step) {
        const auto logit = load_lanes<Lanes<T>>(column + (key + step) * rows);
        count -= logit >= limit;  // true is -1
        block[step] = logit * scale - new_max;
        exp2_lanes(block[step]);
        total += block[step];
      }
      transpose<T>(block);
      for (int step = 0; step < lanes; ++step) {
        store_rounded(weights + (row + step) * keys + key, block[step]);
      }
    }
    store_lanes(sum + row, load_lanes<Lanes<T>>(sum + row) * load_lanes<Lanes<T>>(shrink + row) + total);
    store_lanes(rank + row, count);
  }
}

}  // namespace crrl
