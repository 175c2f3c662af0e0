// The table of contents of the compiled module: every op's schema, what the module was built from, and the
// parsers of the readers.
#include <pybind11/pybind11.h>
#include <torch/library.h>

#include "build_info.h"
#include "simd.h"
#include "tile_gemm.h"

namespace py = pybind11;

namespace crrl {
void bind_ntu_skeleton(py::module_& m);
}

TORCH_LIBRARY(crrl_fast, m) {
  const std::vector<at::Tag> tags{at::Tag::pt2_compliant_tag};
  m.def(
      "gru_scan(Tensor projected, Tensor w_hh, Tensor? b_hh, Tensor? lengths, SymInt frames, bool with_grad) -> "
      "(Tensor outputs, Tensor gates)",
      tags);
  m.def(
      "gru_scan_backward(Tensor grad_outputs, Tensor w_hh, Tensor? lengths, Tensor outputs, Tensor gates) -> "
      "(Tensor grad_projected, Tensor grad_recurrent)",
      tags);
  m.def("motion_diff(Tensor x, Tensor? lengths=None) -> Tensor", tags);
  m.def("motion_diff_backward(Tensor grad, Tensor? lengths=None) -> Tensor", tags);
  m.def(
      "gru(Tensor x, Tensor[] weights, Tensor? lengths, Tensor? seed, SymInt frames, int num_layers, "
      "bool bidirectional, float dropout, bool bfloat16, bool return_outputs, bool with_grad) -> (Tensor outputs, "
      "Tensor mean, Tensor first, Tensor last, Tensor hidden, Tensor gates)",
      tags);
  m.def(
      "gru_backward(Tensor? grad_outputs, Tensor? grad_mean, Tensor? grad_first, Tensor? grad_last, Tensor x, "
      "Tensor[] weights, Tensor? lengths, Tensor? seed, Tensor hidden, Tensor gates, SymInt frames, int num_layers, "
      "bool bidirectional, float dropout, bool bfloat16, bool x_grad) -> (Tensor grad_x, Tensor[] grad_weights)",
      tags);
  m.def(
      "queue_info_nce(Tensor query, Tensor key, Tensor queue, Tensor? filled, float temperature, bool normalize, "
      "int reduction, bool query_grad, bool key_grad) -> (Tensor loss, Tensor hits, Tensor query_grad, Tensor "
      "key_grad)",
      tags);
  m.def(
      "skeleton_views(Tensor frames, Tensor offsets, Tensor index, int num_joints, Tensor lengths, Tensor start, "
      "Tensor span, Tensor? partner, Tensor? mirror, Tensor? origin, Tensor? matrix, Tensor? joints, "
      "Tensor? joint_matrix, Tensor? noise_std, Tensor? seed, Tensor? blur, bool normalize_blur, "
      "SymInt out_frames) -> (Tensor coords, Tensor velocity)",
      tags);
}

PYBIND11_MODULE(_C, m) {
  m.def("build_info", [] {
    py::dict info;
    info["version"] = CRRL_VERSION;
    info["torch"] = CRRL_TORCH_VERSION;
    info["cuda"] = CRRL_CUDA_VERSION;
    info["cuda_architectures"] = CRRL_CUDA_ARCHITECTURES;
    info["compiler"] = CRRL_COMPILER;
    info["cpu_isas"] = CRRL_CPU_ISAS;
    info["cxx11_abi"] = static_cast<bool>(_GLIBCXX_USE_CXX11_ABI);
    return info;
  });
  m.def("has_bfloat16_products", &crrl::has_bfloat16_products);
  crrl::bind_ntu_skeleton(m);
}
