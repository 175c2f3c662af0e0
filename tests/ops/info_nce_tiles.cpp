// Walks over everything that info_nce_tiles.h lays out: plans, blocks, tiles, the workspace, and the fragments that the
// lanes of a warp fetch from shared memory.
#include "info_nce_tiles.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <set>
#include <vector>

using namespace crrl;

namespace {

void expect(bool fact, const char* what) {
  if (!fact) {
    std::printf("not so: %s\n", what);
    std::exit(1);
  }
}

// ---- Plans ----

void check_blocks(const InfoNcePlan& plan) {
  const int blocks = plan.row_blocks * plan.groups * plan.splits;
  std::set<std::vector<int>> places;
  for (int block = 0; block < blocks; ++block) {
    const BlockPlace place = block_place(block, plan);
    expect(place.row_block < plan.row_blocks && place.group < plan.groups && place.split < plan.splits,
           "a block has a place in the plan");
    places.insert({place.row_block, place.group, place.split});
    std::set<int> groups;
    for (int part = 0; part < plan.groups; ++part) {
      groups.insert(group_of_part(part, place, plan));
    }
    expect(static_cast<int>(groups.size()) == plan.groups, "a tile comes in all groups of columns");
    expect(group_of_part(plan.groups - 1, place, plan) == place.group, "the block's own group comes last");
  }
  expect(static_cast<int>(places.size()) == blocks, "no two blocks have the same place");
}

void check_splits(int64_t tiles, int splits) {
  int64_t next = 0, shortest = tiles, longest = 0;
  for (int split = 0; split < splits; ++split) {
    const TileRange range = split_tiles(tiles, split, splits);
    expect(range.first == next, "splits follow each other");
    next = range.last;
    shortest = std::min(shortest, range.last - range.first);
    longest = std::max(longest, range.last - range.first);
  }
  expect(next == tiles, "splits end with the last tile");
  expect(longest - shortest <= 1, "splits are of the same length, to a tile");
}

void check_workspace(const InfoNceShape& shape, const InfoNcePlan& plan, int element_size, int processors) {
  const InfoNceWorkspace workspace = lay_out_workspace(shape, plan, element_size);
  const int64_t batch = shape.batch, groups = plan.groups, splits = plan.splits;
  const int64_t rows_end = workspace.rows + batch * static_cast<int64_t>(sizeof(RowFacts));
  const int64_t queries_end = workspace.queries + batch * groups * plan.columns * element_size;
  const int64_t states_end = workspace.states + splits * groups * batch * static_cast<int64_t>(sizeof(PartialState));
  const int64_t sums_end = workspace.key_sums + splits * batch * plan.key_sums_stride * 4;
  expect(rows_end <= workspace.queries && queries_end <= workspace.states && states_end <= workspace.key_sums &&
             sums_end <= workspace.bytes,
         "the parts of the workspace do not overlap");
  expect(workspace.queries % kChunkBytes == 0 && workspace.key_sums % kChunkBytes == 0, "vectors are aligned");
  // A multiprocessor holds at most 128 rows x 128 columns of w, or half as many rows of twice as many columns.
  const int64_t chip = int64_t{processors} * (64 << 10);
  expect(sums_end - workspace.key_sums <= std::max(batch * plan.key_sums_stride * 4, chip),
         "w is no larger than the chip's");
}

void check_plan(const InfoNceShape& shape, int element_size, int processors, int64_t shared_limit) {
  const InfoNcePlan plan = plan_info_nce(shape, element_size, processors, shared_limit);
  const int row_bytes = plan.columns * element_size;
  expect(pass_shared_bytes(plan, element_size) <= shared_limit, "a block's shared memory fits");
  expect(int64_t{plan.groups} * plan.columns >= shape.dim, "groups cover D");
  expect((plan.groups - 1) * int64_t{plan.columns} < shape.dim, "no group lies beyond D");
  expect(row_bytes <= kWidestRowBytes && (plan.groups == 1 || row_bytes == kWidestRowBytes),
         "only the widest groups are several");
  expect(plan.row_warps == 2 || (plan.row_warps == 4 && plan.groups == 1), "logits of several groups are of one step");
  expect(plan.row_tiles == 1 || (plan.groups == 1 && plan.columns <= 128), "w leaves room for its rows");
  expect(plan.rows == plan.row_warps * 16 * plan.row_tiles, "warps cover the rows");
  expect(int64_t{plan.row_blocks} * plan.rows >= shape.batch, "blocks cover B");
  expect(plan.query_slots == plan.groups || plan.query_slots == kStages, "queries are kept or come with the keys");
  expect(plan.splits >= 1 && plan.splits * plan.groups <= kMostPartials, "a row's partial results fit a block");
  expect(plan.splits == 1 || plan.splits * plan.groups * plan.row_blocks <= processors, "all blocks run at once");
  expect(plan.key_sums_stride >= shape.dim && plan.key_sums_stride % 4 == 0, "rows of w are whole vectors");
  check_blocks(plan);
  check_workspace(shape, plan, element_size, processors);
  for (const int64_t filled : {int64_t{0}, int64_t{1}, shape.negatives / 2, shape.negatives}) {
    check_splits(ceil_div(filled, keys_per_tile(element_size, plan.columns)), plan.splits);
  }
}

void check_plans() {
  for (const int64_t batch : {1, 31, 32, 33, 64, 65, 128, 129, 512, 5000}) {
    for (const int64_t negatives : {0, 1, 64, 1000, 65536}) {
      for (const int64_t dim : {1, 7, 64, 65, 100, 128, 129, 256, 300, 512, 1000, 1024}) {
        for (const int element_size : {2, 4}) {
          for (const int processors : {1, 7, 84, 108, 132}) {
            for (const int64_t shared_limit : {99 << 10, 163 << 10, 227 << 10}) {
              check_plan({batch, negatives, dim, dim}, element_size, processors, shared_limit);
            }
          }
        }
      }
    }
  }
}

void check_full_chip() {
  const auto blocks = [](int64_t batch, int64_t negatives, int64_t dim, int element_size) {
    const InfoNcePlan plan = plan_info_nce({batch, negatives, dim, dim}, element_size, 132, 227 << 10);
    return plan.row_blocks * plan.groups * plan.splits;
  };
  expect(blocks(32, 65536, 128, 2) >= 120, "B 32 fills an H100");
  expect(blocks(128, 32768, 128, 2) >= 120, "B 128 fills an H100");
  expect(blocks(128, 32768, 128, 4) >= 120, "B 128 fills an H100 in float32");
  expect(blocks(512, 65536, 128, 2) >= 120, "B 512 fills an H100");
}

// ---- Shared memory ----

// Where each number of a tile lies: element (row, column) of `size` bytes.
template <int ElementSize, int Columns>
std::vector<int> numbers_of_tile() {
  using Tile = PassTile<ElementSize, Columns, 1>;
  std::vector<int> number(kTileBytes / ElementSize, -1);
  for (int row = 0; row < Tile::keys; ++row) {
    for (int column = 0; column < Columns; ++column) {
      const int byte = column * ElementSize;
      const int offset = swizzled(row, byte / kChunkBytes, Tile::row_bytes) + byte % kChunkBytes;
      expect(number[offset / ElementSize] == -1, "no two numbers share a place");
      number[offset / ElementSize] = row * Columns + column;
    }
  }
  return number;
}

// Eight rows of 16 bytes are fetched at a time; they must lie in different banks.
void check_banks(const int (&offsets)[32]) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    std::set<int> banks;
    for (int i = 0; i < 8; ++i) {
      banks.insert(offsets[matrix * 8 + i] / kChunkBytes % 8);
    }
    expect(banks.size() == 8, "the rows of a matrix lie in different banks");
  }
}

