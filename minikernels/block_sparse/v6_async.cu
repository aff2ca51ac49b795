// v6_async: v5_mma with the next tile of keys and values on its way while this one is multiplied.
//
// A block of threads owns a block row of R queries of one head (or one of PARTS of it) and walks over its list of key
// blocks, the full ones first, in tiles of BLOCK_S keys. fragments.cuh has what it does with a tile, and the constants.
// Differs from v5_mma: two places for a tile in shared memory, filled in turn: no warp waits for a copy that was not
// started a whole tile ago, and one barrier a tile is enough.

#include "fragments.cuh"

constexpr int TILES = (C + BLOCK_S - 1) / BLOCK_S;  // of a block of keys
constexpr int STAGE = 2 * BLOCK_S * ROW;  // K and V of a tile

// The first key of tile u of a list; in a last block that is ragged it may stand at S or past it.
__device__ int first_key(const int* __restrict__ columns, int u) {
  return columns[u / TILES] * C + u % TILES * BLOCK_S;
}

// Where the keys of the block end that key `first` belongs to.
__device__ int stop_of(int first, int S) { return min(S, first / C * C + C); }

// Start copying K and V of a tile.
__device__ void copy_stage(
    __half* __restrict__ stage,  // (2, BLOCK_S, ROW)
    const __half* __restrict__ k,  // (S, D)
    const __half* __restrict__ v,
    int first,
    int S) {
  const int keys = stop_of(first, S) - first;
  copy_tile<BLOCK_S>(stage, k + static_cast<size_t>(first) * D, keys);
  copy_tile<BLOCK_S>(stage + BLOCK_S * ROW, v + static_cast<size_t>(first) * D, keys);
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
  if (tiles > 0) copy_stage(stages, k, v, first_key(columns, 0), S);
  cp_async_commit();
  State s;
  clear(s);
  for (int u = 0; u < tiles; u++) {
    const __half* k_smem = stages + u % 2 * STAGE;  // (BLOCK_S, ROW), and then as much of V
    cp_async_wait<0>();
    __syncthreads();  // tile u is there for every warp, and every warp is done with tile u - 1, overwritten now
    if (u + 1 < tiles) copy_stage(stages + (u + 1) % 2 * STAGE, k, v, first_key(columns, u + 1), S);
    cp_async_commit();

    float score[MTILES][NTILES][4] = {};
    multiply_keys<WIDTH, ROW>(score, q_warp, k_smem, lane);
    for (auto& row : score)
      for (auto& cells : row)
        for (float& cell : cells) cell *= scale_log2e;
    if (u >= partial || C % BLOCK_S != 0) {  // a full block has no cell to hide, but its last tile may be a short one
      const int first = first_key(columns, u);
      hide(score, place.first + warp * WARP_ROWS, first, stop_of(first, S), S - T, lane);
    }
    rescale(s, score);
    add_values<ROW>(s.o, score, k_smem + BLOCK_S * ROW, lane);
  }
  cp_async_wait<0>();
  __syncthreads();  // Q is loaded, even where no key was seen, and read before its place is overwritten
  const size_t row = head + warp * WARP_ROWS;
  write_rows(o + row * D, lse + row, s, q_warp, place.rows - warp * WARP_ROWS, lane);
}
