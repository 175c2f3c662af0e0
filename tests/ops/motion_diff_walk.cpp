// Runs the walk of one GPU thread on the CPU, over every walk of a launch, and compares with a plain loop. Built with
// the address and undefined-behaviour sanitizers: a read outside the clip or a misaligned pack ends the program.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "motion_diff.h"

using namespace crrl;

namespace {

template <class T>
struct Aligned {  // on 16 bytes, and ending with the last element, so that a read past it is seen
  Aligned(int64_t count, T fill) {
    void* block = nullptr;
    if (posix_memalign(&block, 16, count * sizeof(T)) != 0) {
      std::abort();
    }
    data = static_cast<T*>(block);
    std::fill_n(data, count, fill);
  }
  ~Aligned() { std::free(data); }
  T* data;
};

template <class T>
T plain(const std::vector<T>& in, int64_t at, int64_t frame, int64_t last, int64_t frame_stride, bool backward) {
  if (!backward) {
    return frame < last ? in[at + frame_stride] - in[at] : T(0);
  }
  const T earlier = frame >= 1 && frame <= last ? in[at - frame_stride] : T(0);
  const T own = frame < last ? in[at] : T(0);
  return frame <= last ? earlier - own : T(0);
}

template <class Stencil, class T, int Width>
void check(int64_t clips, int64_t frames, int64_t coords, int64_t gap, const int64_t* lengths) {
  const int64_t frame_stride = coords + gap;
  const MotionDiffShape shape{clips, frames, coords, frames * frame_stride + gap, frame_stride};
  const int64_t input_size = (clips - 1) * shape.clip_stride + (frames - 1) * frame_stride + coords;
  std::vector<T> values(input_size);
  Aligned<T> in(input_size, T(0));
  for (int64_t i = 0; i < input_size; ++i) {
    in.data[i] = values[i] = static_cast<T>(i * 7 % 101);
  }
  Aligned<T> out(clips * frames * coords, T(-12345));
  const int width = walk_width(shape, sizeof(T), in.data, out.data);
  if (width < Width) {
    return;
  }
  for (int64_t index = 0; index < walk_count(shape, Width); ++index) {
    walk_frames<Stencil, T, Width>(index, in.data, lengths, out.data, shape);
  }
  for (int64_t clip = 0; clip < clips; ++clip) {
    const int64_t last = last_frame(lengths, clip, frames);
    for (int64_t frame = 0; frame < frames; ++frame) {
      for (int64_t coord = 0; coord < coords; ++coord) {
        const int64_t at = clip * shape.clip_stride + frame * frame_stride + coord;
        const T want = plain(values, at, frame, last, frame_stride, Stencil::first_tap != 0);
        const T got = out.data[(clip * frames + frame) * coords + coord];
        if (got != want) {
          std::printf("clips %ld frames %ld coords %ld gap %ld width %d: at (%ld, %ld, %ld) got %g, want %g\n", clips,
                      frames, coords, gap, Width, clip, frame, coord, double(got), double(want));
          std::exit(1);
        }
      }
    }
  }
}

template <class T, int Width>
void check_shapes() {
  for (int64_t frames : {1, 2, 7, 8, 9, 16, 17}) {
    const int64_t lengths[] = {0, 1, frames, frames - 1, -5, frames + 5};
    for (int64_t coords : {1, 2, 3, 8, 12, 150}) {
      for (int64_t gap : {0, 1, 8}) {
        for (const int64_t* counts : {static_cast<const int64_t*>(nullptr), static_cast<const int64_t*>(lengths)}) {
          check<Velocity, T, Width>(6, frames, coords, gap, counts);
          check<VelocityGrad, T, Width>(6, frames, coords, gap, counts);
        }
      }
    }
  }
}

void expect(bool fact, const char* what) {
  if (!fact) {
    std::printf("not so: %s\n", what);
    std::exit(1);
  }
}

void check_widths() {
  alignas(16) char memory[32];
  const auto width = [&](int64_t coords, int64_t clip_stride, int64_t frame_stride, int64_t size, int in, int out) {
    return walk_width({2, 2, coords, clip_stride, frame_stride}, size, memory + in, memory + out);
  };
  expect(width(8, 16, 8, 4, 0, 0) == 4, "float32 moves 4 at a time");
  expect(width(8, 16, 8, 8, 0, 0) == 2, "float64 moves 2 at a time");
  expect(width(8, 16, 8, 2, 0, 0) == 8, "16-bit types move 8 at a time");
  expect(width(150, 9000, 150, 4, 0, 0) == 2, "150 coordinates are moved in pairs");
  expect(width(7, 14, 7, 4, 0, 0) == 1, "an odd count is moved one by one");
  expect(width(8, 16, 9, 4, 0, 0) == 1, "an odd frame stride is moved one by one");
  expect(width(8, 18, 8, 4, 0, 0) == 2, "the clip stride counts");
  expect(width(8, 16, 8, 4, 8, 0) == 2, "the address of the input counts");
  expect(width(8, 16, 8, 4, 0, 4) == 1, "the address of the output counts");
}

void check_large_indices() {
  const int64_t clips = 70000, frames = 100000, coords = 3000;  // 21 * 10^12 elements
  const MotionDiffShape shape{clips, frames, coords, frames * coords, coords};
  expect(walk_count(shape, 4) == 70000LL * 12500 * 750, "the count of walks has 64 bits");
  const MotionDiffWalk walk = walk_at(walk_count(shape, 4) - 1, shape, 4);
  expect(walk.clip == clips - 1 && walk.first_frame == frames - 8 && walk.coord == coords - 4,
         "the last walk ends at the last element");
}

}  // namespace

int main() {
  check_shapes<float, 1>();
  check_shapes<float, 2>();
  check_shapes<float, 4>();
  check_shapes<double, 1>();
  check_shapes<double, 2>();
  check_shapes<short, 1>();  // stands for the 16-bit floats, which are CUDA's own types there
  check_shapes<short, 8>();
  check_widths();
  check_large_indices();
  std::puts("ok");
}
