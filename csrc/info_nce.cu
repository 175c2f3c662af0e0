// queue_info_nce on a GPU, in three launches.
//
// 1. A block per row finds the norms, the positive logit and the query as it enters the products.
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

constexpr int kRowThreads = 256;  // of the first and the last kernel: a block per row
constexpr int kOwnColumns = 4;    // that a thread of these has: every 256th
static_assert(kInfoNceLargestDim <= kOwnColumns * kRowThreads, "a row would not fit");

template <class T>
__device__ void load_columns(const T* row /* (dim) */, int64_t dim, float (&numbers)[kOwnColumns]) {
  T loaded[kOwnColumns];
  CRRL_UNROLL
  for (int i = 0; i < kOwnColumns; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kRowThreads;
    loaded[i] = column < dim ? row[column] : T(0.0f);
  }
  CRRL_UNROLL
  for (int i = 0; i < kOwnColumns; ++i) {
    numbers[i] = static_cast<float>(loaded[i]);
  }
}

// Outside the products, dtypes are told apart at run time: a kernel for each pair of them would buy nothing.
__device__ void load_columns(const void* rows /* (B, dim) */, Dtype dtype, int64_t row, int64_t dim,
                             float (&numbers)[kOwnColumns]) {
  switch (dtype) {
    case Dtype::bfloat16:
      return load_columns(static_cast<const __nv_bfloat16*>(rows) + row * dim, dim, numbers);
    case Dtype::float16:
      return load_columns(static_cast<const __half*>(rows) + row * dim, dim, numbers);
    default:
      return load_columns(static_cast<const float*>(rows) + row * dim, dim, numbers);
  }
}

__device__ void store(void* numbers, Dtype dtype, int64_t index, float number) {
  switch (dtype) {
    case Dtype::bfloat16:
      static_cast<__nv_bfloat16*>(numbers)[index] = __float2bfloat16_rn(number);
      return;
    case Dtype::float16:
      static_cast<__half*>(numbers)[index] = __float2half_rn(number);
      return;
    default:
      static_cast<float*>(numbers)[index] = number;
  }
}

__device__ void divide(float (&numbers)[kOwnColumns], float norm) {
  CRRL_UNROLL
  for (int i = 0; i < kOwnColumns; ++i) {
    numbers[i] /= fmaxf(norm, static_cast<float>(kSmallestNorm));
  }
}

// This thread's part of the dot product.
__device__ float own_dot(const float (&a)[kOwnColumns], const float (&b)[kOwnColumns]) {
  float dot = 0.0f;
  CRRL_UNROLL
  for (int i = 0; i < kOwnColumns; ++i) {
    dot += a[i] * b[i];
  }
  return dot;
}

__device__ float warp_sum(float value) {
  CRRL_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  }
  return value;
}

__device__ float warp_max(float value) {
  CRRL_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  }
  return value;
}

// Two sums over the block, for every thread.
__device__ float2 block_sum(float first, float second) {
  __shared__ float2 warps[kRowThreads / 32];
  const float2 own = make_float2(warp_sum(first), warp_sum(second));
  if (threadIdx.x % 32 == 0) {
    warps[threadIdx.x / 32] = own;
  }
  __syncthreads();
  float2 total = make_float2(0.0f, 0.0f);
  CRRL_UNROLL
  for (int warp = 0; warp < kRowThreads / 32; ++warp) {
    total.x += warps[warp].x;
    total.y += warps[warp].y;
  }
  __syncthreads();
  return total;
}

// ---- 1. Rows ----

