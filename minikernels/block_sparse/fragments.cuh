// What the tensor-core kernels share: tiles in shared memory, fragments in registers, how a tile of keys is absorbed.
//
// A warp owns MTILES tiles of 16 query rows; launch/tile_products.cuh multiplies them.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; R, C the mask's block, queries by keys; ROWS of a
// block row's R queries to a block of threads, PARTS of which share it; WARPS, MTILES; BLOCK_S keys of a tile.

#pragma once

#include "launch/softmax.cuh"
#include "launch/tile_products.cuh"

constexpr int THREADS = 32 * WARPS;
constexpr int WARP_ROWS = 16 * MTILES;
constexpr int BLOCK_T = WARPS * WARP_ROWS;  // rows in shared memory; ROWS of them at most are real
constexpr int WIDTH = (D + 15) / 16 * 16;  // D, padded with zeros to whole steps of mma
constexpr int ROW = WIDTH + 8;  // of shared memory: an odd multiple of 16 bytes, so ldmatrix meets no bank conflict
constexpr int CHUNKS = D / 8;  // 16-byte copies of a row
constexpr int NTILES = BLOCK_S / 8;  // 8-key tiles of scores
constexpr int DTILES = WIDTH / 8;  // 8-column tiles of output

static_assert(D >= 8 && D % 8 == 0, "rows of D float16 are read 16 bytes at a time");
static_assert(BLOCK_S % 16 == 0, "P V takes 16 keys a step");
static_assert(ROWS <= BLOCK_T && ROWS * PARTS >= R, "every query row has its place");

// Which rows a block of threads owns, and which list is theirs.
struct Place {
  int first, rows, list;  // first query row, how many, row of the lists
};

__device__ Place place_of(int b, int h, int T, int mask_b, int mask_h) {
  // A causal row near the end sees the most blocks: started first, it does not leave the GPU waiting at the end.
  const int x = CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  const int i = x / PARTS, first = i * R + x % PARTS * ROWS;
  const int block_rows = gridDim.x / PARTS;
  const int rows = max(0, min(ROWS, min(T, i * R + R) - first));
  return {first, rows, (b % mask_b * mask_h + h % mask_h) * block_rows + i};
}

// Start copying `rows` rows to shared memory. Rows from there up to COUNT become 0: 0 * V must not be NaN.
template <int COUNT>
__device__ void copy_tile(
    __half* __restrict__ tile,  // (COUNT, ROW)
    const __half* __restrict__ source,  // (rows, D)
    int rows) {
  for (int i = threadIdx.x; i < COUNT * CHUNKS; i += THREADS) {
    const int row = i / CHUNKS, column = i % CHUNKS * 8;
    const bool real = row < rows;
    cp_async_16(tile + row * ROW + column, source + (real ? row * D + column : 0), real ? 16 : 0);
  }
}

// The copies never touch columns D .. WIDTH; they are zero once and for all, so that products may run over them.
__device__ void clear_padding(__half* tile, int count) {  // (count, ROW)
  if (D < WIDTH)
    for (int row = threadIdx.x; row < count; row += THREADS) *reinterpret_cast<uint4*>(tile + row * ROW + D) = {};
}

// The running state of the warp's rows: a lane holds two rows of each 16-row tile, half 0: l / 4, half 1: l / 4 + 8.
struct State {
  float o[MTILES][DTILES][4], m[MTILES][2], l[MTILES][2];  // l is this lane's share
};

__device__ void clear(State& s) {
  s = {};
  for (auto& rows : s.m)
    for (float& cell : rows) cell = minus_infinity();
}

// Turn scores, times scale * log2(e), into p under the new maxima, and bring l and o under them too.
__device__ void rescale(State& s, float (&score)[MTILES][NTILES][4]) {
#pragma unroll
  for (int i = 0; i < MTILES; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float m_new = s.m[i][half];
      for (auto& cell : score[i]) m_new = fmaxf(m_new, fmaxf(cell[2 * half], cell[2 * half + 1]));
      m_new = quad_max(m_new);
      const float shift = base(m_new), alpha = exp2_approx(s.m[i][half] - shift);
      s.l[i][half] *= alpha;
      for (auto& cell : score[i])
        for (int e = 2 * half; e < 2 * half + 2; e++) s.l[i][half] += cell[e] = exp2_approx(cell[e] - shift);
      if (__any_sync(0xffffffff, alpha != 1.0f))  // seldom after the first few tiles: most maxima are found early
        for (auto& cell : s.o[i])
          for (int e = 2 * half; e < 2 * half + 2; e++) cell[e] *= alpha;
      s.m[i][half] = m_new;
    }
}

// Hide the keys from `end` on, and those that a row does not see.
__device__ void hide(
    float (&score)[MTILES][NTILES][4],
    int first_row,  // of the warp
    int first_key,
    int end,
    int diagonal,  // row t sees the keys up to t + diagonal, if CAUSAL
    int lane) {
  for (int i = 0; i < MTILES; i++)
    for (int half = 0; half < 2; half++) {
      const int t = first_row + 16 * i + 8 * half + lane / 4;
      const int seen = (CAUSAL ? min(end, t + diagonal + 1) : end) - first_key - lane % 4 * 2;  // from the lane's first
      for (int n = 0; n < NTILES; n++)
        for (int e = 0; e < 2; e++)
          if (8 * n + e >= seen) score[i][n][2 * half + e] = minus_infinity();
    }
}

// Write the warp's rows of o, 16 bytes a lane, by way of its own rows of Q, which no one needs any more; and of lse.
__device__ void write_rows(
    __half* __restrict__ o,  // (rows, D), of the warp
    float* __restrict__ lse,  // (rows,)
    const State& s,
    __half* smem,  // (WARP_ROWS, ROW), of the warp
    int rows,  // from the warp's first on; 0 or fewer where it stands past the last one
    int lane) {
  rows = min(rows, WARP_ROWS);  // its own and no other warp's, whose outputs may not be there yet
  for (int i = 0; i < MTILES; i++)
    for (int half = 0; half < 2; half++) {
      const int row = 16 * i + 8 * half + lane / 4;
      const float sum = quad_sum(s.l[i][half]), inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
      if (row < rows && lane % 4 == 0) lse[row] = sum == 0.0f ? minus_infinity() : s.m[i][half] * LN2 + logf(sum);
      for (int c = 0; c < DTILES; c++)
        *reinterpret_cast<unsigned*>(smem + row * ROW + 8 * c + lane % 4 * 2) =
            pack(s.o[i][c][2 * half] * inverse, s.o[i][c][2 * half + 1] * inverse);
    }
  __syncwarp();  // the rows are whole before another lane copies them
  for (int i = lane; i < rows * CHUNKS; i += 32)
    reinterpret_cast<uint4*>(o)[i] = *reinterpret_cast<const uint4*>(smem + i / CHUNKS * ROW + i % CHUNKS * 8);
}
