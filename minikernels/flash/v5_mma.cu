// v5_mma: softmax attention on the tensor cores, by mma.sync m16n8k16; P never leaves the registers.
//
// A warp owns MTILES tiles of 16 rows and all keys: a fragment of K or V fetched from shared memory serves them all
// (mma_rows.cuh has the constants, and what does not differ between rungs). The layout in which mma leaves its result
// is the one in which it wants its left operand: two neighbouring 8-key tiles of P, rounded to float16, are the left
// operand of P V without any exchange between threads.
// Differs from v4_register_tiles: products on the tensor cores in float16 with float32 sums; P in registers.

#include "mma_rows.cuh"

// Copy `rows` rows to shared memory. Rows up to COUNT become 0: 0 * V must not be NaN.
template <int COUNT>
__device__ void load_tile(
    __half* __restrict__ tile,  // (COUNT, ROW)
    const __half* __restrict__ source,  // (rows, D)
    int rows) {
  constexpr int CHUNKS = D / 8, STEPS = (COUNT * CHUNKS + THREADS - 1) / THREADS;
  uint4 chunk[STEPS];  // 8 float16 each; every load is under way before the first is waited for
  for (int n = 0; n < STEPS; n++) {
    const int i = n * THREADS + threadIdx.x;
    chunk[n] = i < rows * CHUNKS ? reinterpret_cast<const uint4*>(source)[i] : uint4{};
  }
  for (int n = 0; n < STEPS; n++) {
    const int i = n * THREADS + threadIdx.x;
    if (i < COUNT * CHUNKS) *reinterpret_cast<uint4*>(tile + i / CHUNKS * ROW + i % CHUNKS * 8) = chunk[n];
  }
}

// Turn the scores of one row of the thread (half 0: row l / 4, half 1: row l / 4 + 8) into p; rescale its sums.
__device__ void absorb_row(
    float (&score)[NTILES][4],
    float (&o)[DTILES][4],
    float& m,  // running maximum
    float& l,  // this lane's share of the running sum
    int half) {
  float m_new = m;
  for (auto& cell : score)
    for (int e = 2 * half; e < 2 * half + 2; e++) m_new = fmaxf(m_new, cell[e]);
  m_new = quad_max(m_new);
  const float shift = base(m_new), alpha = exp2_approx(m - shift);
  l *= alpha;
  for (auto& cell : score)
    for (int e = 2 * half; e < 2 * half + 2; e++) l += cell[e] = exp2_approx(cell[e] - shift);
  for (auto& cell : o)
    for (int e = 2 * half; e < 2 * half + 2; e++) cell[e] *= alpha;
  m = m_new;
}

// Hide the keys that a row does not see.
__device__ void mask_scores(
    float (&score)[MTILES][NTILES][4],
    int first_row,  // of the warp
    int first_key,
    int T,
    int S,
    int lane) {
  for (int i = 0; i < MTILES; i++)
    for (int n = 0; n < NTILES; n++)
      for (int e = 0; e < 4; e++) {
        const int t = first_row + 16 * i + lane / 4 + e / 2 * 8, s = first_key + 8 * n + lane % 4 * 2 + e % 2;
        if (s >= keys_seen(t, T, S)) score[i][n][e] = minus_infinity();
      }
}

extern "C" __global__ void __launch_bounds__(THREADS) v5_mma(
    const __half* __restrict__ q,  // (B, H, T, D)
    const __half* __restrict__ k,  // (B, G, S, D)
    const __half* __restrict__ v,  // (B, G, S, D)
    __half* __restrict__ o,  // (B, H, T, D)
    float* __restrict__ lse,  // (B, H, T), natural logarithm
    int heads,  // B * H
    int share,  // query heads of a key/value head
    int T,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(16) __half smem[];
  __half* k_smem = smem + BLOCK_T * ROW;  // (BLOCK_S, ROW)
  __half* v_smem = k_smem + BLOCK_S * ROW;  // (BLOCK_S, ROW)

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  __half* q_smem = smem + warp * 16 * MTILES * ROW;  // (16 * MTILES, ROW), the warp's rows
  if (head_of_block() >= heads) return;
  const size_t head = head_of_block(), group = head_of_block() / share;  // [b, h] of q, o and lse; [b, g] of k and v
  const int block_row = tile_of_block() * BLOCK_T, first_row = block_row + warp * 16 * MTILES;
  const int tile_seen = keys_seen(min(block_row + BLOCK_T, T) - 1, T, S);  // keys that any row of the tile sees
  const int all_seen = keys_seen(block_row, T, S);  // keys that every row of it sees

  k += group * S * D;  // [b, g, 0, 0]
  v += group * S * D;
  load_tile<BLOCK_T>(smem, q + (head * T + block_row) * D, min(BLOCK_T, T - block_row));
  clear_padding(smem, BLOCK_T + 2 * BLOCK_S);  // of Q, K and V, which follow each other

  float o_reg[MTILES][DTILES][4] = {}, m[MTILES][2], l[MTILES][2] = {};
  for (auto& rows : m)
    for (float& cell : rows) cell = minus_infinity();

  for (int first = 0; first < tile_seen; first += BLOCK_S) {
    const int keys = min(BLOCK_S, S - first);
    __syncthreads();  // every warp is done with the last tile of K and V before it is overwritten
    load_tile<BLOCK_S>(k_smem, k + static_cast<size_t>(first) * D, keys);
    load_tile<BLOCK_S>(v_smem, v + static_cast<size_t>(first) * D, keys);
    __syncthreads();  // K, V and, the first time, Q are written before any warp reads them

    float score[MTILES][NTILES][4] = {};
    multiply_keys<WIDTH, ROW>(score, q_smem, k_smem, lane);
    for (auto& tiles : score)
      for (auto& cells : tiles)
        for (float& cell : cells) cell *= scale_log2e;
    if (first + BLOCK_S > all_seen)  // only the last tile, and those that the diagonal crosses, need the mask
      mask_scores(score, first_row, first, T, S, lane);
    for (int i = 0; i < MTILES; i++)
      for (int half = 0; half < 2; half++) absorb_row(score[i], o_reg[i], m[i][half], l[i][half], half);
    add_values<ROW>(o_reg, score, v_smem, lane);
  }

  float factor[MTILES][2];
  for (int i = 0; i < MTILES; i++)
    for (int half = 0; half < 2; half++) {
      const float sum = quad_sum(l[i][half]);
      const int t = first_row + 16 * i + 8 * half + lane / 4;
      factor[i][half] = sum == 0.0f ? 0.0f : 1.0f / sum;
      if (t < T && lane % 4 == 0) lse[head * T + t] = sum == 0.0f ? minus_infinity() : m[i][half] * LN2 + logf(sum);
    }
  __syncthreads();  // Q is loaded, even where no key was seen, and read before its place is overwritten
  const int rows = min(16 * MTILES, T - first_row);  // 0 or fewer where the warp stands past the last row
  store_rows(o + (head * T + first_row) * D, o_reg, factor, q_smem, rows, lane);
}
