// The two products of attention by mma.sync, for a warp that owns tiles of 16 query rows and meets a tile of keys.
//
// mma.sync leaves scores in the layout in which it wants its left operand: two neighbouring 8-key tiles of P, rounded
// to float16, are the left operand of P V without any exchange between lanes. Tiles stand in shared memory in rows of
// STRIDE numbers, an odd multiple of 8: so ldmatrix meets no bank conflict.

#pragma once

#include "launch/mma.cuh"

// score += Q K^T: the warp's rows against all keys of a tile, over COLUMNS columns, a multiple of 16. AT_ONCE 8-key
// tiles, an even number, are finished before the next are begun: Q is read again for those, but what needs the first
// scores may run beside the products of the last.
template <int COLUMNS, int STRIDE, int AT_ONCE = 1024, int ROW_TILES, int KEY_TILES>
__device__ void multiply_keys(
    float (&score)[ROW_TILES][KEY_TILES][4],
    const __half* q_smem,  // (16 * ROW_TILES, STRIDE), the warp's rows
    const __half* k_smem,  // (8 * KEY_TILES, STRIDE)
    int lane) {
  // Where lane l stands in four 8x8 matrices: of Q, rows 0-7 then 8-15, then the next 8 columns; of K, columns first.
  const __half* q_lane = q_smem + lane % 16 * STRIDE + lane / 16 * 8;
  const __half* k_lane = k_smem + (lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 8;
#pragma unroll
  for (int first = 0; first < KEY_TILES; first += AT_ONCE)
#pragma unroll
    for (int d = 0; d < COLUMNS; d += 16) {
      unsigned q[ROW_TILES][4];
      for (int i = 0; i < ROW_TILES; i++) ldmatrix_x4(q[i], q_lane + 16 * i * STRIDE + d);
#pragma unroll
      for (int n = first; n < KEY_TILES && n < first + AT_ONCE; n += 2) {
        unsigned k[4];
        ldmatrix_x4(k, k_lane + n * 8 * STRIDE + d);
        for (int i = 0; i < ROW_TILES; i++) {
          mma_m16n8k16(score[i][n], q[i], k[0], k[1]);
          mma_m16n8k16(score[i][n + 1], q[i], k[2], k[3]);
        }
      }
    }
}

// o += P V, P taken from the registers in which the scores were computed.
template <int STRIDE, int ROW_TILES, int COLUMN_TILES, int KEY_TILES>
__device__ void add_values(
    float (&o)[ROW_TILES][COLUMN_TILES][4],
    const float (&p)[ROW_TILES][KEY_TILES][4],
    const __half* v_smem,  // (8 * KEY_TILES, STRIDE)
    int lane) {
  const __half* v_lane = v_smem + lane % 16 * STRIDE + lane / 16 * 8;  // keys 0-7, 8-15, then the next 8 columns
#pragma unroll
  for (int n = 0; n < KEY_TILES; n += 2) {
    unsigned a[ROW_TILES][4];
    for (int i = 0; i < ROW_TILES; i++)
      for (int r = 0; r < 4; r++) a[i][r] = pack(p[i][n + r / 2][r % 2 * 2], p[i][n + r / 2][r % 2 * 2 + 1]);
#pragma unroll
    for (int c = 0; c < COLUMN_TILES; c += 2) {
      unsigned v[4];
      ldmatrix_x4_trans(v, v_lane + n * 8 * STRIDE + c * 8);
      for (int i = 0; i < ROW_TILES; i++) {
        mma_m16n8k16(o[i][c], a[i], v[0], v[1]);
        mma_m16n8k16(o[i][c + 1], a[i], v[2], v[3]);
      }
    }
  }
}
