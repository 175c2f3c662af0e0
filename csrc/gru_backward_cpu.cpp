#include <ATen/Parallel.h>

#include <optional>

#include "gru_cell_cpu.h"
#include "gru_layers.h"
#include "gru_weight_grad.h"

namespace crrl {
namespace {

template <class T, class Factor>
class GruBackward : GruLayers<T, Factor> {
  using Base = GruLayers<T, Factor>;
  using Base::input_, Base::rows_, Base::shape_, Base::units_;

 public:
  GruBackward(const GruShape& shape, const GruInput& input, const GruSaved& saved, const GruResultGrad& result_grad,
              const GruInputGrad& input_grad)
      : Base(shape, input),
        saved_(saved),
        result_grad_(result_grad),
        input_grad_(input_grad),
        // Rows as wide as a power of two would all fall into the same lines of the first cache.
        sums_width_(shape.directions * 4 * units_ + 64 / static_cast<int64_t>(sizeof(Factor))) {}

  void run() {
    Buffer<T> output_grad = top_grad();
    for (int64_t layer = shape_.layers - 1; layer >= 0; --layer) {
      output_grad = run_layer(layer, output_grad.data());
      if (layer > 0 && this->has_dropout()) {
        this->drop(layer - 1, output_grad.data(), output_grad.data());
      }
    }
    if (input_grad_.x != nullptr) {
      give_input_grad(output_grad.data());
    }
  }

 private:
  const Factor* hidden_of(int64_t layer) const {
    return static_cast<const Factor*>(saved_.hidden) + layer * shape_.saved_rows() * this->output_width();
  }

  // The gradient at the last layer's outputs, from those of the results.
  Buffer<T> top_grad() const {
    const int64_t width = this->output_width();
    Buffer<T> grad(round_up(rows_.total(), kRowBlock) * width);
    const Segments segments = this->output_segments();
    at::parallel_for(0, shape_.batch, 1, [&](int64_t begin, int64_t end) {
      std::vector<T> of_mean(width), part(width);
      const auto load = [&](const void* source, int64_t row, T* out) {
        if (source == nullptr) {
          std::fill_n(out, width, T(0));
        } else {
          convert_row(input_.dtype, source, row, segments, out);
        }
      };
      const auto add = [&](const void* source, int64_t row, T* sum) {
        if (source != nullptr) {
          load(source, row, part.data());
          std::transform(part.begin(), part.end(), sum, sum, std::plus<T>());
        }
      };
      for (int64_t place = begin; place < end; ++place) {
        const int64_t clip = rows_.clip_at(place), length = rows_.length_at(place);
        load(result_grad_.mean, clip, of_mean.data());
        for (int64_t frame = 0; frame < length; ++frame) {
          T* row = grad.data() + rows_.row(frame, place) * width;
          std::transform(of_mean.begin(), of_mean.end(), row,
                         [length](T value) { return value / static_cast<T>(length); });
          add(result_grad_.outputs, clip * shape_.frames + frame, row);
          if (frame == 0) {
            add(result_grad_.first, clip, row);
          }
          if (frame + 1 == length) {
            add(result_grad_.last, clip, row);
          }
        }
      }
    });
    return grad;
  }

  // Gives the gradients of the layer's weights and returns that of its input, if anybody wants it.
  Buffer<T> run_layer(int64_t layer, const T* output_grad) {
    const bool is_constant = this->is_constant(layer);
    const int64_t gates = 3 * units_;
    // A walk reads up to kWalkStep of its clips past the end.
    const int64_t sums_rows = round_up(rows_.total() + Base::kWalkStep * this->chunks(), kRowBlock);
    const Buffer<Factor> sums(sums_rows * sums_width_);
    const int64_t summed_width = shape_.directions * gates;
    const Buffer<T> summed(is_constant ? rows_.clips() * summed_width : 0);
    std::fill_n(summed.data(), is_constant ? rows_.clips() * summed_width : 0, T(0));
    walk_all(layer, output_grad, sums.data(), is_constant ? summed.data() : nullptr);

    const Buffer<Factor> summed_factors(is_constant ? round_up(rows_.clips(), kRowBlock) * summed_width : 0);
    if (is_constant) {
      convert_numbers(summed.data(), rows_.clips() * summed_width, summed_factors.data());
    }
    // The gradient at W_ih x of a direction, n, r, z.
    const auto projected_grad = [&](int64_t direction) {
      return is_constant ? Matrix<Factor>{summed_factors.data() + direction * gates, summed_width}
                         : Matrix<Factor>{sums.data() + direction * 4 * units_, sums_width_};
    };
    give_weight_grads(layer, sums.data(), projected_grad);
    return layer > 0 || input_grad_.x != nullptr ? layer_input_grad(layer, projected_grad) : Buffer<T>(0);
  }

