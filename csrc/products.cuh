// The types of matrix products: `multiply_add` is one matrix instruction's worth, 32 bytes of a row long.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "dtype.h"
#include "host_device.h"
#include "mma.cuh"

namespace crrl {

struct Bfloat16Products {
  using Number = __nv_bfloat16;
  static constexpr int element_size = 2;
  static constexpr Dtype accuracy = Dtype::bfloat16;
  __device__ static uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
  __device__ static void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_bfloat16(sum, a, b0, b1);
  }
};

struct Float16Products {
  using Number = __half;
  static constexpr int element_size = 2;
  static constexpr Dtype accuracy = Dtype::float16;
  __device__ static uint32_t pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
  __device__ static void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_float16(sum, a, b0, b1);
  }
};

// To nearest. PTX leaves the layout of TF32 to the implementation; like CUTLASS, this takes it for the first 19 bits of
// float32, because conversions run at a fraction of the rate of the two integer operations.
__device__ inline uint32_t round_to_tf32(uint32_t bits) { return (bits + 0x1000u) & 0xffffe000u; }

// The tensor core drops the last bit that this may have beyond those of TF32.
__device__ inline uint32_t rest_of_tf32(uint32_t bits, uint32_t rounded) {
  return __float_as_uint(__uint_as_float(bits) - __uint_as_float(rounded));
}

struct Tf32Products {
  using Number = float;
  static constexpr int element_size = 4;
  static constexpr Dtype accuracy = Dtype::float16;  // which has as many bits
  __device__ static void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const uint32_t rounded[4] = {round_to_tf32(a[0]), round_to_tf32(a[1]), round_to_tf32(a[2]), round_to_tf32(a[3])};
    mma_tf32(sum, rounded, round_to_tf32(b0), round_to_tf32(b1));
  }
};

// Each factor as the sum of two TF32 numbers. Of the four products the one of the two small numbers, at most 2^-22 of
// the whole, is left out.
struct Float32Products {
  using Number = float;
  static constexpr int element_size = 4;
  static constexpr Dtype accuracy = Dtype::float32;
  __device__ static void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    uint32_t a_big[4], a_small[4];
    CRRL_UNROLL
    for (int i = 0; i < 4; ++i) {
      a_big[i] = round_to_tf32(a[i]);
      a_small[i] = rest_of_tf32(a[i], a_big[i]);
    }
    const uint32_t b0_big = round_to_tf32(b0), b1_big = round_to_tf32(b1);
    mma_tf32(sum, a_small, b0_big, b1_big);
    mma_tf32(sum, a_big, rest_of_tf32(b0, b0_big), rest_of_tf32(b1, b1_big));
    mma_tf32(sum, a_big, b0_big, b1_big);
  }
};

}  // namespace crrl
