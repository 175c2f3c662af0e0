// The work of one GPU block of skeleton_views: a tile of frames and joints of one view. Each function here is what one
// thread does between two barriers. It is host code too, so that it is tested where there is no GPU.
#pragma once

#include <type_traits>

#include "pack.h"
#include "skeleton_views.h"

namespace crrl {

inline constexpr int kTileThreads = 256;
inline constexpr int kTileJoints = 16;  // 48 coordinates: tiles begin on a multiple of every width of a pack
inline constexpr int kTileCoords = 3 * kTileJoints;
inline constexpr int kTileSpan = 8;  // frames that a thread writes one after the other

// What is computed in, and the frames of a tile: so many that its shared memory stays below 48 KiB with the widest
// blur.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;
template <class T>
inline constexpr int kTileWidth = sizeof(T) == 8 ? 2 : 4;  // coordinates in a pack at most; eight would spill registers
template <class A>
inline constexpr int kTileFrames = sizeof(A) == 8 ? 32 : 64;

// Rows of a tile: its frames, one more for the last velocity, and as many as the blur reaches on either side.
template <class A>
constexpr int tile_rows(int taps) {
  return kTileFrames<A> + 1 + 2 * (taps > 0 ? taps - 1 : 0);
}

// What the threads of a block share, beside the rows.
template <class A>
struct TileScratch {
  View view;
  FrameTap<A> taps[tile_rows<A>(kMaxTaps)];
  A scale[kTileFrames<A> + 1];
};

template <class A>
struct Tile {
  int64_t number;       // of the view
  int64_t first_frame;  // that it writes
  int32_t frames;
  int32_t first_joint;
  int32_t joints;
};

template <class A>
CRRL_HD int64_t tile_count(const SkeletonViewsShape& shape) {
  return shape.views * ceil_div(shape.out_frames, kTileFrames<A>) * ceil_div(shape.all_joints, kTileJoints);
}

// Neighbouring tiles are of one view, whose frames then lie in the cache.
template <class A>
CRRL_HD Tile<A> tile_at(int64_t index, const SkeletonViewsShape& shape) {
  const int64_t across = ceil_div(shape.all_joints, kTileJoints);
  const int64_t along = ceil_div(shape.out_frames, kTileFrames<A>);
  const int64_t row = index / across;
  const int64_t number = row / along;
  const int64_t first_frame = (row - number * along) * kTileFrames<A>;
  const auto first_joint = static_cast<int32_t>(index - row * across) * kTileJoints;
  const int64_t frames = shape.out_frames - first_frame;
  const int32_t joints = shape.all_joints - first_joint;
  return {number, first_frame, static_cast<int32_t>(frames < kTileFrames<A> ? frames : kTileFrames<A>), first_joint,
          joints < kTileJoints ? joints : kTileJoints};
}

// The frames of the view that the rows of a tile hold: [first_row, end_row), which may be empty.
template <class A>
CRRL_HD int64_t first_row(const Tile<A>& tile, const View& view) {
  return tile.first_frame > view.radius ? tile.first_frame - view.radius : 0;
}

template <class A>
CRRL_HD int64_t end_row(const Tile<A>& tile, const View& view) {
  const int64_t end = tile.first_frame + tile.frames + 1 + view.radius;
  return end < view.frames ? end : view.frames;
}

// After `scratch.view` is there: which frames each row lies between, and the scale of each blurred frame.
template <class A>
CRRL_HD void plan_tile(int thread, const Tile<A>& tile, const SkeletonViewsShape& shape, TileScratch<A>& scratch) {
  const View& view = scratch.view;
  const int64_t first = first_row(tile, view);
  const int64_t rows = end_row(tile, view) - first;
  for (int64_t row = thread; row < rows; row += kTileThreads) {
    scratch.taps[row] = frame_tap<A>(view, first + row);
  }
  for (int64_t step = thread; view.blur != nullptr && step <= tile.frames; step += kTileThreads) {
    scratch.scale[step] = blur_scale<A>(view, tile.first_frame + step, shape.normalize_blur);
  }
}

// After plan_tile: every step but the blur, for each joint of each row.
template <class T, class A = Wide<T>>
CRRL_HD void fill_tile(int thread, const T* frames /* (frames, coords), strided */, const Tile<A>& tile,
                       const SkeletonViewsParams& params, const SkeletonViewsShape& shape,
                       const TileScratch<A>& scratch, A* rows /* (tile_rows, kTileCoords) */) {
  const View& view = scratch.view;
  const int64_t first = first_row(tile, view);
  const int64_t end = end_row(tile, view);
  const int32_t items = end > first ? static_cast<int32_t>(end - first) * tile.joints : 0;
  for (int32_t item = thread; item < items; item += kTileThreads) {
    const int32_t row = item / tile.joints;
    const int32_t place = item - row * tile.joints;
    const int32_t joint = tile.first_joint + place;
    const FrameTap<A> tap = scratch.taps[row];
    const T* earlier = frames + tap.earlier * shape.frame_stride;
    const T* later = frames + tap.later * shape.frame_stride;
    const auto read = [&](int32_t coord) {
      const A value = static_cast<A>(earlier[coord]);
      return earlier == later ? value : between(value, static_cast<A>(later[coord]), tap.weight);
    };
    const int32_t source = 3 * source_joint(view, params, joint, shape);
    A x = read(source), y = read(source + 1), z = read(source + 2);
    if (view.origin >= 0) {
      const int32_t origin = 3 * (joint / shape.joints * shape.joints + view.origin);
      x -= read(origin);
      y -= read(origin + 1);
      z -= read(origin + 2);
    }
    if (const float* m = matrix_of(view, joint, shape)) {
      const A in_x = x, in_y = y, in_z = z;
      x = row_times<A>(m[0], m[1], m[2], in_x, in_y, in_z);
      y = row_times<A>(m[3], m[4], m[5], in_x, in_y, in_z);
      z = row_times<A>(m[6], m[7], m[8], in_x, in_y, in_z);
    }
    if (view.noise_std != nullptr) {
      const Normal3 noise = view_noise(view.seed, view.clip, first + row, joint);
      x += static_cast<A>(view.noise_std[0]) * static_cast<A>(noise.x);
      y += static_cast<A>(view.noise_std[1]) * static_cast<A>(noise.y);
      z += static_cast<A>(view.noise_std[2]) * static_cast<A>(noise.z);
    }
    A* target = rows + row * kTileCoords + 3 * place;
    target[0] = x;
    target[1] = y;
    target[2] = z;
  }
}

// A few neighbouring coordinates of a frame of the view, blurred; `scale` is that frame's.
template <class A, int Width>
CRRL_HD Pack<A, Width> blurred(const A* column /* of frame 0, were it there */, int64_t frame, A scale,
                               const View& view) {
  using Group = Pack<A, Width>;
  Group sum = load_pack<Group>(column + frame * kTileCoords);
  if (view.blur == nullptr) {
    return sum;
  }
  CRRL_UNROLL
  for (int lane = 0; lane < Width; ++lane) {
    sum.lanes[lane] *= scale * static_cast<A>(view.blur[0]);
  }
  for (int32_t distance = 1; distance <= view.radius; ++distance) {
    const A weight = scale * static_cast<A>(view.blur[distance]);
    const Group before = frame >= distance ? load_pack<Group>(column + (frame - distance) * kTileCoords) : Group{};
    const Group after =
        frame + distance < view.frames ? load_pack<Group>(column + (frame + distance) * kTileCoords) : Group{};
    CRRL_UNROLL
    for (int lane = 0; lane < Width; ++lane) {
      sum.lanes[lane] += weight * (before.lanes[lane] + after.lanes[lane]);
    }
  }
  return sum;
}

// After fill_tile: the blur, the velocity, and zeros after the view's end.
template <class T, int Width, class A = Wide<T>>
CRRL_HD void write_tile(int thread, const Tile<A>& tile, const SkeletonViewsShape& shape, const TileScratch<A>& scratch,
                        const A* rows /* (tile_rows, kTileCoords) */, T* coords /* (views, out_frames, coords) */,
                        T* velocity /* (views, out_frames, coords) */) {
  const View& view = scratch.view;
  const int64_t first = first_row(tile, view);
  const int32_t groups = 3 * tile.joints / Width;
  const int32_t items = groups * static_cast<int32_t>(ceil_div(tile.frames, kTileSpan));
  const int64_t all_coords = 3 * static_cast<int64_t>(shape.all_joints);
  for (int32_t item = thread; item < items; item += kTileThreads) {
    const int32_t span = item / groups;
    const int32_t coord = (item - span * groups) * Width;
    const A* column = rows + coord - first * kTileCoords;
    const int32_t begin = span * kTileSpan;
    const int32_t end = begin + kTileSpan < tile.frames ? begin + kTileSpan : tile.frames;
    const int64_t out =
        (tile.number * shape.out_frames + tile.first_frame + begin) * all_coords + 3 * tile.first_joint + coord;
    const auto at = [&](int32_t step) {
      const int64_t frame = tile.first_frame + step;
      return frame < view.frames ? blurred<A, Width>(column, frame, scratch.scale[step], view) : Pack<A, Width>{};
    };
    Pack<A, Width> now = at(begin);
    for (int32_t step = begin; step < end; ++step) {
      const Pack<A, Width> next = at(step + 1);
      const bool moves = tile.first_frame + step + 1 < view.frames;
      Pack<T, Width> place, change;
      CRRL_UNROLL
      for (int lane = 0; lane < Width; ++lane) {
        place.lanes[lane] = static_cast<T>(now.lanes[lane]);
        change.lanes[lane] = static_cast<T>(moves ? next.lanes[lane] - now.lanes[lane] : A(0));
      }
      store_pack(coords + out + (step - begin) * all_coords, place);
      store_pack(velocity + out + (step - begin) * all_coords, change);
      now = next;
    }
  }
}

// The most coordinates that every frame of the output can be cut into with each group on a multiple of its own size.
template <class T>
int tile_width(const SkeletonViewsShape& shape, const void* coords, const void* velocity) {
  const auto addresses = reinterpret_cast<uintptr_t>(coords) | reinterpret_cast<uintptr_t>(velocity);
  int width = kTileWidth<T>;
  while (width > 1 && (3 * shape.all_joints % width != 0 || addresses % (width * sizeof(T)) != 0)) {
    width /= 2;
  }
  return width;
}

}  // namespace crrl
