// The GRU's cell: what one unit of one clip does at one frame, and the gradient of that. All else of a GRU is matrix
// products. The equations are those of cuDNN and torch.nn.GRU, where the reset gate r multiplies the recurrent product
// rather than the state (Cho et al., arXiv 1406.1078v1):
//
//   r  = sigmoid(in_r + rec_r)         in  = W_ih x + b_ih
//   z  = sigmoid(in_z + rec_z)         rec = W_hh h + b_hh
//   n  = tanh(in_n + r rec_n)
//   h' = (1 - z) n + z h
#pragma once

#include <cmath>
#include <type_traits>

#include "host_device.h"
#include "simd.h"

namespace crrl {

// The functions that the cell needs of its numbers V: float or double as they stand here, both within a few units in
// the last place. A type of several lanes has a specialisation where it is defined.
template <class V>
struct GruMath {
  CRRL_HD CRRL_SIMD_INLINE static V sigmoid(V x) {
    const V inverse = V(1) + std::exp(-x);
#ifdef __CUDA_ARCH__
    if constexpr (std::is_same_v<V, float>) {
      return __fdividef(1.0f, inverse);  // also right to 2 units, and without the branch for divisors near 0
    }
#endif
    return V(1) / inverse;
  }
  CRRL_HD CRRL_SIMD_INLINE static V tanh(V x) { return std::tanh(x); }
};

template <class V>
struct GruStep {
  V r;
  V z;
  V n;
  V h;  // the new state
};

template <class V>
CRRL_HD CRRL_SIMD_INLINE GruStep<V> gru_cell(V in_r, V in_z, V in_n, V rec_r, V rec_z, V rec_n, V h) {
  const V r = GruMath<V>::sigmoid(in_r + rec_r);
  const V z = GruMath<V>::sigmoid(in_z + rec_z);
  const V n = GruMath<V>::tanh(in_n + r * rec_n);
  return {r, z, n, n + z * (h - n)};
}

// The gradients at the sums that enter the gates. Those at in_r and rec_r are the same, those at in_z and rec_z too.
template <class V>
struct GruStepGrad {
  V r;
  V z;
  V n;      // at in_n
  V rec_n;  // at rec_n
  V h;      // at h past the gates; what comes through the recurrent product is not in it
};

template <class V>
CRRL_HD CRRL_SIMD_INLINE GruStepGrad<V> gru_cell_backward(V dh /* at the new state */, V r, V z, V n, V rec_n,
                                                          V h /* the state before */) {
  const V keep = dh * z;
  const V dn = (dh - keep) * (1 - n * n);
  return {dn * rec_n * r * (1 - r), (h - n) * keep * (1 - z), dn, dn * r, keep};
}

}  // namespace crrl
