// Walks over everything that gru_scan.h lays out: blocks, steps, packed weights, the exchange, and the fragments that
// the lanes of a warp hold.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "gru_scan.h"

using namespace crrl;

namespace {

void expect(bool fact, const char* what) {
  if (!fact) {
    std::printf("not so: %s\n", what);
    std::exit(1);
  }
}

void check_blocks() {
  for (const int64_t clips : {1, 7, 8, 9, 40, 1000}) {
    for (const int directions : {1, 2}) {
      for (const int cluster : {1, 4}) {
        std::map<std::pair<int64_t, int>, int> ranks;  // of each clip in each direction
        const int64_t blocks = gru_block_count({clips, 5, directions, 9}, cluster);
        expect(blocks % cluster == 0, "clusters are whole");
        for (int64_t block = 0; block < blocks; ++block) {
          const GruBlockPlace place = gru_block_place(block, cluster, directions);
          const GruBlockPlace leader = gru_block_place(block - block % cluster, cluster, directions);
          expect(place.first_clip == leader.first_clip && place.direction == leader.direction,
                 "a cluster shares its clips and its direction");
          expect(place.first_clip < clips, "no block is idle");
          for (int64_t clip = place.first_clip; clip < std::min(clips, place.first_clip + kGruChunk); ++clip) {
            ++ranks[{clip, place.direction}];
          }
        }
        expect(static_cast<int64_t>(ranks.size()) == clips * directions, "every clip has a place in each direction");
        for (const auto& [place, count] : ranks) {
          expect(count == cluster && place.second < directions, "a clip is of one cluster");
        }
      }
    }
  }
}

void check_frames() {
  for (const int length : {1, 2, 17}) {
    std::set<int> backward;
    for (int step = 0; step < length; ++step) {
      expect(gru_frame(0, step, length) == step, "direction 0 goes forward");
      backward.insert(gru_frame(1, step, length));
      expect(step == 0 || gru_frame(1, step, length) < gru_frame(1, step - 1, length), "direction 1 goes backward");
    }
    expect(static_cast<int>(backward.size()) == length && *backward.begin() == 0 && *backward.rbegin() == length - 1,
           "direction 1 takes every frame");
  }
}

void check_widths() {
  for (int hidden = 1; hidden <= kGruLargestCluster; ++hidden) {
    expect(gru_tile_units(hidden) >= hidden, "a layer has room");
    expect(hidden > kGruLargestBlock || gru_tile_units(hidden) <= kGruLargestBlock, "a narrow layer needs no cluster");
  }
  expect(gru_tile_units(kGruLargestCluster + 1) == 0 && gru_tile_units(int64_t{1} << 40) == 0, "wider ones have none");
  for (const int directions : {1, 2}) {
    for (const int hidden : {1, 100, 256}) {
      const int64_t frames = gru_scan_largest_frames(directions, hidden);
      expect(kGruChunk * frames * directions * 4 * hidden < int64_t{1} << 31, "a chunk's gates are counted in 32 bits");
    }
  }
}

// ---- A warp's product, lane by lane. The fragments are those of the PTX ISA, "Matrix Fragments for mma.m16n8k16" and
// "mma.m16n8k8" ----

struct Element {
  int row;
  int column;
};

// Number `i` of a lane's word `word` of operand A (16, k): `per` numbers in each.
Element element_of_a(int lane, int word, int i, int per) {
  return {lane / 4 + word % 2 * 8, lane % 4 * per + i + word / 2 * 4 * per};
}

// The same of operand B (k, 8), which has two words.
Element element_of_b(int lane, int word, int i, int per) { return {lane % 4 * per + i + word * 4 * per, lane / 4}; }

// The numbers of the accumulator (16, 8).
Element element_of_c(int lane, int i) { return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2}; }

// Which unit each row of the instruction stands for, and which clip each column, by where a lane puts its results.
void check_results(std::array<int, 16>& unit_of_row, std::array<int, 8>& clip_of_column) {
  unit_of_row.fill(-1);
  clip_of_column.fill(-1);
  for (int lane = 0; lane < 32; ++lane) {
    for (const int unit : {0, 1}) {
      for (const int clip : {0, 1}) {
        const Element element = element_of_c(lane, gru_lane_index(unit, clip));
        int& row = unit_of_row[element.row];
        int& column = clip_of_column[element.column];
        expect(row == -1 || row == gru_lane_unit(lane) + unit, "a row of the product is one unit's");
        expect(column == -1 || column == gru_lane_clip(lane) + clip, "a column of the product is one clip's");
        row = gru_lane_unit(lane) + unit;
        column = gru_lane_clip(lane) + clip;
      }
    }
  }
  expect(std::set<int>(unit_of_row.begin(), unit_of_row.end()).size() == 16, "all units of a warp have a row");
  expect(std::set<int>(clip_of_column.begin(), clip_of_column.end()).size() == 8, "all clips have a column");
}

