// The pass over the queue on the CPU. The queue is cut into slabs and the batch into groups of rows; a slab and a group
// make a task. A task walks its slab tile by tile: logits (library GEMM), online softmax, weighted sum of keys (library
// GEMM), all in the cache of one core. What the slabs found of a row is put together at the end, in their order. The
// cut depends on the problem alone, so that the same bits come out of any number of threads.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "info_nce.h"
#include "info_nce_cpu_plan.h"
#include "online_softmax.h"
#include "tile_gemm.h"

namespace crrl {
namespace {

template <class T>
void load_row(Dtype dtype, const void* data, int64_t row, int64_t dim, T* out /* (dim) */) {
  const auto convert = [&](auto* typed) {
    const auto* source = typed + row * dim;
    std::transform(source, source + dim, out, [](auto value) { return static_cast<T>(value); });
  };
  switch (dtype) {
    case Dtype::float32:
      return convert(static_cast<const float*>(data));
    case Dtype::float64:
      return convert(static_cast<const double*>(data));
    case Dtype::float16:
      return convert(static_cast<const c10::Half*>(data));
    case Dtype::bfloat16:
      return convert(static_cast<const c10::BFloat16*>(data));
  }
}

// Several sums side by side, because one alone waits for each addition.
template <class T>
T dot(const T* a, const T* b, int64_t count) {
  constexpr int64_t width = kLanes<T>;
  T sums[width] = {};
  int64_t i = 0;
  for (; i + width <= count; i += width) {
    for (int64_t lane = 0; lane < width; ++lane) {
      sums[lane] += a[i + lane] * b[i + lane];
    }
  }
  T total = 0;
  for (; i < count; ++i) {
    total += a[i] * b[i];
  }
  for (const T sum : sums) {
    total += sum;
  }
  return total;
}

// Two neighbouring keys side by side, as the bfloat16 product takes its right matrix. Bits only.
CRRL_SIMD_CLONES void pair_rows(const uint16_t* __restrict__ even, const uint16_t* __restrict__ odd, int64_t count,
                                uint32_t* __restrict__ pairs) {
  for (int64_t i = 0; i < count; ++i) {
    pairs[i] = even[i] | static_cast<uint32_t>(odd[i]) << 16;
  }
}

template <class Element>
CRRL_SIMD_CLONES void widen(const Element* __restrict__ source, int64_t count, float* __restrict__ out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<float>(source[i]);
  }
}

// Carves aligned arrays out of one allocation, which is torch's, so that its memory profiler sees it.
class Arena {
 public:
  template <class T>
  T* take(int64_t count) {
    const int64_t begin = size_;
    size_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + begin);
  }
  void start(void* base) {
    base_ = static_cast<char*>(base);
    size_ = 0;
  }
  int64_t size() const { return size_; }

 private:
  char* base_ = nullptr;
  int64_t size_ = 0;
};

// T: of sums and results. Factor: what the products multiply. Element: of the queue.
template <class T, class Factor, class Element>
class Pass {
 public:
  Pass(const InfoNceShape& shape, const InfoNceSettings& settings, const InfoNceInput& input,
       const InfoNceOutput& output)
      : shape_(shape),
        settings_(settings),
        input_(input),
        output_(output),
        keys_(filled_keys(input.filled, shape.negatives)),
        plan_(shape, keys_, sizeof(T)) {}

