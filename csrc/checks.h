// Argument checks. A message says which op and argument, what is wanted, and what was given.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include "dtype.h"

namespace crrl {

inline Dtype floating_dtype(const char* op, const char* name, const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return Dtype::float32;
    case at::kDouble:
      return Dtype::float64;
    case at::kHalf:
      return Dtype::float16;
    case at::kBFloat16:
      return Dtype::bfloat16;
    default:
      TORCH_CHECK_TYPE(false, op, ": ", name, " must be float32, float64, float16 or bfloat16, got ",
                       c10::getDtypeNames(tensor.scalar_type()).first);
  }
}

// `lengths` (clips) counts the valid frames of each clip. On the CPU the values are checked too; on another device that
// would need a host synchronisation, so there the kernels clamp them to [0, frames].
inline void check_lengths(const char* op, const at::Tensor& lengths, int64_t clips, int64_t frames, at::Device device) {
  TORCH_CHECK_TYPE(lengths.scalar_type() == at::kLong, op, ": lengths must be int64, got ",
                   c10::getDtypeNames(lengths.scalar_type()).first);
  TORCH_CHECK_VALUE(lengths.dim() == 1 && lengths.size(0) == clips, op, ": lengths must have shape [", clips, "], got ",
                    lengths.sizes());
  TORCH_CHECK_VALUE(lengths.device() == device, op, ": lengths must be on ", device, ", got ", lengths.device());
  if (!device.is_cpu()) {
    return;
  }
  const auto values = lengths.accessor<int64_t, 1>();
  for (int64_t clip = 0; clip < clips; ++clip) {
    TORCH_CHECK_VALUE(values[clip] >= 0 && values[clip] <= frames, op, ": lengths[", clip, "] = ", values[clip],
                      " is outside [0, ", frames, "]");
  }
}

}  // namespace crrl
