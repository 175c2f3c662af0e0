// queue_info_nce on a GPU, in three launches.
//
// 1. A warp per row finds the norms, the positive logit and the query as it enters the products.
// 2. The pass (info_nce_pass.cuh) is FlashAttention-2 (Dao, arXiv 2307.08691) with the queue as both keys and values.
//    Tiles of it come into shared memory while the tensor cores multiply the one before; the logits that they leave in
//    registers become p there and are multiplied with the same tile for w. Each split of the queue leaves the maximum,
//    the sum, the rank and w of its own keys.
// 3. A block per row merges the splits in a fixed order, so that the same input gives the same bits, and writes the
//    loss and the gradients.
#include <algorithm>

#include "info_nce_pass.cuh"
#include "launch.cuh"

namespace crrl {
namespace {

constexpr int kRowThreads = 256;

// The few numbers outside the products are read through a switch: a kernel for each pair of dtypes would buy nothing.
__device__ float read(const void* values, Dtype dtype, int64_t index) {
  switch (dtype) {
    case Dtype::bfloat16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(values)[index]);
    case Dtype::float16:
      return __half2float(static_cast<const __half*>(values)[index]);
    default:
      return static_cast<const float*>(values)[index];
  }
}

__device__ void write(void* values, Dtype dtype, int64_t index, float value) {
  switch (dtype) {
    case Dtype::bfloat16:
      static_cast<__nv_bfloat16*>(values)[index] = __float2bfloat16_rn(value);
      return;
    case Dtype::float16:
      static_cast<__half*>(values)[index] = __float2half_rn(value);
      return;
    default:
      static_cast<float*>(values)[index] = value;
  }
}

__device__ float divisor(float norm) { return fmaxf(norm, static_cast<float>(kSmallestNorm)); }

__device__ float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  }
  return value;
}

__device__ float warp_max(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  }
  return value;
}

// ---- 1. Rows ----

__global__ void __launch_bounds__(kRowThreads)
    prepare_kernel(InfoNceShape shape, InfoNcePlan plan, InfoNceInput input, bool normalize, float log2_scale,
                   Dtype accuracy, RowFacts* rows /* (B) */, void* queries /* (B, groups x columns) */) {
  const int lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kRowThreads / 32) + threadIdx.x / 32;
  if (row >= shape.batch) {
    return;
  }
  const int64_t start = row * shape.dim;
  float query_norm = 1.0f;
  float key_norm = 1.0f;
  if (normalize) {
    float query_square = 0.0f;
    float key_square = 0.0f;
    for (int64_t column = lane; column < shape.dim; column += 32) {
      const float query = read(input.query, input.query_dtype, start + column);
      const float key = read(input.key, input.key_dtype, start + column);
      query_square += query * query;
      key_square += key * key;
    }
    query_norm = sqrtf(warp_sum(query_square));
    key_norm = sqrtf(warp_sum(key_square));
  }
  float dot = 0.0f;
  const int width = plan.groups * plan.columns;
  for (int64_t column = lane; column < width; column += 32) {
    float query = 0.0f;
    if (column < shape.dim) {
      query = read(input.query, input.query_dtype, start + column) / divisor(query_norm);
      dot += query * (read(input.key, input.key_dtype, start + column) / divisor(key_norm));
    }
    write(queries, input.queue_dtype, row * width + column, query);
  }
  const float positive = warp_sum(dot) * log2_scale;
  if (lane == 0) {
    rows[row] = {positive, rank_threshold(positive, accuracy), query_norm, key_norm};
  }
}

// ---- 3. Results ----

struct CombineArguments {
  InfoNceShape shape;
  InfoNcePlan plan;
  InfoNceInput input;
  InfoNceOutput output;
  const RowFacts* rows;        // (B)
  const PartialState* states;  // (splits, groups, B)
  const float* sums;           // (splits, B, sums_stride)
  float scale;                 // of the gradients
  bool normalize;
};

