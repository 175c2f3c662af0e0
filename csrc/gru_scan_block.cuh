// What both kernels of gru_scan are made of: a lane's place, its weights, and the exchange between the warps.
#pragma once

#include <type_traits>

#include "cluster.cuh"
#include "gru_scan.h"
#include "pack.h"
#include "products.cuh"

namespace crrl {

// The same number, of which the compiler knows nothing. The weights leave no registers for what it would carry along
// from step to step to save instructions: both halves of every float32 weight, and an address for every tensor.
template <class T>
__device__ T opaque(T number) {
  asm volatile("" : "+r"(number));
  return number;
}

// ---- The numbers of a lane in global memory ----

// Two neighbouring units. Of an odd number of units the last has no neighbour, and rows begin anywhere; else both units
// exist or none, and `Aligned` says that the two can be moved as one.
template <class T>
using UnitPair = Pack<T, 2>;

template <bool Aligned, class T>
__device__ UnitPair<T> load_units(std::bool_constant<Aligned>, const T* first,
                                  int count /* of these units that exist */) {
  if constexpr (Aligned) {
    return count > 0 ? load_pack<UnitPair<T>>(first) : UnitPair<T>{};
  } else {
    return {count > 0 ? first[0] : T(0.0f), count > 1 ? first[1] : T(0.0f)};
  }
}

template <bool Aligned, class T>
__device__ void store_units(std::bool_constant<Aligned>, T* first, int count, float number, float neighbour) {
  if (count > 0) {
    if constexpr (Aligned) {
      store_pack(first, UnitPair<T>{static_cast<T>(number), static_cast<T>(neighbour)});
    } else {
      first[0] = static_cast<T>(number);
      if (count > 1) {
        first[1] = static_cast<T>(neighbour);
      }
    }
  }
}

// Calls `body` with a std::bool_constant, so that it decides once for many pairs.
template <class Body>
__device__ void with_alignment(bool aligned, Body body) {
  aligned ? body(std::true_type{}) : body(std::false_type{});
}

// Which units and clips a lane has: two of each. Where the clips differ, `i` tells them apart.
template <class Tile>
struct GruLane {
  int direction;
  int warp;       // of all that the units of the direction have
  int unit;       // the first of two, of the direction's
  int units;      // of the two that exist
  int clip;       // the first of two, of the chunk's
  int length[2];  // valid frames; 0 of a clip beyond the batch
  int longest;    // of the chunk

  __device__ GruLane(const GruScanShape& shape, const int64_t* lengths)
      : shape_(shape), first_clip_(gru_block_place(blockIdx.x, Tile::cluster, shape.directions).first_clip) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int rank = static_cast<int>(blockIdx.x) % Tile::cluster;
    direction = gru_block_place(blockIdx.x, Tile::cluster, shape.directions).direction;
    warp = rank * Tile::warps + static_cast<int>(threadIdx.x) / 32;
    unit = warp * kGruWarpUnits + gru_lane_unit(lane);
    units = max(0, min(2, shape.hidden - unit));
    clip = gru_lane_clip(lane);
    longest = 0;
    for (int other = 0; other < kGruChunk; ++other) {
      longest = max(longest, length_of(other, lengths));
    }
    length[0] = length_of(clip, lengths);
    length[1] = length_of(clip + 1, lengths);
  }

  __device__ bool exists(int i) const { return first_clip_ + clip + i < shape_.clips; }
  __device__ int count(int i, int step) const { return step < length[i] ? units : 0; }

