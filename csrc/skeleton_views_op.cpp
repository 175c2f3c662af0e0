#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"
#include "skeleton_views.h"
#include "stream.h"

namespace crrl {
namespace {

constexpr const char* kOp = "skeleton_views";
using Optional = std::optional<at::Tensor>;
using Views = std::tuple<at::Tensor, at::Tensor>;

// Checks the tensors that come with the frames, and keeps those it had to make contiguous until the op is done.
class Arguments {
 public:
  explicit Arguments(at::Device device) : device_(device) {}

  template <class Value>
  const Value* take(const char* name, const at::Tensor& tensor, at::IntArrayRef sizes) {
    const at::ScalarType dtype = c10::CppTypeToScalarType<Value>::value;
    TORCH_CHECK_TYPE(tensor.scalar_type() == dtype, kOp, ": ", name, " must be ", c10::getDtypeNames(dtype).first,
                     ", got ", c10::getDtypeNames(tensor.scalar_type()).first);
    TORCH_CHECK_VALUE(tensor.sizes() == sizes, kOp, ": ", name, " must have shape ", sizes, ", got ", tensor.sizes());
    TORCH_CHECK_VALUE(tensor.device() == device_, kOp, ": ", name, " must be on ", device_, ", got ", tensor.device());
    kept_.push_back(tensor.contiguous());
    return kept_.back().const_data_ptr<Value>();
  }

  template <class Value>
  const Value* take(const char* name, const Optional& tensor, at::IntArrayRef sizes) {
    return tensor ? take<Value>(name, *tensor, sizes) : nullptr;
  }