  // From frame to frame, against the direction: the gradients at the sums that enter the gates, n, r, z and rec_n.
  void walk_all(int64_t layer, const T* output_grad, Factor* sums, T* summed) const {
    const int64_t gates = 3 * units_;
    const Buffer<Factor> packed(shape_.directions * gates * units_);
    std::vector<Panels<Factor>> recurrent;  // W_hh: (3 gates, units)
    for (int64_t direction = 0; direction < shape_.directions; ++direction) {
      recurrent.push_back({packed.data() + direction * gates * units_, gates, units_});
    }
    pack_natural(layer, Base::kRecurrentWeight, {1, shape_.hidden, units_}, 0, recurrent);
    this->for_each_walk([&](int64_t direction, int64_t chunk, int64_t chunks) {
      walk(layer, direction, chunk, chunks, output_grad, recurrent[direction], sums, summed);
    });
  }

  void walk(int64_t layer, int64_t direction, int64_t chunk, int64_t chunks, const T* output_grad,
            const Panels<Factor>& recurrent, Factor* sums, T* summed) const {
    const bool is_reverse = direction == 1;
    const int64_t frames = rows_.frames(), width = this->output_width(), saved_width = 4 * width;
    const int64_t most = round_up(this->running(0, chunk, chunks), Base::kWalkStep);
    const Buffer<T> carry(most * units_);
    int64_t carried = 0;  // clips; what the padding of a product left in the places after them means nothing
    const Factor* hidden = hidden_of(layer);
    const Factor* gates =
        static_cast<const Factor*>(saved_.gates) + layer * shape_.saved_rows() * saved_width + direction * 4 * units_;
    for (int64_t step = 0; step < frames; ++step) {
      const int64_t frame = is_reverse ? step : frames - 1 - step;
      const int64_t clips = this->running(frame, chunk, chunks);
      if (clips == 0) {
        continue;
      }
      if (clips > carried) {
        std::fill_n(carry.data() + carried * units_, (clips - carried) * units_, T(0));
      }
      carried = clips;
      const int64_t frame_before = is_reverse ? frame + 1 : frame - 1;
      const int64_t clips_before = std::min(clips, this->running(frame_before, chunk, chunks));
      const int64_t row = rows_.row(frame, chunk);
      const int64_t row_before = clips_before == 0 ? 0 : rows_.row(frame_before, chunk);
      Factor* sums_of_frame = sums + row * sums_width_ + direction * 4 * units_;
      const int64_t summed_width = shape_.directions * 3 * units_;
      const GruCellBackward<T, Factor> cell{
          .output_grad = output_grad + row * width + direction * units_,
          .output_grad_stride = chunks * width,
          .gates = gates + row * saved_width,
          .gates_stride = chunks * saved_width,
          .before = hidden + row_before * width + direction * units_,
          .before_stride = chunks * width,
          .clips_before = clips_before,
          .carry = carry.data(),
          .carry_stride = units_,
          .sums_grad = sums_of_frame,
          .sums_grad_stride = chunks * sums_width_,
          .input_grad = summed == nullptr ? nullptr : summed + chunk * summed_width + direction * 3 * units_,
          .input_grad_stride = chunks * summed_width,
          .gate = units_,
      };
      cell_backward(cell, clips);
      if (clips_before == 0) {
        continue;  // at the first frame of all of them: nobody wants the gradient at the zeros before it
      }
      const Matrix<Factor> left{sums_of_frame + units_, chunks * sums_width_};
      for (int64_t panel = 0; panel < recurrent.count(); ++panel) {
        panel_product(round_up(clips_before, Base::kWalkStep), left, recurrent, panel, carry.data() + panel * kPanel,
                      units_, true);
      }
    }
  }

  // Packs weights as right matrices (3 gates, columns); their rows start with gate `first_gate` of r, z, n.
  void pack_natural(int64_t layer, typename Base::WeightKind kind, const Segments& segments, int64_t first_gate,
                    const std::vector<Panels<Factor>>& targets) const {
    const auto row_of = [&](int64_t k) {
      const int64_t gate = (k / units_ + first_gate) % 3;
      return k % units_ < shape_.hidden ? gate * shape_.hidden + k % units_ : -1;
    };
    const int64_t steps = 3 * units_ / kWordFactors<Factor>;
    at::parallel_for(0, shape_.directions * steps, 16, [&](int64_t begin, int64_t end) {
      std::vector<Factor> scratch(2 * kWordFactors<Factor> * segments.width());
      for (int64_t task = begin; task < end; ++task) {
        const int64_t direction = task / steps;
        pack_rows(input_.weight_dtype, this->weight(layer, direction, kind), segments, row_of,
                  task % steps * kWordFactors<Factor>, targets[direction], scratch.data());
      }
    });
  }

