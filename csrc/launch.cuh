// The one way a kernel is launched, and the one place a dtype becomes a CUDA type.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "dtype.h"

namespace crrl {

inline void check_cuda(cudaError_t error, const std::string& what /* was tried */) {
  if (error != cudaSuccess) {
    throw std::runtime_error("crrl_fast: " + what + " failed: " + cudaGetErrorName(error) + ": " +
                             cudaGetErrorString(error));
  }
}

inline void check_launch(const char* kernel) { check_cuda(cudaGetLastError(), std::string("launching ") + kernel); }

// The launch of blocks that come in clusters of more than one; a cluster of one is an ordinary launch.
template <class... Parameters, class... Arguments>
void launch_clusters(void (*kernel)(Parameters...), const char* name, int64_t blocks, int cluster, int threads,
                     int shared_bytes, void* stream, const Arguments&... arguments) {
  cudaLaunchAttribute shape;
  shape.id = cudaLaunchAttributeClusterDimension;
  shape.val.clusterDim.x = static_cast<unsigned>(cluster);
  shape.val.clusterDim.y = shape.val.clusterDim.z = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(blocks));
  launch.blockDim = dim3(static_cast<unsigned>(threads));
  launch.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  launch.stream = static_cast<cudaStream_t>(stream);
  launch.attrs = &shape;
  launch.numAttrs = cluster > 1 ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&launch, kernel, arguments...), std::string("launching ") + name);
}

// Calls `body` with a null pointer of the CUDA type that `dtype` names.
template <class Body>
void with_cuda_type(Dtype dtype, Body body) {
  switch (dtype) {
    case Dtype::float32:
      return body(static_cast<float*>(nullptr));
    case Dtype::float64:
      return body(static_cast<double*>(nullptr));
    case Dtype::float16:
      return body(static_cast<__half*>(nullptr));
    case Dtype::bfloat16:
      return body(static_cast<__nv_bfloat16*>(nullptr));
  }
}

}  // namespace crrl

// A kernel with template arguments goes in parentheses. `stream` is the caller's cudaStream_t as void*.
#define CRRL_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                              \
  do {                                                                                           \
    kernel<<<(grid), (block), (shared_bytes), static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__); \
    ::crrl::check_launch(#kernel);                                                               \
  } while (false)
