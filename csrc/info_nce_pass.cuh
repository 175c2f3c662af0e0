// The pass of a block of queries over its share of the queue. info_nce.cu says where it stands.
#pragma once

#include <type_traits>

#include "info_nce_warp.cuh"

namespace crrl {

struct PassArguments {
  InfoNceShape shape;
  InfoNcePlan plan;
  const void* queue;      // (K, D), strided, of the products' type
  const int64_t* filled;  // (1), or null
  const void* queries;    // (B, groups x columns), of the products' type
  const RowFacts* rows;   // (B)
  PartialState* states;   // (splits, groups, B)
  float* key_sums;        // w: (splits, B, key_sums_stride), or null: not wanted
  float log2_scale;       // from a product to a logit in units of log 2
};

// Copies what a part of a tile needs to shared memory. What lies beyond D, beyond the keys that count and beyond B
// becomes 0.
template <class Tile>
class PartLoader {
  using Element = std::conditional_t<Tile::element_size == 2, uint16_t, uint32_t>;
  static constexpr int chunk_elements = kChunkBytes / Tile::element_size;

 public:
  __device__ PartLoader(const PassArguments& pass, const InfoNcePlan& plan, const BlockPlace& place, int64_t keys,
                        unsigned char* shared)
      : pass_(pass), plan_(plan), place_(place), keys_(keys), shared_(shared) {
    const auto address = reinterpret_cast<uintptr_t>(pass.queue);
    aligned_ = (address | static_cast<uintptr_t>(pass.shape.queue_stride * Tile::element_size)) % kChunkBytes == 0;
  }

  __device__ void load(int64_t tile, int index /* of the part, counted from the block's first */) const {
    const int group = group_of_part(index % plan_.groups, place_, plan_);
    // Once, where all groups have a slot; else with every part.
    if (index < plan_.query_slots || plan_.query_slots < plan_.groups) {
      load_queries(group, shared_ + query_offset(index));
    }
    load_keys(group, tile, shared_ + tile_offset(index));
  }

  __device__ int tile_offset(int index) const { return index % kStages * kTileBytes; }
  __device__ int query_offset(int index) const {
    return kStages * kTileBytes + index % plan_.query_slots * plan_.rows * Tile::row_bytes;
  }

 private:
  // A thread copies the same chunk of every so many rows: of as many as keep its place among the banks.
  __device__ void load_keys(int group, int64_t tile, unsigned char* target) const {
    constexpr int rows = kPassThreads / Tile::row_chunks;
    static_assert(rows % 8 == 0, "the chunk would be permuted otherwise");
    const int thread = static_cast<int>(threadIdx.x);
    const int row = thread / Tile::row_chunks;
    const int chunk = thread % Tile::row_chunks;
    const int column = group * Tile::columns + chunk * chunk_elements;
    const int64_t key = tile * Tile::keys + row;
    const int elements = max(0, min(chunk_elements, static_cast<int>(pass_.shape.dim) - column));
    const int left = static_cast<int>(min(keys_ - key, int64_t{Tile::keys}));
    const auto* queue = static_cast<const Element*>(pass_.queue);
    const Element* source = queue + key * pass_.shape.queue_stride + column;
    target += swizzled(row, chunk, Tile::row_bytes);
#pragma unroll 2
    for (int done = 0; done < Tile::keys; done += rows) {
      const int count = done < left ? elements : 0;
      if (aligned_) {
        copy_async(shared_address(target), count > 0 ? source : queue, count * Tile::element_size);
      } else {
        CRRL_UNROLL
        for (int i = 0; i < chunk_elements; ++i) {
          reinterpret_cast<Element*>(target)[i] = i < count ? source[i] : Element{0};
        }
      }
      source += rows * pass_.shape.queue_stride;
      target += rows * Tile::row_bytes;
    }
  }

  __device__ void load_queries(int group, unsigned char* target) const {
    const uint32_t address = shared_address(target);
    const auto* queries = static_cast<const unsigned char*>(pass_.queries);
    for (int number = threadIdx.x; number < plan_.rows * Tile::row_chunks; number += kPassThreads) {
      const int row = number / Tile::row_chunks;
      const int chunk = number % Tile::row_chunks;
      const int64_t query = static_cast<int64_t>(place_.row_block) * plan_.rows + row;
      const bool exists = query < pass_.shape.batch;
      const int64_t start = exists ? (query * plan_.groups + group) * Tile::row_bytes + chunk * kChunkBytes : 0;
      copy_async(address + swizzled(row, chunk, Tile::row_bytes), queries + start, exists ? kChunkBytes : 0);
    }
  }

