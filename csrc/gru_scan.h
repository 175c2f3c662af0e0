// gru_scan: the recurrent part of one layer of a GRU, both directions at once, on a GPU. The input's part of the gates'
// sums is a matrix product over all frames, done before.
//
// Frames follow each other, so that the time of a layer is the latency of a frame times their number. Nothing but the
// state may travel then: the recurrent weights stay in the registers (the last of them in the shared memory) of the
// blocks that use them, for the whole sequence (Diamos et al., "Persistent RNNs", ICML 2016). A chunk of eight clips in
// one direction belongs to one block, or to a cluster of four blocks of which each has a quarter of the units and
// sends their new states to the others.
//
// A clip takes its valid frames as steps 0, 1, ...: in direction 0 from the first to the last, in direction 1 from the
// last to the first. Step s of all clips of a chunk is done together, for as long as one of them has it.
//
// No GPU has run it yet. By the instructions and what is known of their latencies, a frame should take an H100 about
// 0.5 us forward and 0.6 us backward at 256 units in bfloat16 (of some 900 and 1,050 cycles, 400 and 600 go to the
// products, 250 to the way into the other blocks), 0.4 us at 128 units, and 1.6 us at 256 units in float32.
#pragma once

#include "dtype.h"
#include "host_device.h"

namespace crrl {

inline constexpr int kGruLargestBlock = 128;    // units of a direction that a block has room for
inline constexpr int kGruLargestCluster = 256;  // units of a direction that a cluster has room for

struct GruScanShape {
  int64_t clips;
  int64_t frames;  // gru_scan_largest_frames at most
  int directions;  // 1 or 2
  int hidden;      // units of a direction, 1 to kGruLargestCluster
};

// All is contiguous and on one device. Products are of `weight_dtype`; sums, state and gates are float32 until stored.
struct GruScanInput {
  Dtype dtype;             // of `projected` and all that is shaped like it or like the outputs: float32 or weight_dtype
  Dtype weight_dtype;      // float32, bfloat16 or float16; of the gates and of their recurrent gradient too
  bool constant_input;     // `projected` has one frame, which counts for all
  const void* projected;   // (clips, frames or 1, directions, 3 hidden), the input's part of the sums of r, z, n
  const void* w_hh;        // (directions, 3 hidden, hidden)
  const float* b_hh;       // (directions, 3 hidden), or null
  const int64_t* lengths;  // (clips), clamped to [0, frames]; null: all frames
};

struct GruScanOutput {
  void* outputs;  // (clips, frames, directions, hidden), 0 in the padding
  void* gates;    // (clips, frames, directions, 4 hidden): r, z, n and the recurrent part of n's sum, for the backward;
                  // the padding is left as it is. Null: not wanted
};

struct GruScanGradInput {
  Dtype dtype;
  Dtype weight_dtype;
  const void* grad_outputs;  // (clips, frames, directions, hidden); the padding is not read
  const void* w_hh;
  const int64_t* lengths;
  const void* outputs;
  const void* gates;
};

struct GruScanGradOutput {
  void* grad_projected;  // (clips, frames, directions, 3 hidden), 0 in the padding
  void* grad_recurrent;  // (clips, frames, directions, 3 hidden), the same at the recurrent part of the sums
};

// ---- How the work is shared out ----

inline constexpr int kGruChunk = 8;       // clips that go together: columns of a matrix instruction
inline constexpr int kGruGates = 3;       // with weights of their own: r, z, n
inline constexpr int kGruWarpUnits = 16;  // rows of a matrix instruction
inline constexpr int kPartBytes = 32;     // of a row: what one matrix instruction contracts over

// Kernels are compiled for a few widths, and a layer is padded with units that stay 0. This is the narrowest width that
// has room, or 0.
CRRL_HD constexpr int gru_tile_units(int64_t hidden) {
  return hidden <= 64 ? 64 : hidden <= 128 ? 128 : hidden <= 192 ? 192 : hidden <= kGruLargestCluster ? 256 : 0;
}

template <int Units, int ElementSize>
struct GruTile {
  static constexpr int units = Units;
  static constexpr int element_size = ElementSize;                   // of what enters the products
  static constexpr int cluster = Units <= kGruLargestBlock ? 1 : 4;  // blocks
  static constexpr int warps = Units / kGruWarpUnits / cluster;      // of a block
  static constexpr int threads = 32 * warps;
  static constexpr int row_bytes = Units * ElementSize;
  static constexpr int parts = row_bytes / kPartBytes;
  // Parts that registers have room for: float32 takes more of them to split its factors. The others are in shared
  // memory: 16 bytes a lane for each part and gate.
  static constexpr int most_kept_parts = ElementSize == 2 ? 12 : 10;
  static constexpr int kept_parts = parts < most_kept_parts ? parts : most_kept_parts;
  static constexpr int weight_bytes = warps * (parts - kept_parts) * kGruGates * 32 * 16;
  static_assert(warps * cluster * kGruWarpUnits == Units && parts % 2 == 0, "nothing is left over");
};

struct GruBlockPlace {
  int64_t first_clip;
  int direction;
};

CRRL_HD constexpr GruBlockPlace gru_block_place(int64_t block, int cluster, int directions) {
  const int64_t item = block / cluster;  // the blocks of a cluster follow each other
  return {item / directions * kGruChunk, static_cast<int>(item % directions)};
}

CRRL_HD constexpr int64_t gru_block_count(const GruScanShape& shape, int cluster) {
  return ceil_div(shape.clips, kGruChunk) * shape.directions * cluster;
}

// Within a chunk, places in the largest tensor, the gates, are counted in 32 bits.
CRRL_HD constexpr int64_t gru_scan_largest_frames(int64_t directions, int64_t hidden) {
  return ((int64_t{1} << 31) - 1) / (kGruChunk * directions * 4 * hidden);
}

// The frame that a clip takes at a step < length.
CRRL_HD constexpr int gru_frame(int direction, int step, int length) {
  return direction == 0 ? step : length - 1 - step;
}

// ---- What a lane holds. The fragments of the matrix instructions are drawn in the PTX ISA, "Matrix Fragments for
// mma.m16n8k16" and "mma.m16n8k8" ----

// Of the product (16, 8) a lane has the rows lane / 4 and that plus 8, and two neighbouring columns. Columns are clips.
// Both rows are given to neighbouring units, so that a lane reads and writes two units at a time.
CRRL_HD constexpr int gru_lane_unit(int lane) { return lane / 4 * 2; }  // the first of two, of the warp's
CRRL_HD constexpr int gru_lane_clip(int lane) { return lane % 4 * 2; }  // the first of two, of the chunk's
CRRL_HD constexpr int gru_lane_index(int unit /* 0 or 1 */, int clip /* 0 or 1 */) { return 2 * unit + clip; }

// Which numbers of a row meet in one instruction does not matter, so long as both operands agree. So a lane has its
// words of two parts, two of each, side by side: 16 bytes. Those of its two units are operand A, those of the clip
// lane / 4 are operand B.
inline constexpr int kLaneBytes = 16;
CRRL_HD constexpr int gru_lane_offset(int lane) { return lane % 4 * kLaneBytes; }  // in the 64 bytes of two parts

// ---- Exchange ----

// What goes from one step to the next: `Rows` rows of numbers, one for each unit, of every clip. That is the state, or
// the gradients of three gates. There are two buffers for it, of which one is read while the other is filled.
template <class Tile, int Rows>
struct GruExchangeLayout {
  // Eight lanes read 64 bytes each of two neighbouring clips at a time. These must lie in different banks.
  static constexpr int clip_bytes = Rows * Tile::row_bytes + 64;
  static_assert(clip_bytes % 128 == 64, "two clips would share banks");
  static constexpr int buffer_bytes = kGruChunk * clip_bytes;
  static constexpr int sent_bytes = kGruChunk * Rows * Tile::row_bytes;  // that arrive in a buffer at every step
  static constexpr int barriers = 2 * buffer_bytes;                      // where they lie: 8 bytes for each buffer
  static constexpr int bytes = barriers + 16;