// Merges the states of one group's splits by one warp; all lanes return the result. `factors` are those of w.
__device__ RowResult<float> merge_states(const CombineArguments& combine, int64_t row, float positive, int group,
                                         float* factors /* (splits, groups) */) {
  const InfoNcePlan& plan = combine.plan;
  const int lane = threadIdx.x % 32;
  const PartialState* states = combine.states + group * combine.shape.batch + row;
  const int64_t stride = plan.groups * combine.shape.batch;
  float max = -INFINITY;
  for (int split = lane; split < plan.splits; split += 32) {
    max = fmaxf(max, states[split * stride].softmax.max);
  }
  max = warp_max(max);
  float sum = 0.0f;
  float ahead = 0.0f;  // counts beyond 2^24 need not be exact
  for (int split = lane; split < plan.splits; split += 32) {
    const PartialState state = states[split * stride];
    const float factor = raise(state.softmax.max, max);
    factors[split * plan.groups + group] = factor;
    sum += state.softmax.sum * factor;
    ahead += static_cast<float>(state.ahead);
  }
  sum = warp_sum(sum);
  ahead = warp_sum(ahead);
  const RowResult<float> result = finish_row(SoftmaxState<float>{max, sum}, positive);
  if (group == 0 && lane == 0) {
    static_cast<float*>(combine.output.loss)[row] = result.loss;
    if (combine.output.hits != nullptr) {
      combine.output.hits[2 * row] = ahead < 1.0f ? 1.0f : 0.0f;
      combine.output.hits[2 * row + 1] = ahead < 5.0f ? 1.0f : 0.0f;
    }
  }
  return result;
}

// Sums over the block; every thread gets both.
__device__ float2 block_sum(float2 value) {
  __shared__ float2 warps[kRowThreads / 32];
  value = make_float2(warp_sum(value.x), warp_sum(value.y));
  if (threadIdx.x % 32 == 0) {
    warps[threadIdx.x / 32] = value;
  }
  __syncthreads();
  float2 total = make_float2(0.0f, 0.0f);
  for (int warp = 0; warp < kRowThreads / 32; ++warp) {
    total.x += warps[warp].x;
    total.y += warps[warp].y;
  }
  return total;
}

__global__ void __launch_bounds__(kRowThreads) combine_kernel(const __grid_constant__ CombineArguments combine) {
  static_assert(kInfoNceLargestDim <= 4 * kRowThreads, "a thread has four columns");
  static_assert(kInfoNceLargestDim <= 128 * (kRowThreads / 32), "a warp merges a group of columns, of 128 at least");
  __shared__ float factors[kMostPartials];  // (splits, groups)
  __shared__ RowResult<float> results[kRowThreads / 32];
  __shared__ float4 partials[kRowThreads];  // (strands, vectors)

  const InfoNceShape& shape = combine.shape;
  const InfoNcePlan& plan = combine.plan;
  const InfoNceInput& input = combine.input;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x;
  const RowFacts facts = combine.rows[row];
  if (thread / 32 < plan.groups) {
    const RowResult<float> result = merge_states(combine, row, facts.positive, thread / 32, factors);
    if (thread % 32 == 0) {
      results[thread / 32] = result;
    }
  }
  if (combine.output.query_grad == nullptr && combine.output.key_grad == nullptr) {
    return;
  }
  __syncthreads();

  // A thread sums four columns of w over every so many splits, then the first of these threads over the others.
  const int vectors = plan.sums_stride / 4;
  const int strands = kRowThreads / vectors;
  const int vector = thread % vectors;
  const int group = vector * 4 / plan.columns;
  float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const auto add = [&total](const float4& numbers, float factor) {
    total.x += numbers.x * factor;
    total.y += numbers.y * factor;
    total.z += numbers.z * factor;
    total.w += numbers.w * factor;
  };
  if (combine.output.query_grad != nullptr) {
    if (thread / vectors < strands) {
      for (int split = thread / vectors; split < plan.splits; split += strands) {
        const float* sums = combine.sums + (split * shape.batch + row) * plan.sums_stride;
        add(reinterpret_cast<const float4*>(sums)[vector], factors[split * plan.groups + group]);
      }
    }
    partials[thread] = total;
    __syncthreads();
    if (thread < vectors) {
      for (int strand = 1; strand < strands; ++strand) {
        add(partials[strand * vectors + thread], 1.0f);
      }
    }
  }

  const float sums[4] = {total.x, total.y, total.z, total.w};
  float query[4], key[4], query_grad[4], key_grad[4];
  float2 dots = make_float2(0.0f, 0.0f);  // of each gradient with its unit vector
  const int64_t first_column = 4 * static_cast<int64_t>(vector);
  const int columns = thread < vectors ? static_cast<int>(min(shape.dim - first_column, int64_t{4})) : 0;
  const int64_t first = row * shape.dim + first_column;
  CRRL_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (i < columns) {
      query[i] = read(input.query, input.query_dtype, first + i) / divisor(facts.query_norm);
      key[i] = read(input.key, input.key_dtype, first + i) / divisor(facts.key_norm);
      query_grad[i] = query_gradient(results[group], combine.scale, sums[i], key[i]);
      key_grad[i] = key_gradient(results[group], combine.scale, query[i]);
      dots.x += query_grad[i] * query[i];
      dots.y += key_grad[i] * key[i];
    }
  }
  if (combine.normalize) {
    dots = block_sum(dots);
  }
  CRRL_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (i < columns) {
      if (combine.normalize) {
        query_grad[i] = normalize_gradient(query_grad[i], query[i], dots.x, facts.query_norm);
        key_grad[i] = normalize_gradient(key_grad[i], key[i], dots.y, facts.key_norm);
      }
      if (combine.output.query_grad != nullptr) {
        static_cast<float*>(combine.output.query_grad)[first + i] = query_grad[i];
      }
      if (combine.output.key_grad != nullptr) {
        static_cast<float*>(combine.output.key_grad)[first + i] = key_grad[i];
      }
    }
  }
}

