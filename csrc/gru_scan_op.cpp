#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "checks.h"
#include "gru_scan.h"
#include "stream.h"

namespace crrl {
namespace {

using Results = std::tuple<at::Tensor, at::Tensor>;

// Of both directions of the op: `tensor` is shaped like `outputs`, but for its last dimension and perhaps its frames.
GruScanShape check_arguments(const char* op, const char* name, const at::Tensor& tensor, int64_t columns,
                             const at::Tensor& w_hh, const std::optional<at::Tensor>& lengths, int64_t frames) {
  TORCH_CHECK_VALUE(w_hh.dim() == 3 && (w_hh.size(0) == 1 || w_hh.size(0) == 2) && w_hh.size(2) > 0 &&
                        w_hh.size(1) == 3 * w_hh.size(2),
                    op, ": w_hh must have shape (directions, 3 hidden, hidden), 1 or 2 directions, got ", w_hh.sizes());
  const int64_t directions = w_hh.size(0), hidden = w_hh.size(2);
  TORCH_CHECK_VALUE(tensor.dim() == 4 && tensor.size(2) == directions && tensor.size(3) == columns * hidden, op, ": ",
                    name, " must have shape (B, T, ", directions, ", ", columns * hidden, "), got ", tensor.sizes());
  const Dtype weights = floating_dtype(op, "w_hh", w_hh);
  TORCH_CHECK_TYPE(weights != Dtype::float64, op, ": there is no float64 kernel for CUDA");
  TORCH_CHECK_TYPE(tensor.scalar_type() == w_hh.scalar_type() || tensor.scalar_type() == at::kFloat, op, ": ", name,
                   " must be of w_hh's dtype, ", c10::getDtypeNames(w_hh.scalar_type()).first,
                   ", or float32 beside a half-precision one, got ", c10::getDtypeNames(tensor.scalar_type()).first);
  const int64_t largest_frames = gru_scan_largest_frames(directions, hidden);
  TORCH_CHECK_VALUE(frames >= 0 && frames <= largest_frames, op, ": frames must be from 0 to ", largest_frames,
                    ", got ", frames);
  TORCH_CHECK_VALUE(tensor.size(1) == 1 || tensor.size(1) == frames, op, ": ", name,
                    " must have 1 frame or frames = ", frames, ", got ", tensor.size(1));
  TORCH_CHECK_VALUE(w_hh.device() == tensor.device(), op, ": w_hh must be on ", tensor.device(), ", got ",
                    w_hh.device());
  if (lengths) {
    check_lengths(op, *lengths, tensor.size(0), frames, tensor.device());
  }
  TORCH_CHECK_VALUE(gru_scan_fits(hidden, size_of(weights), tensor.device().index()), op, ": ", hidden,
                    " units a direction with weights of ", c10::getDtypeNames(w_hh.scalar_type()).first,
                    " do not fit on ", tensor.device(), "; ask crrl_fast.ops.gru_scan_supported first");
  return {tensor.size(0), frames, static_cast<int>(directions), static_cast<int>(hidden)};
}

// Of an argument that lies beside the one that decides.
void check_same(const char* op, const char* name, const at::Tensor& tensor, at::IntArrayRef sizes, at::ScalarType dtype,
                at::Device device) {
  TORCH_CHECK_VALUE(tensor.sizes() == sizes, op, ": ", name, " must have shape ", sizes, ", got ", tensor.sizes());
  TORCH_CHECK_TYPE(tensor.scalar_type() == dtype, op, ": ", name, " must be ", c10::getDtypeNames(dtype).first,
                   ", got ", c10::getDtypeNames(tensor.scalar_type()).first);
  TORCH_CHECK_VALUE(tensor.device() == device, op, ": ", name, " must be on ", device, ", got ", tensor.device());
}

at::Tensor workspace_for(const GruScanShape& shape, const at::Tensor& w_hh, Dtype weight_dtype) {
  return at::empty({gru_scan_workspace(shape, weight_dtype)}, w_hh.options().dtype(at::kByte));
}

const int64_t* pointer_or_null(const std::optional<at::Tensor>& lengths) {
  return lengths ? lengths->const_data_ptr<int64_t>() : nullptr;
}

std::optional<at::Tensor> contiguous(const std::optional<at::Tensor>& tensor) {
  return tensor ? std::optional(tensor->contiguous()) : std::nullopt;
}

Results scan(const at::Tensor& projected, const at::Tensor& w_hh, const std::optional<at::Tensor>& b_hh,
             const std::optional<at::Tensor>& lengths, int64_t frames, bool with_grad) {
  const char* op = "gru_scan";
  const GruScanShape shape = check_arguments(op, "projected", projected, 3, w_hh, lengths, frames);
  const at::Device device = projected.device();
  if (b_hh) {
    floating_dtype(op, "b_hh", *b_hh);
    check_same(op, "b_hh", *b_hh, {shape.directions, 3 * shape.hidden}, b_hh->scalar_type(), device);
  }
  const c10::DeviceGuard guard(device);
  const at::Tensor outputs = at::empty({shape.clips, frames, shape.directions, shape.hidden}, projected.options());
  const at::Tensor gates = with_grad
                               ? at::empty({shape.clips, frames, shape.directions, 4 * shape.hidden}, w_hh.options())
                               : at::empty({0}, w_hh.options());
  if (outputs.numel() == 0) {
    return {outputs, gates};
  }
  const at::Tensor inputs = projected.contiguous(), weights = w_hh.contiguous();
  const at::Tensor bias = b_hh ? b_hh->to(at::kFloat).contiguous() : at::Tensor();
  const std::optional<at::Tensor> counts = contiguous(lengths);
  const Dtype weight_dtype = floating_dtype(op, "w_hh", w_hh);
  const at::Tensor workspace = workspace_for(shape, w_hh, weight_dtype);
  gru_scan_cuda(
      shape,
      {floating_dtype(op, "projected", projected), weight_dtype, projected.size(1) != frames, inputs.const_data_ptr(),
       weights.const_data_ptr(), b_hh ? bias.const_data_ptr<float>() : nullptr, pointer_or_null(counts)},
      {outputs.mutable_data_ptr(), with_grad ? gates.mutable_data_ptr() : nullptr}, workspace.mutable_data_ptr(),
      current_stream(device));
  return {outputs, gates};
}

Results scan_backward(const at::Tensor& grad_outputs, const at::Tensor& w_hh, const std::optional<at::Tensor>& lengths,
                      const at::Tensor& outputs, const at::Tensor& gates) {
  const char* op = "gru_scan_backward";
  const int64_t frames = grad_outputs.dim() == 4 ? grad_outputs.size(1) : 0;
  const GruScanShape shape = check_arguments(op, "grad_outputs", grad_outputs, 1, w_hh, lengths, frames);
  const at::Device device = grad_outputs.device();
  check_same(op, "outputs", outputs, grad_outputs.sizes(), grad_outputs.scalar_type(), device);
  check_same(op, "gates", gates, {shape.clips, frames, shape.directions, 4 * shape.hidden}, w_hh.scalar_type(), device);
  const c10::DeviceGuard guard(device);
  const int64_t columns = 3 * shape.hidden;
  const at::Tensor grad_projected = at::empty({shape.clips, frames, shape.directions, columns}, grad_outputs.options());
  const at::Tensor grad_recurrent = at::empty({shape.clips, frames, shape.directions, columns}, w_hh.options());
  if (outputs.numel() == 0) {
    return {grad_projected, grad_recurrent};
  }
  const at::Tensor grads = grad_outputs.contiguous(), weights = w_hh.contiguous();
  const at::Tensor states = outputs.contiguous(), kept = gates.contiguous();
  const std::optional<at::Tensor> counts = contiguous(lengths);
  const Dtype weight_dtype = floating_dtype(op, "w_hh", w_hh);
  const at::Tensor workspace = workspace_for(shape, w_hh, weight_dtype);
  gru_scan_backward_cuda(
      shape,
      {floating_dtype(op, "grad_outputs", grad_outputs), weight_dtype, grads.const_data_ptr(), weights.const_data_ptr(),
       pointer_or_null(counts), states.const_data_ptr(), kept.const_data_ptr()},
      {grad_projected.mutable_data_ptr(), grad_recurrent.mutable_data_ptr()}, workspace.mutable_data_ptr(),
      current_stream(device));
  return {grad_projected, grad_recurrent};
}

TORCH_LIBRARY_IMPL(crrl_fast, CUDA, m) {
  m.impl("gru_scan", &scan);
  m.impl("gru_scan_backward", &scan_backward);
}

}  // namespace
}  // namespace crrl
