#include <algorithm>

#include "launch.cuh"
#include "motion_diff.h"

namespace crrl {
namespace {

constexpr int kThreads = 256;

// One block a multiprocessor is asked for: left to itself, ptxas saves registers on sm_90 until one kernel spills.
template <class Stencil, class T, int Width>
__global__ void __launch_bounds__(kThreads, 1)
    stencil_kernel(const T* in /* (clips, frames, coords), strided */, const int64_t* lengths /* (clips), or null */,
                   T* out /* (clips, frames, coords) */, MotionDiffShape shape) {
  const int64_t walks = walk_count(shape, Width);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; index < walks; index += stride) {
    walk_frames<Stencil, T, Width>(index, in, lengths, out, shape);
  }
}

template <class Stencil, class T, int Width>
void launch(const void* in, const int64_t* lengths, void* out, const MotionDiffShape& shape, void* stream) {
  constexpr int64_t largest_grid = 2147483647;  // of gridDim.x; the kernel strides over what is left
  const int64_t blocks = std::min(ceil_div(walk_count(shape, Width), kThreads), largest_grid);
  CRRL_LAUNCH((stencil_kernel<Stencil, T, Width>), static_cast<unsigned>(blocks), kThreads, 0, stream,
              static_cast<const T*>(in), lengths, static_cast<T*>(out), shape);
}

// Tries the widths from the widest of 16 bytes down, so that only widths a type can have are compiled for it.
template <class Stencil, class T, int Width>
void launch_width(int width, const void* in, const int64_t* lengths, void* out, const MotionDiffShape& shape,
                  void* stream) {
  if constexpr (Width > 1) {
    if (width < Width) {
      return launch_width<Stencil, T, Width / 2>(width, in, lengths, out, shape, stream);
    }
  }
  launch<Stencil, T, Width>(in, lengths, out, shape, stream);
}

template <class Stencil>
void run(Dtype dtype, const void* in, const int64_t* lengths, void* out, const MotionDiffShape& shape, void* stream) {
  const int width = walk_width(shape, size_of(dtype), in, out);
  with_cuda_type(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch_width<Stencil, T, static_cast<int>(16 / sizeof(T))>(width, in, lengths, out, shape, stream);
  });
}

}  // namespace

void motion_diff_cuda(Dtype dtype, const void* x, const int64_t* lengths, void* y, const MotionDiffShape& shape,
                      void* stream) {
  run<Velocity>(dtype, x, lengths, y, shape, stream);
}

void motion_diff_backward_cuda(Dtype dtype, const void* grad_y, const int64_t* lengths, void* grad_x,
                               const MotionDiffShape& shape, void* stream) {
  run<VelocityGrad>(dtype, grad_y, lengths, grad_x, shape, stream);
}

}  // namespace crrl