  void run() {
    Arena arena;
    lay_out(arena);
    const at::Tensor memory = at::empty({arena.size()}, at::kByte);
    arena.start(memory.mutable_data_ptr());
    lay_out(arena);

    const int64_t grain = std::max<int64_t>(1, 16384 / shape_.dim);  // rows worth a thread of their own
    at::parallel_for(0, plan_.rows() / kSoftmaxStep, ceil_div(grain, kSoftmaxStep), [&](int64_t begin, int64_t end) {
      std::vector<T> row_memory((kSoftmaxStep + 1) * shape_.dim);
      for (int64_t step = begin; step < end; ++step) {
        prepare(step * kSoftmaxStep, row_memory.data());
      }
    });
    at::parallel_for(0, plan_.slabs * plan_.groups, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        walk(task / plan_.groups, task % plan_.groups, scratch_[at::get_thread_num()]);
      }
    });
    at::parallel_for(0, shape_.batch, grain, [&](int64_t begin, int64_t end) {
      std::vector<T> row_memory(3 * shape_.dim);
      for (int64_t row = begin; row < end; ++row) {
        finish(row, row_memory.data());
      }
    });
  }

 private:
  static constexpr bool kPaired = std::is_same_v<Factor, c10::BFloat16>;
  static constexpr bool kInPlace = std::is_same_v<Factor, Element>;

  struct Scratch {    // of a thread
    T* logits;        // (tile, width)
    Factor* weights;  // (width, tile)
    T* shrink;        // (width)
    Factor* keys;     // (tile, dim): converted, or the end of the queue padded to a whole step
    Factor* pairs;    // (tile / 2, dim, 2)
  };

  void lay_out(Arena& arena) {
    const int64_t dim = shape_.dim, rows = plan_.rows(), tile = plan_.tile;
    factors_ = arena.take<Factor>(rows * dim);
    positive_ = arena.take<T>(rows);
    threshold_ = arena.take<T>(rows);
    query_norm_ = arena.take<T>(rows);
    key_norm_ = arena.take<T>(rows);
    max_ = arena.take<T>(plan_.slabs * rows);
    sum_ = arena.take<T>(plan_.slabs * rows);
    rank_ = arena.take<Count<T>>(plan_.slabs * rows);
    key_sum_ = arena.take<T>(wants_key_sum() ? plan_.slabs * rows * dim : 0);
    scratch_.resize(at::get_num_threads());
    for (Scratch& scratch : scratch_) {
      scratch.logits = arena.take<T>(tile * plan_.width);
      scratch.weights = arena.take<Factor>(tile * plan_.width);
      scratch.shrink = arena.take<T>(plan_.width);
      scratch.keys = arena.take<Factor>(!kInPlace || keys_ % kSoftmaxStep != 0 ? tile * dim : 0);
      scratch.pairs = arena.take<Factor>(kPaired ? tile * dim : 0);
    }
  }

  bool wants_key_sum() const { return output_.query_grad != nullptr; }

  // Where coordinate `d` of a row of a block stands in the right matrix of the first product.
  int64_t factor_at(int64_t lane, int64_t d) const {
    return kPaired ? (d / 2 * plan_.width + lane) * 2 + d % 2 : d * plan_.width + lane;
  }

  void load_vectors(int64_t row, T* query, T* key) {
    load_row(input_.query_dtype, input_.query, row, shape_.dim, query);
    load_row(input_.key_dtype, input_.key, row, shape_.dim, key);
  }

  void scale_vectors(int64_t row, T* query, T* key) const {
    for (int64_t d = 0; d < shape_.dim; ++d) {
      query[d] /= std::max(query_norm_[row], static_cast<T>(kSmallestNorm));
      key[d] /= std::max(key_norm_[row], static_cast<T>(kSmallestNorm));
    }
  }

  // Norms and positive logits of kSoftmaxStep rows, and the queries as columns of the first product's right matrix.
  void prepare(int64_t first_row, T* queries /* (kSoftmaxStep + 1, dim) */) {
    const int64_t dim = shape_.dim;
    T* key = queries + kSoftmaxStep * dim;
    for (int64_t lane = 0; lane < kSoftmaxStep; ++lane) {
      const int64_t row = first_row + lane;
      T* query = queries + lane * dim;
      if (row >= shape_.batch) {  // padding
        std::fill_n(query, dim, T(0));
        threshold_[row] = T(0);
        continue;
      }
      load_vectors(row, query, key);
      if (settings_.normalize) {
        query_norm_[row] = std::sqrt(dot(query, query, dim));
        key_norm_[row] = std::sqrt(dot(key, key, dim));
        scale_vectors(row, query, key);
      }
      positive_[row] = dot(query, key, dim);
      threshold_[row] = rank_threshold(positive_[row], kPaired ? Dtype::bfloat16 : input_.queue_dtype);
    }
    Factor* block = factors_ + first_row / plan_.width * plan_.width * dim;
    const int64_t column = first_row % plan_.width;
    for (int64_t d = 0; d < dim; ++d) {
      for (int64_t lane = 0; lane < kSoftmaxStep; ++lane) {
        block[factor_at(column + lane, d)] = static_cast<Factor>(queries[lane * dim + d]);
      }
    }
  }

  // The keys from `first` on as a left matrix of `rows` rows, a multiple of kSoftmaxStep.
  Matrix<Factor> tile_at(int64_t first, int64_t count, int64_t rows, const Scratch& scratch) const {
    const Element* source = static_cast<const Element*>(input_.queue) + first * shape_.queue_stride;
    if constexpr (kInPlace) {
      if (count == rows) {
        return {source, shape_.queue_stride};
      }
    }
    for (int64_t key = 0; key < count; ++key) {
      if constexpr (kInPlace) {
        std::copy_n(source + key * shape_.queue_stride, shape_.dim, scratch.keys + key * shape_.dim);
      } else {
        widen(source + key * shape_.queue_stride, shape_.dim, scratch.keys + key * shape_.dim);
      }
    }
    std::fill(scratch.keys + count * shape_.dim, scratch.keys + rows * shape_.dim, Factor(0));
    return {scratch.keys, shape_.dim};
  }

  Matrix<Factor> right_matrix(Matrix<Factor> keys, int64_t count, const Scratch& scratch) const {
    if constexpr (kPaired) {
      for (int64_t key = 0; key < count; key += 2) {
        const auto* even = reinterpret_cast<const uint16_t*>(keys.data + key * keys.stride);
        pair_rows(even, even + keys.stride, shape_.dim, reinterpret_cast<uint32_t*>(scratch.pairs + key * shape_.dim));
      }
      return {scratch.pairs, shape_.dim};
    }
    return keys;
  }

  void walk(int64_t slab, int64_t group, const Scratch& scratch) {
    const int64_t dim = shape_.dim, width = plan_.width;
    const int64_t begin = slab * plan_.keys_per_slab, end = std::min(begin + plan_.keys_per_slab, keys_);
    const int64_t first_block = group * plan_.blocks_per_group;
    const int64_t last_block = std::min(first_block + plan_.blocks_per_group, plan_.blocks);
    const T scale = static_cast<T>(kLog2E / settings_.temperature);

    const int64_t first_row = slab * plan_.rows() + first_block * width;
    const int64_t rows = (last_block - first_block) * width;
    std::fill_n(max_ + first_row, rows, -std::numeric_limits<T>::infinity());
    std::fill_n(sum_ + first_row, rows, T(0));
    std::fill_n(rank_ + first_row, rows, 0);

    for (int64_t first = begin; first < end; first += plan_.tile) {
      const int64_t count = std::min(plan_.tile, end - first);
      const int64_t padded = round_up(count, kSoftmaxStep);
      const Matrix<Factor> keys = tile_at(first, count, padded, scratch);
      const Matrix<Factor> values = wants_key_sum() ? right_matrix(keys, padded, scratch) : keys;
      for (int64_t block = first_block; block < last_block; ++block) {
        const int64_t row = slab * plan_.rows() + block * width;
        tile_product(padded, width, dim, keys, {factors_ + block * width * dim, width}, scratch.logits, width, false);
        std::fill(scratch.logits + count * width, scratch.logits + padded * width, -std::numeric_limits<T>::infinity());
        softmax_tile(scratch.logits, padded, width, scale, threshold_ + block * width, max_ + row, sum_ + row,
                     rank_ + row, scratch.shrink, scratch.weights);
        if (wants_key_sum()) {
          T* key_sum = key_sum_ + row * dim;
          if (first > begin) {
            shrink_rows(key_sum, scratch.shrink);
          }
          tile_product(width, dim, padded, {scratch.weights, padded}, values, key_sum, dim, first > begin);
        }
      }
    }
  }

  void shrink_rows(T* key_sum /* (width, dim) */, const T* shrink /* (width) */) const {
    for (int64_t row = 0; row < plan_.width; ++row) {
      if (shrink[row] != T(1)) {  // maxima settle after a few tiles
        std::transform(key_sum + row * shape_.dim, key_sum + (row + 1) * shape_.dim, key_sum + row * shape_.dim,
                       [factor = shrink[row]](T value) { return value * factor; });
      }
    }
  }

  void finish(int64_t row, T* query /* (3, dim) */) {
    const int64_t dim = shape_.dim, rows = plan_.rows();
    SoftmaxState<T> state{-std::numeric_limits<T>::infinity(), T(0)};
    int64_t rank = 0;
    for (int64_t slab = 0; slab < plan_.slabs; ++slab) {
      state.max = std::max(state.max, max_[slab * rows + row]);
      rank += rank_[slab * rows + row];
    }
    for (int64_t slab = 0; slab < plan_.slabs; ++slab) {
      state.sum += sum_[slab * rows + row] * raise(max_[slab * rows + row], state.max);
    }
    const T positive = positive_[row] * static_cast<T>(kLog2E / settings_.temperature);
    const RowResult<T> result = finish_row(state, positive);
    static_cast<T*>(output_.loss)[row] = result.loss;
    output_.hits[2 * row] = rank < 1 ? 1.0f : 0.0f;
    output_.hits[2 * row + 1] = rank < 5 ? 1.0f : 0.0f;
    if (output_.query_grad == nullptr && output_.key_grad == nullptr) {
      return;
    }

    T* key = query + dim;
    T* key_sum = key + dim;
    load_vectors(row, query, key);
    if (settings_.normalize) {
      scale_vectors(row, query, key);
    }
    const T scale = static_cast<T>(settings_.row_weight / settings_.temperature);
    if (output_.query_grad != nullptr) {
      std::fill_n(key_sum, dim, T(0));
      for (int64_t slab = 0; slab < plan_.slabs; ++slab) {
        const T factor = raise(max_[slab * rows + row], state.max);
        const T* part = key_sum_ + (slab * rows + row) * dim;
        for (int64_t d = 0; d < dim; ++d) {
          key_sum[d] += factor * part[d];
        }
      }
      T* grad = static_cast<T*>(output_.query_grad) + row * dim;
      for (int64_t d = 0; d < dim; ++d) {
        grad[d] = query_gradient(result, scale, key_sum[d], key[d]);
      }
      through_normalize(grad, query, query_norm_[row]);
    }
    if (output_.key_grad != nullptr) {
      T* grad = static_cast<T*>(output_.key_grad) + row * dim;
      for (int64_t d = 0; d < dim; ++d) {
        grad[d] = key_gradient(result, scale, query[d]);
      }
      through_normalize(grad, key, key_norm_[row]);
    }
  }

  void through_normalize(T* grad /* (dim) */, const T* unit /* (dim) */, T norm) const {
    if (!settings_.normalize) {
      return;
    }
    const T along = dot(grad, unit, shape_.dim);
    for (int64_t d = 0; d < shape_.dim; ++d) {
      grad[d] = normalize_gradient(grad[d], unit[d], along, norm);
    }
  }

  const InfoNceShape shape_;
  const InfoNceSettings settings_;
  const InfoNceInput input_;
  const InfoNceOutput output_;
  const int64_t keys_;
  const InfoNceCpuPlan plan_;

  Factor* factors_;  // (blocks, dim, width), paired for bfloat16
  T* positive_;      // (rows): query . key
  T* threshold_;     // (rows)
  T* query_norm_;    // (rows)
  T* key_norm_;      // (rows)
  T* max_;           // (slabs, rows), in units of log 2
  T* sum_;           // (slabs, rows)
  Count<T>* rank_;   // (slabs, rows)
  T* key_sum_;       // (slabs, rows, dim)
  std::vector<Scratch> scratch_;
};

}  // namespace

void info_nce_cpu(const InfoNceShape& shape, const InfoNceSettings& settings, const InfoNceInput& input,
                  const InfoNceOutput& output) {
  const auto run = [&](auto pass) { pass.run(); };
  switch (input.queue_dtype) {
    case Dtype::float64:
      return run(Pass<double, double, double>(shape, settings, input, output));
    case Dtype::float32:
      return run(Pass<float, float, float>(shape, settings, input, output));
    case Dtype::float16:
      return run(Pass<float, float, c10::Half>(shape, settings, input, output));
    case Dtype::bfloat16:
      if (shape.dim % 2 == 0 && has_bfloat16_products()) {
        return run(Pass<float, c10::BFloat16, c10::BFloat16>(shape, settings, input, output));
      }
      return run(Pass<float, float, c10::BFloat16>(shape, settings, input, output));
  }
}

}  // namespace crrl
