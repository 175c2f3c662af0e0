// Takes tiles of logits into the online softmax and compares state and weights with the definition in double precision.
#include "online_softmax.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

namespace {

int failures = 0;

void expect_close(double got, double expected, double tolerance, const char* what) {
  if (!(std::abs(got - expected) <= tolerance * std::max(1.0, std::abs(expected)))) {
    std::printf("%s: %.9g instead of %.9g\n", what, got, expected);
    ++failures;
  }
}

template <class T, class Weight>
void check(int64_t tiles, int64_t keys, int64_t rows, T scale, double tolerance, double weight_tolerance) {
  std::mt19937 random(static_cast<unsigned>(tiles * 1000 + keys + rows));
  std::normal_distribution<T> normal;
  std::vector<T> threshold(rows), max(rows, -std::numeric_limits<T>::infinity()), sum(rows), shrink(rows);
  std::vector<crrl::Count<T>> rank(rows);
  std::vector<Weight> weights(rows * keys);
  std::vector<std::vector<T>> seen(rows);  // logits
  for (T& limit : threshold) {
    limit = normal(random);
  }
  for (int64_t tile = 0; tile < tiles; ++tile) {
    std::vector<T> logits(keys * rows);
    for (T& logit : logits) {
      logit = normal(random);
    }
    const int64_t counted = tile + 1 < tiles ? keys : keys - 5;  // the last tile ends in padding
    std::fill(logits.begin() + counted * rows, logits.end(), -std::numeric_limits<T>::infinity());
    const std::vector<T> before = max, sum_before = sum;
    crrl::softmax_tile(logits.data(), keys, rows, scale, threshold.data(), max.data(), sum.data(), rank.data(),
                       shrink.data(), weights.data());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t key = 0; key < counted; ++key) {
        seen[row].push_back(logits[key * rows + row]);
      }
      const double top = static_cast<double>(*std::max_element(seen[row].begin(), seen[row].end())) * scale;
      expect_close(max[row], top, 1e-6, "max");
      expect_close(shrink[row], tile == 0 ? 0.0 : std::exp2(before[row] - max[row]), tolerance, "shrink");
      double total = 0, count = 0;
      for (const T logit : seen[row]) {
        total += std::exp2(static_cast<double>(logit) * scale - max[row]);
        count += logit >= threshold[row];
      }
      expect_close(sum[row], total, tolerance, "sum");
      expect_close(static_cast<double>(rank[row]), count, 0, "rank");
      for (int64_t key = 0; key < keys; ++key) {
        const double expected =
            key < counted ? std::exp2(static_cast<double>(logits[key * rows + row]) * scale - max[row]) : 0.0;
        expect_close(static_cast<double>(weights[row * keys + key]), expected, weight_tolerance, "weight");
      }
    }
  }
}

}  // namespace

int main() {
  for (const int64_t keys : {16, 48, 256}) {
    for (const int64_t rows : {16, 32, 64}) {
      for (const float scale : {0.1f, 20.0f}) {
        const double tolerance = 1e-6 + 3e-7 * scale;  // an exponent of up to 4 scales is itself rounded
        check<float, float>(3, keys, rows, scale, tolerance, tolerance);
        check<float, c10::BFloat16>(3, keys, rows, scale, tolerance, 1.0 / 256);
        check<double, double>(3, keys, rows, scale, 1e-14, 1e-14);
      }
    }
  }
  std::puts(failures == 0 ? "ok" : "failed");
  return failures != 0;
}
