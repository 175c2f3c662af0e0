// The gradient of queue_info_nce. In C++, because on CRRL's own shape the Python hooks of torch.library take longer
// than the op.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mul.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

namespace crrl {
namespace {

using Results = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Signature = Results(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                          double, bool, int64_t, bool, bool);

class InfoNceFunction : public torch::autograd::Function<InfoNceFunction> {
 public:
  // Query and key come as arguments of their own, so that autograd sees them.
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& query,
                                                const at::Tensor& key, const at::Tensor& queue,
                                                const std::optional<at::Tensor>& filled, double temperature,
                                                bool normalize, int64_t reduction, bool query_grad, bool key_grad) {
    static const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow("crrl_fast::queue_info_nce", "").typed<Signature>();
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    auto [loss, hits, for_query, for_key] =
        op.call(query, key, queue, filled, temperature, normalize, reduction, query_grad, key_grad);
    context->saved_data["dtypes"] =
        std::vector<int64_t>{static_cast<int64_t>(query.scalar_type()), static_cast<int64_t>(key.scalar_type())};
    context->save_for_backward({for_query, for_key});
    context->mark_non_differentiable({hits, for_query, for_key});
    return {loss, hits, for_query, for_key};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "queue_info_nce is differentiable once: the gradient of its gradient would need the queue, which is "
                "not kept. Use crrl_fast.reference.queue_info_nce for create_graph=True");
    const auto saved = context->get_saved_variables();
    const auto dtypes = context->saved_data["dtypes"].toIntVector();
    const at::Tensor grad = grads[0].unsqueeze(-1);  // of one row each, or of all
    torch::autograd::variable_list result(9);
    for (const size_t input : {0, 1}) {
      if (context->needs_input_grad(input)) {
        result[input] = at::mul(saved[input], grad).to(static_cast<at::ScalarType>(dtypes[input]));
      }
    }
    return result;
  }
};

Results info_nce_with_gradient(const at::Tensor& query, const at::Tensor& key, const at::Tensor& queue,
                               const std::optional<at::Tensor>& filled, double temperature, bool normalize,
                               int64_t reduction, bool query_grad, bool key_grad) {
  const auto results =
      InfoNceFunction::apply(query, key, queue, filled, temperature, normalize, reduction, query_grad, key_grad);
  return {results[0], results[1], results[2], results[3]};
}

TORCH_LIBRARY_IMPL(crrl_fast, Autograd, m) { m.impl("queue_info_nce", &info_nce_with_gradient); }

}  // namespace
}  // namespace crrl