__global__ void __launch_bounds__(kRowThreads)
    prepare_kernel(InfoNceShape shape, InfoNcePlan plan, InfoNceInput input, bool normalize, float log2_scale,
                   Dtype accuracy, RowFacts* rows /* (B) */, void* queries /* (B, groups x columns) */) {
  const int64_t row = blockIdx.x;
  float query[kOwnColumns], key[kOwnColumns];
  load_columns(input.query, input.query_dtype, row, shape.dim, query);
  load_columns(input.key, input.key_dtype, row, shape.dim, key);
  float2 norms = make_float2(1.0f, 1.0f);
  if (normalize) {
    const float2 squares = block_sum(own_dot(query, query), own_dot(key, key));
    norms = make_float2(sqrtf(squares.x), sqrtf(squares.y));
    divide(query, norms.x);
    divide(key, norms.y);
  }
  const int64_t width = static_cast<int64_t>(plan.groups) * plan.columns;
  CRRL_UNROLL
  for (int i = 0; i < kOwnColumns; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kRowThreads;
    if (column < width) {
      store(queries, input.queue_dtype, row * width + column, query[i]);
    }
  }
  const float positive = block_sum(own_dot(query, key), 0.0f).x * log2_scale;
  if (threadIdx.x == 0) {
    rows[row] = {positive, rank_threshold(positive, accuracy), norms.x, norms.y};
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
  const float* key_sums;       // w: (splits, B, key_sums_stride)
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

// Leaves w of a row in `key_sums`. A thread sums four columns over every so many splits, then the first of these
// threads over the others.
__device__ void sum_splits(const CombineArguments& combine, int64_t row, const float* factors /* (splits, groups) */,
                           float4 (&key_sums)[kRowThreads]) {
  const InfoNcePlan& plan = combine.plan;
  const int thread = static_cast<int>(threadIdx.x);
  const int vectors = plan.key_sums_stride / 4;
  const int strands = kRowThreads / vectors;
  const int vector = thread % vectors;
  const int strand = thread / vectors;
  const int group = vector * 4 / plan.columns;
  float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const auto add = [&total](const float4& four, float factor) {
    total.x += four.x * factor;
    total.y += four.y * factor;
    total.z += four.z * factor;
    total.w += four.w * factor;
  };
  if (strand < strands) {
#pragma unroll 4
    for (int split = strand; split < plan.splits; split += strands) {
      const float* of_split = combine.key_sums + (split * combine.shape.batch + row) * plan.key_sums_stride;
      add(reinterpret_cast<const float4*>(of_split)[vector], factors[split * plan.groups + group]);
    }
  }
  key_sums[thread] = total;
  __syncthreads();
  if (strand == 0) {
    for (int other = 1; other < strands; ++other) {
      add(key_sums[other * vectors + vector], 1.0f);
    }
    key_sums[thread] = total;
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kRowThreads) combine_kernel(const __grid_constant__ CombineArguments combine) {
  static_assert(kInfoNceLargestDim <= kWidestRowBytes / 4 * (kRowThreads / 32), "a warp merges a group of columns");
  __shared__ float factors[kMostPartials];  // (splits, groups)
  __shared__ RowResult<float> results[kRowThreads / 32];
  __shared__ float4 key_sums[kRowThreads];

  const InfoNceShape& shape = combine.shape;
  const InfoNceOutput& output = combine.output;
  const int64_t row = blockIdx.x;
  const RowFacts facts = combine.rows[row];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < combine.plan.groups) {
    const RowResult<float> result = merge_states(combine, row, facts.positive, warp, factors);
    if (threadIdx.x % 32 == 0) {
      results[warp] = result;
    }
  }
  if (output.query_grad == nullptr && output.key_grad == nullptr) {
    return;
  }
  __syncthreads();
  if (output.query_grad != nullptr) {
    sum_splits(combine, row, factors, key_sums);
  }

  float query[kOwnColumns], key[kOwnColumns], query_grad[kOwnColumns], key_grad[kOwnColumns];
  load_columns(combine.input.query, combine.input.query_dtype, row, shape.dim, query);
  load_columns(combine.input.key, combine.input.key_dtype, row, shape.dim, key);
  if (combine.normalize) {
    divide(query, facts.query_norm);
    divide(key, facts.key_norm);
  }
  CRRL_UNROLL
  for (int i = 0; i < kOwnColumns; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kRowThreads;
    const bool exists = column < shape.dim;
    const RowResult<float> result = results[exists ? column / combine.plan.columns : 0];
    const float sum = exists && output.query_grad != nullptr ? reinterpret_cast<const float*>(key_sums)[column] : 0.0f;
    query_grad[i] = query_gradient(result, combine.scale, sum, key[i]);
    key_grad[i] = key_gradient(result, combine.scale, query[i]);
  }
  if (combine.normalize) {
    const float2 dots = block_sum(own_dot(query_grad, query), own_dot(key_grad, key));
    CRRL_UNROLL
    for (int i = 0; i < kOwnColumns; ++i) {
      query_grad[i] = normalize_gradient(query_grad[i], query[i], dots.x, facts.query_norm);
      key_grad[i] = normalize_gradient(key_grad[i], key[i], dots.y, facts.key_norm);
    }
  }
  CRRL_UNROLL
  for (int i = 0; i < kOwnColumns; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kRowThreads;
    if (column < shape.dim && output.query_grad != nullptr) {
      static_cast<float*>(output.query_grad)[row * shape.dim + column] = query_grad[i];
    }
    if (column < shape.dim && output.key_grad != nullptr) {
      static_cast<float*>(output.key_grad)[row * shape.dim + column] = key_grad[i];
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
  return plan_info_nce(shape, static_cast<int>(size_of(queue_dtype)), device_attribute(cudaDevAttrMultiProcessorCount),
                       device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

template <class Products, int Columns, int RowTiles>
void launch_pass(const PassArguments& pass, void* stream) {
  const InfoNcePlan& plan = pass.plan;
  const auto shared_bytes = static_cast<int>(pass_shared_bytes(plan, Products::element_size));
  // At every launch, because it holds for one kernel on one device, and costs less than to remember where it was done.
  check_cuda(cudaFuncSetAttribute(pass_kernel<Products, Columns, RowTiles>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  shared_bytes),
             "asking for shared memory");
  const auto blocks = static_cast<unsigned>(plan.row_blocks) * plan.groups * plan.splits;
  CRRL_LAUNCH((pass_kernel<Products, Columns, RowTiles>), blocks, kPassThreads, shared_bytes, stream, pass);
}

template <class Products, int Columns>
void launch_row_tiles(const PassArguments& pass, void* stream) {
  if constexpr (Columns <= 128) {
    if (pass.plan.row_tiles == 2) {
      return launch_pass<Products, Columns, 2>(pass, stream);
    }
  }
  launch_pass<Products, Columns, 1>(pass, stream);
}

template <class Products>
void launch_columns(const PassArguments& pass, void* stream) {
  switch (pass.plan.columns) {
    case 64:
      return launch_row_tiles<Products, 64>(pass, stream);
    case 128:
      return launch_row_tiles<Products, 128>(pass, stream);
    default:
      if constexpr (Products::element_size == 2) {
        launch_row_tiles<Products, 256>(pass, stream);
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
  auto* key_sums = reinterpret_cast<float*>(bytes + layout.key_sums);
  const auto log2_scale = static_cast<float>(kLog2E / settings.temperature);

  with_products(input.queue_dtype, settings.allow_tf32, [&](auto products) {
    using Products = decltype(products);
    CRRL_LAUNCH(prepare_kernel, static_cast<unsigned>(shape.batch), kRowThreads, 0, stream, shape, plan, input,
                settings.normalize, log2_scale, Products::accuracy, rows, queries);
    launch_columns<Products>({shape, plan, input.queue, input.filled, queries, rows, states,
                              output.query_grad != nullptr ? key_sums : nullptr, log2_scale},
                             stream);
  });
  CRRL_LAUNCH(combine_kernel, static_cast<unsigned>(shape.batch), kRowThreads, 0, stream,
              CombineArguments{shape, plan, input, output, rows, states, key_sums,
                               static_cast<float>(settings.row_weight / settings.temperature), settings.normalize});
}

}  // namespace crrl
