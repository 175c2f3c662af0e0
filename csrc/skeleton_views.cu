#include <algorithm>

#include "launch.cuh"
#include "skeleton_views_tile.h"

namespace crrl {
namespace {

template <class T, int Width>
__global__ void __launch_bounds__(kTileThreads)
    views_kernel(const T* frames /* (frames, coords), strided */, SkeletonViewsParams params,
                 T* coords /* (views, out_frames, coords) */, T* velocity /* (views, out_frames, coords) */,
                 SkeletonViewsShape shape) {
  using A = Wide<T>;
  extern __shared__ __align__(32) unsigned char memory[];
  A* rows = reinterpret_cast<A*>(memory);
  __shared__ TileScratch<A> scratch;
  const int64_t tiles = tile_count<A>(shape);
  for (int64_t index = blockIdx.x; index < tiles; index += gridDim.x) {
    const Tile<A> tile = tile_at<A>(index, shape);
    if (threadIdx.x == 0) {
      scratch.view = view_at(tile.number, params, shape);
    }
    __syncthreads();
    plan_tile(threadIdx.x, tile, shape, scratch);
    __syncthreads();
    fill_tile<T>(threadIdx.x, frames, tile, params, shape, scratch, rows);
    __syncthreads();
    write_tile<T, Width>(threadIdx.x, tile, shape, scratch, rows, coords, velocity);
    __syncthreads();
  }
}

template <class T, int Width>
void launch(const void* frames, const SkeletonViewsParams& params, void* coords, void* velocity,
            const SkeletonViewsShape& shape, void* stream) {
  using A = Wide<T>;
  constexpr int64_t largest_grid = 2147483647;  // of gridDim.x; the kernel strides over what is left
  const int64_t blocks = std::min(tile_count<A>(shape), largest_grid);
  const size_t shared_bytes = tile_rows<A>(shape.taps) * kTileCoords * sizeof(A);
  CRRL_LAUNCH((views_kernel<T, Width>), static_cast<unsigned>(blocks), kTileThreads, shared_bytes, stream,
              static_cast<const T*>(frames), params, static_cast<T*>(coords), static_cast<T*>(velocity), shape);
}

// Tries the widths from the widest down, so that only widths a type can have are compiled for it.
template <class T, int Width>
void launch_width(int width, const void* frames, const SkeletonViewsParams& params, void* coords, void* velocity,
                  const SkeletonViewsShape& shape, void* stream) {
  if constexpr (Width > 1) {
    if (width < Width) {
      return launch_width<T, Width / 2>(width, frames, params, coords, velocity, shape, stream);
    }
  }
  launch<T, Width>(frames, params, coords, velocity, shape, stream);
}

}  // namespace

void skeleton_views_cuda(Dtype dtype, const void* frames, const SkeletonViewsParams& params, void* coords,
                         void* velocity, const SkeletonViewsShape& shape, void* stream) {
  with_cuda_type(dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch_width<T, kTileWidth<T>>(tile_width<T>(shape, coords, velocity), frames, params, coords, velocity, shape,
                                   stream);
  });
}

}  // namespace crrl
