// The queue's pass as one warp sees it: what it holds of its rows in registers.
#pragma once

#include <cfloat>

#include "info_nce_tiles.h"
#include "mma.cuh"
#include "products.cuh"

namespace crrl {

// ---- The rows of a warp ----

// The maximum that p refers to is raised only when it lags by more than this: p then reaches 2^8 at most, which costs
// no digits, and w is rescaled a few times a pass (an idea of FlashAttention-4).
inline constexpr float kMaxLag = 8.0f;

// The maximum of no keys. Finite, so that the logit -infinity of a key that does not count has p = 0 beside it.
inline constexpr float kNoKeys = -FLT_MAX;

__device__ inline float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}

template <class T>
__device__ inline T quad_sum(T value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

// What a warp holds of its rows. A lane has two rows of each tile of 16, and of these the columns of its accumulators.
template <class Products, class Tile>
struct WarpRows {
  static constexpr int row_tiles = Tile::row_tiles;
  static constexpr int key_tiles = Tile::step_keys / 8;
  static constexpr int column_tiles = Tile::columns / 8;
  static constexpr int exchanged = row_tiles * (column_tiles * 4 + 6);  // numbers of a lane

  float logits[row_tiles][key_tiles][4];       // of one step, as products, then p
  float key_sums[row_tiles][column_tiles][4];  // w
  float max[row_tiles][2];                     // m
  float sum[row_tiles][2];                     // l, of the lane's own columns, until `finish`
  int ahead[row_tiles][2];                     // likewise; negatives that rank before the positive

  __device__ void start() {
    CRRL_UNROLL
    for (int tile = 0; tile < row_tiles; ++tile) {
      CRRL_UNROLL
      for (int half = 0; half < 2; ++half) {
        max[tile][half] = kNoKeys;
        sum[tile][half] = 0.0f;
        ahead[tile][half] = 0;
      }
      CRRL_UNROLL
      for (int column = 0; column < column_tiles; ++column) {
        CRRL_UNROLL
        for (int i = 0; i < 4; ++i) {
          key_sums[tile][column][i] = 0.0f;
        }
      }
    }
  }

  __device__ void clear_logits() {
    CRRL_UNROLL
    for (int tile = 0; tile < row_tiles; ++tile) {
      CRRL_UNROLL
      for (int key = 0; key < key_tiles; ++key) {
        CRRL_UNROLL
        for (int i = 0; i < 4; ++i) {
          logits[tile][key][i] = 0.0f;
        }
      }
    }
  }

  // logits += queries keys^T, over the columns of a part.
  __device__ void multiply_keys(uint32_t queries /* the lane's rows-first address */,
                                uint32_t keys /* its chunks-first address */) {
    CRRL_UNROLL
    for (int offset = 0; offset < Tile::row_bytes; offset += kStepBytes) {
      uint32_t a[row_tiles][4];
      CRRL_UNROLL
      for (int tile = 0; tile < row_tiles; ++tile) {
        load_matrices(a[tile], (queries ^ offset) + tile * 16 * Tile::row_bytes);
      }
      CRRL_UNROLL
      for (int pair = 0; pair < key_tiles / 2; ++pair) {
        uint32_t b[4];
        load_matrices(b, (keys ^ offset) + pair * 16 * Tile::row_bytes);
        CRRL_UNROLL
        for (int tile = 0; tile < row_tiles; ++tile) {
          Products::multiply_add(logits[tile][2 * pair], a[tile], b[0], b[1]);
          Products::multiply_add(logits[tile][2 * pair + 1], a[tile], b[2], b[3]);
        }
      }
    }
  }

  // Turns the products of a step into p.
  __device__ void softmax_step(int lane, int keys /* of the step that count */, float scale,
                               const float (&thresholds)[row_tiles][2] /* of the products */) {
    if (keys < Tile::step_keys) {
      CRRL_UNROLL
      for (int key = 0; key < key_tiles; ++key) {
        CRRL_UNROLL
        for (int i = 0; i < 4; ++i) {
          if (key * 8 + accumulator_column(lane) + i % 2 >= keys) {
            CRRL_UNROLL
            for (int tile = 0; tile < row_tiles; ++tile) {
              logits[tile][key][i] = -INFINITY;
            }
          }
        }
      }
    }
    raise_max(scale);
    CRRL_UNROLL
    for (int tile = 0; tile < row_tiles; ++tile) {
      CRRL_UNROLL
      for (int key = 0; key < key_tiles; ++key) {
        CRRL_UNROLL
        for (int i = 0; i < 4; ++i) {
          float& logit = logits[tile][key][i];
          ahead[tile][i / 2] += logit >= thresholds[tile][i / 2];
          logit = fast_exp2(fmaf(logit, scale, -max[tile][i / 2]));
          sum[tile][i / 2] += logit;
        }
      }
    }
  }

  // key_sums += p keys. The accumulators of the logits are laid out as operand A wants them, but for the order of the
  // keys.
  __device__ void add_keys(int lane, uint32_t keys /* the lane's rows-first address */,
                           const unsigned char* step /* the step's first key */) {
    if constexpr (Products::element_size == 2) {
      CRRL_UNROLL
      for (int pair = 0; pair < key_tiles / 2; ++pair) {
        uint32_t p[row_tiles][4];
        CRRL_UNROLL
        for (int tile = 0; tile < row_tiles; ++tile) {
          CRRL_UNROLL
          for (int i = 0; i < 4; ++i) {
            const float* two = &logits[tile][2 * pair + i / 2][i % 2 * 2];
            p[tile][i] = Products::pack(two[0], two[1]);
          }
        }
        CRRL_UNROLL
        for (int column = 0; column < column_tiles; column += 2) {
          uint32_t b[4];
          load_matrices_transposed(b, (keys ^ (column / 2 * kStepBytes)) + pair * 16 * Tile::row_bytes);
          CRRL_UNROLL
          for (int tile = 0; tile < row_tiles; ++tile) {
            Products::multiply_add(key_sums[tile][column], p[tile], b[0], b[1]);
            Products::multiply_add(key_sums[tile][column + 1], p[tile], b[2], b[3]);
          }
        }
      }
    } else {
      const int even = transposed_float_offset(lane, 0, Tile::row_bytes);
      const int odd = transposed_float_offset(lane, 1, Tile::row_bytes);
      CRRL_UNROLL
      for (int key = 0; key < key_tiles; ++key) {
        const unsigned char* eight = step + key * 8 * Tile::row_bytes;
        CRRL_UNROLL
        for (int column = 0; column < column_tiles; ++column) {
          const uint32_t b0 = *reinterpret_cast<const uint32_t*>(eight + (even ^ (column * kStepBytes)));
          const uint32_t b1 = *reinterpret_cast<const uint32_t*>(eight + (odd ^ (column * kStepBytes)));
          CRRL_UNROLL
          for (int tile = 0; tile < row_tiles; ++tile) {
            const float (&four)[4] = logits[tile][key];
            const uint32_t p[4] = {__float_as_uint(four[0]), __float_as_uint(four[2]), __float_as_uint(four[1]),
                                   __float_as_uint(four[3])};
            Products::multiply_add(key_sums[tile][column], p, b0, b1);
          }
        }
      }
    }
  }

  __device__ void finish() {
    CRRL_UNROLL
    for (int tile = 0; tile < row_tiles; ++tile) {
      CRRL_UNROLL
      for (int half = 0; half < 2; ++half) {
        sum[tile][half] = quad_sum(sum[tile][half]);
        ahead[tile][half] = quad_sum(ahead[tile][half]);
      }
    }
  }

  __device__ void put(float* slot /* (exchanged, 32), the lane's own first number */) const {
    CRRL_UNROLL
    for (int tile = 0; tile < row_tiles; ++tile) {
      CRRL_UNROLL
      for (int half = 0; half < 2; ++half) {
        float* numbers = slot + (tile * 2 + half) * 3 * 32;
        numbers[0] = max[tile][half];
        numbers[32] = sum[tile][half];
        numbers[64] = __int_as_float(ahead[tile][half]);
      }
      CRRL_UNROLL
      for (int i = 0; i < column_tiles * 4; ++i) {
        slot[(row_tiles * 6 + tile * column_tiles * 4 + i) * 32] = key_sums[tile][i / 4][i % 4];
      }
    }
  }

  // Adds what another warp found for the same rows.
  __device__ void take(const float* slot /* as put wrote it */) {
    CRRL_UNROLL
    for (int tile = 0; tile < row_tiles; ++tile) {
      float own[2], other[2];  // factors
      CRRL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float* numbers = slot + (tile * 2 + half) * 3 * 32;
        const float raised = fmaxf(max[tile][half], numbers[0]);
        own[half] = raise(max[tile][half], raised);
        other[half] = raise(numbers[0], raised);
        max[tile][half] = raised;
        sum[tile][half] = sum[tile][half] * own[half] + numbers[32] * other[half];
        ahead[tile][half] += __float_as_int(numbers[64]);
      }
      CRRL_UNROLL
      for (int i = 0; i < column_tiles * 4; ++i) {
        const float number = slot[(row_tiles * 6 + tile * column_tiles * 4 + i) * 32];
        float& mine = key_sums[tile][i / 4][i % 4];
        mine = mine * own[i % 4 / 2] + number * other[i % 4 / 2];
      }
    }
  }

 private:
  __device__ void raise_max(float scale) {
    float raised[row_tiles][2];
    bool any = false;
    CRRL_UNROLL
    for (int tile = 0; tile < row_tiles; ++tile) {
      CRRL_UNROLL
      for (int half = 0; half < 2; ++half) {
        float top = -INFINITY;
        CRRL_UNROLL
        for (int key = 0; key < key_tiles; ++key) {
          top = fmaxf(top, fmaxf(logits[tile][key][2 * half], logits[tile][key][2 * half + 1]));
        }
        top = quad_max(top) * scale;
        const bool lags = top > max[tile][half] + kMaxLag;
        raised[tile][half] = lags ? top : max[tile][half];
        any = any || lags;
      }
    }
    if (!__any_sync(0xffffffffu, any)) {
      return;
    }
    CRRL_UNROLL
    for (int tile = 0; tile < row_tiles; ++tile) {
      const float factors[2] = {raise(max[tile][0], raised[tile][0]), raise(max[tile][1], raised[tile][1])};
      CRRL_UNROLL
      for (int half = 0; half < 2; ++half) {
        sum[tile][half] *= factors[half];
        max[tile][half] = raised[tile][half];
      }
      CRRL_UNROLL
      for (int i = 0; i < column_tiles * 4; ++i) {
        key_sums[tile][i / 4][i % 4] *= factors[i % 4 / 2];
      }
    }
  }
};

}  // namespace crrl