  // The chunk's first row in a tensor (clips, frames, directions, columns x hidden). From there on 32 bits are enough.
  template <class T>
  __device__ T* start(T* tensor, int columns, int64_t frames) const {
    return tensor + ((first_clip_ * frames) * shape_.directions + direction) * columns * shape_.hidden;
  }
  // Where the lane's units of a row lie from there.
  __device__ int place(int row, int columns, int column) const {
    return (row * columns + column) * shape_.hidden + unit;
  }
  // Where a frame lies from there, in rows.
  __device__ int row(int i, int frame) const {
    return ((clip + i) * static_cast<int>(shape_.frames) + frame) * shape_.directions;
  }
  __device__ int row_of_step(int i, int step) const { return row(i, gru_frame(direction, opaque(step), length[i])); }
  // The same of a tensor with one frame.
  __device__ int only_row(int i) const { return (clip + i) * shape_.directions; }

  // Writes 0 into the padding of a tensor, from its `start` on.
  template <class T>
  __device__ void clear_padding(T* start, int columns) const {
    CRRL_UNROLL
    for (int i = 0; i < 2; ++i) {
      for (int frame = exists(i) ? length[i] : static_cast<int>(shape_.frames); frame < shape_.frames; ++frame) {
        for (int column = 0; column < columns; ++column) {
          store_units(std::false_type{}, start + place(row(i, frame), columns, column), units, 0.0f, 0.0f);
        }
      }
    }
  }

 private:
  __device__ int length_of(int other /* of the chunk */, const int64_t* lengths) const {
    const int64_t index = first_clip_ + other;
    const int64_t given = index >= shape_.clips ? 0 : lengths == nullptr ? shape_.frames : lengths[index];
    return static_cast<int>(given < 0 ? 0 : given > shape_.frames ? shape_.frames : given);
  }

  const GruScanShape& shape_;
  const int64_t first_clip_;
};

// ---- Weights ----

// The weights of a warp: operand A of its products, as the lane holds it. `Rows` rows of the exchange are what they are
// multiplied with.
template <class Products, class Tile, int Rows>
class GruWeights {
 public:
  using Layout = GruExchangeLayout<Tile, Rows>;

  __device__ GruWeights(const uint4* packed /* as gru_pack_place says */, int direction, int warp /* of the width */,
                        unsigned char* shared /* Tile::weight_bytes */) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const auto pack = [&](int part, int gate) {
      return packed[gru_pack_index(direction, warp, part, gate, lane, Tile::units, Tile::element_size)];
    };
    CRRL_UNROLL
    for (int part = 0; part < Tile::kept_parts; ++part) {
      CRRL_UNROLL
      for (int gate = 0; gate < kGruGates; ++gate) {
        const uint4 words = pack(part, gate);
        kept_[gate][part][0] = words.x;
        kept_[gate][part][1] = words.y;
        kept_[gate][part][2] = words.z;
        kept_[gate][part][3] = words.w;
      }
    }
    others_ = reinterpret_cast<uint4*>(shared) + threadIdx.x / 32 * other_parts * kGruGates * 32 + lane;
    for (int part = 0; part < other_parts; ++part) {
      for (int gate = 0; gate < kGruGates; ++gate) {
        others_[(part * kGruGates + gate) * 32] = pack(Tile::kept_parts + part, gate);
      }
    }
  }

  // One row is multiplied with the weights of each gate for a sum of its own. Several rows, one of each gate, are for
  // one sum together. Either is kept in several parts, because an instruction has to wait for the one before on its
  // sum.
  static constexpr int sums_per_part = Rows == 1 ? kGruGates : 2;
  using Sums = float[2][sums_per_part][4];

  __device__ void multiply(const unsigned char* received /* a buffer of Layout */, Sums& sums) const {
    received += Layout::lane_place(static_cast<int>(threadIdx.x) % 32);
    CRRL_UNROLL
    for (int pair = 0; pair < Tile::parts / 2; ++pair) {
      uint4 b;
      CRRL_UNROLL
      for (int gate = 0; gate < kGruGates; ++gate) {
        if (gate < Rows) {
          b = *reinterpret_cast<const uint4*>(received + gate * Tile::row_bytes + pair * 2 * kPartBytes);
        }
        const int sum = Rows == 1 ? gate : (pair + gate) % sums_per_part;
        multiply_part(gate, 2 * pair, b.x, b.y, sums[0][sum]);
        multiply_part(gate, 2 * pair + 1, b.z, b.w, sums[1][sum]);
      }
    }
  }

 private:
  static constexpr int other_parts = Tile::parts - Tile::kept_parts;

  __device__ void multiply_part(int gate, int part, uint32_t b0, uint32_t b1, float (&sum)[4]) const {
    uint32_t a[4];
    if (part < Tile::kept_parts) {
      CRRL_UNROLL
      for (int i = 0; i < 4; ++i) {
        a[i] = opaque(kept_[gate][part][i]);
      }
    } else {
      const uint4 words = others_[((part - Tile::kept_parts) * kGruGates + gate) * 32];
      a[0] = words.x;
      a[1] = words.y;
      a[2] = words.z;
      a[3] = words.w;
    }
    Products::multiply_add(sum, a, b0, b1);
  }

  uint32_t kept_[kGruGates][Tile::kept_parts][4];
  uint4* others_;  // this lane's, which no other reads
};

