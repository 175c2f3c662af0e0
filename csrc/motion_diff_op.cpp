#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <optional>

#include "checks.h"
#include "motion_diff.h"
#include "stream.h"

namespace crrl {
namespace {

// True where the coordinates of one frame lie side by side, so that clips and frames may be strided but are not copied.
bool has_dense_frames(const at::Tensor& x) {
  int64_t expected = 1;
  for (int64_t axis = x.dim() - 1; axis >= 2; --axis) {
    if (x.size(axis) != 1 && x.stride(axis) != expected) {
      return false;
    }
    expected *= x.size(axis);
  }
  return true;
}

// Both directions check, allocate and describe their tensors alike; `launch` gets the dtype, the input, the lengths,
// the output and the shape.
template <class Launch>
at::Tensor apply(const char* op, const char* name, const at::Tensor& in, const std::optional<at::Tensor>& lengths,
                 Launch launch) {
  TORCH_CHECK_VALUE(in.dim() >= 2, op, ": ", name, " must have at least 2 dimensions (B, T, ...), got shape ",
                    in.sizes());
  const Dtype dtype = floating_dtype(op, name, in);
  if (lengths) {
    check_lengths(op, *lengths, in.size(0), in.size(1), in.device());
  }
  const at::Tensor out = at::empty(in.sizes(), in.options());
  if (out.numel() == 0) {
    return out;
  }
  const c10::DeviceGuard guard(in.device());
  const at::Tensor dense = has_dense_frames(in) ? in : in.contiguous();
  const at::Tensor counts = lengths ? lengths->contiguous() : at::Tensor();
  const MotionDiffShape shape{in.size(0), in.size(1), in.numel() / (in.size(0) * in.size(1)), dense.stride(0),
                              dense.stride(1)};
  launch(dtype, dense.const_data_ptr(), lengths ? counts.const_data_ptr<int64_t>() : nullptr, out.mutable_data_ptr(),
         shape);
  return out;
}

at::Tensor motion_diff_on_cpu(const at::Tensor& x, const std::optional<at::Tensor>& lengths) {
  return apply("motion_diff", "x", x, lengths, motion_diff_cpu);
}

at::Tensor motion_diff_backward_on_cpu(const at::Tensor& grad, const std::optional<at::Tensor>& lengths) {
  return apply("motion_diff_backward", "grad", grad, lengths, motion_diff_backward_cpu);
}

#ifdef CRRL_WITH_CUDA
at::Tensor motion_diff_on_cuda(const at::Tensor& x, const std::optional<at::Tensor>& lengths) {
  return apply("motion_diff", "x", x, lengths,
               [&](auto... arguments) { motion_diff_cuda(arguments..., current_stream(x.device())); });
}

at::Tensor motion_diff_backward_on_cuda(const at::Tensor& grad, const std::optional<at::Tensor>& lengths) {
  return apply("motion_diff_backward", "grad", grad, lengths,
               [&](auto... arguments) { motion_diff_backward_cuda(arguments..., current_stream(grad.device())); });
}
#endif

TORCH_LIBRARY_IMPL(crrl_fast, CPU, m) {
  m.impl("motion_diff", &motion_diff_on_cpu);
  m.impl("motion_diff_backward", &motion_diff_backward_on_cpu);
}

#ifdef CRRL_WITH_CUDA
TORCH_LIBRARY_IMPL(crrl_fast, CUDA, m) {
  m.impl("motion_diff", &motion_diff_on_cuda);
  m.impl("motion_diff_backward", &motion_diff_backward_on_cuda);
}
#endif

}  // namespace
}  // namespace crrl