  // Where a unit's number lies in a buffer.
  CRRL_HD static constexpr int place(int clip, int row, int unit) {
    return clip * clip_bytes + row * Tile::row_bytes + unit * Tile::element_size;
  }
  // Where a lane begins to read: see kLaneBytes.
  CRRL_HD static constexpr int lane_place(int lane) { return lane / 4 * clip_bytes + gru_lane_offset(lane); }
};

// ---- Packed weights: a lane's four words of operand A side by side, (directions, warps, parts, gates, 32 lanes) ----

CRRL_HD constexpr int64_t gru_pack_count(int directions, int units, int element_size) {
  return int64_t{directions} * (units / kGruWarpUnits) * (units * element_size / kPartBytes) * kGruGates * 32;
}

CRRL_HD constexpr int64_t gru_pack_index(int direction, int warp, int part, int gate, int lane, int units,
                                         int element_size) {
  const int parts = units * element_size / kPartBytes;
  return (((int64_t{direction} * (units / kGruWarpUnits) + warp) * parts + part) * kGruGates + gate) * 32 + lane;
}

struct GruPackPlace {
  int direction;
  int gate;
  int unit;   // the first of two: words 0 and 2 are of this one, 1 and 3 of the next
  int other;  // the first number of words 0 and 1 along the row; words 2 and 3 go on after them
};

// Which weights a pack holds. A row of operand A is a unit's; along it come the units that it is multiplied with.
CRRL_HD constexpr GruPackPlace gru_pack_place(int64_t index, int units, int element_size) {
  const int parts = units * element_size / kPartBytes;
  const int warps = units / kGruWarpUnits;
  const int lane = static_cast<int>(index % 32);
  const int gate = static_cast<int>(index / 32 % kGruGates);
  const int part = static_cast<int>(index / (32 * kGruGates) % parts);
  const int warp = static_cast<int>(index / (32 * kGruGates * parts));  // of all directions
  const int byte = part / 2 * 2 * kPartBytes + gru_lane_offset(lane) + part % 2 * (kLaneBytes / 2);
  return {warp / warps, gate, warp % warps * kGruWarpUnits + gru_lane_unit(lane), byte / element_size};
}

// ---- Launchers. There is work, and `stream` is a cudaStream_t; nothing is synchronised. ----

// Whether the device has what a layer of so many units takes: tensor cores, and clusters for wide layers.
bool gru_scan_fits(int64_t hidden, int64_t weight_size /* bytes of a number */, int device);

// Bytes of scratch memory on the device that either launch needs.
int64_t gru_scan_workspace(const GruScanShape& shape, Dtype weight_dtype);

void gru_scan_cuda(const GruScanShape& shape, const GruScanInput& input, const GruScanOutput& output,
                   void* workspace /* on 16 bytes */, void* stream);

void gru_scan_backward_cuda(const GruScanShape& shape, const GruScanGradInput& input, const GruScanGradOutput& output,
                            void* workspace /* on 16 bytes */, void* stream);

}  // namespace crrl
