// Numbers in the SIMD registers of whatever instruction set the caller is compiled for: 64 bytes of them, which the
// compiler cuts into what there is.
#pragma once

#include <c10/util/BFloat16.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "simd.h"

namespace crrl {

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

CRRL_SIMD_INLINE void sigmoid_lanes(Lanes<float>& x) {
  x = x < -87.0f ? Lanes<float>{} - 87.0f : x;  // below, the power would overflow
  x *= -1.44269504f;
  exp2_lanes(x);
  x = 1.0f / (1.0f + x);
}

CRRL_SIMD_INLINE void sigmoid_lanes(Lanes<double>& x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) {
    x[lane] = 1.0 / (1.0 + std::exp(-x[lane]));
  }
}

// The rational function of Eigen's generic_fast_tanh, within a few units in the last place. NaN stays NaN.
CRRL_SIMD_INLINE void tanh_lanes(Lanes<float>& x) {
  constexpr float bound = 7.90531110763549805f;  // from there on it is 1 in float32
  x = x < -bound ? Lanes<float>{} - bound : x;
  x = x > bound ? Lanes<float>{} + bound : x;
  const Lanes<float> square = x * x;
  Lanes<float> p = square * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * square - 8.60467152213735e-11f;
  p = p * square + 5.12229709037114e-08f;
  p = p * square + 1.48572235717979e-05f;
  p = p * square + 6.37261928875436e-04f;
  p = p * square + 4.89352455891786e-03f;
  Lanes<float> q = square * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * square + 2.26843463243900e-03f;
  q = q * square + 4.89352518554385e-03f;
  x = x * p / q;
}

CRRL_SIMD_INLINE void tanh_lanes(Lanes<double>& x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) {
    x[lane] = std::tanh(x[lane]);
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

// Numbers in float32 of 16-bit ones.
CRRL_SIMD_INLINE Lanes<float> load_widened(const c10::BFloat16* source) {
  using Words __attribute__((vector_size(64))) = uint32_t;
  using Halves __attribute__((vector_size(32))) = uint16_t;
  Halves halves;
  std::memcpy(&halves, source, sizeof halves);
  const Words words = __builtin_convertvector(halves, Words) << 16;
  Lanes<float> lanes;
  std::memcpy(&lanes, &words, sizeof lanes);
  return lanes;
}

template <class T>
CRRL_SIMD_INLINE Lanes<T> load_widened(const T* source) {
  return load_lanes<Lanes<T>>(source);
}

template <class T>
CRRL_SIMD_INLINE void store_rounded(T* target, const Lanes<T>& lanes) {
  store_lanes(target, lanes);
}

// Rounds to nearest even, as the conversion instruction of the newest processors does.
CRRL_SIMD_INLINE void store_rounded(c10::BFloat16* target, const Lanes<float>& lanes) {
  using Words __attribute__((vector_size(64))) = uint32_t;
  using Halves __attribute__((vector_size(32))) = uint16_t;
  Words words;
  std::memcpy(&words, &lanes, sizeof words);
  words = (words + 0x7fff + ((words >> 16) & 1)) >> 16;
  const Halves halves = __builtin_convertvector(words, Halves);
  std::memcpy(target, &halves, sizeof halves);
}

}  // namespace crrl
