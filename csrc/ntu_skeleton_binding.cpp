#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

#include "ntu_skeleton.h"

namespace py = pybind11;

namespace crrl {
namespace {

// The array owns the values; they are not copied.
template <class T>
py::array_t<T> to_array(std::vector<T>&& values, const std::vector<py::ssize_t>& shape) {
  auto kept = std::make_unique<std::vector<T>>(std::move(values));
  const T* data = kept->data();
  const py::capsule owner(kept.release(), [](void* owned) { delete static_cast<std::vector<T>*>(owned); });
  return py::array_t<T>(shape, data, owner);
}

py::tuple parse(const py::bytes& content) {
  const std::string_view text = content;
  NtuSkeleton skeleton;
  {
    const py::gil_scoped_release release;
    skeleton = parse_ntu_skeleton(text);
  }
  const auto frames = static_cast<py::ssize_t>(skeleton.bodies.size());
  const auto bodies = static_cast<py::ssize_t>(skeleton.ids.size());
  return py::make_tuple(to_array(std::move(skeleton.bodies), {frames}), to_array(std::move(skeleton.ids), {bodies}),
                        to_array(std::move(skeleton.coords), {bodies, 25, 3}));
}

}  // namespace

void bind_ntu_skeleton(py::module_& m) {
  m.def("parse_ntu_skeleton", &parse, py::arg("content"),
        "Parse the bytes of one raw NTU RGB+D file; see crrl_fast.data.readers.ntu.plain for the contract.");
}

}  // namespace crrl
