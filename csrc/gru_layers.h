// What the forward and the backward of the CPU's GRU share: the order of rows, the weights, and each layer's input.
//
// T is the type of states and sums, Factor that of what products multiply and of what is kept for the backward.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cmath>

#include "gru_matrices.h"
#include "gru_rows.h"
#include "philox.h"

namespace crrl {

// Memory from torch, so that its profiler sees it and its allocator aligns it.
template <class Number>
class Buffer {
 public:
  explicit Buffer(int64_t count) : memory_(at::empty({count * static_cast<int64_t>(sizeof(Number))}, at::kByte)) {}
  Number* data() const { return static_cast<Number*>(memory_.mutable_data_ptr()); }

 private:
  at::Tensor memory_;
};

// One random word for each of `count` units (a multiple of 4) of a clip's frame, in order.
CRRL_SIMD_CLONES inline void dropout_words(uint64_t seed, uint32_t layer, uint32_t clip, uint32_t frame, int64_t count,
                                           uint32_t* __restrict__ words) {
  for (int64_t four = 0; four < count / 4; ++four) {
    const Random4 random = philox({{static_cast<uint32_t>(four), frame, clip, layer}}, seed);
    for (int word = 0; word < 4; ++word) {
      words[4 * four + word] = random.word[word];
    }
  }
}

template <class Number, class Scale>
CRRL_SIMD_CLONES void drop_units(const uint32_t* __restrict__ words, uint32_t threshold, Scale scale, int64_t count,
                                 const Number* source, Number* target) {
  for (int64_t i = 0; i < count; ++i) {
    target[i] = words[i] >= threshold ? static_cast<Number>(source[i] * scale) : Number(0);
  }
}

template <class T, class Factor>
class GruLayers {
 protected:
  GruLayers(const GruShape& shape, const GruInput& input)
      : shape_(shape), input_(input), rows_(input.lengths, shape.batch, shape.frames), units_(shape.padded_hidden()) {}

  enum WeightKind { kInputWeight, kRecurrentWeight, kInputBias, kRecurrentBias };

  size_t weight_index(int64_t layer, int64_t direction, WeightKind kind) const {
    return (layer * shape_.directions + direction) * shape_.weights_per_direction() + kind;
  }
  const void* weight(int64_t layer, int64_t direction, WeightKind kind) const {
    return input_.weights[weight_index(layer, direction, kind)];
  }

  // How a layer's input is padded.
  Segments input_segments(int64_t layer) const {
    return layer == 0 ? Segments{1, shape_.input, round_up(shape_.input, kGruUnitStep)} : output_segments();
  }
  Segments output_segments() const { return {shape_.directions, shape_.hidden, units_}; }
  int64_t output_width() const { return shape_.directions * units_; }

  bool is_constant(int64_t layer) const { return layer == 0 && shape_.constant_input; }

  // Rows of a layer's input; a constant one has a row a clip, in the order of GruRows.
  int64_t input_rows(int64_t layer) const { return is_constant(layer) ? rows_.clips() : rows_.total(); }
  int64_t input_row(int64_t layer, int64_t frame, int64_t place) const {
    return is_constant(layer) ? place : rows_.row(frame, place);
  }

  // The clips are dealt out to `chunks()` walks in turn, so that all have as many long ones. Results do not depend on
  // their number.
  int64_t chunks() const {
    const int64_t threads = at::get_num_threads();
    const int64_t wanted = threads / std::gcd(threads, shape_.directions);
    const int64_t fewest = ceil_div(shape_.batch, kMostClips), most = ceil_div(shape_.batch, kFewestClips);
    return std::clamp(wanted, fewest, most);
  }
  int64_t running(int64_t frame, int64_t chunk, int64_t chunks) const {
    return frame < 0 || frame >= rows_.frames() ? 0
                                                : ceil_div(std::max<int64_t>(0, rows_.running(frame) - chunk), chunks);
  }

