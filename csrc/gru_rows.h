// The order in which the CPU keeps the valid frames of a ragged batch, as rows of its matrices: clips by length, the
// longest first, and frame after frame of all clips that have it. So the clips that are still running at a frame are
// neighbours, nothing is computed on padding, and both directions share the order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace crrl {

class GruRows {
 public:
  GruRows(const int64_t* lengths /* (clips), or null: all frames */, int64_t clips, int64_t frames) : clip_(clips) {
    const auto length_of = [&](int64_t clip) { return lengths == nullptr ? frames : lengths[clip]; };
    std::iota(clip_.begin(), clip_.end(), 0);
    std::stable_sort(clip_.begin(), clip_.end(), [&](int64_t a, int64_t b) { return length_of(a) > length_of(b); });
    length_.reserve(clips);
    for (const int64_t clip : clip_) {
      length_.push_back(length_of(clip));
    }
    start_.push_back(0);
    int64_t running = clips;
    for (int64_t frame = 0; clips > 0 && frame < length_[0]; ++frame) {
      while (length_[running - 1] <= frame) {
        --running;
      }
      start_.push_back(start_.back() + running);
    }
  }

  int64_t clips() const { return static_cast<int64_t>(clip_.size()); }
  int64_t frames() const { return static_cast<int64_t>(start_.size()) - 1; }  // of the longest clip
  int64_t total() const { return start_.back(); }
  int64_t clip_at(int64_t place) const { return clip_[place]; }
  int64_t length_at(int64_t place) const { return length_[place]; }

  // The clips with this frame are those in the first places.
  int64_t running(int64_t frame) const {
    return frame < 0 || frame >= frames() ? 0 : start_[frame + 1] - start_[frame];
  }
  int64_t row(int64_t frame, int64_t place) const { return start_[frame] + place; }

 private:
  std::vector<int64_t> clip_, length_;  // (clips)
  std::vector<int64_t> start_;          // (frames + 1)
};

}  // namespace crrl