// The fragments are drawn in the PTX ISA, "Matrix Fragments for mma.m16n8k16" and "mma.m16n8k8". With `per` numbers in
// the 32 bits of a lane's register, one instruction contracts over 8 per numbers.
template <int ElementSize, int Columns>
void check_fragments() {
  using Tile = PassTile<ElementSize, Columns, 1>;
  constexpr int per = 4 / ElementSize;
  const std::vector<int> number = numbers_of_tile<ElementSize, Columns>();
  const auto at = [&](int row, int column) { return row * Columns + column; };
  // Number `i` of the register that lane `lane` gets of the matrix whose rows begin at the offsets of eight lanes.
  const auto loaded = [&](const int (&offsets)[32], int matrix, int lane, int i) {
    return number[(offsets[matrix * 8 + lane / 4] + lane % 4 * 4) / ElementSize + i];
  };
  const auto loaded_transposed = [&](const int (&offsets)[32], int matrix, int lane, int i) {
    return number[(offsets[matrix * 8 + lane % 4 * 2 + i] + lane / 4 * 2) / ElementSize];
  };
  for (int first_row = 0; first_row < Tile::keys; first_row += 16) {
    for (int offset = 0; offset < Tile::row_bytes; offset += kStepBytes) {
      const int first_column = offset / ElementSize;
      int rows_first[32], chunks_first[32];
      for (int lane = 0; lane < 32; ++lane) {
        rows_first[lane] = (rows_first_offset(lane, Tile::row_bytes) ^ offset) + first_row * Tile::row_bytes;
        chunks_first[lane] = (chunks_first_offset(lane, Tile::row_bytes) ^ offset) + first_row * Tile::row_bytes;
      }
      check_banks(rows_first);
      check_banks(chunks_first);
      for (int lane = 0; lane < 32; ++lane) {
        for (int matrix = 0; matrix < 4; ++matrix) {
          for (int i = 0; i < per; ++i) {
            const int along = lane % 4 * per + i;  // in a chunk
            const int half = 4 * per;              // numbers of a chunk
            expect(loaded(rows_first, matrix, lane, i) ==
                       at(first_row + lane / 4 + matrix % 2 * 8, first_column + along + matrix / 2 * half),
                   "queries are operand A");
            expect(loaded(chunks_first, matrix, lane, i) ==
                       at(first_row + lane / 4 + matrix / 2 * 8, first_column + along + matrix % 2 * half),
                   "keys are operand B of the logits, eight and then eight more");
          }
          if (ElementSize == 2) {
            for (int i = 0; i < 2; ++i) {
              // Column 2 (lane % 4) of the logits' accumulator is where operand A of the sum has that key.
              const int key = accumulator_column(lane) + i + matrix % 2 * 8;
              expect(loaded_transposed(rows_first, matrix, lane, i) ==
                         at(first_row + key, first_column + accumulator_row(lane) + matrix / 2 * 8),
                     "keys are operand B of their sum, eight columns and then eight more");
            }
          }
        }
      }
    }
  }
}

