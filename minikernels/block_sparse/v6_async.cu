// v6_async: v5_mma with the next tile of keys and values on its way while this one is multiplied.
//
// A block of threads owns a block row of R queries of one head (or one of PARTS of it) and walks over its list of key
// blocks, the full ones first, in tiles of BLOCK_S keys. fragments.cuh has what it does with a tile, and the constants.
// Differs from v5_mma: two places for a tile in shared memory, filled in turn: no warp waits for a copy that was not
// started a whole tile ago, and one barrier a tile is enough.

#include "fragments.cuh"

constexpr int TILES = (C + BLOCK_S - 1) / BLOCK_S;  // of a block of keys
constexpr int STAGE = 2 * BLOCK_S * ROW;  // K and V of a tile

struct Tile {
  int first, stop;  // its first key, and the end of its block's keys; stop - first may be 0 or less in the last block
};

__device__ Tile tile_of(const int* __restrict__ columns, int u, int S) {
  const int block = columns[u / TILES] * C;
  return {block + u % TILES * BLOCK_S, min(S, block + C)};
}

// One resident block is all that is asked for: left to choose, ptxas spills registers to make room for more.
extern "C" __global__ void __launch_bounds__(THREADS, 1) v6_async(
    const __half* __restrict__ q,  // (B, H, T, D)
    const __half* __restrict__ k,  // (B, G, S, D)
    const __half* __restrict__ v,  // (B, G, S, D)
    const int* __restrict__ starts,  // (mask_b * mask_h * block rows + 1,): where each list begins
    const int* __restrict__ full,  // (mask_b * mask_h * block rows,): how many of its blocks are full
    const int* __restrict__ columns,  // of every block in the lists
    __half* __restrict__ o,  // (B, H, T, D)
    float* __restrict__ lse,  // (B, H, T), natural logarithm
    int mask_b,
    int mask_h,
    int H,
    int G,
    int T,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(16) __half smem[];  // (BLOCK_T, ROW) of Q
  __half* stages = smem + BLOCK_T * ROW;  // (2, 2, BLOCK_S, ROW): K and V of two tiles

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, b = blockIdx.z, h = blockIdx.y;
  const Place place = place_of(b, h, T, mask_b, mask_h);
  const size_t head = (static_cast<size_t>(b) * H + h) * T + place.first;  // row of q, o and lse: [b, h, first]
  const size_t group = (static_cast<size_t>(b) * G + h / (H / G)) * S;  // row of k and v: [b, g, 0]
  const int begin = starts[place.list], tiles = (starts[place.list + 1] - begin) * TILES;
  const int partial = full[place.list] * TILES;  // the first tile of a partial block
  __half* q_warp = smem + warp * WARP_ROWS * ROW;  // the warp's own rows
  k += group * D;  // [b, g, 0, 0]
  v += group * D;
  columns += begin;

  copy_tile<BLOCK_T>(smem, q + head * D, place.rows);
  clear_padding(smem, BLOCK_T + 4 * BLOCK_S);  // of Q and both stages, which follow each other
  Tile next = {};
  if (tiles > 0) {
    next = tile_of(columns, 0, S);
    copy_tile<BLOCK_S>(stages, k + static_cast<ptrdiff_t>(next.first) * D, next.stop - next.first);
    copy_tile<BLOCK_S>(stages + BLOCK_S * ROW, v + static_cast<ptrdiff_t>(next.first) * D, next.stop - next.first);
  }
  cp_async_commit();
  State s;
  clear(s);
  for (int u = 0; u < tiles; u++) {
    const Tile tile = next;
    const __half* k_smem = stages + u % 2 * STAGE;  // (BLOCK_S, ROW), and then as much of V
    cp_async_wait<0>();
    __syncthreads();  // tile u is there for every warp, and every warp is done with tile u - 1, which is overwritten now
    if (u + 1 < tiles) {
      next = tile_of(columns, u + 1, S);
      __half* to = stages + (u + 1) % 2 * STAGE;
      copy_tile<BLOCK_S>(to, k + static_cast<ptrdiff_t>(next.first) * D, next.stop - next.first);
      copy_tile<BLOCK_S>(to + BLOCK_S * ROW, v + static_cast<ptrdiff_t>(next.first) * D, next.stop - next.first);
    }
    cp_async_commit();

    float score[MTILES][NTILES][4] = {};
    multiply_keys(score, q_warp, k_smem, lane);
    for (auto& row : score)
      for (auto& cells : row)
        for (float& cell : cells) cell *= scale_log2e;
    if (u >= partial || (C % BLOCK_S != 0 && tile.stop - tile.first < BLOCK_S))  // a full block has no cell to hide
      hide(score, place.first + warp * WARP_ROWS, tile.first, tile.stop, S - T, lane);
    rescale(s, score);
    add_values(s.o, score, k_smem + BLOCK_S * ROW, lane);
  }
  cp_async_wait<0>();
  __syncthreads();  // Q is loaded, even where no key was seen, and read before its place is overwritten
  const size_t row = head + warp * WARP_ROWS;
  write_rows(o + row * D, lse + row, s, q_warp, place.rows - warp * WARP_ROWS, lane);
}
