#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "simd.h"
#include "skeleton_views.h"

namespace crrl {
namespace {

constexpr int64_t kGrain = 8192;      // coordinates worth a thread of their own: each costs some nanoseconds
constexpr int64_t kNoiseChunk = 256;  // joints whose noise is drawn at once; a fixed number, so no loop has a tail

template <class T, class A>
CRRL_SIMD_CLONES void read_row(const T* __restrict__ earlier, const T* __restrict__ later, A weight,
                               A* __restrict__ row, int64_t count) {
  if (earlier == later) {
    for (int64_t i = 0; i < count; ++i) {
      row[i] = static_cast<A>(earlier[i]);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) {
      row[i] = between(static_cast<A>(earlier[i]), static_cast<A>(later[i]), weight);
    }
  }
}

// Multiplies the joints of `row` by the matrices in `planes`, nine arrays of one coefficient for each joint.
template <class A>
CRRL_SIMD_CLONES void multiply_row(const A* __restrict__ planes, A* __restrict__ row, int64_t joints) {
  for (int64_t j = 0; j < joints; ++j) {
    const A x = row[3 * j], y = row[3 * j + 1], z = row[3 * j + 2];
    row[3 * j] = row_times(planes[j], planes[joints + j], planes[2 * joints + j], x, y, z);
    row[3 * j + 1] = row_times(planes[3 * joints + j], planes[4 * joints + j], planes[5 * joints + j], x, y, z);
    row[3 * j + 2] = row_times(planes[6 * joints + j], planes[7 * joints + j], planes[8 * joints + j], x, y, z);
  }
}

CRRL_SIMD_CLONES void draw_noise(uint64_t seed, int64_t clip, const int32_t* __restrict__ joint,
                                 const int32_t* __restrict__ frame, float* __restrict__ x, float* __restrict__ y,
                                 float* __restrict__ z) {
  for (int64_t i = 0; i < kNoiseChunk; ++i) {
    const Normal3 normal = view_noise(seed, clip, frame[i], joint[i]);
    x[i] = normal.x;
    y[i] = normal.y;
    z[i] = normal.z;
  }
}

template <class A>
CRRL_SIMD_CLONES void add_scaled(const float* __restrict__ x, const float* __restrict__ y, const float* __restrict__ z,
                                 const float* __restrict__ scale, A* __restrict__ coords, int64_t joints) {
  const A sx = scale[0], sy = scale[1], sz = scale[2];
  for (int64_t j = 0; j < joints; ++j) {
    coords[3 * j] += sx * x[j];
    coords[3 * j + 1] += sy * y[j];
    coords[3 * j + 2] += sz * z[j];
  }
}

template <class A>
CRRL_SIMD_CLONES void scale_row(const A* __restrict__ in, A weight, A* __restrict__ out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = weight * in[i];
  }
}

template <class A>
CRRL_SIMD_CLONES void add_two_rows(const A* __restrict__ before, const A* __restrict__ after, A weight,
                                   A* __restrict__ out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] += weight * (before[i] + after[i]);
  }
}

template <class T, class A>
CRRL_SIMD_CLONES void write_rows(const A* __restrict__ in, T* __restrict__ out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<T>(in[i]);
  }
}

template <class T, class A>
CRRL_SIMD_CLONES void write_velocity(const A* __restrict__ in, const A* __restrict__ next, T* __restrict__ out,
                                     int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<T>(next[i] - in[i]);
  }
}

// What one thread works in: the frames of one view, as they are before and after the blur, and what is the same in all.
template <class A>
struct Scratch {
  explicit Scratch(const SkeletonViewsShape& shape)
      : moved(shape.out_frames * shape.all_joints * 3),
        blurred(shape.taps > 0 ? moved.size() : 0),
        nothing(shape.all_joints * 3),
        spare(shape.all_joints * 3),
        planes(shape.all_joints * 9),
        sources(shape.all_joints) {}
  std::vector<A> moved, blurred, nothing, spare, planes;
  std::vector<int32_t> sources;
};

template <class A>
void fill_planes(const View& view, const SkeletonViewsShape& shape, std::vector<A>& planes) {
  constexpr float identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  for (int32_t joint = 0; joint < shape.all_joints; ++joint) {
    const float* matrix = matrix_of(view, joint, shape);
    for (int place = 0; place < 9; ++place) {
      planes[place * shape.all_joints + joint] = (matrix == nullptr ? identity : matrix)[place];
    }
  }
}

template <class A>
void swap_joints(const std::vector<int32_t>& sources, A* row, A* copy) {
  const int64_t joints = sources.size();
  std::copy_n(row, joints * 3, copy);
  for (int64_t joint = 0; joint < joints; ++joint) {
    const A* source = copy + 3 * sources[joint];
    row[3 * joint] = source[0];
    row[3 * joint + 1] = source[1];
    row[3 * joint + 2] = source[2];
  }
}

template <class A>
void subtract_origin(const View& view, const SkeletonViewsShape& shape, A* row) {
  for (int32_t body = 0; body < shape.all_joints; body += shape.joints) {
    const A* origin = row + 3 * (body + view.origin);
    const A x = origin[0], y = origin[1], z = origin[2];
    for (int32_t joint = body; joint < body + shape.joints; ++joint) {
      row[3 * joint] -= x;
      row[3 * joint + 1] -= y;
      row[3 * joint + 2] -= z;
    }
  }
}

