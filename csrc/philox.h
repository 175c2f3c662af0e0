// Random numbers that depend on a counter and a seed alone, so that every element draws its own wherever it is
// computed: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and normals made of
// them.
#pragma once

#include <cmath>
#include <cstring>

#include "host_device.h"

namespace crrl {

struct Random4 {
  uint32_t word[4];
};

CRRL_HD inline Random4 philox(const Random4& counter, uint64_t seed) {
  uint32_t c0 = counter.word[0], c1 = counter.word[1], c2 = counter.word[2], c3 = counter.word[3];
  uint32_t k0 = static_cast<uint32_t>(seed);
  uint32_t k1 = static_cast<uint32_t>(seed >> 32);
  CRRL_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * c0;
    const uint64_t product1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(product0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

CRRL_HD inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

CRRL_HD inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The natural logarithm of a normal x > 0, within 2 units in the last place. A polynomial and integer arithmetic on the
// exponent, so that a loop over it is vectorised; of log(1 + f) over sqrt(1/2) <= 1 + f < sqrt(2) (Cephes, logf).
CRRL_HD inline float log_of(float x) {
  constexpr int32_t sqrt_half = 0x3F3504F3;
  const int32_t shifted = static_cast<int32_t>(bits_of(x)) - sqrt_half;
  const float f = float_of(static_cast<uint32_t>((shifted & 0x007FFFFF) + sqrt_half)) - 1.0f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float e = static_cast<float>(shifted >> 23);  // the exponent
  const float square = f * f;
  const float tail = p * f * square + e * -2.12194440e-4f - 0.5f * square;
  return e * 0.693359375f + (f + tail);
}

// sqrt(-2 log((n + 1) / 2^24)) of the upper 24 bits n.
CRRL_HD inline float normal_radius(uint32_t random) {
  const float unit = static_cast<float>(static_cast<int32_t>(random >> 8) + 1) * 0x1p-24f;
  return std::sqrt(-2.0f * log_of(unit));
}

struct Turn {
  float cos, sin;
};

// The angle (n / 2^24 - 1/8) of a turn, of the upper 24 bits n: their first two are a quarter, the others an angle of
// [-45, 45) degrees, over which sine and cosine are polynomials (Cephes, sinf and cosf).
CRRL_HD inline Turn normal_turn(uint32_t random) {
  const int32_t within = static_cast<int32_t>((random >> 8) & 0x003FFFFF) - 0x00200000;
  const float angle = static_cast<float>(within) * (1.57079632679489662f * 0x1p-22f);
  const float square = angle * angle;
  const float sin =
      angle + angle * square * (-1.6666654611e-1f + square * (8.3321608736e-3f - square * 1.9515295891e-4f));
  const float cos =
      1.0f - 0.5f * square +
      square * square * (4.166664568298827e-2f + square * (-1.388731625493765e-3f + square * 2.443315711809948e-5f));
  // By masks and no branch, for the sake of vectorisation: an odd quarter swaps the two, and each has its negative
  // half.
  const uint32_t quarter = random >> 30;
  const uint32_t swap = (bits_of(sin) ^ bits_of(cos)) & (0u - (quarter & 1));
  return {float_of(bits_of(cos) ^ swap ^ (((quarter + 1) & 2) << 30)),
          float_of(bits_of(sin) ^ swap ^ ((quarter & 2) << 30))};
}

struct Normal3 {
  float x, y, z;
};

// Three standard normals (Box and Muller): two of the first pair of numbers, one of the second.
CRRL_HD inline Normal3 normals(const Random4& random) {
  const float radius = normal_radius(random.word[0]);
  const Turn turn = normal_turn(random.word[1]);
  return {radius * turn.cos, radius * turn.sin, normal_radius(random.word[2]) * normal_turn(random.word[3]).cos};
}

}  // namespace crrl
