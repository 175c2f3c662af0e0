// queue_info_nce: the cross entropy of picking each query's own key among it and K past keys, in one pass over these.
//
// With s = 1/temperature, row i has the logits s q_i.n_j of the negatives and s q_i.k_i of its positive. Along the
// queue an online softmax (Milakov and Gimelshein, arXiv 1805.02867) keeps their maximum m, l = sum_j exp(z_j - m), and
// also w = sum_j exp(z_j - m) n_j. Loss and gradients follow from these three, so that the backward is a scaling and
// neither the (B, K) logits nor anything of the queue is kept. Logits are held in units of log 2: exp2 is the cheaper
// function.
#pragma once

#include <cmath>
#include <cstdint>

#include "dtype.h"
#include "host_device.h"

namespace crrl {

struct InfoNceShape {
  int64_t batch;         // B, at least 1
  int64_t negatives;     // K, may be 0
  int64_t dim;           // D, 1 to kInfoNceLargestDim
  int64_t queue_stride;  // from one key of the queue to the next, in elements; the numbers of a key lie side by side
};

inline constexpr int64_t kInfoNceLargestDim = 1024;

struct InfoNceSettings {
  double temperature;
  double row_weight;  // in the reduction of the losses, 1 or 1/B; the gradients are of the weighted loss
  bool normalize;     // query and key, not the queue
  bool allow_tf32;  // float32 products on a GPU may be rounded to TF32, as torch's own switch for matrix products says
};

// Query and key are contiguous. All is float64 or nothing is.
struct InfoNceInput {
  Dtype query_dtype;
  Dtype key_dtype;
  Dtype queue_dtype;
  const void* query;      // (B, D)
  const void* key;        // (B, D)
  const void* queue;      // (K, D), strided
  const int64_t* filled;  // (1): only so many keys of the queue count; null: all. Clamped to [0, K]
};

// Contiguous float32, or float64 where the input is. What is null is not wanted.
struct InfoNceOutput {
  void* loss;        // (B)
  float* hits;       // (B, 2): 1 where the positive is the largest logit, and where it is among the five largest
  void* query_grad;  // (B, D) of each row's weighted loss
  void* key_grad;    // (B, D) of each row's weighted loss
};

inline constexpr double kLog2E = 1.4426950408889634;
inline constexpr double kLn2 = 0.6931471805599453;

// torch.nn.functional.normalize divides by no less than this.
inline constexpr double kSmallestNorm = 1e-12;

// The number of keys that count, from a value that on a GPU nobody has checked.
CRRL_HD inline int64_t filled_keys(const int64_t* filled /* (1), or null */, int64_t negatives) {
  if (filled == nullptr) {
    return negatives;
  }
  return *filled < 0 ? 0 : *filled > negatives ? negatives : *filled;
}

// A negative logit from here on ranks before the positive. The margin is the rounding of the products, so that the
// equal logits of a collapsed encoder count as ties however each was summed.
template <class T>
CRRL_HD T rank_threshold(T positive, Dtype product_dtype) {
  const bool is_half = product_dtype == Dtype::bfloat16 || product_dtype == Dtype::float16;
  const T margin = product_dtype == Dtype::float64 ? T(1e-12) : is_half ? T(2e-3) : T(1e-5);
  return positive - margin * (positive < T(0) ? -positive : positive);
}

// What the pass over (a part of) the queue leaves of a row, besides w.
template <class T>
struct SoftmaxState {
  T max;  // m, in units of log 2; -infinity where there are no keys
  T sum;  // l
};

// The factor by which l and w shrink when the maximum they refer to is raised.
CRRL_HD inline float raise(float max, float raised) { return max == raised ? 1.0f : exp2f(max - raised); }
CRRL_HD inline double raise(double max, double raised) { return max == raised ? 1.0 : exp2(max - raised); }

template <class T>
struct RowResult {
  T loss;
  T negatives_share;  // the softmax's weight on all negatives together, 1 - p of the positive
  T key_sum_scale;    // turns w into the softmax-weighted sum of the negatives
};

template <class T>
CRRL_HD RowResult<T> finish_row(const SoftmaxState<T>& negatives, T positive /* logit, in units of log 2 */) {
  const bool positive_is_top = !(negatives.max > positive);
  const T top = positive_is_top ? positive : negatives.max;
  const T shrink = raise(negatives.max, top);
  const T others = negatives.sum * shrink;
  const T total = others + raise(positive, top);
  // Near a loss of 0, log1p keeps the digits that the sum with 1 would drop.
  const T log_total = positive_is_top ? static_cast<T>(log1p(others)) : static_cast<T>(log(total));
  return {static_cast<T>(kLn2) * (top - positive) + log_total, others / total, shrink / total};
}

// The gradients at the vectors that entered the products, one coordinate. `scale` is row_weight / temperature.
template <class T>
CRRL_HD T query_gradient(const RowResult<T>& row, T scale, T key_sum /* w */, T key) {
  return scale * (row.key_sum_scale * key_sum - row.negatives_share * key);
}

template <class T>
CRRL_HD T key_gradient(const RowResult<T>& row, T scale, T query) {
  return -scale * row.negatives_share * query;
}

// Through u = v / max(|v|, kSmallestNorm): the gradient at v from the one at u, one coordinate.
template <class T>
CRRL_HD T normalize_gradient(T grad, T unit, T grad_dot_unit, T norm) {
  return norm > static_cast<T>(kSmallestNorm) ? (grad - grad_dot_unit * unit) / norm
                                              : grad / static_cast<T>(kSmallestNorm);
}

// ---- Launchers ----

void info_nce_cpu(const InfoNceShape& shape, const InfoNceSettings& settings, const InfoNceInput& input,
                  const InfoNceOutput& output);

// Bytes of scratch memory on the device that the launch needs.
int64_t info_nce_cuda_workspace(const InfoNceShape& shape, const InfoNceInput& input);

// No float64. `stream` is a cudaStream_t; nothing is synchronised, so a CUDA graph can capture the launch.
void info_nce_cuda(const InfoNceShape& shape, const InfoNceSettings& settings, const InfoNceInput& input,
                   const InfoNceOutput& output, void* workspace, void* stream);

}  // namespace crrl