// ---- Launches ----

int device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  check_cuda(cudaGetDevice(&device), "asking for the device");
  check_cuda(cudaDeviceGetAttribute(&value, attribute, device), "asking for a property of the device");
  return value;
}

InfoNcePlan plan_for_device(const InfoNceShape& shape, Dtype queue_dtype) {
  return plan_info_nce(shape, size_of(queue_dtype), device_attribute(cudaDevAttrMultiProcessorCount),
                       device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

template <class Products, int Columns>
void launch_pass(const PassArguments& pass, void* stream) {
  const InfoNcePlan& plan = pass.plan;
  const auto shared_bytes = static_cast<int>(pass_shared_bytes(plan, Products::element_size));
  // At every launch, because it holds for one kernel on one device, and costs less than to remember where it was done.
  check_cuda(
      cudaFuncSetAttribute(pass_kernel<Products, Columns>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
      "asking for shared memory");
  const auto blocks = static_cast<unsigned>(plan.row_blocks) * plan.groups * plan.splits;
  CRRL_LAUNCH((pass_kernel<Products, Columns>), blocks, kPassThreads, shared_bytes, stream, pass);
}

template <class Products>
void launch_columns(const PassArguments& pass, void* stream) {
  switch (pass.plan.columns) {
    case 64:
      return launch_pass<Products, 64>(pass, stream);
    case 128:
      return launch_pass<Products, 128>(pass, stream);
    default:
      if constexpr (Products::element_size == 2) {
        launch_pass<Products, 256>(pass, stream);
      }
  }
}

// Calls `body` with the types of the products.
template <class Body>
void with_products(Dtype queue_dtype, bool allow_tf32, Body body) {
  switch (queue_dtype) {
    case Dtype::bfloat16:
      return body(Bfloat16Products{});
    case Dtype::float16:
      return body(Float16Products{});
    default:
      return allow_tf32 ? body(Tf32Products{}) : body(Float32Products{});
  }
}

}  // namespace

int64_t info_nce_cuda_workspace(const InfoNceShape& shape, const InfoNceInput& input) {
  return lay_out_workspace(shape, plan_for_device(shape, input.queue_dtype), size_of(input.queue_dtype)).bytes;
}

void info_nce_cuda(const InfoNceShape& shape, const InfoNceSettings& settings, const InfoNceInput& input,
                   const InfoNceOutput& output, void* workspace, void* stream) {
  const InfoNcePlan plan = plan_for_device(shape, input.queue_dtype);
  const InfoNceWorkspace layout = lay_out_workspace(shape, plan, size_of(input.queue_dtype));
  auto* bytes = static_cast<unsigned char*>(workspace);
  auto* rows = reinterpret_cast<RowFacts*>(bytes + layout.rows);
  auto* queries = static_cast<void*>(bytes + layout.queries);
  auto* states = reinterpret_cast<PartialState*>(bytes + layout.states);
  auto* sums = reinterpret_cast<float*>(bytes + layout.sums);
  const auto log2_scale = static_cast<float>(kLog2E / settings.temperature);

  with_products(input.queue_dtype, settings.allow_tf32, [&](auto products) {
    using Products = decltype(products);
    CRRL_LAUNCH(prepare_kernel, static_cast<unsigned>(ceil_div(shape.batch, kRowThreads / 32)), kRowThreads, 0, stream,
                shape, plan, input, settings.normalize, log2_scale, Products::accuracy, rows, queries);
    launch_columns<Products>({shape, plan, input.queue, input.filled, queries, rows, states,
                              output.query_grad != nullptr ? sums : nullptr, log2_scale},
                             stream);
  });
  CRRL_LAUNCH(combine_kernel, static_cast<unsigned>(shape.batch), kRowThreads, 0, stream,
              CombineArguments{shape, plan, input, output, rows, states, sums,
                               static_cast<float>(settings.row_weight / settings.temperature), settings.normalize});
}

}  // namespace crrl
