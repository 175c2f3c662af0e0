// The two kernels of gru_scan: all steps of a chunk of clips, forward, and backward in reverse.
#pragma once

#include "gru_cell.h"
#include "gru_scan_block.cuh"

namespace crrl {

struct ForwardArguments {
  GruScanShape shape;
  GruScanInput input;
  GruScanOutput output;
  const uint4* weights;  // packed
  bool aligned;          // pairs of units are, in all tensors
};

struct BackwardArguments {
  GruScanShape shape;
  GruScanGradInput input;
  GruScanGradOutput output;
  const uint4* weights;
  bool aligned;
};

template <class Products, class Io, int Units>
__global__ void __launch_bounds__(GruTile<Units, Products::element_size>::threads, 1)
    forward_kernel(const __grid_constant__ ForwardArguments scan) {
  using Tile = GruTile<Units, Products::element_size>;
  using Weights = GruWeights<Products, Tile, 1>;
  using Exchange = GruExchange<Products, Tile, 1>;
  using Number = typename Products::Number;
  if constexpr (Tile::cluster == 1 || kHasClusters) {
    extern __shared__ __align__(16) unsigned char shared[];
    const GruScanShape& shape = scan.shape;
    const int hidden = shape.hidden;
    const GruLane<Tile> lane(shape, scan.input.lengths);
    const Io* all_projected = lane.start(static_cast<const Io*>(scan.input.projected), kGruGates,
                                         scan.input.constant_input ? 1 : shape.frames);
    Io* outputs = lane.start(static_cast<Io*>(scan.output.outputs), 1, shape.frames);
    const bool keeps_gates = scan.output.gates != nullptr;
    Number* gates = keeps_gates ? lane.start(static_cast<Number*>(scan.output.gates), 4, shape.frames) : nullptr;

    UnitPair<Io> projected[kGruGates][2];
    const auto load = [&](int step) {
      with_alignment(scan.aligned, [&](auto aligned) {
        CRRL_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int row = scan.input.constant_input ? lane.only_row(i) : lane.row_of_step(i, step);
          CRRL_UNROLL
          for (int gate = 0; gate < kGruGates; ++gate) {
            projected[gate][i] =
                load_units(aligned, all_projected + lane.place(row, kGruGates, gate), lane.count(i, step));
          }
        }
      });
    };
    load(0);
    const Exchange exchange(shared);
    const Weights weights(scan.weights, lane.direction, lane.warp, shared + Exchange::Layout::bytes);
    float bias[kGruGates][2] = {};
    if (scan.input.b_hh != nullptr) {
      CRRL_UNROLL
      for (int gate = 0; gate < kGruGates; ++gate) {
        const float* first = scan.input.b_hh + (lane.direction * kGruGates + gate) * hidden + lane.unit;
        const UnitPair<float> pair = load_units(std::false_type{}, first, lane.units);
        bias[gate][0] = pair.lanes[0];
        bias[gate][1] = pair.lanes[1];
      }
    }
    lane.clear_padding(outputs, 1);

    float state[4] = {};
    for (int step = 0; step < lane.longest; ++step) {
      typename Weights::Sums sums = {};
      if (step > 0) {
        weights.multiply(exchange.received(step - 1), sums);
      }
      GruStep<float> cell[4];
      float recurrent_n[4];
      CRRL_UNROLL
      for (int unit = 0; unit < 2; ++unit) {
        CRRL_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int at = gru_lane_index(unit, i);
          float input[kGruGates], recurrent[kGruGates];
          CRRL_UNROLL
          for (int gate = 0; gate < kGruGates; ++gate) {
            input[gate] = static_cast<float>(projected[gate][i].lanes[unit]);
            recurrent[gate] = sums[0][gate][at] + sums[1][gate][at] + bias[gate][unit];
          }
          cell[at] = gru_cell(input[0], input[1], input[2], recurrent[0], recurrent[1], recurrent[2], state[at]);
          state[at] = cell[at].h;
          recurrent_n[at] = recurrent[2];
        }
      }
      const bool goes_on = step + 1 < lane.longest;
      if (goes_on) {
        CRRL_UNROLL
        for (int i = 0; i < 2; ++i) {
          exchange.send(step, 0, lane.clip + i, lane.unit, state[gru_lane_index(0, i)], state[gru_lane_index(1, i)]);
        }
        if (!scan.input.constant_input) {
          load(step + 1);
        }
      }
      with_alignment(scan.aligned, [&](auto aligned) {
        CRRL_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int one = gru_lane_index(0, i), two = gru_lane_index(1, i);
          const int count = lane.count(i, step);
          const int row = lane.row_of_step(i, step);
          store_units(aligned, outputs + lane.place(row, 1, 0), count, state[one], state[two]);
          if (keeps_gates) {
            Number* target = gates + lane.place(row, 4, 0);
            store_units(aligned, target, count, cell[one].r, cell[two].r);
            store_units(aligned, target + hidden, count, cell[one].z, cell[two].z);
            store_units(aligned, target + 2 * hidden, count, cell[one].n, cell[two].n);
            store_units(aligned, target + 3 * hidden, count, recurrent_n[one], recurrent_n[two]);
          }
        }
      });
      if (goes_on) {
        exchange.wait(step);
      }
    }
  }
}

