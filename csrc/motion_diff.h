// motion_diff: y[t] = x[t+1] - x[t] where both frames are valid, else 0. Its gradient is the same kind of two-tap
// stencil, so both are described by a small class and walked by the same code.
#pragma once

#include <type_traits>

#include "dtype.h"
#include "host_device.h"
#include "pack.h"

namespace crrl {

// The output is contiguous. The input may be a view whose clips and frames lie anywhere, but the coordinates of one
// frame lie side by side.
struct MotionDiffShape {
  int64_t clips;
  int64_t frames;
  int64_t coords;
  int64_t clip_stride;   // of the input, in elements
  int64_t frame_stride;  // of the input, in elements
};

// A low-precision difference is taken in float32, so that it is rounded once.
template <class T>
CRRL_HD T difference(T minuend, T subtrahend) {
  using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;
  return static_cast<T>(static_cast<Wide>(minuend) - static_cast<Wide>(subtrahend));
}

// A stencil makes out[t] from in[t + first_tap] and the frame after it. Frames it does not read count as zero, because
// what lies in the padding is the caller's and may be NaN.
struct Velocity {
  static constexpr int64_t first_tap = 0;
  CRRL_HD static bool reads(int64_t frame, int64_t last) { return frame >= 0 && frame <= last; }
  CRRL_HD static bool writes(int64_t frame, int64_t last) { return frame < last; }
  template <class T>
  CRRL_HD static T value(T earlier, T later) {
    return difference(later, earlier);
  }
};

// The transpose of Velocity: grad_x[t] = grad_y[t-1] - grad_y[t].
struct VelocityGrad {
  static constexpr int64_t first_tap = -1;
  CRRL_HD static bool reads(int64_t frame, int64_t last) { return frame >= 0 && frame < last; }
  CRRL_HD static bool writes(int64_t frame, int64_t last) { return frame <= last; }
  template <class T>
  CRRL_HD static T value(T earlier, T later) {
    return difference(earlier, later);
  }
};

// The index of a clip's last valid frame, -1 in an empty clip. Clamped: on a GPU nobody has checked the values.
CRRL_HD inline int64_t last_frame(const int64_t* lengths /* (clips), or null: all frames */, int64_t clip,
                                  int64_t frames) {
  if (lengths == nullptr) {
    return frames - 1;
  }
  const int64_t length = lengths[clip];
  return (length < 0 ? 0 : length > frames ? frames : length) - 1;
}

// ---- The walk of one GPU thread. It is host code too, so that it is tested where there is no GPU. ----

// A thread walks several frames of one group of coordinates, carrying each frame over to the next difference: the input
// is read 9/8 times rather than twice, with 9 loads in flight.
inline constexpr int kFramesPerWalk = 8;

struct MotionDiffWalk {
  int64_t clip;
  int64_t first_frame;
  int64_t coord;
};

CRRL_HD inline int64_t walk_count(const MotionDiffShape& shape, int width) {
  return shape.clips * ceil_div(shape.frames, kFramesPerWalk) * (shape.coords / width);
}

// Neighbouring walks take neighbouring coordinates, so that a warp reads and writes whole lines.
CRRL_HD inline MotionDiffWalk walk_at(int64_t index, const MotionDiffShape& shape, int width) {
  const int64_t groups = shape.coords / width;
  const int64_t spans = ceil_div(shape.frames, kFramesPerWalk);
  const int64_t span_index = index / groups;
  const int64_t clip = span_index / spans;
  return {clip, (span_index - clip * spans) * kFramesPerWalk, (index - span_index * groups) * width};
}

template <class Stencil, class T, int Width>
CRRL_HD void walk_frames(int64_t index, const T* in /* (clips, frames, coords), strided */,
                         const int64_t* lengths /* (clips), or null */, T* out /* (clips, frames, coords) */,
                         const MotionDiffShape& shape) {
  using Group = Pack<T, Width>;
  const MotionDiffWalk walk = walk_at(index, shape, Width);
  const int64_t last = last_frame(lengths, walk.clip, shape.frames);
  const T* source = in + walk.clip * shape.clip_stride + walk.coord;
  T* target = out + (walk.clip * shape.frames + walk.first_frame) * shape.coords + walk.coord;

  Group taps[kFramesPerWalk + 1];
  CRRL_UNROLL
  for (int step = 0; step <= kFramesPerWalk; ++step) {
    const int64_t frame = walk.first_frame + Stencil::first_tap + step;
    taps[step] = Stencil::reads(frame, last) ? load_pack<Group>(source + frame * shape.frame_stride) : Group{};
  }
  CRRL_UNROLL
  for (int step = 0; step < kFramesPerWalk; ++step) {
    const int64_t frame = walk.first_frame + step;
    if (frame < shape.frames) {
      const bool writes = Stencil::writes(frame, last);
      Group result;
      CRRL_UNROLL
      for (int lane = 0; lane < Width; ++lane) {
        result.lanes[lane] = writes ? Stencil::value(taps[step].lanes[lane], taps[step + 1].lanes[lane]) : T{};
      }
      store_pack(target + step * shape.coords, result);
    }
  }
}

// The widest group of coordinates, at most 16 bytes, that every frame of both tensors can be cut into with each group
// on a multiple of its own size.
inline int walk_width(const MotionDiffShape& shape, int64_t element_size, const void* in, const void* out) {
  const auto addresses = reinterpret_cast<uintptr_t>(in) | reinterpret_cast<uintptr_t>(out);
  const int64_t steps = shape.coords | shape.clip_stride | shape.frame_stride;
  int width = static_cast<int>(16 / element_size);
  while (width > 1 && (steps % width != 0 || addresses % (width * element_size) != 0)) {
    width /= 2;
  }
  return width;
}

// ---- Launchers. `stream` is a cudaStream_t. The output must not be empty. ----

void motion_diff_cpu(Dtype dtype, const void* x /* (clips, frames, coords), strided */,
                     const int64_t* lengths /* (clips), or null */, void* y /* (clips, frames, coords) */,
                     const MotionDiffShape& shape);

void motion_diff_backward_cpu(Dtype dtype, const void* grad_y /* (clips, frames, coords), strided */,
                              const int64_t* lengths /* (clips), or null */, void* grad_x /* (clips, frames, coords) */,
                              const MotionDiffShape& shape);

void motion_diff_cuda(Dtype dtype, const void* x /* (clips, frames, coords), strided */,
                      const int64_t* lengths /* (clips), or null */, void* y /* (clips, frames, coords) */,
                      const MotionDiffShape& shape, void* stream);

void motion_diff_backward_cuda(Dtype dtype, const void* grad_y /* (clips, frames, coords), strided */,
                               const int64_t* lengths /* (clips), or null */,
                               void* grad_x /* (clips, frames, coords) */, const MotionDiffShape& shape, void* stream);

}  // namespace crrl
