#include <ATen/Parallel.h>

#include <memory>
#include <utility>

#include "gru_cell_cpu.h"
#include "gru_layers.h"

namespace crrl {
namespace {

template <class T, class Factor>
class GruForward : GruLayers<T, Factor> {
  using Base = GruLayers<T, Factor>;
  using Base::input_, Base::rows_, Base::shape_, Base::units_;

 public:
  GruForward(const GruShape& shape, const GruInput& input, const GruSaved& saved, const GruResult& result)
      : Base(shape, input), saved_(saved), result_(result) {}

  void run() {
    const int64_t layer_size = shape_.saved_rows() * this->output_width();
    const int64_t kept_layers = saved_.hidden == nullptr ? 2 : 0;  // this one's output, and that of the one below
    const Buffer<Factor> unsaved(kept_layers * layer_size);
    const auto hidden_of = [&](int64_t layer) {
      return saved_.hidden == nullptr ? unsaved.data() + layer % 2 * layer_size
                                      : static_cast<Factor*>(saved_.hidden) + layer * layer_size;
    };
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      if (layer == 0) {
        const Buffer<Factor> first = this->first_input();
        run_layer(layer, first.data(), hidden_of(layer));
      } else if (this->has_dropout()) {
        const Buffer<Factor> below = this->dropped(layer - 1, hidden_of(layer - 1));
        run_layer(layer, below.data(), hidden_of(layer));
      } else {
        run_layer(layer, hidden_of(layer - 1), hidden_of(layer));
      }
    }
    give_results(hidden_of(shape_.layers - 1));
  }

 private:
  struct Weights {           // of a direction
    Panels<Factor> input;    // W_ih transposed: (inputs, 3 gates)
    Panels<Factor> gate[3];  // W_hh transposed, each gate apart: (units, units)
    T* bias;                 // of r, z, n and rec_n
  };

  void run_layer(int64_t layer, const Factor* below, Factor* hidden) {
    const int64_t input_width = this->input_segments(layer).width(), gates = 3 * units_;
    const Buffer<Factor> packed(shape_.directions * (input_width + units_) * gates);
    const Buffer<T> biases(shape_.directions * 4 * units_);
    std::vector<Weights> weights;
    for (int64_t direction = 0; direction < shape_.directions; ++direction) {
      Factor* data = packed.data() + direction * (input_width + units_) * gates;
      Weights& of = weights.emplace_back();
      of.input = {data, input_width, gates};
      for (int64_t gate = 0; gate < 3; ++gate) {
        of.gate[gate] = {data + input_width * gates + gate * units_ * units_, units_, units_};
      }
      of.bias = biases.data() + direction * 4 * units_;
      add_biases(layer, direction, of.bias);
    }
    pack(layer, weights);

    const int64_t projected_width = shape_.directions * gates;
    const Buffer<T> projected(round_up(this->input_rows(layer), kRowBlock) * projected_width);
    std::vector<RowsProduct<T, Factor>> products;
    for (int64_t direction = 0; direction < shape_.directions; ++direction) {
      products.push_back({{{{below, input_width}, weights[direction].input}}, projected.data() + direction * gates});
    }
    form_products(this->input_rows(layer), products, projected_width);

    this->for_each_walk([&](int64_t direction, int64_t chunk, int64_t chunks) {
      walk(layer, direction, chunk, chunks, projected.data(), weights[direction], hidden);
    });
  }

  void add_biases(int64_t layer, int64_t direction, T* bias /* (4, units) */) const {
    std::fill_n(bias, 4 * units_, T(0));
    if (!shape_.has_bias) {
      return;
    }
    const int64_t hidden = shape_.hidden;
    std::vector<T> of_input(3 * hidden), of_recurrent(3 * hidden);
    convert(input_.weight_dtype, this->weight(layer, direction, Base::kInputBias), 0, 3 * hidden, of_input.data());
    convert(input_.weight_dtype, this->weight(layer, direction, Base::kRecurrentBias), 0, 3 * hidden,
            of_recurrent.data());
    for (int64_t unit = 0; unit < hidden; ++unit) {
      bias[unit] = of_input[unit] + of_recurrent[unit];
      bias[units_ + unit] = of_input[hidden + unit] + of_recurrent[hidden + unit];
      bias[2 * units_ + unit] = of_input[2 * hidden + unit];
      bias[3 * units_ + unit] = of_recurrent[2 * hidden + unit];
    }
  }

  void pack(int64_t layer, const std::vector<Weights>& weights) const {
    constexpr int64_t lanes = kLanes<Word<Factor>>;
    const Segments input = this->input_segments(layer), state{1, shape_.hidden, units_};
    const int64_t gates = 3 * units_;
    const auto row_of = [&](int64_t column) {
      return column % units_ < shape_.hidden ? column / units_ * shape_.hidden + column % units_ : -1;
    };
    at::parallel_for(0, shape_.directions * gates / lanes, 4, [&](int64_t begin, int64_t end) {
      std::vector<Factor> scratch(lanes * std::max(input.width(), units_));
      for (int64_t task = begin; task < end; ++task) {
        const int64_t direction = task / (gates / lanes), column = task % (gates / lanes) * lanes;
        pack_columns(input_.weight_dtype, this->weight(layer, direction, Base::kInputWeight), input, row_of, column,
                     weights[direction].input, scratch.data());
        const int64_t gate = column / units_;
        pack_columns(
            input_.weight_dtype, this->weight(layer, direction, Base::kRecurrentWeight), state,
            [&](int64_t unit) { return row_of(gate * units_ + unit); }, column % units_, weights[direction].gate[gate],
            scratch.data());
      }
    });
  }

