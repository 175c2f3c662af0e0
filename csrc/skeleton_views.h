// skeleton_views: augmented views of clips that lie packed end to end, and their velocity, in one pass. What the steps
// are is documented at ViewParams (crrl_fast/views/params.py); the formulas of all of them are here.
#pragma once

#include "dtype.h"
#include "host_device.h"
#include "philox.h"

namespace crrl {

// The most weights of a blur: those of the frames at distance 0 to 31.
inline constexpr int kMaxTaps = 32;

struct SkeletonViewsShape {
  int64_t frames;        // of all clips
  int64_t frame_stride;  // of the input, in elements; the coordinates of one frame lie side by side
  int64_t clips;
  int64_t views;
  int64_t out_frames;
  int32_t joints;       // of a body
  int32_t all_joints;   // of all bodies; a frame has three coordinates for each
  int32_t taps;         // weights of a blur; 0 without one
  bool normalize_blur;  // divide by the weights of the taps inside the view
};

// The parameters, as in ViewParams. A null pointer is a step that is left out.
struct SkeletonViewsParams {
  const int64_t* offsets;     // (clips + 1)
  const int64_t* index;       // (views)
  const int64_t* lengths;     // (views)
  const int64_t* start;       // (views)
  const int64_t* span;        // (views)
  const int64_t* partner;     // (joints)
  const bool* mirror;         // (views)
  const int64_t* origin;      // (views)
  const float* matrix;        // (views, 3, 3)
  const bool* chosen;         // (views, joints)
  const float* joint_matrix;  // (views, 3, 3)
  const float* noise_std;     // (views, 3)
  const int64_t* seed;        // (views)
  const float* blur;          // (views, taps)
};

CRRL_HD constexpr int64_t clamped(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

// One view, with its parameters in reach of where they may point. Only on the CPU has anybody checked their values.
struct View {
  int64_t clip;
  int64_t first_frame;  // of the clip, in the packed frames
  int64_t clip_frames;
  int64_t frames;  // of the view
  int64_t start;
  int64_t span;
  int64_t steps;   // from the view's first frame to its last, before it was cut to the output; at least 1
  int32_t origin;  // a joint, or -1
  int32_t radius;  // the largest distance whose weight in the blur is not zero
  bool mirrored;
  uint64_t seed;
  const float* matrix;        // (3, 3), or null
  const bool* chosen;         // (joints), or null
  const float* joint_matrix;  // (3, 3)
  const float* noise_std;     // (3), or null
  const float* blur;          // (taps), or null
};

CRRL_HD inline View view_at(int64_t number, const SkeletonViewsParams& params, const SkeletonViewsShape& shape) {
  View view;
  view.clip = clamped(params.index[number], 0, shape.clips - 1);
  view.first_frame = clamped(params.offsets[view.clip], 0, shape.frames);
  view.clip_frames = clamped(params.offsets[view.clip + 1], 0, shape.frames) - view.first_frame;
  const int64_t length = params.lengths[number];
  view.frames = view.clip_frames > 0 ? clamped(length, 0, shape.out_frames) : 0;
  view.start = params.start[number];
  view.span = params.span[number];
  view.steps = length > 2 ? length - 1 : 1;
  view.origin =
      params.origin == nullptr ? -1 : static_cast<int32_t>(clamped(params.origin[number], -1, shape.joints - 1));
  view.mirrored = params.mirror != nullptr && params.mirror[number];
  view.matrix = params.matrix == nullptr ? nullptr : params.matrix + 9 * number;
  view.chosen = params.chosen == nullptr ? nullptr : params.chosen + shape.joints * number;
  view.joint_matrix = params.joint_matrix == nullptr ? nullptr : params.joint_matrix + 9 * number;
  view.noise_std = params.noise_std == nullptr ? nullptr : params.noise_std + 3 * number;
  if (view.noise_std != nullptr && view.noise_std[0] == 0 && view.noise_std[1] == 0 && view.noise_std[2] == 0) {
    view.noise_std = nullptr;
  }
  view.seed = view.noise_std == nullptr ? 0 : static_cast<uint64_t>(params.seed[number]);
  view.blur = params.blur == nullptr ? nullptr : params.blur + shape.taps * number;
  view.radius = 0;
  for (int32_t distance = 1; view.blur != nullptr && distance < shape.taps; ++distance) {
    if (view.blur[distance] != 0) {
      view.radius = distance;
    }
  }
  if (view.radius == 0 && view.blur != nullptr && view.blur[0] == 1) {
    view.blur = nullptr;
  }
  return view;
}

// The two frames that a frame of a view lies between, and how far it is on the way to the later one. Both are the same
// where it lies on a frame, so that what comes after it, were it NaN, is not read.
template <class A>
struct FrameTap {
  int64_t earlier;  // in the packed frames
  int64_t later;
  A weight;
};

// A clip mirrored at its edges, which repeat: ... 1 0 | 0 1 ... n-1 | n-1 n-2 ...
CRRL_HD inline int64_t mirrored_position(int64_t position, int64_t frames) {
  if (position >= 0 && position < frames) {
    return position;
  }
  const int64_t period = 2 * frames;
  const int64_t within = (position % period + period) % period;
  return within < frames ? within : period - 1 - within;
}

template <class A>
CRRL_HD FrameTap<A> frame_tap(const View& view, int64_t frame) {
  const int64_t travelled = (frame < view.steps ? frame : view.steps) * view.span;
  int64_t whole = travelled / view.steps;
  int64_t part = travelled - whole * view.steps;
  if (part < 0) {  // the division rounds towards zero
    part += view.steps;
    --whole;
  }
  const int64_t position = view.start + whole;
  return {view.first_frame + mirrored_position(position, view.clip_frames),
          view.first_frame + mirrored_position(position + (part != 0), view.clip_frames),
          static_cast<A>(part) / static_cast<A>(view.steps)};
}

template <class A>
CRRL_HD A between(A earlier, A later, A weight) {
  return earlier + weight * (later - earlier);
}

// The joint of the clip, among those of all bodies, that is read for a joint of the view.
CRRL_HD inline int32_t source_joint(const View& view, const SkeletonViewsParams& params, int32_t joint,
                                    const SkeletonViewsShape& shape) {
  if (!view.mirrored) {
    return joint;
  }
  const int32_t of_body = joint % shape.joints;
  return joint - of_body + static_cast<int32_t>(clamped(params.partner[of_body], 0, shape.joints - 1));
}

// The matrix of a joint, or null where it stays as it is.
CRRL_HD inline const float* matrix_of(const View& view, int32_t joint, const SkeletonViewsShape& shape) {
  return view.chosen != nullptr && view.chosen[joint % shape.joints] ? view.joint_matrix : view.matrix;
}

template <class A>
CRRL_HD A row_times(A m0, A m1, A m2, A x, A y, A z) {
  return m0 * x + m1 * y + m2 * z;
}

CRRL_HD inline Normal3 view_noise(uint64_t seed, int64_t clip, int64_t frame, int32_t joint) {
  const auto bits = static_cast<uint64_t>(clip);
  return normals(philox({{static_cast<uint32_t>(joint), static_cast<uint32_t>(frame), static_cast<uint32_t>(bits),
                          static_cast<uint32_t>(bits >> 32)}},
                        seed));
}

// What the blurred sum of a frame is multiplied by.
template <class A>
CRRL_HD A blur_scale(const View& view, int64_t frame, bool normalize) {
  if (!normalize) {
    return A(1);
  }
  A total = view.blur[0];
  for (int32_t distance = 1; distance <= view.radius; ++distance) {
    const int taps = (frame >= distance) + (frame + distance < view.frames);
    total += static_cast<A>(taps) * static_cast<A>(view.blur[distance]);
  }
  return A(1) / total;
}

// ---- Launchers. `stream` is a cudaStream_t. The output must not be empty. ----

void skeleton_views_cpu(Dtype dtype, const void* frames /* (frames, coords), strided */,
                        const SkeletonViewsParams& params, void* coords /* (views, out_frames, coords) */,
                        void* velocity /* (views, out_frames, coords) */, const SkeletonViewsShape& shape);

void skeleton_views_cuda(Dtype dtype, const void* frames /* (frames, coords), strided */,
                         const SkeletonViewsParams& params, void* coords /* (views, out_frames, coords) */,
                         void* velocity /* (views, out_frames, coords) */, const SkeletonViewsShape& shape,
                         void* stream);

}  // namespace crrl