 private:
  at::Device device_;
  std::vector<at::Tensor> kept_;
};

void check_joint_numbers(const char* name, const int64_t* joints, int64_t count, int64_t low, int64_t high) {
  for (int64_t i = 0; joints != nullptr && i < count; ++i) {
    TORCH_CHECK_VALUE(joints[i] >= low && joints[i] < high, kOp, ": ", name, "[", i, "] = ", joints[i], " is outside [",
                      low, ", ", high, ")");
  }
}

// On the CPU alone: elsewhere the values could be had only by a host synchronisation, and the kernel clamps them.
void check_values(const SkeletonViewsParams& params, const SkeletonViewsShape& shape) {
  for (int64_t view = 0; view < shape.views; ++view) {
    const int64_t clip = params.index[view];
    TORCH_CHECK_VALUE(clip >= 0 && clip < shape.clips, kOp, ": index[", view, "] = ", clip, " is outside [0, ",
                      shape.clips, ")");
    const int64_t first = params.offsets[clip], end = params.offsets[clip + 1];
    TORCH_CHECK_VALUE(0 <= first && first <= end && end <= shape.frames, kOp, ": offsets[", clip, "] = ", first,
                      " and offsets[", clip + 1, "] = ", end, " do not rise within [0, ", shape.frames, "]");
    TORCH_CHECK_VALUE(first < end, kOp, ": index[", view, "] = ", clip, " is a clip without frames");
    const int64_t length = params.lengths[view];
    TORCH_CHECK_VALUE(length >= 0 && length <= shape.out_frames, kOp, ": lengths[", view, "] = ", length,
                      " is outside [0, ", shape.out_frames, "]");
  }
  check_joint_numbers("partner", params.partner, shape.joints, 0, shape.joints);
  check_joint_numbers("origin", params.origin, shape.views, -1, shape.joints);
}

Views skeleton_views(const at::Tensor& frames, const at::Tensor& offsets, const at::Tensor& index, int64_t num_joints,
                     const at::Tensor& lengths, const at::Tensor& start, const at::Tensor& span,
                     const Optional& partner, const Optional& mirror, const Optional& origin, const Optional& matrix,
                     const Optional& joints, const Optional& joint_matrix, const Optional& noise_std,
                     const Optional& seed, const Optional& blur, bool normalize_blur, int64_t out_frames) {
  TORCH_CHECK_VALUE(frames.dim() == 2, kOp, ": frames must have shape [F, D], got ", frames.sizes());
  const Dtype dtype = floating_dtype(kOp, "frames", frames);
  const int64_t coords = frames.size(1), views = index.numel();
  TORCH_CHECK_VALUE(num_joints >= 1 && num_joints <= coords && coords % (3 * num_joints) == 0, kOp,
                    ": frames must have a multiple of ", num_joints, " joints * 3 columns, got ", coords);
  TORCH_CHECK_VALUE(out_frames >= 0, kOp, ": out_frames must be 0 or more, got ", out_frames);
  TORCH_CHECK_VALUE(offsets.dim() == 1 && offsets.numel() >= 1, kOp, ": offsets must have shape [N + 1], got ",
                    offsets.sizes());
  TORCH_CHECK_VALUE(views == 0 || offsets.numel() >= 2, kOp, ": offsets must name at least one clip, got none");
  const int64_t taps = blur && blur->dim() == 2 ? blur->size(1) : 1;
  TORCH_CHECK_VALUE(taps >= 1 && taps <= kMaxTaps, kOp, ": blur must have 1 to ", kMaxTaps, " weights, got ", taps);

  const c10::DeviceGuard guard(frames.device());
  Arguments arguments(frames.device());
  SkeletonViewsParams params;
  params.offsets = arguments.take<int64_t>("offsets", offsets, offsets.sizes());
  params.index = arguments.take<int64_t>("index", index, {views});
  params.lengths = arguments.take<int64_t>("lengths", lengths, {views});
  params.start = arguments.take<int64_t>("start", start, {views});
  params.span = arguments.take<int64_t>("span", span, {views});
  params.partner = arguments.take<int64_t>("partner", partner, {num_joints});
  params.mirror = arguments.take<bool>("mirror", mirror, {views});
  params.origin = arguments.take<int64_t>("origin", origin, {views});
  params.matrix = arguments.take<float>("matrix", matrix, {views, 3, 3});
  params.chosen = arguments.take<bool>("joints", joints, {views, num_joints});
  params.joint_matrix = arguments.take<float>("joint_matrix", joint_matrix, {views, 3, 3});
  params.noise_std = arguments.take<float>("noise_std", noise_std, {views, 3});
  params.seed = arguments.take<int64_t>("seed", seed, {views});
  params.blur = arguments.take<float>("blur", blur, {views, taps});
  TORCH_CHECK_VALUE(!mirror || partner, kOp, ": mirror is given without partner");
  TORCH_CHECK_VALUE(!joints || joint_matrix, kOp, ": joints is given without joint_matrix");
  TORCH_CHECK_VALUE(!noise_std || seed, kOp, ": noise_std is given without seed");

  const at::Tensor dense = frames.stride(1) == 1 ? frames : frames.contiguous();
  SkeletonViewsShape shape;
  shape.frames = dense.size(0);
  shape.frame_stride = dense.stride(0);
  shape.clips = offsets.numel() - 1;
  shape.views = views;
  shape.out_frames = out_frames;
  shape.joints = static_cast<int32_t>(num_joints);
  shape.all_joints = static_cast<int32_t>(coords / 3);
  shape.taps = blur ? static_cast<int32_t>(taps) : 0;
  shape.normalize_blur = normalize_blur;
  if (frames.device().is_cpu()) {
    check_values(params, shape);
  }
  Views result{at::empty({views, out_frames, coords}, frames.options()),
               at::empty({views, out_frames, coords}, frames.options())};
  if (views * out_frames == 0) {
    return result;
  }
  void* coords_out = std::get<0>(result).mutable_data_ptr();
  void* velocity_out = std::get<1>(result).mutable_data_ptr();
  if (frames.device().is_cpu()) {
    skeleton_views_cpu(dtype, dense.const_data_ptr(), params, coords_out, velocity_out, shape);
  } else {
#ifdef CRRL_WITH_CUDA
    skeleton_views_cuda(dtype, dense.const_data_ptr(), params, coords_out, velocity_out, shape,
                        current_stream(frames.device()));
#endif
  }
  return result;
}

TORCH_LIBRARY_IMPL(crrl_fast, CPU, m) { m.impl("skeleton_views", &skeleton_views); }

#ifdef CRRL_WITH_CUDA
TORCH_LIBRARY_IMPL(crrl_fast, CUDA, m) { m.impl("skeleton_views", &skeleton_views); }
#endif

}  // namespace
}  // namespace crrl