template <class Tile, int Rows>
void check_exchange() {
  using Layout = GruExchangeLayout<Tile, Rows>;
  std::set<int> taken;
  for (int clip = 0; clip < kGruChunk; ++clip) {
    for (int row = 0; row < Rows; ++row) {
      for (int unit = 0; unit < Tile::units; unit += 2) {
        const int place = Layout::place(clip, row, unit);
        expect(place % (2 * Tile::element_size) == 0, "a pair of units is sent as one");
        expect(place >= 0 && place + 2 * Tile::element_size <= Layout::buffer_bytes, "a number lies in the buffer");
        expect(taken.insert(place).second, "no two numbers share a place");
      }
    }
  }
  expect(static_cast<int>(taken.size()) * 2 * Tile::element_size == Layout::sent_bytes,
         "a barrier expects what arrives");
  expect(Layout::sent_bytes < 1 << 20, "a barrier can count what arrives");
  expect(Layout::barriers % 8 == 0 && Layout::bytes % 16 == 0, "barriers and weights are aligned");
  for (int eight = 0; eight < 32; eight += 8) {  // lanes whose 16 bytes are read at a time
    std::set<int> banks;
    for (int lane = eight; lane < eight + 8; ++lane) {
      expect(Layout::lane_place(lane) % kLaneBytes == 0, "a lane reads aligned words");
      banks.insert(Layout::lane_place(lane) / kLaneBytes % 8);
    }
    expect(banks.size() == 8, "lanes read from different banks");
  }
  const int limit = Tile::cluster == 1 ? 99 << 10 : 227 << 10;  // of a block on sm_86, and on sm_90
  expect(Layout::bytes + Tile::weight_bytes <= limit, "a block's shared memory fits");
}

// Every weight is multiplied with its own unit's number, once.
template <class Tile>
void check_products() {
  constexpr int directions = 2;
  using Layout = GruExchangeLayout<Tile, kGruGates>;
  constexpr int per = 4 / Tile::element_size;
  std::array<int, 16> unit_of_row;
  std::array<int, 8> clip_of_column;
  check_results(unit_of_row, clip_of_column);
  std::map<int, std::tuple<int, int, int>> sent;  // clip, row and unit of what lies at a place
  for (int clip = 0; clip < kGruChunk; ++clip) {
    for (int gate = 0; gate < kGruGates; ++gate) {
      for (int unit = 0; unit < Tile::units; ++unit) {
        sent[Layout::place(clip, gate, unit)] = {clip, gate, unit};
      }
    }
  }
  std::vector<int> uses(directions * kGruGates * Tile::units * Tile::units);
  std::set<int64_t> packs;
  for (int direction = 0; direction < directions; ++direction) {
    for (int warp = 0; warp < Tile::units / kGruWarpUnits; ++warp) {
      for (int part = 0; part < Tile::parts; ++part) {
        for (int gate = 0; gate < kGruGates; ++gate) {
          std::array<int, 16 * 4 * 2> other;  // along the part: the unit whose weight operand A has there
          other.fill(-1);
          for (int lane = 0; lane < 32; ++lane) {
            const int64_t index = gru_pack_index(direction, warp, part, gate, lane, Tile::units, Tile::element_size);
            const GruPackPlace place = gru_pack_place(index, Tile::units, Tile::element_size);
            expect(packs.insert(index).second, "no two lanes share a pack");
            expect(place.direction == direction && place.gate == gate, "a pack is of its direction and gate");
            for (int word = 0; word < 4; ++word) {
              for (int i = 0; i < per; ++i) {
                const Element element = element_of_a(lane, word, i, per);
                const int unit = place.unit + word % 2;
                const int number = place.other + word / 2 * per + i;
                expect(unit == warp * kGruWarpUnits + unit_of_row[element.row], "weights are in their unit's row");
                int& along = other[element.column];
                expect(along == -1 || along == number, "all rows of an instruction have the same order");
                along = number;
                ++uses[((direction * kGruGates + gate) * Tile::units + unit) * Tile::units + number];
              }
            }
          }
          for (int lane = 0; lane < 32; ++lane) {
            for (int word = 0; word < 2; ++word) {
              for (int i = 0; i < per; ++i) {
                const Element element = element_of_b(lane, word, i, per);
                const int byte = Layout::lane_place(lane) + gate * Tile::row_bytes + part / 2 * 2 * kPartBytes +
                                 (part % 2 * 2 + word) * 4 + i * Tile::element_size;
                expect(sent.at(byte) == std::tuple{clip_of_column[element.column], gate, other[element.row]},
                       "a weight meets the number of its own unit");
              }
            }
          }
        }
      }
    }
  }
  expect(static_cast<int64_t>(packs.size()) == gru_pack_count(directions, Tile::units, Tile::element_size) &&
             *packs.rbegin() + 1 == static_cast<int64_t>(packs.size()),
         "packs fill the workspace");
  expect(std::all_of(uses.begin(), uses.end(), [](int count) { return count == 1; }), "every weight is used once");
}

template <int Units, int ElementSize>
void check_tile() {
  using Tile = GruTile<Units, ElementSize>;
  expect(Tile::threads * Tile::cluster * kGruWarpUnits == 32 * Units, "the warps of a cluster have all units");
  expect(kGruGates * Tile::kept_parts * 4 <= 144, "a lane's weights leave registers for the rest");
  expect(Tile::threads * 256 <= 65536, "a multiprocessor has registers for the block");
  check_exchange<Tile, 1>();
  check_exchange<Tile, kGruGates>();
  check_products<Tile>();
}

}  // namespace

int main() {
  check_blocks();
  check_frames();
  check_widths();
  check_tile<64, 2>();
  check_tile<128, 2>();
  check_tile<192, 2>();
  check_tile<256, 2>();
  check_tile<64, 4>();
  check_tile<128, 4>();
  check_tile<192, 4>();
  check_tile<256, 4>();
  std::puts("ok");
}
