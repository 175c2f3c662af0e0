// The GRU's cell over the units of many clips, in SIMD registers.
#pragma once

#include <cstdint>
#include <type_traits>

#include "gru_cell.h"
#include "lanes.h"

namespace crrl {

template <class T>
struct GruLaneMath {
  CRRL_SIMD_INLINE static Lanes<T> sigmoid(Lanes<T> x) {
    sigmoid_lanes(x);
    return x;
  }
  CRRL_SIMD_INLINE static Lanes<T> tanh(Lanes<T> x) {
    tanh_lanes(x);
    return x;
  }
};

template <>
struct GruMath<Lanes<float>> : GruLaneMath<float> {};
template <>
struct GruMath<Lanes<double>> : GruLaneMath<double> {};

// Some units of the clips of a walk at one frame. Strides are from clip to clip, in numbers.
template <class T, class Factor>
struct GruCellForward {
  const T* projected;  // W_ih x: r, z and n, each `gate` apart
  int64_t projected_stride;
  const T* recurrent;  // W_hh h: r, z and n, each `recurrent_gate` apart
  int64_t recurrent_stride;
  int64_t recurrent_gate;
  const T* bias;  // of r, z, n and rec_n, each `gate` apart
  const T* state;
  T* next_state;
  Factor* next_factor;  // the next state as the products take it; unused where Factor is T
  int64_t state_stride;
  Factor* hidden;  // the next state as the layer's output
  int64_t hidden_stride;
  Factor* gates;  // r, z, n and rec_n, each `gate` apart, or null
  int64_t gates_stride;
  int64_t gate;
};

template <class T, class Factor>
CRRL_SIMD_CLONES void cell_forward(const GruCellForward<T, Factor>& at, int64_t clips, int64_t units) {
  constexpr int lanes = kLanes<T>;
  for (int64_t clip = 0; clip < clips; ++clip) {
    const T* projected = at.projected + clip * at.projected_stride;
    const T* recurrent = at.recurrent + clip * at.recurrent_stride;
    const int64_t state = clip * at.state_stride, hidden = clip * at.hidden_stride, gates = clip * at.gates_stride;
    for (int64_t unit = 0; unit < units; unit += lanes) {
      const auto load = [unit](const T* source)
                            __attribute__((always_inline)) { return load_lanes<Lanes<T>>(source + unit); };
      const Lanes<T> rec_n = load(recurrent + 2 * at.recurrent_gate) + load(at.bias + 3 * at.gate);
      const auto step =
          gru_cell<Lanes<T>>(load(projected) + load(at.bias), load(projected + at.gate) + load(at.bias + at.gate),
                             load(projected + 2 * at.gate) + load(at.bias + 2 * at.gate), load(recurrent),
                             load(recurrent + at.recurrent_gate), rec_n, load(at.state + state));
      store_lanes(at.next_state + state + unit, step.h);
      if constexpr (!std::is_same_v<T, Factor>) {
        store_rounded(at.next_factor + state + unit, step.h);
      }
      store_rounded(at.hidden + hidden + unit, step.h);
      if (at.gates != nullptr) {
        Factor* saved = at.gates + gates + unit;
        store_rounded(saved, step.r);
        store_rounded(saved + at.gate, step.z);
        store_rounded(saved + 2 * at.gate, step.n);
        store_rounded(saved + 3 * at.gate, rec_n);
      }
    }
  }
}

template <class T, class Factor>
struct GruCellBackward {
  const T* output_grad;
  int64_t output_grad_stride;
  const Factor* gates;  // r, z, n and rec_n, each `gate` apart
  int64_t gates_stride;
  const Factor* before;  // the states before: of the first `clips_before` clips, those of the others are zero
  int64_t before_stride;
  int64_t clips_before;
  T* carry;  // in: the gradient at the new state that the frames after it gave; out: what passes the gates
  int64_t carry_stride;
  Factor* sums_grad;  // out: at in_n, r, z and rec_n, each `gate` apart, so that both products find theirs in one piece
  int64_t sums_grad_stride;
  T* input_grad;  // in and out: the sums over frames of those at in_n, r and z, or null
  int64_t input_grad_stride;
  int64_t gate;
};

template <class T, class Factor>
CRRL_SIMD_CLONES void cell_backward(const GruCellBackward<T, Factor>& at, int64_t clips) {
  constexpr int lanes = kLanes<T>;
  for (int64_t clip = 0; clip < clips; ++clip) {
    for (int64_t unit = 0; unit < at.gate; unit += lanes) {
      const Factor* gates = at.gates + clip * at.gates_stride + unit;
      T* carry = at.carry + clip * at.carry_stride + unit;
      const Lanes<T> before =
          clip < at.clips_before ? load_widened(at.before + clip * at.before_stride + unit) : Lanes<T>{};
      const Lanes<T> grad = load_lanes<Lanes<T>>(at.output_grad + clip * at.output_grad_stride + unit);
      const auto step = gru_cell_backward<Lanes<T>>(grad + load_lanes<Lanes<T>>(carry), load_widened(gates),
                                                    load_widened(gates + at.gate), load_widened(gates + 2 * at.gate),
                                                    load_widened(gates + 3 * at.gate), before);
      store_lanes(carry, step.h);
      Factor* sums_grad = at.sums_grad + clip * at.sums_grad_stride + unit;
      store_rounded(sums_grad, step.n);
      store_rounded(sums_grad + at.gate, step.r);
      store_rounded(sums_grad + 2 * at.gate, step.z);
      store_rounded(sums_grad + 3 * at.gate, step.rec_n);
      if (at.input_grad != nullptr) {
        T* input_grad = at.input_grad + clip * at.input_grad_stride + unit;
        store_lanes(input_grad, load_lanes<Lanes<T>>(input_grad) + step.n);
        store_lanes(input_grad + at.gate, load_lanes<Lanes<T>>(input_grad + at.gate) + step.r);
        store_lanes(input_grad + 2 * at.gate, load_lanes<Lanes<T>>(input_grad + 2 * at.gate) + step.z);
      }
    }
  }
}

}  // namespace crrl
