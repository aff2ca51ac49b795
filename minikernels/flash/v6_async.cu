// v6_async: v5_mma with the next tile of keys and values on its way while this one is multiplied.
//
// Differs from v5_mma: cp.async copies straight to shared memory, into two places for a tile, filled in turn: no warp
// waits for a copy that was not started a whole tile ago, no register carries it, and one barrier a tile is enough. The
// scale is part of the exponential's multiply-add, and a warp masks only the tiles that its own rows do not see whole.
// (Rows stay padded and not swizzled: as free of bank conflicts, and addresses are constants, for 1/16 more memory.)

#include "mma_rows.cuh"

constexpr int STAGE = 2 * BLOCK_S * ROW;  // K and V of a tile
constexpr int AT_ONCE = 4;  // 8-key tiles: maxima of these are looked for while the next ones are multiplied

// What a thread knows of the warp's rows: their outputs, running maxima, and its share of their running sums.
struct Sums {
  float o[MTILES][DTILES][4], m[MTILES][2], l[MTILES][2];
};

// Start copying `rows` rows to shared memory. Rows from there up to COUNT become 0: 0 * V must not be NaN.
template <int COUNT>
__device__ void copy_tile(
    __half* __restrict__ tile,  // (COUNT, ROW)
    const __half* __restrict__ source,  // (rows, D)
    int rows) {
  constexpr int CHUNKS = D / 8;
  const uint4* lane_source = reinterpret_cast<const uint4*>(source) + threadIdx.x;
  const int left = rows * CHUNKS - threadIdx.x;  // chunks, from this thread's first one on
#pragma unroll
  for (int n = 0; n < COUNT * CHUNKS; n += THREADS) {
    const int i = n + threadIdx.x;
    if (n + THREADS <= COUNT * CHUNKS || i < COUNT * CHUNKS)  // of 0 bytes none is read, wherever they would stand
      cp_async_16(tile + i / CHUNKS * ROW + i % CHUNKS * 8, lane_source + n, n < left ? 16 : 0);
  }
}

// Start copying K and V of the tile that begins with key `first`.
__device__ void copy_stage(
    __half* __restrict__ stage,  // (2, BLOCK_S, ROW)
    const __half* __restrict__ k,  // (S, D)
    const __half* __restrict__ v,
    int first,
    int S) {
  copy_tile<BLOCK_S>(stage, k + static_cast<size_t>(first) * D, S - first);
  copy_tile<BLOCK_S>(stage + BLOCK_S * ROW, v + static_cast<size_t>(first) * D, S - first);
}

// Turn the scores of one row of the thread into p under its new maximum, of scores as they are; rescale its sums.
__device__ void absorb_row(
    float (&score)[NTILES][4],
    float (&o)[DTILES][4],
    float& m,  // running maximum
    float& l,  // this lane's share of the running sum
    float scale_log2e,
    int half) {
  float m_new = m;
  for (auto& cell : score) m_new = fmaxf(m_new, fmaxf(cell[2 * half], cell[2 * half + 1]));
  m_new = quad_max(m_new);
  const float shift = base(m_new) * scale_log2e;
  const float alpha = exp2_approx(__fmul_rn(m, scale_log2e) - shift);  // the older shift, rounded as it was then
  l *= alpha;
  for (auto& cell : score)
    for (int e = 2 * half; e < 2 * half + 2; e++) l += cell[e] = exp2_approx(cell[e] * scale_log2e - shift);
  for (auto& cell : o)
    for (int e = 2 * half; e < 2 * half + 2; e++) cell[e] *= alpha;
  m = m_new;
}

