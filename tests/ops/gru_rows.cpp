// Lays out random ragged batches and looks up every frame.
#include "gru_rows.h"

#include <cstdio>
#include <random>
#include <set>

int main() {
  std::mt19937 random(0);
  for (int trial = 0; trial < 2000; ++trial) {
    const int64_t clips = static_cast<int64_t>(random() % 9), frames = static_cast<int64_t>(random() % 7);
    std::vector<int64_t> lengths(clips);
    int64_t total = 0, longest = 0;
    for (int64_t& length : lengths) {
      length = trial % 5 == 0 ? frames : static_cast<int64_t>(random() % (frames + 1));
      total += length;
      longest = std::max(longest, length);
    }
    const crrl::GruRows rows(trial % 10 == 0 ? nullptr : lengths.data(), clips, frames);
    bool ok = rows.clips() == clips && rows.total() == total && rows.frames() == longest;
    std::set<int64_t> seen_clips, seen_rows;
    for (int64_t place = 0; ok && place < clips; ++place) {
      const int64_t length = rows.length_at(place);
      seen_clips.insert(rows.clip_at(place));
      ok = length == lengths[rows.clip_at(place)] && (place == 0 || length <= rows.length_at(place - 1));
      for (int64_t frame = 0; ok && frame < length; ++frame) {
        ok = place < rows.running(frame) && seen_rows.insert(rows.row(frame, place)).second;
      }
      ok = ok && rows.running(length) <= place;
    }
    ok = ok && static_cast<int64_t>(seen_clips.size()) == clips && static_cast<int64_t>(seen_rows.size()) == total &&
         (total == 0 || (*seen_rows.begin() == 0 && *seen_rows.rbegin() == total - 1)) && rows.running(-1) == 0 &&
         rows.running(longest) == 0;
    if (!ok) {
      std::printf("trial %d: %ld clips of at most %ld frames\n", trial, clips, frames);
      return 1;
    }
  }
  std::puts("ok");
  return 0;
}
