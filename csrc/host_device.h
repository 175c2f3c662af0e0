// What the CPU and the CUDA code of an op share: code in this header and in every <op>.h compiles as both.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define CRRL_HD __host__ __device__
#else
#define CRRL_HD
#endif

// For loops over arrays that must stay in registers. The host compiler does not know the pragma.
#ifdef __CUDA_ARCH__
#define CRRL_UNROLL _Pragma("unroll")
#else
#define CRRL_UNROLL
#endif

namespace crrl {

// Two non-negative operands.
CRRL_HD constexpr int64_t ceil_div(int64_t numerator, int64_t denominator) {
  return numerator / denominator + (numerator % denominator != 0);
}

CRRL_HD constexpr int64_t round_up(int64_t value, int64_t step) { return ceil_div(value, step) * step; }

}  // namespace crrl
