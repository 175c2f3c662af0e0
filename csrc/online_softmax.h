// One tile of an online softmax on the CPU, in the SIMD registers of whatever instruction set the caller is compiled
// for.
//
// A tile of logits comes as (keys, rows), one column a row of the batch, so that the running maxima and sums of 16 rows
// fill a register and nothing is reduced across one. The weights leave as (rows, keys), transposed in registers: that
// is how the product with the keys wants them.
#pragma once

#include <c10/util/BFloat16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "info_nce.h"
#include "simd.h"

namespace crrl {

inline constexpr int64_t kSoftmaxStep = 16;  // rows and keys of a tile come in multiples of it

template <class T>
struct SimdTraits;

template <>
struct SimdTraits<float> {
  using Lanes __attribute__((vector_size(64))) = float;
  using Mask __attribute__((vector_size(64))) = int32_t;
  using Count = int32_t;
};

template <>
struct SimdTraits<double> {
  using Lanes __attribute__((vector_size(64))) = double;
  using Mask __attribute__((vector_size(64))) = int64_t;
  using Count = int64_t;
};

template <class T>
using Lanes = typename SimdTraits<T>::Lanes;
template <class T>
using Mask = typename SimdTraits<T>::Mask;
template <class T>
using Count = typename SimdTraits<T>::Count;

template <class T>
inline constexpr int kLanes = 64 / sizeof(T);

template <class Vector, class T>
CRRL_SIMD_INLINE Vector load_lanes(const T* source) {
  Vector lanes;
  std::memcpy(&lanes, source, sizeof lanes);
  return lanes;
}

template <class Vector, class T>
CRRL_SIMD_INLINE void store_lanes(T* target, const Vector& lanes) {
  std::memcpy(target, &lanes, sizeof lanes);
}

// 2^x of x <= 0, or little above; what is below 2^-126 becomes that. NaN stays NaN. Relative error 2e-7.
CRRL_SIMD_INLINE void exp2_lanes(Lanes<float>& x) {
  x = x < -126.0f ? Lanes<float>{} - 126.0f : x;
  constexpr float round_to_integer = 12582912.0f;  // 1.5 * 2^23: added to a number, it leaves no bits for fractions
  const Lanes<float> shifted = x + round_to_integer;
  const Lanes<float> f = x - (shifted - round_to_integer);
  // The coefficients are those of exp2f in the Cephes library (Moshier), for f in [-1/2, 1/2].
  Lanes<float> value = f * 1.535336188319500e-4f + 1.339887440266574e-3f;
  value = value * f + 9.618437357674640e-3f;
  value = value * f + 5.550332471162809e-2f;
  value = value * f + 2.402264791363012e-1f;
  value = value * f + 6.931472028550421e-1f;
  value = value * f + 1.0f;
  // The integer sits in the low bits of `shifted`; what lies above them is shifted out.
  Mask<float> exponent;
  std::memcpy(&exponent, &shifted, sizeof exponent);
  exponent = (exponent + 127) << 23;
  Lanes<float> power;
  std::memcpy(&power, &exponent, sizeof power);
  x = value * power;
}

CRRL_SIMD_INLINE void exp2_lanes(Lanes<double>& x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) {
    x[lane] = std::exp2(x[lane]);
  }
}

// a[0] b[0] a[1] b[1] ... of the lower or the upper halves.
CRRL_SIMD_INLINE void interleave(const Lanes<float>& a, const Lanes<float>& b, Lanes<float>& low, Lanes<float>& high) {
  low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

CRRL_SIMD_INLINE void interleave(const Lanes<double>& a, const Lanes<double>& b, Lanes<double>& low,
                                 Lanes<double>& high) {
  low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

// Interleaving the first half of the rows with the second, log2(N) times, transposes an N x N block.
template <class T>
CRRL_SIMD_INLINE void transpose(Lanes<T> (&rows)[kLanes<T>]) {
  constexpr int half = kLanes<T> / 2;
  for (int round = 1; round < kLanes<T>; round *= 2) {
    Lanes<T> next[kLanes<T>];
    for (int pair = 0; pair < half; ++pair) {
      interleave(rows[pair], rows[pair + half], next[2 * pair], next[2 * pair + 1]);
    }
    std::memcpy(&rows, &next, sizeof rows);
  }
}

template <class T>
CRRL_SIMD_INLINE void store_weights(T* target, const Lanes<T>& weights) {
  store_lanes(target, weights);
}

// Rounds to nearest even, as the conversion instruction of the newest processors does.
CRRL_SIMD_INLINE void store_weights(c10::BFloat16* target, const Lanes<float>& weights) {
  using Words __attribute__((vector_size(64))) = uint32_t;
  using Halves __attribute__((vector_size(32))) = uint16_t;
  Words words;
  std::memcpy(&words, &weights, sizeof words);
  words = (words + 0x7fff + ((words >> 16) & 1)) >> 16;
  const Halves halves = __builtin_convertvector(words, Halves);
  std::memcpy(target, &halves, sizeof halves);
}

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
        store_weights(weights + (row + step) * keys + key, block[step]);
      }
    }
    store_lanes(sum + row, load_lanes<Lanes<T>>(sum + row) * load_lanes<Lanes<T>>(shrink + row) + total);
    store_lanes(rank + row, count);
  }
}

}  // namespace crrl