// ---- Exchange ----

// Hands numbers of all warps to all warps, turn by turn, through the two buffers in the shared memory of every block of
// the cluster. Each store into another block's memory tells the barrier there, so that a turn costs the way of one
// store. The two buffers are enough: a block that sends turn t has received turn t - 1 from every warp, so that all
// have done reading turn t - 2. By the same argument the barrier of turn t - 2 is free again when turn t arrives at it.
template <class Products, class Tile, int Rows>
class GruExchange {
 public:
  using Layout = GruExchangeLayout<Tile, Rows>;

  // To be called by all threads of the cluster.
  __device__ explicit GruExchange(unsigned char* shared /* Layout::bytes */) : shared_(shared) {
    if constexpr (Tile::cluster > 1) {
      if (threadIdx.x == 0) {
        for (int turn = 0; turn < 2; ++turn) {
          make_barrier(barrier(turn), 1);
        }
        publish_barriers();
        expect(0);
        expect(1);
      }
      __syncwarp();  // the meeting is whole warps'
      cluster_sync();
    }
  }

  // Two neighbouring units' numbers of one row, for every block.
  __device__ void send(int turn, int row, int clip /* of the chunk */, int unit, float number, float neighbour) const {
    const int offset = buffer(turn) + Layout::place(clip, row, unit);
    if constexpr (Tile::element_size == 2) {
      put(turn, offset, Products::pack(number, neighbour));
    } else {
      put(turn, offset, make_uint2(__float_as_uint(number), __float_as_uint(neighbour)));
    }
  }

  // Until all of this turn is there. Each turn that is sent must be waited for, by all threads.
  __device__ void wait(int turn) const {
    if constexpr (Tile::cluster > 1) {
      wait_for_phase(barrier(turn), turn / 2 % 2);
      if (threadIdx.x == 0) {
        expect(turn + 2);
      }
      __syncwarp();  // the matrix instructions that follow are the whole warp's
    } else {
      __syncthreads();
    }
  }

  __device__ const unsigned char* received(int turn) const { return shared_ + buffer(turn); }

 private:
  __device__ static int buffer(int turn) { return turn % 2 * Layout::buffer_bytes; }
  __device__ uint32_t barrier(int turn) const { return shared_address(shared_ + Layout::barriers + turn % 2 * 8); }
  __device__ void expect(int turn) const { arrive_and_expect(barrier(turn), Layout::sent_bytes); }

  template <class Words>
  __device__ void put(int turn, int offset, Words words) const {
    if constexpr (Tile::cluster > 1) {
      CRRL_UNROLL
      for (int rank = 0; rank < Tile::cluster; ++rank) {
        store_async(cluster_address(shared_address(shared_ + offset), rank), words,
                    cluster_address(barrier(turn), rank));
      }
    } else {
      *reinterpret_cast<Words*>(shared_ + offset) = words;
    }
  }

  unsigned char* shared_;
};

}  // namespace crrl