  // One direction of the layer for the clips of a chunk, from frame to frame.
  void walk(int64_t layer, int64_t direction, int64_t chunk, int64_t chunks, const T* projected, const Weights& weights,
            Factor* hidden) const {
    const bool is_reverse = direction == 1;
    const int64_t most = round_up(this->running(0, chunk, chunks), Base::kWalkStep);
    const Buffer<T> states(2 * most * units_), recurrent(3 * most * kPanel);
    const Buffer<Factor> factors(std::is_same_v<T, Factor> ? 0 : 2 * most * units_);
    // A clip that joins a reverse walk at its last frame finds zeros: nothing has been written to its place before.
    std::fill_n(states.data(), 2 * most * units_, T(0));
    T* state = states.data();
    T* next_state = state + most * units_;
    Factor* factor = operand(state, factors.data());
    Factor* next_factor = operand(next_state, factors.data() + most * units_);
    if constexpr (!std::is_same_v<T, Factor>) {
      std::fill_n(factors.data(), 2 * most * units_, Factor(0));
    }
    const int64_t width = this->output_width(), projected_width = 3 * width, saved_width = 4 * width;
    Factor* gates = saved_.gates == nullptr
                        ? nullptr
                        : static_cast<Factor*>(saved_.gates) + layer * shape_.saved_rows() * saved_width;
    bool has_state = false;
    for (int64_t step = 0; step < rows_.frames(); ++step) {
      const int64_t frame = is_reverse ? rows_.frames() - 1 - step : step;
      const int64_t clips = this->running(frame, chunk, chunks);
      if (clips == 0) {
        continue;
      }
      const int64_t row = rows_.row(frame, chunk), input_row = this->input_row(layer, frame, chunk);
      for (int64_t panel = 0; panel < ceil_div(units_, kPanel); ++panel) {
        const int64_t unit = panel * kPanel;
        for (int64_t gate = 0; gate < 3; ++gate) {
          T* product = recurrent.data() + gate * most * kPanel;
          if (has_state) {
            panel_product(round_up(clips, Base::kWalkStep), Matrix<Factor>{factor, units_}, weights.gate[gate], panel,
                          product, kPanel, false);
          } else {
            std::fill_n(product, most * kPanel, T(0));
          }
        }
        const GruCellForward<T, Factor> cell{
            .projected = projected + input_row * projected_width + direction * 3 * units_ + unit,
            .projected_stride = chunks * projected_width,
            .recurrent = recurrent.data(),
            .recurrent_stride = kPanel,
            .recurrent_gate = most * kPanel,
            .bias = weights.bias + unit,
            .state = state + unit,
            .next_state = next_state + unit,
            .next_factor = next_factor + unit,
            .state_stride = units_,
            .hidden = hidden + row * width + direction * units_ + unit,
            .hidden_stride = chunks * width,
            .gates = gates == nullptr ? nullptr : gates + row * saved_width + direction * 4 * units_ + unit,
            .gates_stride = chunks * saved_width,
            .gate = units_,
        };
        cell_forward(cell, clips, weights.gate[0].width(panel));
      }
      std::swap(state, next_state);
      std::swap(factor, next_factor);
      has_state = true;
    }
  }

  // The state as the left matrix of a product: itself, or its rounded copy.
  static Factor* operand(T* state, Factor* rounded) {
    if constexpr (std::is_same_v<T, Factor>) {
      return state;
    } else {
      return rounded;
    }
  }

  void give_results(const Factor* hidden) const {
    const int64_t width = shape_.directions * shape_.hidden;
    at::parallel_for(0, shape_.batch, 1, [&](int64_t begin, int64_t end) {
      std::vector<T> output(width), sum(width);
      for (int64_t place = begin; place < end; ++place) {
        const int64_t clip = rows_.clip_at(place), length = rows_.length_at(place);
        std::fill(sum.begin(), sum.end(), T(0));
        for (int64_t frame = 0; frame < length; ++frame) {
          load_output(hidden, rows_.row(frame, place), output.data());
          std::transform(sum.begin(), sum.end(), output.begin(), sum.begin(), std::plus<T>());
          if (result_.outputs != nullptr) {
            store(output.data(), width, result_.outputs, clip * shape_.frames + frame);
          }
          if (frame == 0) {
            store(output.data(), width, result_.first, clip);
          }
        }
        if (length == 0) {
          store(sum.data(), width, result_.first, clip);
          store(sum.data(), width, result_.last, clip);
        } else {
          store(output.data(), width, result_.last, clip);
        }
        const T share = T(1) / static_cast<T>(std::max<int64_t>(length, 1));
        std::transform(sum.begin(), sum.end(), sum.begin(), [share](T value) { return value * share; });
        store(sum.data(), width, result_.mean, clip);
        if (result_.outputs != nullptr) {
          std::fill(sum.begin(), sum.end(), T(0));
          for (int64_t frame = length; frame < shape_.frames; ++frame) {
            store(sum.data(), width, result_.outputs, clip * shape_.frames + frame);
          }
        }
      }
    });
  }

  void load_output(const Factor* hidden, int64_t row, T* output) const {
    for (int64_t direction = 0; direction < shape_.directions; ++direction) {
      convert_numbers(hidden + row * this->output_width() + direction * units_, shape_.hidden,
                      output + direction * shape_.hidden);
    }
  }

  void store(const T* values, int64_t width, void* target, int64_t row) const {
    store_numbers(input_.dtype, values, width, target, row * width);
  }

  const GruSaved saved_;
  const GruResult result_;
};

}  // namespace

void gru_cpu(const GruShape& shape, const GruInput& input, const GruSaved& saved, const GruResult& result) {
  with_gru_types(input, [&](auto types) {
    GruForward<typename decltype(types)::Sum, typename decltype(types)::Factor>(shape, input, saved, result).run();
  });
}

}  // namespace crrl
