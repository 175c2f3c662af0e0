#include "ntu_skeleton.h"

#include <algorithm>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>

namespace crrl {
namespace {

constexpr int64_t kJoints = 25;
constexpr int64_t kBodyColumns = 10;
constexpr int64_t kJointColumns = 12;  // x y z, depth x y, colour x y, orientation w x y z, tracking state
constexpr uint64_t kMaxFrames = 1000000;
constexpr uint64_t kMaxBodies = 64;    // the sensor tracks 6
constexpr size_t kMaxNumberText = 64;  // so that a number without an exponent cannot leave the range of double
constexpr size_t kMaxShown = 20;

// What Python's bytes.split() splits at: space, and tab to carriage return.
constexpr bool is_blank(char c) { return (c == ' ') | (static_cast<unsigned char>(c - '\t') < 5); }

void skip_blanks(std::string_view& text) {
  while (!text.empty() && is_blank(text.front())) {
    text.remove_prefix(1);
  }
}

std::string_view next_word(std::string_view& text) {
  skip_blanks(text);
  const auto stop = std::find_if(text.begin(), text.end(), is_blank);
  const std::string_view word = text.substr(0, static_cast<size_t>(stop - text.begin()));
  text.remove_prefix(word.size());
  return word;
}

int64_t count_words(std::string_view line) {
  constexpr size_t kBlock = 128;  // whose words a byte can count, so that the inner loop runs on whole vectors
  int64_t words = !line.empty() && !is_blank(line[0]);
  for (size_t begin = 1; begin < line.size(); begin += kBlock) {
    const char* text = line.data() + begin;
    const size_t size = std::min(kBlock, line.size() - begin);
    uint8_t starts = 0;
    for (size_t i = 0; i < size; ++i) {
      starts += is_blank(text[i - 1]) & !is_blank(text[i]);
    }
    words += starts;
  }
  return words;
}

std::string shown(std::string_view word) {
  std::string text(word.substr(0, kMaxShown));
  std::replace_if(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return "'" + text + (word.size() > kMaxShown ? "...'" : "'");
}

constexpr bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// Takes what nearly every number is, up to 15 digits with or without a point, and returns where it ends; nullptr for
// any other text. The quotient of two integers that double holds exactly is rounded correctly (Clinger, PLDI 1990).
const char* parse_short_number(const char* at, const char* end, double& value) {
  constexpr double kPowers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
  const bool negative = at != end && *at == '-';
  at += negative;
  const char* const begin = at;
  int64_t digits = 0;
  int64_t decimals = 0;
  bool point = false;
  for (; at != end && !is_blank(*at); ++at) {
    if (is_digit(*at)) {
      digits = digits * 10 + (*at - '0');
      decimals += point;
    } else if (*at == '.' && !point && at != begin) {
      point = true;
    } else {
      return nullptr;
    }
    if (at - begin == 15) {
      return nullptr;
    }
  }
  if (at == begin) {
    return nullptr;
  }
  value = static_cast<double>(digits) / kPowers[decimals];
  value = negative ? -value : value;
  return at;
}

// The grammar of Python's float(), underscores apart: from_chars, and a plus sign.
bool parse_number(std::string_view word, double& value) {
  if (word.size() > kMaxNumberText) {
    return false;
  }
  const char* begin = word.data();
  const char* const end = begin + word.size();
  if (word.size() > 1 && begin[0] == '+' && begin[1] != '-') {
    ++begin;
  }
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error == std::errc::result_out_of_range) {
    const auto exponent = std::find_if(begin, end, [](char c) { return c == 'e' || c == 'E'; });
    value = exponent != end && exponent[1] == '-' ? 0.0 : HUGE_VAL;
  }
  return stop == end && error != std::errc::invalid_argument;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  NtuSkeleton parse() {
    frames_ = next_count("the number of frames", kMaxFrames);
    while (skeleton_.bodies.size() < frames_) {
      parse_frame();
    }
    while (at_ != end_) {
      if (count_words(next_line()) != 0) {
        fail("there is more after the last of " + std::to_string(frames_) + " frames");
      }
    }
    return std::move(skeleton_);
  }

 private:
  void parse_frame() {
    const uint64_t bodies = next_count("the number of bodies", kMaxBodies);
    for (uint64_t body = 0; body < bodies; ++body) {
      parse_body(body);
    }
    skeleton_.bodies.push_back(static_cast<int32_t>(bodies));
  }

  void parse_body(uint64_t bodies_before) {
    std::string_view header = next_line();
    check_columns("a body", header, kBodyColumns);
    const std::string_view word = next_word(header);
    const uint64_t id = to_count(word, "the body id", UINT64_MAX);
    auto& ids = skeleton_.ids;
    if (std::find(ids.end() - static_cast<int64_t>(bodies_before), ids.end(), id) != ids.end()) {
      fail("body " + std::to_string(id) + " stands twice in a frame");
    }
    ids.push_back(id);
    const uint64_t joints = next_count("the number of joints", UINT64_MAX);
    if (joints != kJoints) {
      fail("the body has " + std::to_string(joints) + " joints, expected " + std::to_string(kJoints));
    }
    for (int64_t joint = 0; joint < kJoints; ++joint) {
      parse_joint();
    }
  }

  void parse_joint() {
    const std::string_view line = next_line();
    std::string_view rest = line;
    for (const char axis : {'x', 'y', 'z'}) {
      skip_blanks(rest);
      double number = 0;
      if (const char* stop = parse_short_number(rest.data(), rest.data() + rest.size(), number)) {
        rest.remove_prefix(static_cast<size_t>(stop - rest.data()));
      } else {
        const std::string_view word = next_word(rest);
        if (!parse_number(word, number) || !(std::abs(number) <= FLT_MAX)) {  // NaN fails the second, too
          check_columns("a joint", line, kJointColumns);
          fail(std::string(1, axis) + " is " + shown(word) + ", not a finite number");
        }
      }
      // By way of double, as Python goes.
      skeleton_.coords.push_back(static_cast<float>(number));
    }
    if (count_words(rest) != kJointColumns - 3) {
      check_columns("a joint", line, kJointColumns);
    }
  }

  std::string_view next_line() {
    ++line_;
    if (at_ == end_) {
      fail("the file ends after " + std::to_string(skeleton_.bodies.size()) + " of " + std::to_string(frames_) +
           " frames");
    }
    const char* const begin = at_;
    const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', static_cast<size_t>(end_ - begin)));
    const char* const stop = newline == nullptr ? end_ : newline;
    at_ = newline == nullptr ? end_ : newline + 1;
    return {begin, static_cast<size_t>(stop - begin)};
  }

  uint64_t next_count(const char* what, uint64_t largest) {
    std::string_view line = next_line();
    check_columns(what, line, 1);
    return to_count(next_word(line), what, largest);
  }

  uint64_t to_count(std::string_view word, const char* what, uint64_t largest) const {
    uint64_t count = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), count);
    if (error != std::errc() || stop != word.data() + word.size() || count > largest) {
      fail(std::string(what) + " is " + shown(word) + ", not a whole number up to " + std::to_string(largest));
    }
    return count;
  }

  void check_columns(const char* what, std::string_view line, int64_t expected) const {
    const int64_t columns = count_words(line);
    if (columns != expected) {
      fail(std::string(what) + " has " + std::to_string(columns) + " columns, expected " + std::to_string(expected));
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument("line " + std::to_string(line_) + ": " + what);
  }

  const char* at_;
  const char* end_;
  int64_t line_ = 0;
  uint64_t frames_ = 0;
  NtuSkeleton skeleton_;
};

}  // namespace

NtuSkeleton parse_ntu_skeleton(std::string_view text) { return Parser(text).parse(); }

}  // namespace crrl
