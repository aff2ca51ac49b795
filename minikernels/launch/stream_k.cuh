// One list of the key tiles of all rows, of which every block takes an equal run (LeanAttention, arXiv:2405.10480).
//
// A row is what a block works on: up to HEADS query heads of one sequence that share a key/value head. In the list the
// rows of sequence b follow those of b - 1, and all rows of a sequence have as many tiles. A row that lies whole in a
// run is written at once; of one that a cut goes through every block leaves its state, and a second kernel merges them.
// Included after a header that defines TILE, the keys of a tile.

#pragma once

#include "launch/decode.cuh"

constexpr int LONG_RUN = 64;  // tiles: where runs would be longer there are more of them than places, as SMs differ in speed

__device__ inline int tiles_of(int length) { return (length + TILE - 1) / TILE; }  // of length -1 none

__device__ inline int sum_up_to_lane(int x) {  // of the lanes 0 .. this one
  for (int step = 1; step < 32; step *= 2) {
    const int below = __shfl_up_sync(0xffffffff, x, step);
    if (threadIdx.x % 32 >= step) x += below;
  }
  return x;
}

// A block's way through its run. Every warp walks for itself: they read the same lengths and need no barrier.
struct Walk {
  const int* __restrict__ lengths;  // (B,)
  int2* __restrict__ span;  // (B, rows): blocks that have a row's first tile and its last
  int B, rows, most;  // sequences, rows of each, keys that it has room for
  int b, length;  // sequence, and its keys
  int row, tile, tiles;  // row of the sequence, its next tile, its tiles
  int left;  // tiles of the run that are still to be absorbed

  __device__ Walk(const int* lengths, int2* span, int B, int rows, int most, int places)
      : lengths(lengths), span(span), B(B), rows(rows), most(most) {
    const int lane = threadIdx.x % 32;
    int total = 0;
    for (int first = 0; first < B; first += 32) total += tiles_of(first + lane < B ? keys_of(first + lane) : 0);
    total = __shfl_sync(0xffffffff, sum_up_to_lane(total), 31) * rows;
    const int runs = min(static_cast<int>(gridDim.x), max(places, total / LONG_RUN));
    const int share = (total + runs - 1) / runs, place = blockIdx.x * share;
    left = min(share, total - place);
    if (left > 0) find(place);
  }

  __device__ int keys_of(int b) const { return checked(lengths[b], most); }

  // Go to tile `place` of the list: to the first sequence whose rows end behind it.
  __device__ void find(int place) {
    const int lane = threadIdx.x % 32;
    int before = 0;  // tiles of one row of each sequence that ends before it
    for (int first = 0;; first += 32) {
      const int keys = first + lane < B ? keys_of(first + lane) : 0, ends = before + sum_up_to_lane(tiles_of(keys));
      const unsigned behind = __ballot_sync(0xffffffff, ends * rows > place);
      const int found = behind ? __ffs(behind) - 1 : 31;
      before = __shfl_sync(0xffffffff, ends, found);
      length = __shfl_sync(0xffffffff, keys, found);
      b = first + found;
      if (behind) break;
    }
    tiles = tiles_of(length);
    place -= (before - tiles) * rows;
    row = place / tiles;
    tile = place % tiles;
  }

  __device__ int taken() const { return min(left, tiles - tile); }  // tiles of this row that are in the run
  __device__ bool more() const { return left > 0; }
  __device__ int begin() const { return tile * TILE; }
  __device__ int end() const { return min(length, (tile + taken()) * TILE); }
  __device__ bool whole() const { return taken() == tiles; }

  __device__ void advance() {
    const int done = taken();
    left -= done;
    tile += done;
    if (left == 0 || tile < tiles) return;
    tile = 0;
    if (++row < rows) return;
    row = 0;
    do length = keys_of(++b);
    while (length <= 0);
    tiles = tiles_of(length);
  }

  // Say who has the row's first tile and who its last; return the slot of this block's state of it: 2 a block, for a
  // row begun by another and one left to others.
  __device__ int claim() const {
    int2& mine = span[b * rows + row];
    if (threadIdx.x == 0 && tile == 0) mine.x = blockIdx.x;
    if (threadIdx.x == 0 && tile + taken() == tiles) mine.y = blockIdx.x;
    return 2 * blockIdx.x + (tile == 0);
  }
};

// Merge the states of the rows that a cut goes through; a block of the grid (rows, B, HEADS) owns one query head.
__device__ inline void merge_cut_rows(
    const int* __restrict__ lengths,  // (B,)
    const int2* __restrict__ span,  // (B, rows): blocks that have the row's first tile and its last
    const float2* __restrict__ ml,  // (blocks, 2, HEADS)
    const float* __restrict__ part,  // (blocks, 2, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int most) {  // keys that a sequence has room for
  const Rows rows(blockIdx.x);
  const int b = blockIdx.y, h = blockIdx.z;
  if (h >= rows.heads) return;
  const int length = checked(lengths[b], most);
  int2 blocks = span[b * gridDim.x + blockIdx.x];
  if (length <= 0) blocks = {0, -1};  // a row without tiles is no one's, and its span was never written
  if (blocks.x == blocks.y) return;  // one block had the whole row, and wrote it
  merge_states(
      o + (static_cast<size_t>(b) * G * R + rows.head + h) * D, ml + h, part + h * D, 2 * blocks.x + 1,
      2 * blocks.x + 2, 2, blocks.y - blocks.x + 1, length);
}
