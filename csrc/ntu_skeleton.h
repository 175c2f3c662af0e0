// The text of one raw NTU RGB+D file. No torch here: it is parsed in the reader's own threads.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace crrl {

// B counts the bodies of all frames, in file order.
struct NtuSkeleton {
  std::vector<int32_t> bodies;  // (T) how many of them each frame has
  std::vector<uint64_t> ids;    // (B) the sensor's tracking ids
  std::vector<float> coords;    // (B, 25, 3) metres
};

// Throws std::invalid_argument "line N: what is wrong there"; its text is ASCII. Memory is bounded by a small multiple
// of the text's size, whatever counts the text announces.
NtuSkeleton parse_ntu_skeleton(std::string_view text);

}  // namespace crrl
