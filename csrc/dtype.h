// The floating-point types the ops compute on, named without torch: a .cu file must not include it.
#pragma once

#include <cstdint>

namespace crrl {

enum class Dtype { float32, float64, float16, bfloat16 };

constexpr int64_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::float64:
      return 8;
    case Dtype::float32:
      return 4;
    default:
      return 2;
  }
}

}  // namespace crrl
