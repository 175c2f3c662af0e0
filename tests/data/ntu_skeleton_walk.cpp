// Parses whole, cut and changed NTU text from blocks of exactly its size. Built with the address and
// undefined-behaviour sanitizers: a read past the text ends the program.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>

#include "ntu_skeleton.h"

namespace {

std::string sample() {
  std::string text = "3\n";
  for (int frame = 0; frame < 3; ++frame) {
    text += std::to_string(frame) + "\r\n";
    for (int body = 0; body < frame; ++body) {
      text += "7205759403793110" + std::to_string(body) + " 0 1 1 1 1 0 0.0276 0.0574 2\r\n25\r\n";
      for (int joint = 0; joint < 25; ++joint) {
        text += "0.2181153 -1.5e-03 3.785547 277.419 NaN 1036.233 519.1677 -0.2 0.05 0.96 -0.12 2\r\n";
      }
    }
  }
  return text;
}

// Returns whether it is well-formed.
bool parse(const std::string& text) {
  const auto block = std::make_unique<char[]>(text.size());
  std::copy(text.begin(), text.end(), block.get());
  try {
    const auto skeleton = crrl::parse_ntu_skeleton({block.get(), text.size()});
    return skeleton.coords.size() == 75 * skeleton.ids.size();
  } catch (const std::invalid_argument&) {
    return false;
  }
}

}  // namespace

int main() {
  const std::string whole = sample();
  if (!parse(whole) || !parse(whole.substr(0, whole.size() - 2))) {
    std::puts("the sample is not taken");
    return 1;
  }
  for (size_t size = 0; size + 3 < whole.size(); ++size) {
    if (parse(whole.substr(0, size))) {
      std::printf("taken when cut to %zu of %zu bytes\n", size, whole.size());
      return 1;
    }
  }
  std::mt19937 random(1);
  const std::string pieces[] = {"",   " ",     "\n",     "\r", "-",    ".",
                                "1e", "1e999", "1e-999", "+",  "nan(", "99999999999999999999"};
  for (int round = 0; round < 20000; ++round) {
    std::string text = whole;
    for (unsigned change = 0; change <= round % 3U; ++change) {
      const size_t at = random() % std::min<size_t>(text.size(), 1000);
      if (random() % 2) {
        text[at] = static_cast<char>(random());
      } else {
        text.replace(at, random() % 9, pieces[random() % std::size(pieces)]);
      }
    }
    parse(text);
  }
  std::puts("ok");
}
