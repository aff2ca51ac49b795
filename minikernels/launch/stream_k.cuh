// One list of the key tiles of all rows, of which every block takes an equal run (LeanAttention, arXiv:2405.10480).
//
// A row is what a block works on: up to HEADS query heads of one sequence that share a key/value head. In the list the
// rows of sequence b follow those of b - 1, and all rows of a sequence have as many tiles. A row that lies whole in a
// run is written at once; of one that a cut goes through every block leaves its state, and the last of them merges.
// Included after a header that defines TILE, the keys of a tile.

#pragma once

#include "launch/decode.cuh"

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
  const int* __restrict__ lengths;  // (B,), or null
  int B, rows, most;  // sequences, rows of each, keys that it has room for
  int b, length;  // sequence, and its keys
  int row, tile, tiles;  // row of the sequence, its next tile, its tiles
  int place, share, left;  // of that tile in the list; tiles of a run, and of this one that are still to be absorbed

  __device__ Walk(const int* lengths, int B, int rows, int most) : lengths(lengths), B(B), rows(rows), most(most) {
    const int lane = threadIdx.x % 32;
    int total = 0;
    for (int first = 0; first < B; first += 32) total += tiles_of(first + lane < B ? keys_of(first + lane) : 0);
    total = __reduce_add_sync(0xffffffff, total) * rows;
    share = (total + gridDim.x - 1) / gridDim.x, place = blockIdx.x * share;
    left = min(share, total - place);
    if (left > 0) find();
  }

  __device__ int keys_of(int b) const { return ::keys_of(lengths, b, most); }

  // Go to tile `place` of the list: to the first sequence whose rows end behind it.
  __device__ void find() {
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
    const int within = place - (before - tiles) * rows;
    row = within / tiles, tile = within % tiles;
  }

  __device__ int taken() const { return min(left, tiles - tile); }  // tiles of this row that are in the run
  __device__ bool more() const { return left > 0; }
  __device__ int begin() const { return tile * TILE; }
  __device__ int end() const { return min(length, (tile + taken()) * TILE); }
  __device__ int first_block() const { return (place - tile) / share; }
  __device__ int pieces() const { return (place - tile + tiles - 1) / share - first_block() + 1; }
  __device__ int piece() const { return blockIdx.x - first_block(); }
  // Two slots a block: for a row begun by another, and for one left to others.
  __device__ int first_slot() const { return 2 * first_block() + 1; }
  __device__ static int slot(int first, int n) { return first + 2 * n - (n > 0); }

  __device__ void advance() {
    const int done = taken();
    left -= done;
    place += done;
    tile += done;
    if (left == 0 || tile < tiles) return;
    tile = 0;
    if (++row < rows) return;
    row = 0;
    do length = keys_of(++b);
    while (length <= 0);
    tiles = tiles_of(length);
  }
};

// Write the output of the sequences without keys, which are in no run; of a length that is wrong it is NaN.
__device__ inline void write_empty(element* __restrict__ o, const int* __restrict__ lengths, int B, int H, int most) {
  for (int b = blockIdx.x; b < B; b += gridDim.x) {
    const int length = keys_of(lengths, b, most);
    if (length > 0) continue;
    const element nothing = static_cast<element>(fresh_sum(length));
    for (int i = threadIdx.x; i < H * D; i += THREADS) o[static_cast<size_t>(b) * H * D + i] = nothing;
  }
}
