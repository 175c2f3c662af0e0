#include <ATen/Context.h>
#include <ATen/core/Reduction.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/sum.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "checks.h"
#include "info_nce.h"
#include "stream.h"

namespace crrl {
namespace {

constexpr const char* kOp = "queue_info_nce";

using Results = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

void check_arguments(const at::Tensor& query, const at::Tensor& key, const at::Tensor& queue,
                     const std::optional<at::Tensor>& filled, double temperature) {
  TORCH_CHECK_VALUE(query.dim() == 2 && query.size(0) >= 1, kOp,
                    ": query must have shape (B, D) with B at least 1, got ", query.sizes());
  const int64_t dim = query.size(1);
  TORCH_CHECK_VALUE(dim >= 1 && dim <= kInfoNceLargestDim, kOp, ": D must be from 1 to ", kInfoNceLargestDim, ", got ",
                    dim);
  TORCH_CHECK_VALUE(key.sizes() == query.sizes(), kOp, ": key must have the shape of query, ", query.sizes(), ", got ",
                    key.sizes());
  TORCH_CHECK_VALUE(queue.dim() == 2 && queue.size(1) == dim, kOp, ": queue must have shape (K, ", dim, "), got ",
                    queue.sizes());
  const int doubles =
      (query.scalar_type() == at::kDouble) + (key.scalar_type() == at::kDouble) + (queue.scalar_type() == at::kDouble);
  TORCH_CHECK_TYPE(doubles == 0 || doubles == 3, kOp, ": query, key and queue must all be float64 or none, got ",
                   c10::getDtypeNames(query.scalar_type()).first, ", ", c10::getDtypeNames(key.scalar_type()).first,
                   " and ", c10::getDtypeNames(queue.scalar_type()).first);
  TORCH_CHECK_VALUE(key.device() == query.device() && queue.device() == query.device(), kOp,
                    ": key and queue must be on query's device, ", query.device(), ", got ", key.device(), " and ",
                    queue.device());
  TORCH_CHECK_VALUE(temperature > 0, kOp, ": temperature must be greater than 0, got ", temperature);
  if (filled) {
    TORCH_CHECK_TYPE(filled->scalar_type() == at::kLong, kOp, ": filled must be int64, got ",
                     c10::getDtypeNames(filled->scalar_type()).first);
    TORCH_CHECK_VALUE(filled->numel() == 1 && filled->device() == query.device(), kOp,
                      ": filled must be a single number on ", query.device(), ", got shape ", filled->sizes(), " on ",
                      filled->device());
  }
}

at::Tensor reduce(const at::Tensor& losses /* (B) */, int64_t reduction) {
  switch (reduction) {
    case at::Reduction::Mean:
      return at::mean(losses);
    case at::Reduction::Sum:
      return at::sum(losses);
    default:
      return losses;
  }
}

// `launch` gets the shape, the settings, the input and the output.
template <class Launch>
Results apply(const at::Tensor& query, const at::Tensor& key, const at::Tensor& queue,
              const std::optional<at::Tensor>& filled, double temperature, bool normalize, int64_t reduction,
              bool query_grad, bool key_grad, Launch launch) {
  check_arguments(query, key, queue, filled, temperature);
  const c10::DeviceGuard guard(query.device());
  const at::Tensor queries = query.contiguous(), positives = key.contiguous();
  const bool dense_keys = queue.size(1) == 1 || queue.stride(1) == 1;
  const at::Tensor negatives = dense_keys ? queue : queue.contiguous();

  const auto results = query.options().dtype(query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const int64_t batch = query.size(0), dim = query.size(1);
  const at::Tensor loss = at::empty({batch}, results);
  const at::Tensor hits = at::empty({batch, 2}, results.dtype(at::kFloat));
  const auto gradient = [&](bool wanted) {
    return wanted ? at::empty({batch, dim}, results) : at::empty({0}, results);
  };
  const at::Tensor for_query = gradient(query_grad), for_key = gradient(key_grad);
  const auto pointer = [](const at::Tensor& tensor) {
    return tensor.numel() == 0 ? nullptr : tensor.mutable_data_ptr();
  };

  const InfoNceShape shape{batch, negatives.size(0), dim, negatives.stride(0)};
  const double row_weight = reduction == at::Reduction::Mean ? 1.0 / static_cast<double>(batch) : 1.0;
  const InfoNceSettings settings{temperature, row_weight, normalize, at::globalContext().allowTF32CuBLAS()};
  const InfoNceInput input{floating_dtype(kOp, "query", query),
                           floating_dtype(kOp, "key", key),
                           floating_dtype(kOp, "queue", queue),
                           queries.const_data_ptr(),
                           positives.const_data_ptr(),
                           negatives.const_data_ptr(),
                           filled ? filled->const_data_ptr<int64_t>() : nullptr};
  launch(shape, settings, input,
         InfoNceOutput{pointer(loss), hits.mutable_data_ptr<float>(), pointer(for_query), pointer(for_key)});
  return {reduce(loss, reduction), hits, for_query, for_key};
}

Results info_nce_on_cpu(const at::Tensor& query, const at::Tensor& key, const at::Tensor& queue,
                        const std::optional<at::Tensor>& filled, double temperature, bool normalize, int64_t reduction,
                        bool query_grad, bool key_grad) {
  return apply(query, key, queue, filled, temperature, normalize, reduction, query_grad, key_grad, info_nce_cpu);
}

#ifdef CRRL_WITH_CUDA
Results info_nce_on_cuda(const at::Tensor& query, const at::Tensor& key, const at::Tensor& queue,
                         const std::optional<at::Tensor>& filled, double temperature, bool normalize, int64_t reduction,
                         bool query_grad, bool key_grad) {
  TORCH_CHECK_TYPE(query.scalar_type() != at::kDouble, kOp, ": there is no float64 kernel for CUDA");
  return apply(query, key, queue, filled, temperature, normalize, reduction, query_grad, key_grad,
               [&](const InfoNceShape& shape, const InfoNceSettings& settings, const InfoNceInput& input,
                   const InfoNceOutput& output) {
                 const at::Tensor workspace =
                     at::empty({info_nce_cuda_workspace(shape, input)}, query.options().dtype(at::kByte));
                 info_nce_cuda(shape, settings, input, output, workspace.mutable_data_ptr(),
                               current_stream(query.device()));
               });
}
#endif

TORCH_LIBRARY_IMPL(crrl_fast, CPU, m) { m.impl("queue_info_nce", &info_nce_on_cpu); }

#ifdef CRRL_WITH_CUDA
TORCH_LIBRARY_IMPL(crrl_fast, CUDA, m) { m.impl("queue_info_nce", &info_nce_on_cuda); }
#endif

}  // namespace
}  // namespace crrl