// float32: eight keys and eight columns at a time, the keys in the order that the logits' accumulator has them in.
template <int Columns>
void check_transposed_floats() {
  using Tile = PassTile<4, Columns, 1>;
  const std::vector<int> number = numbers_of_tile<4, Columns>();
  for (int first_key = 0; first_key < Tile::keys; first_key += 8) {
    for (int tile = 0; tile < Columns / 8; ++tile) {
      for (const int key : {0, 1}) {
        std::set<int> banks;
        for (int lane = 0; lane < 32; ++lane) {
          const int offset =
              (transposed_float_offset(lane, key, Tile::row_bytes) ^ (tile * kStepBytes)) + first_key * Tile::row_bytes;
          expect(number[offset / 4] == (first_key + accumulator_column(lane) + key) * Columns + tile * 8 + lane / 4,
                 "a lane fetches the keys of its own logits");
          banks.insert(offset / 4 % 32);
        }
        expect(banks.size() == 32, "the lanes read different banks");
      }
    }
  }
}

}  // namespace

int main() {
  check_plans();
  check_full_chip();
  check_fragments<2, 64>();
  check_fragments<2, 128>();
  check_fragments<2, 256>();
  check_fragments<4, 64>();
  check_fragments<4, 128>();
  check_transposed_floats<64>();
  check_transposed_floats<128>();
  std::puts("ok");
}
