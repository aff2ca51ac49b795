// What v5_mma and v6_async share: how a block's rows are dealt out, the edges of tiles, and the way out.
//
// A block owns BLOCK_T query rows of one head; each of its 4 warps owns BLOCK_T / 4 of them, MTILES tiles of 16 rows,
// and all keys. Lane l holds rows l / 4 (half 0) and l / 4 + 8 (half 1) of each tile; launch/tile_products.cuh
// multiplies them.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; BLOCK_T, BLOCK_S.

#pragma once

#include "launch/softmax.cuh"
#include "launch/tile_products.cuh"
#include "rows.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
constexpr int WIDTH = (D + 15) / 16 * 16;  // D, padded with zeros to whole steps of mma
constexpr int ROW = WIDTH + 8;  // of shared memory: an odd multiple of 16 bytes, so ldmatrix meets no bank conflict
constexpr int MTILES = BLOCK_T / (16 * WARPS);  // 16-row tiles of a warp
constexpr int NTILES = BLOCK_S / 8;  // 8-key tiles of scores
constexpr int DTILES = WIDTH / 8;  // 8-column tiles of output

static_assert(D >= 8 && D % 8 == 0, "rows of D float16 are read 16 bytes at a time");
static_assert(BLOCK_T % (16 * WARPS) == 0, "every warp owns whole 16-row tiles");
static_assert(BLOCK_S % 16 == 0, "P V takes 16 keys a step");

// The loads never touch columns D .. WIDTH; they are zero once and for all, so that products may run over them.
__device__ void clear_padding(__half* tile, int count) {  // (count, ROW)
  if (D < WIDTH)
    for (int row = threadIdx.x; row < count; row += THREADS) *reinterpret_cast<uint4*>(tile + row * ROW + D) = {};
}

// Write the warp's rows of the output, 16 bytes a lane, by way of its own rows of Q, which no one needs any more.
__device__ void store_rows(
    __half* __restrict__ o,  // (rows, D)
    const float (&o_reg)[MTILES][DTILES][4],
    const float (&factor)[MTILES][2],
    __half* smem,  // (16 * MTILES, ROW)
    int rows,
    int lane) {
  for (int i = 0; i < MTILES; i++)
    for (int c = 0; c < DTILES; c++)
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<unsigned*>(smem + (16 * i + 8 * half + lane / 4) * ROW + 8 * c + lane % 4 * 2) =
            pack(o_reg[i][c][2 * half] * factor[i][half], o_reg[i][c][2 * half + 1] * factor[i][half]);
  __syncwarp();  // the rows are whole before another lane copies them
  constexpr int CHUNKS = D / 8;
  for (int i = lane; i < 16 * MTILES * CHUNKS; i += 32)
    if (i < rows * CHUNKS)
      reinterpret_cast<uint4*>(o)[i] = *reinterpret_cast<const uint4*>(smem + i / CHUNKS * ROW + i % CHUNKS * 8);
}
