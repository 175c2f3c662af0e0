// Runs the GPU blocks of skeleton_views on the CPU, thread by thread between two barriers, over every tile of a launch,
// and compares with a plain loop over the same formulas. Built with the address and undefined-behaviour sanitizers: a
// read outside a clip, a row outside the shared memory or a misaligned pack ends the program.
#include "skeleton_views_tile.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

using namespace crrl;

namespace {

template <class T>
struct Aligned {  // on 32 bytes, and ending with the last element, so that an access past it is seen
  Aligned(int64_t count, T fill) {
    void* block = nullptr;
    if (posix_memalign(&block, 32, std::max<int64_t>(count, 1) * sizeof(T)) != 0) {
      std::abort();
    }
    data = static_cast<T*>(block);
    std::fill_n(data, count, fill);
  }
  ~Aligned() { std::free(data); }
  T* data;
};

void expect(bool fact, const char* what) {
  if (!fact) {
    std::printf("not so: %s\n", what);
    std::exit(1);
  }
}

struct Case {
  std::vector<int64_t> offsets, index, lengths, start, span, partner, origin, seed;
  std::vector<char> mirror, chosen;
  std::vector<float> matrix, joint_matrix, noise_std, blur;
  SkeletonViewsShape shape;

  // Views of all lengths around out_frames, every third of them without one of the steps, from clips of 1 to 4 frames
  // and one of out_frames.
  Case(int64_t out_frames, int32_t joints, int32_t bodies, int32_t taps, bool normalize, int64_t gap) {
    offsets = {0, 1, 3, 3 + out_frames, 7 + out_frames};
    const int64_t views = 9;
    const int64_t some[] = {0, 1, 2, out_frames - 1, out_frames, out_frames, out_frames / 2, out_frames + 7, -3};
    for (int64_t v = 0; v < views; ++v) {
      index.push_back(v == 7 ? 99 : v % 4);  // out of range: clamped
      lengths.push_back(some[v]);
      start.push_back(v * 3 - 10);
      span.push_back(v % 2 == 0 ? some[v] - 1 : 5 - 2 * v);
      origin.push_back(v % 3 == 0 ? -1 : v % joints);
      seed.push_back(v * 0x123456789LL - 5);
      mirror.push_back(v % 3 == 1);
      for (int i = 0; i < 9; ++i) {
        matrix.push_back(static_cast<float>((v * 9 + i) % 5) - 1.5f);
        joint_matrix.push_back(static_cast<float>((v + i) % 3));
      }
      for (int32_t j = 0; j < joints; ++j) {
        chosen.push_back(v % 3 == 2 && j % 2 == 0);
      }
      for (int c = 0; c < 3; ++c) {
        noise_std.push_back(v % 3 == 0 ? 0.0f : 0.1f * static_cast<float>(c));
      }
      for (int32_t k = 0; k < taps; ++k) {
        blur.push_back(k == 0 ? 1.0f : v % 3 == 1 || k > v ? 0.0f : 1.0f / static_cast<float>(1 + k));
      }
    }
    for (int64_t j = 0; j < joints; ++j) {
      partner.push_back(j % 2 == 0 ? std::min<int64_t>(j + 1, joints - 1) : j - 1);
    }
    const int32_t all = joints * bodies;
    shape = {offsets.back(), 3 * all + gap, 4, views, out_frames, joints, all, taps, normalize};
  }

