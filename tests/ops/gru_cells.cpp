// Runs the cell over the units of a few clips and compares it with the equations in long double.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "gru_cell_cpu.h"

namespace {

int failures = 0;

void expect_close(double got, long double expected, double tolerance, const char* what) {
  const auto error = static_cast<double>(std::abs(got - expected));
  if (!(error <= tolerance * std::max(1.0, static_cast<double>(std::abs(expected))))) {
    std::printf("%s: %.9g instead of %.9g\n", what, got, static_cast<double>(expected));
    ++failures;
  }
}

long double sigmoid(long double x) { return 1 / (1 + std::exp(-x)); }

constexpr int64_t kClips = 3, kUnits = 32, kGate = 48;  // the last 16 of a gate are left alone

template <class T, class Factor>
void check_forward(double spread, double tolerance, double saved_tolerance) {
  std::mt19937 random(1);
  std::normal_distribution<T> normal(0, static_cast<T>(spread));
  const auto draw = [&](int64_t count) {
    std::vector<T> numbers(count);
    std::generate(numbers.begin(), numbers.end(), [&] { return normal(random); });
    return numbers;
  };
  const auto projected = draw(kClips * 3 * kGate), recurrent = draw(3 * kClips * kGate), bias = draw(4 * kGate);
  auto state = draw(kClips * kGate);
  std::transform(state.begin(), state.end(), state.begin(), [](T number) { return std::tanh(number); });
  std::vector<T> next(kClips * kGate, T(7));
  std::vector<Factor> rounded(kClips * kGate), hidden(kClips * kGate), gates(kClips * 4 * kGate);
  const crrl::GruCellForward<T, Factor> cell{
      projected.data(), 3 * kGate, recurrent.data(), kGate, kClips * kGate, bias.data(), state.data(), next.data(),
      rounded.data(),   kGate,     hidden.data(),    kGate, gates.data(),   4 * kGate,   kGate,
  };
  crrl::cell_forward(cell, kClips, kUnits);
  for (int64_t clip = 0; clip < kClips; ++clip) {
    for (int64_t unit = 0; unit < kGate; ++unit) {
      const int64_t at = clip * kGate + unit;
      if (unit >= kUnits) {
        expect_close(next[at], 7, 0, "a unit past the end");
        continue;
      }
      const auto sum = [&](int64_t gate) {
        return static_cast<long double>(projected[(clip * 3 + gate) * kGate + unit]) + bias[gate * kGate + unit];
      };
      const auto product = [&](int64_t gate) {
        return static_cast<long double>(recurrent[gate * kClips * kGate + at]);
      };
      const long double r = sigmoid(sum(0) + product(0)), z = sigmoid(sum(1) + product(1));
      const long double rec_n = product(2) + bias[3 * kGate + unit];
      const long double n = std::tanh(sum(2) + r * rec_n), h = (1 - z) * n + z * state[at];
      expect_close(next[at], h, tolerance, "state");
      expect_close(static_cast<double>(hidden[at]), h, saved_tolerance, "hidden");
      if (!std::is_same_v<T, Factor>) {
        expect_close(static_cast<double>(rounded[at]), h, saved_tolerance, "factor");
      }
      const long double expected[4] = {r, z, n, rec_n};
      for (int64_t gate = 0; gate < 4; ++gate) {
        const Factor saved = gates[(clip * 4 + gate) * kGate + unit];
        expect_close(static_cast<double>(saved), expected[gate], saved_tolerance, "gate");
      }
    }
  }
}

// The gradients by central differences of the equations.
template <class T, class Factor>
void check_backward(double tolerance) {
  std::mt19937 random(2);
  std::uniform_real_distribution<T> share(T(0.05), T(0.95));
  std::normal_distribution<T> normal;
  std::vector<T> output_grad(kClips * kGate), carry(kClips * kGate), input_grad(kClips * 3 * kGate, T(0.5));
  std::vector<Factor> gates(kClips * 4 * kGate), before(kClips * kGate), sums(kClips * 4 * kGate);
  for (T& number : output_grad) {
    number = normal(random);
  }
  for (T& number : carry) {
    number = normal(random);
  }
  for (Factor& number : before) {
    number = static_cast<Factor>(normal(random));
  }
  for (size_t i = 0; i < gates.size(); ++i) {
    const bool is_share = i / kGate % 4 < 2;
    gates[i] = static_cast<Factor>(is_share ? share(random) : std::tanh(normal(random)));
  }
  const std::vector<T> carried = carry;
  const int64_t clips_before = kClips - 1;  // the last clip starts here
  const crrl::GruCellBackward<T, Factor> cell{
      output_grad.data(), kGate, gates.data(), 4 * kGate, before.data(),     kGate,     clips_before,
      carry.data(),       kGate, sums.data(),  4 * kGate, input_grad.data(), 3 * kGate, kGate,
  };
  crrl::cell_backward(cell, kClips);
  for (int64_t clip = 0; clip < kClips; ++clip) {
    for (int64_t unit = 0; unit < kGate; ++unit) {
      const auto gate = [&](int64_t index) {
        return static_cast<long double>(static_cast<double>(gates[(clip * 4 + index) * kGate + unit]));
      };
      const long double r = gate(0), z = gate(1), n = gate(2), rec_n = gate(3);
      const int64_t at = clip * kGate + unit;
      const long double h = clip < clips_before ? static_cast<double>(before[at]) : 0.0;
      const long double grad = static_cast<long double>(output_grad[at]) + carried[at];
      // The state as a function of what enters the gates, around where they are.
      const auto state = [&](long double dr, long double dz, long double dn, long double drec_n) {
        const auto logit = [](long double p) { return std::log(p / (1 - p)); };
        const long double r1 = sigmoid(logit(r) + dr), z1 = sigmoid(logit(z) + dz);
        const long double n1 = std::tanh(std::atanh(n) + dn + r1 * (rec_n + drec_n) - r * rec_n);
        return (1 - z1) * n1 + z1 * h;
      };
      constexpr long double step = 1e-5L;
      const auto slope = [&](long double a, long double b, long double c, long double d) {
        return grad *
               (state(a * step, b * step, c * step, d * step) - state(-a * step, -b * step, -c * step, -d * step)) /
               (2 * step);
      };
      const long double expected[4] = {slope(0, 0, 1, 0), slope(1, 0, 0, 0), slope(0, 1, 0, 0), slope(0, 0, 0, 1)};
      for (int64_t index = 0; index < 4; ++index) {
        const Factor got = sums[(clip * 4 + index) * kGate + unit];
        expect_close(static_cast<double>(got), expected[index], tolerance, "gradient");
        if (index < 3) {
          expect_close(input_grad[(clip * 3 + index) * kGate + unit] - T(0.5), expected[index], tolerance, "sum");
        }
      }
      expect_close(carry[at], grad * z, tolerance, "carry");
    }
  }
}

}  // namespace

int main() {
  for (const double spread : {1e-3, 1.0, 30.0, 1000.0}) {  // to where the gates are shut
    const double steps = 3 * (1 + spread);                 // sums as large as that are themselves rounded
    check_forward<float, float>(spread, steps * 0x1p-23, steps * 0x1p-23);
    check_forward<float, c10::BFloat16>(spread, steps * 0x1p-23, 1.0 / 256);
    check_forward<double, double>(spread, steps * 0x1p-52, steps * 0x1p-52);
  }
  check_backward<float, float>(2e-6);
  check_backward<float, c10::BFloat16>(1.0 / 128);
  check_backward<double, double>(1e-9);
  std::puts(failures == 0 ? "ok" : "failed");
  return failures != 0;
}