template <class A>
void add_noise(const View& view, const SkeletonViewsShape& shape, A* coords) {
  int32_t joint[kNoiseChunk], frame[kNoiseChunk];
  float x[kNoiseChunk], y[kNoiseChunk], z[kNoiseChunk];
  int32_t next_joint = 0, next_frame = 0;
  const int64_t joints = view.frames * shape.all_joints;
  for (int64_t first = 0; first < joints; first += kNoiseChunk) {
    for (int64_t i = 0; i < kNoiseChunk; ++i) {
      joint[i] = next_joint;
      frame[i] = next_frame;
      if (++next_joint == shape.all_joints) {
        next_joint = 0;
        ++next_frame;
      }
    }
    draw_noise(view.seed, view.clip, joint, frame, x, y, z);
    add_scaled(x, y, z, view.noise_std, coords + 3 * first, std::min(kNoiseChunk, joints - first));
  }
}

template <class A>
void blur_view(const View& view, const SkeletonViewsShape& shape, const A* in, const A* nothing, A* out) {
  const int64_t coords = shape.all_joints * 3;
  for (int64_t frame = 0; frame < view.frames; ++frame) {
    const A scale = blur_scale<A>(view, frame, shape.normalize_blur);
    A* row = out + frame * coords;
    scale_row(in + frame * coords, scale * static_cast<A>(view.blur[0]), row, coords);
    for (int64_t distance = 1; distance <= view.radius; ++distance) {
      const A* before = frame >= distance ? in + (frame - distance) * coords : nothing;
      const A* after = frame + distance < view.frames ? in + (frame + distance) * coords : nothing;
      if (before != after) {
        add_two_rows(before, after, scale * static_cast<A>(view.blur[distance]), row, coords);
      }
    }
  }
}

template <class T, class A>
void make_view(int64_t number, const T* frames, const SkeletonViewsParams& params, T* coords_out, T* velocity_out,
               const SkeletonViewsShape& shape, Scratch<A>& scratch) {
  const View view = view_at(number, params, shape);
  const int64_t coords = shape.all_joints * 3;
  const bool has_matrix = view.matrix != nullptr || view.chosen != nullptr;
  if (has_matrix) {
    fill_planes(view, shape, scratch.planes);
  }
  for (int32_t joint = 0; view.mirrored && joint < shape.all_joints; ++joint) {
    scratch.sources[joint] = source_joint(view, params, joint, shape);
  }
  for (int64_t frame = 0; frame < view.frames; ++frame) {
    const FrameTap<A> tap = frame_tap<A>(view, frame);
    A* row = scratch.moved.data() + frame * coords;
    read_row(frames + tap.earlier * shape.frame_stride, frames + tap.later * shape.frame_stride, tap.weight, row,
             coords);
    if (view.origin >= 0) {
      subtract_origin(view, shape, row);
    }
    if (view.mirrored) {
      swap_joints(scratch.sources, row, scratch.spare.data());
    }
    if (has_matrix) {
      multiply_row(scratch.planes.data(), row, shape.all_joints);
    }
  }
  const A* result = scratch.moved.data();
  if (view.noise_std != nullptr) {
    add_noise(view, shape, scratch.moved.data());
  }
  if (view.blur != nullptr) {
    blur_view(view, shape, scratch.moved.data(), scratch.nothing.data(), scratch.blurred.data());
    result = scratch.blurred.data();
  }
  T* view_coords = coords_out + number * shape.out_frames * coords;
  T* view_velocity = velocity_out + number * shape.out_frames * coords;
  const int64_t moving = std::max<int64_t>(view.frames - 1, 0) * coords;
  write_rows(result, view_coords, view.frames * coords);
  write_velocity(result, result + coords, view_velocity, moving);
  std::fill(view_coords + view.frames * coords, view_coords + shape.out_frames * coords, T(0));
  std::fill(view_velocity + moving, view_velocity + shape.out_frames * coords, T(0));
}

template <class T>
void run_type(const void* frames, const SkeletonViewsParams& params, void* coords, void* velocity,
              const SkeletonViewsShape& shape) {
  using A = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const int64_t grain = std::max<int64_t>(1, kGrain / (shape.out_frames * shape.all_joints * 3));
  at::parallel_for(0, shape.views, grain, [&](int64_t begin, int64_t end) {
    Scratch<A> scratch(shape);
    for (int64_t number = begin; number < end; ++number) {
      make_view(number, static_cast<const T*>(frames), params, static_cast<T*>(coords), static_cast<T*>(velocity),
                shape, scratch);
    }
  });
}

}  // namespace

void skeleton_views_cpu(Dtype dtype, const void* frames, const SkeletonViewsParams& params, void* coords,
                        void* velocity, const SkeletonViewsShape& shape) {
  switch (dtype) {
    case Dtype::float32:
      return run_type<float>(frames, params, coords, velocity, shape);
    case Dtype::float64:
      return run_type<double>(frames, params, coords, velocity, shape);
    case Dtype::float16:
      return run_type<c10::Half>(frames, params, coords, velocity, shape);
    case Dtype::bfloat16:
      return run_type<c10::BFloat16>(frames, params, coords, velocity, shape);
  }
}

}  // namespace crrl