  // Calls `walk(direction, chunk, chunks)` for all in parallel: nobody waits for anybody within a sequence.
  template <class Walk>
  void for_each_walk(Walk walk) const {
    const int64_t chunks = this->chunks();
    at::parallel_for(0, shape_.directions * chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        walk(task / chunks, task % chunks, chunks);
      }
    });
  }

  // Calls `body(frame, place)` for every valid frame, in parallel.
  template <class Body>
  void for_each_frame(Body body) const {
    at::parallel_for(0, rows_.frames(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t frame = begin; frame < end; ++frame) {
        for (int64_t place = 0; place < rows_.running(frame); ++place) {
          body(frame, place);
        }
      }
    });
  }

  // The first layer's input as rows.
  Buffer<Factor> first_input() const {
    const Segments segments = input_segments(0);
    Buffer<Factor> buffer(round_up(input_rows(0), kRowBlock) * segments.width());
    if (is_constant(0)) {
      const int64_t running = rows_.running(0);
      for (int64_t place = 0; place < running; ++place) {
        convert_row(input_.dtype, input_.x, rows_.clip_at(place), segments, buffer.data() + place * segments.width());
      }
      // The vectors of clips without frames may be NaN, which times their gradient of 0 would not be 0.
      std::fill_n(buffer.data() + running * segments.width(), (rows_.clips() - running) * segments.width(), Factor(0));
      return buffer;
    }
    for_each_frame([&](int64_t frame, int64_t place) {
      convert_row(input_.dtype, input_.x, rows_.clip_at(place) * shape_.frames + frame, segments,
                  buffer.data() + rows_.row(frame, place) * segments.width());
    });
    return buffer;
  }

  bool has_dropout() const { return input_.dropout > 0; }

  // Multiplies rows of a layer's output width with the mask of the layer's dropout; `source` may be `target`.
  template <class Number>
  void drop(int64_t layer, const Number* source, Number* target) const {
    const double share = std::round(input_.dropout * 0x1p32);
    const auto threshold = static_cast<uint32_t>(std::min(share, 4294967295.0));
    const T scale = static_cast<T>(1.0 / (1.0 - input_.dropout));
    const int64_t hidden = shape_.hidden, units = round_up(shape_.directions * hidden, 4);
    at::parallel_for(0, rows_.frames(), 1, [&](int64_t begin, int64_t end) {
      std::vector<uint32_t> words(units);
      for (int64_t frame = begin; frame < end; ++frame) {
        for (int64_t place = 0; place < rows_.running(frame); ++place) {
          dropout_words(input_.seed, static_cast<uint32_t>(layer), static_cast<uint32_t>(rows_.clip_at(place)),
                        static_cast<uint32_t>(frame), units, words.data());
          const int64_t first = rows_.row(frame, place) * output_width();
          for (int64_t direction = 0; direction < shape_.directions; ++direction) {
            const int64_t begin_unit = first + direction * units_;
            drop_units(words.data() + direction * hidden, threshold, scale, hidden, source + begin_unit,
                       target + begin_unit);
            std::fill(target + begin_unit + hidden, target + begin_unit + units_, Number(0));
          }
        }
      }
    });
  }

  // The output of the layer below after dropout, which is a copy, or itself where nothing is dropped.
  Buffer<Factor> dropped(int64_t layer_below, const Factor* hidden) const {
    Buffer<Factor> buffer(round_up(rows_.total(), kRowBlock) * output_width());
    drop(layer_below, hidden, buffer.data());
    return buffer;
  }

  static constexpr int64_t kFewestClips = 8;  // of a walk: fewer leave the product units idle
  static constexpr int64_t kMostClips = 64;   // and more than these fall out of the cache
  static constexpr int64_t kWalkStep = 8;     // the clips of a product are padded to it: each number is a kernel

  const GruShape shape_;
  const GruInput input_;
  const GruRows rows_;
  const int64_t units_;  // of a direction, padded
};

// Calls `run` with an object that names the types that the input asks for: T and Factor.
template <class T, class F>
struct GruTypes {
  using Sum = T;
  using Factor = F;
};

template <class Run>
void with_gru_types(const GruInput& input, Run run) {
  if (input.dtype == Dtype::float64) {
    return run(GruTypes<double, double>{});
  }
  if (input.bfloat16) {
    return run(GruTypes<float, c10::BFloat16>{});
  }
  return run(GruTypes<float, float>{});
}

}  // namespace crrl