  const PassArguments& pass_;
  const InfoNcePlan& plan_;
  const BlockPlace place_;
  const int64_t keys_;
  unsigned char* const shared_;
  bool aligned_;
};

template <class Products, int Columns, int RowTiles>
__global__ void __launch_bounds__(kPassThreads, 1) pass_kernel(const __grid_constant__ PassArguments pass) {
  using Tile = PassTile<Products::element_size, Columns, RowTiles>;
  using Warp = WarpRows<Products, Tile>;
  static_assert(kPassWarps / 2 * 32 * Warp::exchanged * static_cast<int>(sizeof(float)) <=
                    kStages * kTileBytes + 32 * RowTiles * Tile::row_bytes,
                "half of the warps leave their rows in shared memory");
  static_assert(Tile::is_one_group || Tile::keys / Tile::step_keys == kPassWarps / 2,
                "over several parts a warp holds the logits of one step");
  extern __shared__ __align__(1024) unsigned char shared[];

  InfoNcePlan plan = pass.plan;
  if (Tile::is_one_group) {
    plan.groups = plan.query_slots = 1;  // as they are; now the compiler knows it
  }
  const int lane = threadIdx.x % 32;
  const int row_warp = threadIdx.x / 32 % plan.row_warps;
  const int key_warp = threadIdx.x / 32 / plan.row_warps;
  const int key_warps = kPassWarps / plan.row_warps;
  const BlockPlace place = block_place(static_cast<int>(blockIdx.x), plan);
  const int first_row = row_warp * Warp::row_tiles * 16;  // of the warp, in the block
  const int64_t block_row = static_cast<int64_t>(place.row_block) * plan.rows;

  const int64_t keys = filled_keys(pass.filled, pass.shape.negatives);
  const TileRange tiles = split_tiles(ceil_div(keys, Tile::keys), place.split, plan.splits);
  const int parts = static_cast<int>(tiles.last - tiles.first) * plan.groups;
  const PartLoader<Tile> loader(pass, plan, place, keys, shared);

  float thresholds[Warp::row_tiles][2];
  CRRL_UNROLL
  for (int i = 0; i < Warp::row_tiles * 2; ++i) {
    const int64_t row = block_row + first_row + i * 8 + accumulator_row(lane);
    thresholds[i / 2][i % 2] = row < pass.shape.batch ? pass.rows[row].rank_threshold / pass.log2_scale : INFINITY;
  }

  Warp warp;
  warp.start();
  const uint32_t address = shared_address(shared);
  if (parts > 0) {
    loader.load(tiles.first, 0);
  }
  for (int index = 0; index < parts; ++index) {
    wait_for_copies();
    __syncthreads();  // this part has arrived, and nobody reads the one before it any more
    if (index + 1 < parts) {
      loader.load(tiles.first + (index + 1) / plan.groups, index + 1);
    }
    const int part = index % plan.groups;
    const int64_t first_key = (tiles.first + index / plan.groups) * Tile::keys;
    const uint32_t queries = address + loader.query_offset(index) + first_row * Tile::row_bytes;
    for (int step = key_warp; step < Tile::keys / Tile::step_keys; step += key_warps) {
      const int offset = loader.tile_offset(index) + step * Tile::step_keys * Tile::row_bytes;
      if (part == 0) {
        warp.clear_logits();
      }
      warp.multiply_keys(queries + rows_first_offset(lane, Tile::row_bytes),
                         address + offset + chunks_first_offset(lane, Tile::row_bytes));
      if (part == plan.groups - 1) {
        const int64_t left = keys - first_key - step * Tile::step_keys;
        warp.softmax_step(lane, left < Tile::step_keys ? static_cast<int>(left) : Tile::step_keys, pass.log2_scale,
                          thresholds);
        if (pass.key_sums != nullptr) {
          warp.add_keys(lane, address + offset + rows_first_offset(lane, Tile::row_bytes), shared + offset);
        }
      }
    }
  }

  // Warps with the same rows add up, half of those that are left at a time.
  warp.finish();
  float* slots = reinterpret_cast<float*>(shared) + lane;
  for (int half = key_warps / 2; half > 0; half /= 2) {
    const int slot = (key_warp % half * plan.row_warps + row_warp) * Warp::exchanged * 32;
    __syncthreads();
    if (key_warp >= half && key_warp < 2 * half) {
      warp.put(slots + slot);
    }
    __syncthreads();
    if (key_warp < half) {
      warp.take(slots + slot);
    }
  }
  if (key_warp > 0) {
    return;
  }
  CRRL_UNROLL
  for (int i = 0; i < Warp::row_tiles * 2; ++i) {
    const int64_t row = block_row + first_row + i * 8 + accumulator_row(lane);
    if (row >= pass.shape.batch) {
      continue;
    }
    if (lane % 4 == 0) {
      pass.states[(static_cast<int64_t>(place.split) * plan.groups + place.group) * pass.shape.batch + row] = {
          {warp.max[i / 2][i % 2], warp.sum[i / 2][i % 2]}, warp.ahead[i / 2][i % 2]};
    }
    if (pass.key_sums != nullptr) {
      float* key_sums = pass.key_sums + (place.split * pass.shape.batch + row) * plan.key_sums_stride;
      CRRL_UNROLL
      for (int tile = 0; tile < Warp::column_tiles; ++tile) {
        const int column = place.group * Tile::columns + tile * 8 + accumulator_column(lane);
        if (column < plan.key_sums_stride) {
          const float* two = &warp.key_sums[i / 2][tile][i % 2 * 2];
          *reinterpret_cast<float2*>(key_sums + column) = make_float2(two[0], two[1]);
        }
      }
    }
  }
}

}  // namespace crrl