  SkeletonViewsParams params(bool all) const {
    SkeletonViewsParams p{};
    p.offsets = offsets.data(), p.index = index.data(), p.lengths = lengths.data();
    p.start = start.data(), p.span = span.data();
    p.blur = shape.taps > 0 ? blur.data() : nullptr;
    if (all) {
      p.partner = partner.data(), p.mirror = reinterpret_cast<const bool*>(mirror.data()), p.origin = origin.data();
      p.matrix = matrix.data(), p.chosen = reinterpret_cast<const bool*>(chosen.data());
      p.joint_matrix = joint_matrix.data(), p.noise_std = noise_std.data(), p.seed = seed.data();
    }
    return p;
  }
};

// The view in double, frame by frame.
std::vector<double> plain_view(const View& view, const double* frames, const SkeletonViewsParams& params,
                               const SkeletonViewsShape& shape) {
  const int64_t coords = 3 * shape.all_joints;
  std::vector<double> moved(view.frames * coords), out(shape.out_frames * coords, 0.0);
  for (int64_t t = 0; t < view.frames; ++t) {
    const FrameTap<double> tap = frame_tap<double>(view, t);
    const auto read = [&](int64_t i) {
      const double a = frames[tap.earlier * shape.frame_stride + i], b = frames[tap.later * shape.frame_stride + i];
      return tap.weight == 0 ? a : a + tap.weight * (b - a);
    };
    for (int32_t j = 0; j < shape.all_joints; ++j) {
      const Normal3 noise = view_noise(view.seed, view.clip, t, j);
      const float normal[3] = {noise.x, noise.y, noise.z};
      const int32_t source = source_joint(view, params, j, shape);
      const int32_t origin = j / shape.joints * shape.joints + view.origin;
      const float* m = matrix_of(view, j, shape);
      for (int axis = 0; axis < 3; ++axis) {
        double value = 0;
        for (int k = 0; k < 3; ++k) {
          const double in = read(3 * source + k) - (view.origin < 0 ? 0.0 : read(3 * origin + k));
          value += (m != nullptr ? m[3 * axis + k] : axis == k ? 1.0f : 0.0f) * in;
        }
        moved[t * coords + 3 * j + axis] =
            value + (view.noise_std == nullptr ? 0.0 : double(view.noise_std[axis]) * normal[axis]);
      }
    }
  }
  for (int64_t t = 0; t < view.frames; ++t) {
    double total = 0;
    for (int64_t other = 0; other < view.frames; ++other) {
      const int64_t distance = std::abs(other - t);
      const double weight = view.blur == nullptr ? distance == 0 : distance < shape.taps ? view.blur[distance] : 0.0;
      total += weight;
      for (int64_t c = 0; c < coords && weight != 0; ++c) {
        out[t * coords + c] += weight * moved[other * coords + c];
      }
    }
    for (int64_t c = 0; c < coords && shape.normalize_blur; ++c) {
      out[t * coords + c] /= total;
    }
  }
  return out;
}

template <class T, int Width>
void run_tiles(const T* frames, const SkeletonViewsParams& params, T* coords, T* velocity,
               const SkeletonViewsShape& shape) {
  for (int64_t index = 0; index < tile_count<T>(shape); ++index) {
    Aligned<T> rows(tile_rows<T>(shape.taps) * kTileCoords, std::numeric_limits<T>::quiet_NaN());
    TileScratch<T> scratch;
    const Tile<T> tile = tile_at<T>(index, shape);
    scratch.view = view_at(tile.number, params, shape);
    // Within a phase the order of the threads must not matter: backwards, for once.
    for (int thread = kTileThreads - 1; thread >= 0; --thread) {
      plan_tile(thread, tile, shape, scratch);
    }
    for (int thread = 0; thread < kTileThreads; ++thread) {
      fill_tile<T>(thread, frames, tile, params, shape, scratch, rows.data);
    }
    for (int thread = kTileThreads - 1; thread >= 0; --thread) {
      write_tile<T, Width>(thread, tile, shape, scratch, rows.data, coords, velocity);
    }
  }
}

template <class T, int Width>
void check(const Case& c, bool all) {
  const SkeletonViewsShape& shape = c.shape;
  const SkeletonViewsParams params = c.params(all);
  const int64_t coords = 3 * shape.all_joints, size = (shape.frames - 1) * shape.frame_stride + coords;
  Aligned<T> frames(size, T(0)), places(shape.views * shape.out_frames * coords, T(-9)),
      changes(shape.views * shape.out_frames * coords, T(-9));
  std::vector<double> values(size);
  for (int64_t i = 0; i < size; ++i) {
    frames.data[i] = static_cast<T>(values[i] = static_cast<double>(i * 7 % 101) / 101);
  }
  if (tile_width<T>(shape, places.data, changes.data) < Width) {
    return;
  }
  run_tiles<T, Width>(frames.data, params, places.data, changes.data, shape);
  for (int64_t v = 0; v < shape.views; ++v) {
    const View view = view_at(v, params, shape);
    const std::vector<double> want = plain_view(view, values.data(), params, shape);
    for (int64_t i = 0; i < shape.out_frames * coords; ++i) {
      const int64_t t = i / coords;
      const double change = t + 1 < view.frames ? want[i + coords] - want[i] : 0.0;
      const double place_error = std::abs(places.data[v * shape.out_frames * coords + i] - want[i]);
      const double change_error = std::abs(changes.data[v * shape.out_frames * coords + i] - change);
      if (!(place_error < 1e-4) || !(change_error < 1e-4)) {
        std::printf("frames %ld joints %d taps %d width %d: view %ld at (%ld, %ld) is off by %g and %g\n",
                    shape.out_frames, shape.all_joints, shape.taps, Width, v, t, i % coords, place_error, change_error);
        std::exit(1);
      }
    }
  }
}

void check_shapes() {
  for (int64_t frames : {1, 2, 8, 31, 32, 33, 63, 64, 65, 130}) {
    for (int32_t joints : {1, 2, 15, 16, 17, 25}) {
      for (int32_t taps : {0, 1, 8, 32}) {
        const Case c(frames, joints, joints % 2 + 1, taps, taps != 8, joints % 3);
        for (bool all : {false, true}) {
          check<float, 1>(c, all);
          check<float, 2>(c, all);
          check<float, 4>(c, all);
          check<double, 1>(c, all);
          check<double, 2>(c, all);
        }
      }
    }
  }
}

template <class A>
void check_memory() {
  expect(sizeof(TileScratch<A>) + tile_rows<A>(kMaxTaps) * kTileCoords * sizeof(A) <= 48 * 1024,
         "a block needs no more shared memory than every GPU gives it");
}

void check_large_indices() {
  const SkeletonViewsShape shape{1, 3000, 1, int64_t{1} << 32, 1000, 1000, 1000, 0, true};
  expect(tile_count<float>(shape) == (int64_t{1} << 32) * 16 * 63, "the count of tiles has 64 bits");
  const Tile<float> tile = tile_at<float>(tile_count<float>(shape) - 1, shape);
  expect(tile.number == shape.views - 1 && tile.first_frame == 960 && tile.frames == 40 && tile.first_joint == 992 &&
             tile.joints == 8,
         "the last tile ends at the last element");
}

void check_philox() {  // the known answers of Random123 (kat_vectors, philox4x32 10)
  const auto is = [](const Random4& random, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return random.word[0] == a && random.word[1] == b && random.word[2] == c && random.word[3] == d;
  };
  constexpr uint32_t ones = 0xFFFFFFFF;
  expect(is(philox({{0, 0, 0, 0}}, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8), "philox of zeros");
  expect(is(philox({{ones, ones, ones, ones}}, ~uint64_t{0}), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd),
         "philox of ones");
  expect(is(philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822), 0xd16cfe09, 0x94fdcceb,
            0x5001e420, 0x24126ea1),
         "philox of the digits of pi");
}

void check_normals() {
  for (uint32_t n = 0; n < (1u << 24); n += n < 1000 || n > (1u << 24) - 1000 ? 1 : 997) {
    const double unit = (n + 1) / 16777216.0, angle = 2 * std::acos(-1.0) * (n / 16777216.0 - 0.125);
    expect(std::abs(normal_radius(n << 8) - std::sqrt(-2 * std::log(unit))) < 1e-6, "the radius");
    const Turn turn = normal_turn(n << 8 | 0xFF);
    expect(std::abs(turn.cos - std::cos(angle)) < 2e-7 && std::abs(turn.sin - std::sin(angle)) < 2e-7, "the turn");
  }
}

}  // namespace

int main() {
  check_shapes();
  check_memory<float>();
  check_memory<double>();
  check_large_indices();
  check_philox();
  check_normals();
  std::puts("ok");
}