  template <class ProjectedGrad>
  Buffer<T> layer_input_grad(int64_t layer, ProjectedGrad projected_grad) const {
    const Segments segments = this->input_segments(layer);
    const int64_t gates = 3 * units_, width = segments.width();
    const Buffer<Factor> packed(shape_.directions * gates * width);
    std::vector<Panels<Factor>> weights;  // W_ih: (3 gates, inputs)
    for (int64_t direction = 0; direction < shape_.directions; ++direction) {
      weights.push_back({packed.data() + direction * gates * width, gates, width});
    }
    pack_natural(layer, Base::kInputWeight, segments, 2, weights);
    Buffer<T> grad(round_up(this->input_rows(layer), kRowBlock) * width);
    RowsProduct<T, Factor> product{{}, grad.data()};
    for (int64_t direction = 0; direction < shape_.directions; ++direction) {
      product.terms.push_back({projected_grad(direction), weights[direction]});
    }
    form_products<T, Factor>(this->input_rows(layer), {product}, width);
    return grad;
  }

  template <class ProjectedGrad>
  void give_weight_grads(int64_t layer, const Factor* sums, ProjectedGrad projected_grad) const {
    const int64_t input_width = this->input_segments(layer).width(), width = this->output_width();
    std::optional<Buffer<Factor>> below;
    const Factor* input = nullptr;
    if (layer == 0) {
      below.emplace(this->first_input());
    } else if (this->has_dropout()) {
      below.emplace(this->dropped(layer - 1, hidden_of(layer - 1)));
    }
    input = below ? below->data() : hidden_of(layer - 1);

    const int64_t total = rows_.total(), hidden = shape_.hidden;
    std::vector<const Factor*> input_rows(this->input_rows(layer));
    for (int64_t row = 0; row < static_cast<int64_t>(input_rows.size()); ++row) {
      input_rows[row] = input + row * input_width;
    }
    WeightGrads<T, Factor> grads(input_.weight_dtype);
    const int64_t of_inputs = grads.add_left(input_rows, input_width);
    for (int64_t direction = 0; direction < shape_.directions; ++direction) {
      const auto target = [&](typename Base::WeightKind kind) {
        return shape_.has_bias || kind < Base::kInputBias
                   ? input_grad_.weights[this->weight_index(layer, direction, kind)]
                   : nullptr;
      };
      const auto row_of = [this, hidden](int64_t first_gate) {
        return [this, hidden, first_gate](int64_t column) {
          const int64_t gate = (column / units_ + first_gate) % 3;
          return column % units_ < hidden ? gate * hidden + column % units_ : -1;
        };
      };
      grads.add_product(of_inputs, projected_grad(direction), 3 * units_, this->input_segments(layer), row_of(2),
                        target(Base::kInputWeight), target(Base::kInputBias));
      std::vector<const Factor*> states(total);
      for (int64_t frame = 0; frame < rows_.frames(); ++frame) {
        const int64_t before = direction == 1 ? frame + 1 : frame - 1;
        for (int64_t place = 0; place < rows_.running(frame); ++place) {
          states[rows_.row(frame, place)] =
              place < rows_.running(before) ? hidden_of(layer) + rows_.row(before, place) * width + direction * units_
                                            : nullptr;
        }
      }
      const Matrix<Factor> recurrent_grad{sums + direction * 4 * units_ + units_, sums_width_};
      grads.add_product(grads.add_left(states, units_), recurrent_grad, 3 * units_, {1, hidden, units_}, row_of(0),
                        target(Base::kRecurrentWeight), target(Base::kRecurrentBias));
    }
    grads.run();
  }

  void give_input_grad(const T* grad /* (input rows, padded input) */) const {
    const int64_t size = shape_.input, width = this->input_segments(0).width();
    const std::vector<T> zeros(size);
    at::parallel_for(0, shape_.batch, 1, [&](int64_t begin, int64_t end) {
      for (int64_t place = begin; place < end; ++place) {
        const int64_t clip = rows_.clip_at(place);
        if (shape_.constant_input) {
          store_numbers(input_.dtype, grad + place * width, size, input_grad_.x, clip * size);
          continue;
        }
        for (int64_t frame = 0; frame < shape_.frames; ++frame) {
          const T* row = frame < rows_.length_at(place) ? grad + rows_.row(frame, place) * width : zeros.data();
          store_numbers(input_.dtype, row, size, input_grad_.x, (clip * shape_.frames + frame) * size);
        }
      }
    });
  }

  const GruSaved saved_;
  const GruResultGrad result_grad_;
  const GruInputGrad input_grad_;
  const int64_t sums_width_;
};

}  // namespace

void gru_backward_cpu(const GruShape& shape, const GruInput& input, const GruSaved& saved,
                      const GruResultGrad& result_grad, const GruInputGrad& input_grad) {
  with_gru_types(input, [&](auto types) {
    using Types = decltype(types);
    GruBackward<typename Types::Sum, typename Types::Factor>(shape, input, saved, result_grad, input_grad).run();
  });
}

}  // namespace crrl
