// How the CPU cuts queue_info_nce into tasks. It depends on the problem alone, not on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "host_device.h"
#include "info_nce.h"
#include "online_softmax.h"

namespace crrl {

inline constexpr int64_t kLargestBlock = 64;    // rows whose logits of a tile are formed at once
inline constexpr int64_t kGroupRows = 128;      // rows that share what a task prepares of a tile
inline constexpr int64_t kLargestTile = 256;    // keys
inline constexpr int64_t kTileNumbers = 32768;  // of keys in a tile: they and the logits fit a core's second cache
inline constexpr int64_t kLargestPartialBytes = 1 << 19;  // of the weighted sums that the slabs leave
inline constexpr int64_t kFewestTilesPerSlab = 4;

struct InfoNceCpuPlan {
  int64_t width;   // rows of a block, padded
  int64_t blocks;  // of all rows
  int64_t blocks_per_group;
  int64_t groups;
  int64_t tile;  // keys
  int64_t keys_per_slab;
  int64_t slabs;

  InfoNceCpuPlan(const InfoNceShape& shape, int64_t keys, int64_t element_size) {
    blocks = ceil_div(shape.batch, kLargestBlock);
    width = round_up(ceil_div(shape.batch, blocks), kSoftmaxStep);
    blocks_per_group = std::max<int64_t>(1, kGroupRows / width);
    groups = ceil_div(blocks, blocks_per_group);
    const int64_t largest = std::clamp(round_up(kTileNumbers / shape.dim, kSoftmaxStep), kSoftmaxStep, kLargestTile);
    tile = std::min(largest, round_up(std::max<int64_t>(keys, 1), kSoftmaxStep));
    const int64_t most_slabs = std::max<int64_t>(1, kLargestPartialBytes / (rows() * shape.dim * element_size));
    const int64_t tiles = ceil_div(keys, tile);
    const int64_t tiles_per_slab = std::max(kFewestTilesPerSlab, ceil_div(tiles, most_slabs));
    keys_per_slab = tiles_per_slab * tile;
    slabs = ceil_div(keys, keys_per_slab);
  }

  int64_t rows() const { return blocks * width; }
};

}  // namespace crrl
