#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "checks.h"
#include "gru.h"

namespace crrl {
namespace {

constexpr const char* kOp = "gru";

using OptionalTensor = std::optional<at::Tensor>;
using Results = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// As nn.GRU names its parameters.
std::string weight_name(int64_t index, const GruShape& shape) {
  constexpr const char* kinds[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
  const int64_t per_direction = shape.weights_per_direction();
  const int64_t of_all = index / per_direction;
  return std::string(kinds[index % per_direction]) + "_l" + std::to_string(of_all / shape.directions) +
         (of_all % shape.directions == 1 ? "_reverse" : "");
}

void check_weights(const GruShape& shape, at::TensorList weights, const at::Tensor& x) {
  const int64_t gates = 3 * shape.hidden, outputs = shape.directions * shape.hidden;
  for (int64_t index = 0; index < static_cast<int64_t>(weights.size()); ++index) {
    const at::Tensor& weight = weights[index];
    const int64_t kind = index % shape.weights_per_direction();
    const int64_t layer = index / shape.weights_per_direction() / shape.directions;
    const int64_t inputs = kind == 1 ? shape.hidden : layer == 0 ? shape.input : outputs;
    const std::vector<int64_t> expected = kind < 2 ? std::vector<int64_t>{gates, inputs} : std::vector<int64_t>{gates};
    TORCH_CHECK_VALUE(weight.sizes() == at::IntArrayRef(expected), kOp, ": ", weight_name(index, shape),
                      " must have shape ", at::IntArrayRef(expected), ", got ", weight.sizes());
    TORCH_CHECK_TYPE(weight.scalar_type() == weights[0].scalar_type(), kOp, ": all weights must have one dtype, got ",
                     c10::getDtypeNames(weights[0].scalar_type()).first, " and, in ", weight_name(index, shape), ", ",
                     c10::getDtypeNames(weight.scalar_type()).first);
    TORCH_CHECK_VALUE(weight.device() == x.device(), kOp, ": ", weight_name(index, shape), " must be on ", x.device(),
                      ", got ", weight.device());
  }
  const at::ScalarType of_weights = weights[0].scalar_type(), of_x = x.scalar_type();
  TORCH_CHECK_TYPE(of_x == at::kFloat || of_x == at::kDouble || of_x == at::kBFloat16, kOp,
                   ": x must be float32, float64 or bfloat16, got ", c10::getDtypeNames(of_x).first);
  TORCH_CHECK_TYPE(of_weights == of_x || (of_weights == at::kFloat && of_x == at::kBFloat16), kOp,
                   ": the weights must have x's dtype, ", c10::getDtypeNames(of_x).first, ", got ",
                   c10::getDtypeNames(of_weights).first);
}

GruShape shape_of(const at::Tensor& x, at::TensorList weights, const OptionalTensor& lengths, int64_t frames,
                  int64_t num_layers, bool bidirectional) {
  const bool is_constant = frames >= 0;
  TORCH_CHECK_VALUE(x.dim() == (is_constant ? 2 : 3), kOp, ": x must have shape ",
                    is_constant ? "(B, D) where frames is given" : "(B, T, D)", ", got ", x.sizes());
  const int64_t directions = bidirectional ? 2 : 1, per_weight = num_layers * directions;
  const auto count = static_cast<int64_t>(weights.size());
  TORCH_CHECK_VALUE(num_layers >= 1 && (count == 4 * per_weight || count == 2 * per_weight), kOp, ": ", num_layers,
                    bidirectional ? " bidirectional" : "", " layers take ", 4 * per_weight, " weights, or ",
                    2 * per_weight, " without biases, got ", count);
  TORCH_CHECK_VALUE(weights[0].dim() == 2 && weights[0].size(0) >= 3 && weights[0].size(0) % 3 == 0, kOp,
                    ": weight_ih_l0 must have shape (3 H, D), got ", weights[0].sizes());
  const GruShape shape{
      x.size(0),   is_constant ? frames : x.size(1), x.size(-1), weights[0].size(0) / 3, num_layers, directions,
      is_constant, count == 4 * per_weight};
  check_weights(shape, weights, x);
  if (lengths) {
    check_lengths(kOp, *lengths, shape.batch, shape.frames, x.device());
  }
  return shape;
}

// The arguments as the loops take them; tensors that had to be made contiguous live here.
struct Arguments {
  Arguments(const at::Tensor& x, at::TensorList weights, const OptionalTensor& lengths, const OptionalTensor& seed,
            double dropout, bool bfloat16)
      : x(x.contiguous()) {
    TORCH_CHECK_VALUE(0 <= dropout && dropout < 1, kOp, ": dropout must be in [0, 1), got ", dropout);
    TORCH_CHECK_VALUE(dropout == 0 || seed, kOp, ": dropout needs a seed");
    TORCH_CHECK_TYPE(!bfloat16 || x.scalar_type() != at::kDouble, kOp, ": float64 has no bfloat16 products");
    for (const at::Tensor& weight : weights) {
      held.push_back(weight.contiguous());
    }
    if (lengths) {
      held.push_back(lengths->contiguous());
    }
    input = {floating_dtype(kOp, "x", x),
             floating_dtype(kOp, "weights", weights[0]),
             this->x.const_data_ptr(),
             {},
             lengths ? held.back().const_data_ptr<int64_t>() : nullptr,
             dropout,
             dropout > 0 ? static_cast<uint64_t>(*seed->const_data_ptr<int64_t>()) : 0,
             bfloat16};
    for (size_t i = 0; i < weights.size(); ++i) {
      input.weights.push_back(held[i].const_data_ptr());
    }
  }

  const at::Tensor x;
  std::vector<at::Tensor> held;
  GruInput input;
};

Results gru_on_cpu(const at::Tensor& x, at::TensorList weights, const OptionalTensor& lengths,
                   const OptionalTensor& seed, int64_t frames, int64_t num_layers, bool bidirectional, double dropout,
                   bool bfloat16, bool return_outputs, bool with_grad) {
  const GruShape shape = shape_of(x, weights, lengths, frames, num_layers, bidirectional);
  const Arguments arguments(x, weights, lengths, seed, dropout, bfloat16);
  const int64_t width = shape.directions * shape.hidden, saved_width = shape.directions * shape.padded_hidden();
  const auto saved_options = bfloat16 ? x.options().dtype(at::kBFloat16)
                                      : x.options().dtype(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const at::Tensor outputs =
      return_outputs ? at::empty({shape.batch, shape.frames, width}, x.options()) : at::empty({0}, x.options());
  const at::Tensor mean = at::empty({shape.batch, width}, x.options());
  const at::Tensor first = at::empty_like(mean), last = at::empty_like(mean);
  const auto saved = [&](int64_t columns) {
    return with_grad ? at::empty({shape.layers, shape.saved_rows(), columns}, saved_options)
                     : at::empty({0}, saved_options);
  };
  const at::Tensor hidden = saved(saved_width), gates = saved(4 * saved_width);
  gru_cpu(shape, arguments.input,
          {with_grad ? hidden.mutable_data_ptr() : nullptr, with_grad ? gates.mutable_data_ptr() : nullptr},
          {return_outputs ? outputs.mutable_data_ptr() : nullptr, mean.mutable_data_ptr(), first.mutable_data_ptr(),
           last.mutable_data_ptr()});
  return {outputs, mean, first, last, hidden, gates};
}

std::tuple<at::Tensor, std::vector<at::Tensor>> gru_backward_on_cpu(
    const OptionalTensor& grad_outputs, const OptionalTensor& grad_mean, const OptionalTensor& grad_first,
    const OptionalTensor& grad_last, const at::Tensor& x, at::TensorList weights, const OptionalTensor& lengths,
    const OptionalTensor& seed, const at::Tensor& hidden, const at::Tensor& gates, int64_t frames, int64_t num_layers,
    bool bidirectional, double dropout, bool bfloat16, bool x_grad) {
  const GruShape shape = shape_of(x, weights, lengths, frames, num_layers, bidirectional);
  const Arguments arguments(x, weights, lengths, seed, dropout, bfloat16);
  std::vector<at::Tensor> held;
  const auto pointer = [&](const OptionalTensor& grad) -> const void* {
    return grad ? held.emplace_back(grad->to(x.scalar_type()).contiguous()).const_data_ptr() : nullptr;
  };
  const GruResultGrad result_grad{pointer(grad_outputs), pointer(grad_mean), pointer(grad_first), pointer(grad_last)};
  const at::Tensor grad_x = x_grad ? at::empty_like(arguments.x) : at::empty({0}, x.options());
  std::vector<at::Tensor> grad_weights;
  GruInputGrad input_grad{x_grad ? grad_x.mutable_data_ptr() : nullptr, {}};
  for (size_t i = 0; i < weights.size(); ++i) {
    grad_weights.push_back(at::empty_like(arguments.held[i]));
    input_grad.weights.push_back(grad_weights.back().mutable_data_ptr());
  }
  gru_backward_cpu(shape, arguments.input, {hidden.mutable_data_ptr(), gates.mutable_data_ptr()}, result_grad,
                   input_grad);
  return {grad_x, grad_weights};
}

TORCH_LIBRARY_IMPL(crrl_fast, CPU, m) {
  m.impl("gru", &gru_on_cpu);
  m.impl("gru_backward", &gru_backward_on_cpu);
}

}  // namespace
}  // namespace crrl