// The steps in reverse. Each turns the gradient at its state into those at the sums of its gates, and sends these
// around; the product with them is part of the gradient at the state of the step before.
template <class Products, class Io, int Units>
__global__ void __launch_bounds__(GruTile<Units, Products::element_size>::threads, 1)
    backward_kernel(const __grid_constant__ BackwardArguments scan) {
  using Tile = GruTile<Units, Products::element_size>;
  using Weights = GruWeights<Products, Tile, kGruGates>;
  using Exchange = GruExchange<Products, Tile, kGruGates>;
  using Number = typename Products::Number;
  if constexpr (Tile::cluster == 1 || kHasClusters) {
    extern __shared__ __align__(16) unsigned char shared[];
    const GruScanShape& shape = scan.shape;
    const int hidden = shape.hidden;
    const GruLane<Tile> lane(shape, scan.input.lengths);
    const Io* all_grads = lane.start(static_cast<const Io*>(scan.input.grad_outputs), 1, shape.frames);
    const Io* all_outputs = lane.start(static_cast<const Io*>(scan.input.outputs), 1, shape.frames);
    const Number* all_gates = lane.start(static_cast<const Number*>(scan.input.gates), 4, shape.frames);
    Io* grad_projected = lane.start(static_cast<Io*>(scan.output.grad_projected), kGruGates, shape.frames);
    Number* grad_recurrent = lane.start(static_cast<Number*>(scan.output.grad_recurrent), kGruGates, shape.frames);

    const Exchange exchange(shared);
    const Weights weights(scan.weights, lane.direction, lane.warp, shared + Exchange::Layout::bytes);
    lane.clear_padding(grad_projected, kGruGates);
    lane.clear_padding(grad_recurrent, kGruGates);

    UnitPair<Io> grad[2], before[2];
    UnitPair<Number> gates[4][2];
    const auto load = [&](int step) {
      with_alignment(scan.aligned, [&](auto aligned) {
        CRRL_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int count = lane.count(i, step);
          const int row = lane.row_of_step(i, step);
          grad[i] = load_units(aligned, all_grads + lane.place(row, 1, 0), count);
          before[i] =
              load_units(aligned, all_outputs + lane.place(lane.row_of_step(i, step - 1), 1, 0), step > 0 ? count : 0);
          CRRL_UNROLL
          for (int gate = 0; gate < 4; ++gate) {
            gates[gate][i] = load_units(aligned, all_gates + lane.place(row, 4, gate), count);
          }
        }
      });
    };
    if (lane.longest > 0) {
      load(lane.longest - 1);
    }

    float grad_state[4] = {};
    for (int step = lane.longest - 1, turn = 0; step >= 0; --step, ++turn) {
      GruStepGrad<float> cell[4];
      CRRL_UNROLL
      for (int unit = 0; unit < 2; ++unit) {
        CRRL_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int at = gru_lane_index(unit, i);
          float gate[4];
          CRRL_UNROLL
          for (int j = 0; j < 4; ++j) {
            gate[j] = static_cast<float>(gates[j][i].lanes[unit]);
          }
          cell[at] = gru_cell_backward(grad_state[at] + static_cast<float>(grad[i].lanes[unit]), gate[0], gate[1],
                                       gate[2], gate[3], static_cast<float>(before[i].lanes[unit]));
        }
      }
      const bool goes_on = step > 0;
      if (goes_on) {
        CRRL_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int one = gru_lane_index(0, i), two = gru_lane_index(1, i);
          exchange.send(turn, 0, lane.clip + i, lane.unit, cell[one].r, cell[two].r);
          exchange.send(turn, 1, lane.clip + i, lane.unit, cell[one].z, cell[two].z);
          exchange.send(turn, 2, lane.clip + i, lane.unit, cell[one].rec_n, cell[two].rec_n);
        }
        load(step - 1);
      }
      with_alignment(scan.aligned, [&](auto aligned) {
        CRRL_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int one = gru_lane_index(0, i), two = gru_lane_index(1, i);
          const int count = lane.count(i, step);
          const int start = lane.place(lane.row_of_step(i, step), kGruGates, 0);
          const auto store = [&](auto* target, float n, float neighbour) {
            store_units(aligned, target, count, cell[one].r, cell[two].r);
            store_units(aligned, target + hidden, count, cell[one].z, cell[two].z);
            store_units(aligned, target + 2 * hidden, count, n, neighbour);
          };
          store(grad_recurrent + start, cell[one].rec_n, cell[two].rec_n);
          store(grad_projected + start, cell[one].n, cell[two].n);
        }
      });
      if (goes_on) {
        exchange.wait(turn);
        typename Weights::Sums sums = {};
        weights.multiply(exchange.received(turn), sums);
        CRRL_UNROLL
        for (int at = 0; at < 4; ++at) {
          grad_state[at] = cell[at].h + ((sums[0][0][at] + sums[0][1][at]) + (sums[1][0][at] + sums[1][1][at]));
        }
      }
    }
  }
}

}  // namespace crrl
