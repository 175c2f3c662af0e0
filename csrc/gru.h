// A GRU over clips of different lengths: what the CPU code takes and gives. The cell's equations are in gru_cell.h.
#pragma once

#include <cstdint>
#include <vector>

#include "dtype.h"
#include "host_device.h"

namespace crrl {

inline constexpr int64_t kGruUnitStep = 16;  // the units of a direction are padded to a multiple of it
inline constexpr int64_t kGruRowStep = 64;   // and the rows of what the backward needs

struct GruShape {
  int64_t batch;   // clips
  int64_t frames;  // of the padded batch
  int64_t input;   // numbers a frame
  int64_t hidden;  // units per direction
  int64_t layers;
  int64_t directions;
  bool constant_input;  // the same vector at every frame of a clip
  bool has_bias;

  int64_t padded_hidden() const { return round_up(hidden, kGruUnitStep); }
  int64_t saved_rows() const { return round_up(batch * frames, kGruRowStep); }
  int64_t weights_per_direction() const { return has_bias ? 4 : 2; }
};

struct GruInput {
  Dtype dtype;  // of x and of all results
  Dtype weight_dtype;
  const void* x;                     // (batch, frames, input), or (batch, input) where it is constant
  std::vector<const void*> weights;  // as nn.GRU orders them: w_ih, w_hh, b_ih, b_hh of each direction of each layer
  const int64_t* lengths;            // (batch), or null: all clips have all frames
  double dropout;                    // on the outputs of all layers but the last
  uint64_t seed;                     // of dropout
  bool bfloat16;                     // round what products multiply
};

// What the backward needs; its dtype is that of what products multiply. Rows are ordered as GruRows says.
struct GruSaved {
  void* hidden;  // (layers, saved_rows, directions, padded_hidden), or null
  void* gates;   // (layers, saved_rows, directions, 4: r z n rec_n, padded_hidden), or null
};

struct GruResult {
  void* outputs;  // (batch, frames, directions, hidden), or null
  void* mean;     // (batch, directions, hidden) each
  void* first;
  void* last;
};

// The gradients of a result that has none are null.
struct GruResultGrad {
  const void* outputs;
  const void* mean;
  const void* first;
  const void* last;
};

struct GruInputGrad {
  void* x;  // or null
  std::vector<void*> weights;
};

void gru_cpu(const GruShape& shape, const GruInput& input, const GruSaved& saved, const GruResult& result);

void gru_backward_cpu(const GruShape& shape, const GruInput& input, const GruSaved& saved,
                      const GruResultGrad& result_grad, const GruInputGrad& input_grad);

}  // namespace crrl
