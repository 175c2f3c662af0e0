// How a GPU shares out queue_info_nce: which rows, columns and keys a block and a warp take, and where their numbers
// lie in shared memory and in the workspace. It is host code too, so that it is tested where there is no GPU.
//
// A block keeps the queries of a few rows and streams tiles of keys past them. It sums one group of columns of w;
// where D is wider than a group, other blocks sum the other groups, and each of them forms the logits anew from all
// columns. The queue is split too, so that there are as many blocks as multiprocessors.
#pragma once

#include <cstdint>

#include "host_device.h"
#include "info_nce.h"

namespace crrl {

inline constexpr int kPassWarps = 8;
inline constexpr int kPassThreads = 32 * kPassWarps;
inline constexpr int kStages = 2;  // tiles in shared memory: one is read while the next arrives
inline constexpr int kTileBytes = 32 << 10;
inline constexpr int kLeastSharedBytes = 96 << 10;  // that a block has wherever this runs: 99 KiB on sm_86
inline constexpr int kChunkBytes = 16;              // what one copy and one row of a matrix fragment move
inline constexpr int kStepBytes = 32;               // of a row: what one matrix instruction contracts over
inline constexpr int kWidestRowBytes = 512;  // of a group of columns: w then takes half of a multiprocessor's registers
inline constexpr int kMostPartials = 256;    // splits x groups, of one row

constexpr int keys_per_tile(int element_size, int columns) { return kTileBytes / (element_size * columns); }

// Warps stand in a grid of rows x keys. Those beside each other share the keys of every tile.
template <int ElementSize, int Columns, int RowTiles>
struct PassTile {
  static constexpr int element_size = ElementSize;
  static constexpr int columns = Columns;     // of a group
  static constexpr int row_tiles = RowTiles;  // of 16 rows, a warp's
  static constexpr int row_bytes = ElementSize * Columns;
  static constexpr int row_chunks = row_bytes / kChunkBytes;
  static constexpr int keys = keys_per_tile(ElementSize, Columns);
  static constexpr int step_keys = keys / 4 < 32 ? keys / 4 : 32;  // whose logits a warp holds at a time
  // Several groups are all of the widest, and take one row tile.
  static constexpr bool is_one_group = row_bytes < kWidestRowBytes || RowTiles > 1;
};

struct InfoNcePlan {
  int columns;    // of a group
  int groups;     // of columns
  int row_tiles;  // of 16 rows, a warp's
  int row_warps;  // of the eight; the others repeat their rows over other keys
  int rows;       // of a block
  int row_blocks;
  int splits;           // of the queue
  int query_slots;      // groups of the queries' columns that shared memory holds: all, or as many as stages
  int key_sums_stride;  // of a row of w, in floats; a multiple of 4
};

inline int64_t pass_shared_bytes(const InfoNcePlan& plan, int64_t element_size) {
  return kStages * kTileBytes + int64_t{plan.query_slots} * plan.rows * plan.columns * element_size;
}

// `shared_limit` is what a block may have, at least kLeastSharedBytes.
inline InfoNcePlan plan_info_nce(const InfoNceShape& shape, int element_size, int processors, int64_t shared_limit) {
  InfoNcePlan plan;
  const int widest = kWidestRowBytes / element_size;
  plan.columns = 64;
  while (plan.columns < widest && plan.columns < shape.dim) {
    plan.columns *= 2;
  }
  plan.groups = static_cast<int>(ceil_div(shape.dim, plan.columns));
  plan.key_sums_stride = static_cast<int>(ceil_div(shape.dim, 4) * 4);

  // A warp takes two tiles of rows where w leaves it the registers: what it fetches of the keys then serves twice.
  plan.row_tiles = plan.groups == 1 && plan.columns <= 128 && shape.batch > 32 ? 2 : 1;
  plan.row_warps = 4;
  plan.rows = 16 * plan.row_tiles * plan.row_warps;
  plan.query_slots = plan.groups;
  // With several groups the logits of a tile stay in registers over all of them, so that a warp has one step a tile.
  if (plan.groups > 1 || shape.batch <= plan.rows / 2 || pass_shared_bytes(plan, element_size) > kLeastSharedBytes) {
    plan.row_warps /= 2;
    plan.rows /= 2;
  }
  if (plan.groups > kStages && pass_shared_bytes(plan, element_size) > shared_limit) {
    plan.query_slots = kStages;
  }
  plan.row_blocks = static_cast<int>(ceil_div(shape.batch, plan.rows));

  const int64_t tiles = ceil_div(shape.negatives, keys_per_tile(element_size, plan.columns));
  int64_t splits = processors / (int64_t{plan.row_blocks} * plan.groups);
  splits = splits > kMostPartials / plan.groups ? kMostPartials / plan.groups : splits;
  splits = splits > tiles ? tiles : splits;
  splits = splits < 1 ? 1 : splits;
  // As few as have the same longest.
  plan.splits = tiles == 0 ? 1 : static_cast<int>(ceil_div(tiles, ceil_div(tiles, splits)));
  return plan;
}

// ---- Who does what ----

struct BlockPlace {
  int row_block;
  int group;
  int split;
};

// Blocks that read the same keys come one after the other.
CRRL_HD inline BlockPlace block_place(int block, const InfoNcePlan& plan) {
  const int unit = block / plan.row_blocks;
  return {block - unit * plan.row_blocks, unit % plan.groups, unit / plan.groups};
}

struct TileRange {
  int64_t first;
  int64_t last;  // exclusive
};

CRRL_HD inline TileRange split_tiles(int64_t tiles, int split, int splits) {
  return {tiles * split / splits, tiles * (split + 1) / splits};
}

// A tile comes in one part for each group of columns. The block's own comes last: it is still there when the logits
// are complete and the keys are summed.
CRRL_HD inline int group_of_part(int part, const BlockPlace& place, const InfoNcePlan& plan) {
  return (place.group + 1 + part) % plan.groups;
}

// ---- Shared memory: rows of 128, 256 or 512 bytes, whose 16-byte chunks are permuted within each 128 bytes, so that
// the same chunk of eight neighbouring rows lies in different banks ----

CRRL_HD constexpr int swizzled(int row, int chunk, int row_bytes) {
  return row * row_bytes + (chunk ^ (row & 7)) * kChunkBytes;
}

// `ldmatrix` takes the addresses of the rows of four 8 x 8 matrices from the lanes, eight each. The offset of the next
// step along the row is this one XOR kStepBytes, because rows start on multiples of their size.

// The matrices in the order rows 0-7, rows 8-15, then the second chunk's: operand A from row-major queries, and operand
// B of the keys' sum, transposed.
CRRL_HD constexpr int rows_first_offset(int lane, int row_bytes) {
  return swizzled((lane / 8 % 2) * 8 + lane % 8, lane / 16, row_bytes);
}

// In the order first chunk, second chunk, then rows 8-15's: operand B of the logits.
CRRL_HD constexpr int chunks_first_offset(int lane, int row_bytes) {
  return swizzled((lane / 16) * 8 + lane % 8, lane / 8 % 2, row_bytes);
}

// `ldmatrix` transposes only 16-bit numbers, so a lane fetches the float32 operand B of the keys' sum itself: the keys
// 2 (lane % 4) and the next, which is where the logits' accumulator has its columns.
CRRL_HD constexpr int transposed_float_offset(int lane, int key /* 0 or 1 */, int row_bytes) {
  return swizzled(2 * (lane % 4) + key, lane / 16, row_bytes) + lane / 4 % 4 * 4;
}

// The first row (of 16) or key (of 8) of a lane's accumulator; the others are one key and eight rows on.
CRRL_HD constexpr int accumulator_row(int lane) { return lane / 4; }
CRRL_HD constexpr int accumulator_column(int lane) { return lane % 4 * 2; }

// ---- Workspace ----

struct alignas(16) RowFacts {
  float positive;        // logit, in units of log 2
  float rank_threshold;  // in units of log 2
  float query_norm;      // 1 where nothing is normalised
  float key_norm;
};

struct PartialState {
  SoftmaxState<float> softmax;
  int ahead;  // negatives that rank before the positive
};

struct InfoNceWorkspace {
  int64_t rows;      // RowFacts (B)
  int64_t queries;   // (B, groups x columns), as they enter the products
  int64_t states;    // PartialState (splits, groups, B): each group rounds its logits in its own order
  int64_t key_sums;  // w: float (splits, B, key_sums_stride)
  int64_t bytes;
};

inline InfoNceWorkspace lay_out_workspace(const InfoNceShape& shape, const InfoNcePlan& plan, int64_t element_size) {
  const auto after = [](int64_t start, int64_t bytes) { return ceil_div(start + bytes, 128) * 128; };
  InfoNceWorkspace workspace;
  workspace.rows = 0;
  workspace.queries = after(workspace.rows, shape.batch * static_cast<int64_t>(sizeof(RowFacts)));
  workspace.states = after(workspace.queries, shape.batch * plan.groups * plan.columns * element_size);
  workspace.key_sums =
      after(workspace.states, plan.splits * plan.groups * shape.batch * static_cast<int64_t>(sizeof(PartialState)));
  workspace.bytes =
      after(workspace.key_sums, plan.splits * shape.batch * plan.key_sums_stride * static_cast<int64_t>(4));
  return workspace;
}

}  // namespace crrl
