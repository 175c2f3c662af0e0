// The table of contents of the compiled module: every op's schema, what the module was built from, and the
// parsers of the readers.
#include <pybind11/pybind11.h>
#include <torch/library.h>

#include "build_info.h"
#include "simd.h"

namespace py = pybind11;

namespace crrl {
void bind_ntu_skeleton(py::module_& m);
}

TORCH_LIBRARY(crrl_fast, m) {
  const std::vector<at::Tag> tags{at::Tag::pt2_compliant_tag};
  m.def("motion_diff(Tensor x, Tensor? lengths=None) -> Tensor", tags);
  m.def("motion_diff_backward(Tensor grad, Tensor? lengths=None) -> Tensor", tags);
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
  crrl::bind_ntu_skeleton(m);
}