// Hide the keys that a row does not see.
__device__ void hide(
    float (&score)[MTILES][NTILES][4],
    int first_row,  // of the warp
    int first_key,
    int T,
    int S,
    int lane) {
  for (int i = 0; i < MTILES; i++)
    for (int half = 0; half < 2; half++) {
      const int t = first_row + 16 * i + 8 * half + lane / 4;
      const int seen = keys_seen(t, T, S) - first_key - lane % 4 * 2;  // from the lane's first key on
      for (int n = 0; n < NTILES; n++)
        for (int e = 0; e < 2; e++)
          if (8 * n + e >= seen) score[i][n][2 * half + e] = minus_infinity();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) v6_async(
    const __half* __restrict__ q,  // (B, H, T, D)
    const __half* __restrict__ k,  // (B, G, S, D)
    const __half* __restrict__ v,  // (B, G, S, D)
    __half* __restrict__ o,  // (B, H, T, D)
    float* __restrict__ lse,  // (B, H, T), natural logarithm
    int heads,  // B * H
    int share,  // query heads of a key/value head
    int T,
    int S,
    float scale_log2e) {  // scale * log2(e), greater than 0: exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(16) __half smem[];
  __half* stages = smem + BLOCK_T * ROW;  // (2, 2, BLOCK_S, ROW): K and V of two tiles

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  __half* q_smem = smem + warp * 16 * MTILES * ROW;  // (16 * MTILES, ROW), the warp's rows
  if (head_of_block() >= heads) return;
  const size_t head = head_of_block(), group = head_of_block() / share;  // [b, h] of q, o and lse; [b, g] of k and v
  const int block_row = tile_of_block() * BLOCK_T, first_row = block_row + warp * 16 * MTILES;
  const int tile_seen = keys_seen(min(block_row + BLOCK_T, T) - 1, T, S);  // keys that any row of the tile sees

  k += group * S * D;  // [b, g, 0, 0]
  v += group * S * D;
  copy_tile<BLOCK_T>(smem, q + (head * T + block_row) * D, min(BLOCK_T, T - block_row));
  clear_padding(smem, BLOCK_T + 4 * BLOCK_S);  // of Q and both stages, which follow each other
  if (tile_seen > 0) copy_stage(stages, k, v, 0, S);
  cp_async_commit();

  Sums sums = {};
  for (auto& rows : sums.m)
    for (float& cell : rows) cell = minus_infinity();

  for (int first = 0, stage = 0; first < tile_seen; first += BLOCK_S, stage ^= 1) {
    const __half* k_smem = stages + stage * STAGE;  // (BLOCK_S, ROW), and then as much of V
    cp_async_wait<0>();
    __syncthreads();  // this tile is there for every warp, and every warp is done with the last one, overwritten now
    if (first + BLOCK_S < tile_seen) copy_stage(stages + (stage ^ 1) * STAGE, k, v, first + BLOCK_S, S);
    cp_async_commit();

    float score[MTILES][NTILES][4] = {};
    multiply_keys<WIDTH, ROW, AT_ONCE>(score, q_smem, k_smem, lane);
    if (first + BLOCK_S > keys_seen(first_row, T, S)) hide(score, first_row, first, T, S, lane);
    for (int i = 0; i < MTILES; i++)
      for (int half = 0; half < 2; half++)
        absorb_row(score[i], sums.o[i], sums.m[i][half], sums.l[i][half], scale_log2e, half);
    add_values<ROW>(sums.o, score, k_smem + BLOCK_S * ROW, lane);
  }
  cp_async_wait<0>();
  __syncthreads();  // Q is loaded, even where no key was seen, and read before its place is overwritten

  float factor[MTILES][2];
  for (int i = 0; i < MTILES; i++)
    for (int half = 0; half < 2; half++) {
      const float sum = quad_sum(sums.l[i][half]);
      const int t = first_row + 16 * i + 8 * half + lane / 4;
      factor[i][half] = sum == 0.0f ? 0.0f : 1.0f / sum;
      if (t < T && lane % 4 == 0)
        lse[head * T + t] = sum == 0.0f ? minus_infinity() : sums.m[i][half] * scale_log2e * LN2 + logf(sum);
    }
  const int rows = min(16 * MTILES, T - first_row);  // 0 or fewer where the warp stands past the last row
  store_rows(o + (head * T + first_row) * D, sums.o, factor, q_smem, rows, lane);
}
