// Matrix products of tiles that lie in the cache, for use inside a parallel region: torch's own GEMM, one thread each.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/util/BFloat16.h>

#include <cstdint>
#include <exception>

namespace crrl {

template <class T>
struct Matrix {
  const T* data;
  int64_t stride;  // from row to row, in elements
};

// C (m, n) = A (m, k) B (k, n), or C += A B. C has rows `stride` apart.
inline void tile_product(int64_t m, int64_t n, int64_t k, Matrix<double> a, Matrix<double> b, double* c, int64_t stride,
                         bool accumulate) {
  const auto view = [](const double* data, int64_t rows, int64_t columns, int64_t stride) {
    return at::from_blob(const_cast<double*>(data), {rows, columns}, {stride, 1}, at::kDouble);
  };
  const at::Tensor left = view(a.data, m, k, a.stride), right = view(b.data, k, n, b.stride);
  at::Tensor product = view(c, m, n, stride);
  if (accumulate) {
    at::addmm_out(product, product, left, right);
  } else {
    at::mm_out(product, left, right);
  }
}

// The same for float32. oneDNN's kernel for small blocks ("brgemm") runs at twice the rate of the library behind mm on
// processors of another make than that library's; where it is missing, torch itself falls back.
inline void tile_product(int64_t m, int64_t n, int64_t k, Matrix<float> a, Matrix<float> b, float* c, int64_t stride,
                         bool accumulate) {
  at::native::cpublas::brgemm(m, n, k, a.stride, b.stride, stride, accumulate, a.data, b.data, c, false);
}

// The same for bfloat16, added up in float32. B holds two neighbouring rows side by side: element (2i + j, column) at
// (i n + column) 2 + j, so that one instruction takes both.
inline void tile_product(int64_t m, int64_t n, int64_t k, Matrix<c10::BFloat16> a, Matrix<c10::BFloat16> paired_b,
                         float* c, int64_t stride, bool accumulate) {
  at::native::cpublas::brgemm(m, n, k, a.stride, paired_b.stride, stride, accumulate, a.data, paired_b.data, c, true);
}

// Whether this processor and this torch have the product above. torch has no question for it, so one is tried.
inline bool has_bfloat16_products() {
#ifdef __x86_64__
  static const bool found = [] {
    if (!__builtin_cpu_supports("avx512bf16")) {
      return false;  // the library would emulate it, at a fraction of float32's speed
    }
    const c10::BFloat16 one[32 * 32] = {};
    float product[32 * 32];
    try {
      tile_product(32, 32, 32, Matrix<c10::BFloat16>{one, 32}, Matrix<c10::BFloat16>{one, 32}, product, 32, false);
    } catch (const std::exception&) {
      return false;
    }
    return true;
  }();
  return found;
#else
  return false;
#endif
}

}  // namespace crrl
