#include <initializer_list>

#include "gru_scan_steps.cuh"
#include "launch.cuh"

namespace crrl {
namespace {

// ---- Weights, brought into the order in which the warps read them ----

constexpr int kPackThreads = 128;

// Words of a pack of the weights, or for the backward of their transpose: a row is then a unit's column.
template <class Bits /* of a number */>
__global__ void __launch_bounds__(kPackThreads)
    pack_kernel(const Bits* w_hh /* (directions, 3 hidden, hidden) */, uint4* packed, int64_t count, int hidden,
                int units, bool transposed) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  if (index >= count) {
    return;
  }
  constexpr int per_word = 4 / sizeof(Bits);
  const GruPackPlace place = gru_pack_place(index, units, sizeof(Bits));
  const Bits* square = w_hh + static_cast<int64_t>(place.direction * kGruGates + place.gate) * hidden * hidden;
  uint32_t words[4] = {};
  CRRL_UNROLL
  for (int i = 0; i < 4 * per_word; ++i) {
    const int word = i / per_word;
    const int unit = place.unit + word % 2;
    const int other = place.other + word / 2 * per_word + i % per_word;
    if (unit < hidden && other < hidden) {
      const uint32_t bits = square[transposed ? other * hidden + unit : unit * hidden + other];
      words[word] |= bits << (i % per_word * 16);
    }
  }
  packed[index] = make_uint4(words[0], words[1], words[2], words[3]);
}

// ---- Launches ----

// Calls `body` with the type of the products and that of the tensors shaped like the outputs.
template <class Body>
void with_types(Dtype weight_dtype, Dtype dtype, Body body) {
  const auto with_products = [&](auto products) {
    using Number = typename decltype(products)::Number;
    dtype == Dtype::float32 ? body(products, float{}) : body(products, Number{});
  };
  switch (weight_dtype) {
    case Dtype::bfloat16:
      return with_products(Bfloat16Products{});
    case Dtype::float16:
      return with_products(Float16Products{});
    default:
      return body(Float32Products{}, float{});
  }
}

// Calls `body` with the width that has room, as a std::integral_constant.
template <class Body>
void with_units(int64_t hidden, Body body) {
  switch (gru_tile_units(hidden)) {
    case 64:
      return body(std::integral_constant<int, 64>{});
    case 128:
      return body(std::integral_constant<int, 128>{});
    case 192:
      return body(std::integral_constant<int, 192>{});
    default:
      return body(std::integral_constant<int, 256>{});
  }
}

template <class Tile, int Rows>
constexpr int kSharedBytes = GruExchangeLayout<Tile, Rows>::bytes + Tile::weight_bytes;

bool pairs_are_aligned(int hidden, std::initializer_list<const void*> tensors) {
  uintptr_t addresses = 0;
  for (const void* tensor : tensors) {
    addresses |= reinterpret_cast<uintptr_t>(tensor);
  }
  return hidden % 2 == 0 && addresses % sizeof(UnitPair<float>) == 0;
}

void pack(const GruScanShape& shape, Dtype weight_dtype, const void* w_hh, bool transposed, void* packed,
          void* stream) {
  const int units = gru_tile_units(shape.hidden);
  const int64_t count = gru_pack_count(shape.directions, units, static_cast<int>(size_of(weight_dtype)));
  const auto blocks = static_cast<unsigned>(ceil_div(count, kPackThreads));
  auto* packs = static_cast<uint4*>(packed);
  if (weight_dtype == Dtype::float32) {
    CRRL_LAUNCH(pack_kernel<uint32_t>, blocks, kPackThreads, 0, stream, static_cast<const uint32_t*>(w_hh), packs,
                count, shape.hidden, units, transposed);
  } else {
    CRRL_LAUNCH(pack_kernel<uint16_t>, blocks, kPackThreads, 0, stream, static_cast<const uint16_t*>(w_hh), packs,
                count, shape.hidden, units, transposed);
  }
}

template <class Tile, int Rows, class Arguments>
void scan(void (*kernel)(Arguments), const char* name, const Arguments& arguments, void* stream) {
  // At every launch, because it holds for one kernel on one device, and costs less than to remember where it was done.
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes<Tile, Rows>),
             "asking for shared memory");
  launch_clusters(kernel, name, gru_block_count(arguments.shape, Tile::cluster), Tile::cluster, Tile::threads,
                  kSharedBytes<Tile, Rows>, stream, arguments);
}

}  // namespace

bool gru_scan_fits(int64_t hidden, int64_t weight_size, int device) {
  if (gru_tile_units(hidden) == 0) {
    return false;
  }
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check_cuda(cudaDeviceGetAttribute(&value, which, device), "asking for a property of the device");
    return value;
  };
  bool fits = false;
  with_units(hidden, [&](auto units) {
    const auto fits_with = [&](auto tile) {
      using Tile = decltype(tile);
      return attribute(cudaDevAttrComputeCapabilityMajor) >= 8 &&
             (Tile::cluster == 1 || attribute(cudaDevAttrClusterLaunch) != 0) &&
             attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) >= kSharedBytes<Tile, kGruGates>;
    };
    fits = weight_size == 4 ? fits_with(GruTile<units(), 4>{}) : fits_with(GruTile<units(), 2>{});
  });
  return fits;
}

int64_t gru_scan_workspace(const GruScanShape& shape, Dtype weight_dtype) {
  return gru_pack_count(shape.directions, gru_tile_units(shape.hidden), static_cast<int>(size_of(weight_dtype))) *
         static_cast<int64_t>(sizeof(uint4));
}

void gru_scan_cuda(const GruScanShape& shape, const GruScanInput& input, const GruScanOutput& output, void* workspace,
                   void* stream) {
  pack(shape, input.weight_dtype, input.w_hh, false, workspace, stream);
  const ForwardArguments arguments{shape, input, output, static_cast<const uint4*>(workspace),
                                   pairs_are_aligned(shape.hidden, {input.projected, output.outputs, output.gates})};
  with_types(input.weight_dtype, input.dtype, [&](auto products, auto io) {
    using Products = decltype(products);
    with_units(shape.hidden, [&](auto units) {
      scan<GruTile<units(), Products::element_size>, 1>(forward_kernel<Products, decltype(io), units()>,
                                                        "gru_scan's forward_kernel", arguments, stream);
    });
  });
}

void gru_scan_backward_cuda(const GruScanShape& shape, const GruScanGradInput& input, const GruScanGradOutput& output,
                            void* workspace, void* stream) {
  pack(shape, input.weight_dtype, input.w_hh, true, workspace, stream);
  const BackwardArguments arguments{shape, input, output, static_cast<const uint4*>(workspace),
                                    pairs_are_aligned(shape.hidden, {input.grad_outputs, input.outputs, input.gates,
                                                                     output.grad_projected, output.grad_recurrent})};
  with_types(input.weight_dtype, input.dtype, [&](auto products, auto io) {
    using Products = decltype(products);
    with_units(shape.hidden, [&](auto units) {
      scan<GruTile<units(), Products::element_size>, kGruGates>(backward_kernel<Products, decltype(io), units()>,
                                                                "gru_scan's backward_kernel", arguments, stream);
    });
  });
}

}  // namespace crrl
