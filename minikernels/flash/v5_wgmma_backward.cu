// v5_wgmma: the backward pass of softmax attention by Hopper's warpgroup products, wgmma m64n64k16 and m64n128k16.
//
// A block owns 128 keys of one key/value head, each of its two warpgroups 64 of them. A product's left operand comes
// from registers or shared memory, its right one from shared memory, once for 64 rows; it runs while the threads go on:
// dP of this tile and dQ of the last one while P is exponentiated, dV while dS is formed, dK while dS is handed over.
// dQ a tile late needs dS twice and q and do three times in shared memory, and spares a barrier: one a tile is left.
// Differs from v4_mma: products of 64 rows, asynchronous; a warp no longer fetches fragments from shared memory.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; BLOCK_T, the queries of a tile.

#include "backward.cuh"
#include "launch/hopper.cuh"

constexpr int THREADS = 256;
constexpr int BLOCK_S = 128;
constexpr int STAGES = 3;  // tiles of q and do: one in use, one whose last products may be under way, one on its way
constexpr int CHUNKS_T = BLOCK_T / 64;  // a warpgroup holds the scores of 64 queries at a time

static_assert(BLOCK_T % 64 == 0 && CHUNKS_T * PANELS == 2, "each warpgroup sums one 64 x 64 piece of a tile's dq");

// c = a b^T along D: 64 keys, rows of a, against 64 queries, rows of b.
__device__ void multiply_rows(
    float (&c)[32],
    const __half* a,  // 64 rows of (PANELS, BLOCK_S, 64), swizzled
    const __half* b) {  // 64 rows of (PANELS, BLOCK_T, 64), swizzled
#pragma unroll
  for (int d = 0; d < PITCH; d += 16)
    wgmma<BY_ROWS>(c, by_rows(a + d / 64 * BLOCK_S * 64 + d % 64), by_rows(b + d / 64 * BLOCK_T * 64 + d % 64),
                   d > 0);
}

// c += a b: 64 keys against 64 queries, from the registers in which they were computed, times rows of q or do.
__device__ void add_product(
    float (&c)[PITCH / 2],
    const unsigned (&a)[4][4],
    const __half* b) {  // 64 rows of (PANELS, BLOCK_T, 64), swizzled
#pragma unroll
  for (int n = 0; n < 4; n++) wgmma<BY_COLUMNS>(c, a[n], by_columns(b + 16 * n * 64, BLOCK_T * 128), true);
}

// c = dS K: 64 queries against 64 columns, summed over all keys of the block.
__device__ void multiply_queries(
    float (&c)[32],
    const __half* ds,  // (BLOCK_S, 64), swizzled
    const __half* k) {  // (BLOCK_S, 64), swizzled
#pragma unroll
  for (int s = 0; s < BLOCK_S; s += 16)
    wgmma<BY_COLUMNS, BY_COLUMNS>(c, by_columns(ds + s * 64, 0), by_columns(k + s * 64, 0), s > 0);
}

// Two neighbouring 8-query tiles, rounded to float16, are one left operand, without any exchange between lanes.
__device__ void to_operand(unsigned (&a)[4][4], const float (&c)[32]) {
#pragma unroll
  for (int n = 0; n < 16; n++) a[n / 4][n % 4] = pack(c[2 * n], c[2 * n + 1]);
}

// s = exp2(s * scale_log2e - lse2).
__device__ void to_weights(
    float (&s)[32],
    const float4* stats,  // (32): lse2 and -delta of two queries
    float scale_log2e,
    int lane) {
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const float4 two = stats[4 * n + lane % 4];
#pragma unroll
    for (int e = 0; e < 4; e++)
      s[4 * n + e] = exp2_approx(s[4 * n + e] * scale_log2e - (e % 2 ? two.z : two.x));
  }
}

// Weights of keys that a query does not see are 0.
__device__ void mask_weights(
    float (&p)[32],
    int first_t,  // of the 64 queries
    int first_s,  // of the warp
    int T,
    int S,
    int lane) {
#pragma unroll
  for (int i = 0; i < 32; i++) {
    const int t = first_t + i / 4 * 8 + lane % 4 * 2 + i % 2, s = first_s + i / 2 % 2 * 8 + lane / 4;
    if (!sees(t, s, T, S)) p[i] = 0.0f;
  }
}

// dp = p * (dp - delta), which is dS.
__device__ void to_score_gradients(
    float (&dp)[32],
    const float (&p)[32],
    const float4* stats,  // (32): lse2 and -delta of two queries
    int lane) {
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const float4 two = stats[4 * n + lane % 4];
#pragma unroll
    for (int e = 0; e < 4; e++) dp[4 * n + e] = p[4 * n + e] * (dp[4 * n + e] + (e % 2 ? two.w : two.y));
  }
}

// Write the warp's 16 rows of dS^T where both warpgroups' products read them.
__device__ void share(
    __half* ds_smem,  // (BLOCK_S, 64), swizzled
    const unsigned (&a)[4][4],
    int row,  // of the warp
    int lane) {
#pragma unroll
  for (int n = 0; n < 16; n++)
    *reinterpret_cast<unsigned*>(ds_smem + place<BLOCK_S>(row + n % 2 * 8 + lane / 4, n / 2 * 8) + lane % 4 * 2) =
        a[n / 4][n % 4];
}

// Write the warp's rows of dk or dv, 16 bytes a lane, by way of its own rows of K or V, which no one needs any more.
__device__ void store_rows(
    __half* __restrict__ out,  // (S, D)
    const float (&c)[PITCH / 2],
    float factor,
    __half* smem,  // (PANELS, BLOCK_S, 64), swizzled
    int row,  // of the warp, in the tile
    int rows,  // of the tile that exist
    int lane) {
#pragma unroll
  for (int n = 0; n < PITCH / 4; n++)
    *reinterpret_cast<unsigned*>(smem + place<BLOCK_S>(row + n % 2 * 8 + lane / 4, n / 2 * 8) + lane % 4 * 2) =
        pack(c[2 * n] * factor, c[2 * n + 1] * factor);
  __syncwarp();  // the rows are whole before another lane copies them
  constexpr int CHUNKS = D / 8;
  for (int i = lane; i < 16 * CHUNKS && row + i / CHUNKS < rows; i += 32)
    reinterpret_cast<uint4*>(out + row * D)[i] =
        *reinterpret_cast<const uint4*>(smem + place<BLOCK_S>(row + i / CHUNKS, i % CHUNKS * 8));
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) v5_wgmma_backward(
    const __half* __restrict__ q,  // (B, H, T, D)
    const __half* __restrict__ k,  // (B, G, S, D)
    const __half* __restrict__ v,  // (B, G, S, D)
    const __half* __restrict__ d_o,  // (B, H, T, D)
    const float4* __restrict__ stats,  // (B, H, T rounded up to BLOCK_T / 2): lse2 and -delta of two queries
    float* __restrict__ dq_sum,  // (B, H, T rounded up to BLOCK_T / 16, DTILES, 32, 4)
    __half* __restrict__ dk,  // (B, G, S, D)
    __half* __restrict__ dv,  // (B, G, S, D)
    int H,
    int G,
    int T,
    int S,
    float scale,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(1024) __half smem[];
  constexpr int KEYS = BLOCK_S * PITCH, QUERIES = BLOCK_T * PITCH;  // numbers in a tile
  __half* k_smem = smem;  // (PANELS, BLOCK_S, 64)
  __half* v_smem = k_smem + KEYS;  // (PANELS, BLOCK_S, 64)
  __half* q_smem = v_smem + KEYS;  // (STAGES, PANELS, BLOCK_T, 64)
  __half* do_smem = q_smem + STAGES * QUERIES;  // (STAGES, PANELS, BLOCK_T, 64)
  __half* ds_smem = do_smem + STAGES * QUERIES;  // (2, CHUNKS_T, BLOCK_S, 64)
  float4* stats_smem = reinterpret_cast<float4*>(ds_smem + 2 * BLOCK_S * BLOCK_T);  // (STAGES, BLOCK_T / 2)

  const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0), warpgroup = warp / 4;
  const int block_key = blockIdx.x * BLOCK_S, share_of = H / G;
  const int group = blockIdx.z * G + blockIdx.y;  // of k, v, dk and dv: [b, g]
  const int tiles = (T + BLOCK_T - 1) / BLOCK_T;
  const int first_tile = CAUSAL ? max(0, block_key + T - S) / BLOCK_T : 0;  // the first that sees any of the keys
  int head = group * share_of, tile = first_tile;  // [b, h], the first of the group's
  const int end = head + share_of;

  const auto fetch = [&](int head, int tile, int stage) {  // q, do and stats of one tile of queries
    const size_t row = static_cast<size_t>(head) * T + tile * BLOCK_T;
    copy_tile<BLOCK_T, THREADS>(q_smem + stage * QUERIES, q + row * D, T - tile * BLOCK_T);
    copy_tile<BLOCK_T, THREADS>(do_smem + stage * QUERIES, d_o + row * D, T - tile * BLOCK_T);
    const size_t pair = (static_cast<size_t>(head) * tiles + tile) * (BLOCK_T / 2);
    if (threadIdx.x < BLOCK_T / 2)
      cp_async_16(stats_smem + stage * BLOCK_T / 2 + threadIdx.x, stats + pair + threadIdx.x);
  };

  copy_tile<BLOCK_S, THREADS>(k_smem, k + (static_cast<size_t>(group) * S + block_key) * D, S - block_key);
  copy_tile<BLOCK_S, THREADS>(v_smem, v + (static_cast<size_t>(group) * S + block_key) * D, S - block_key);
  for (int i = 0; i < 2; i++) clear_padding<BLOCK_S, THREADS>(smem + i * KEYS);  // of K and V
  for (int i = 0; i < 2 * STAGES; i++) clear_padding<BLOCK_T, THREADS>(q_smem + i * QUERIES);  // of q and do
  if (tile < tiles) fetch(head, tile, 0);
  cp_async_commit();

  const int q_piece = CHUNKS_T == 2 ? warpgroup : 0, d_piece = CHUNKS_T == 2 ? 0 : warpgroup;  // of a tile's dq
  const auto add_queries = [&](const float (&dq)[32], int head, int tile) {
    const size_t row_tile = (static_cast<size_t>(head) * tiles + tile) * (BLOCK_T / 16) + q_piece * 4 + warp % 4;
    float* sums = dq_sum + ((row_tile * DTILES + d_piece * 8) * 32 + lane) * 4;
#pragma unroll
    for (int n = 0; n < 8; n++)
      if (8 * DTILES == PITCH || d_piece * 8 + n < DTILES) add_in_hbm(sums + n * 128, dq + 4 * n);
  };

  float dk_reg[PITCH / 2] = {}, dv_reg[PITCH / 2] = {};
  int before = -1, head_before = 0;  // the tile whose dS stands in shared memory, to be summed over the keys
  int stage = 0, half = 0;  // half: of ds_smem, which this tile writes
  for (; head < end && tile < tiles; half ^= 1) {
    const bool last = tile + 1 == tiles;
    const int next_head = head + last, next_tile = last ? first_tile : tile + 1, first = tile * BLOCK_T;
    const int next_stage = stage + 1 == STAGES ? 0 : stage + 1;
    const bool masked = block_key + BLOCK_S > S || (CAUSAL && !sees(first, block_key + BLOCK_S - 1, T, S));
    cp_async_wait<0>();
    fence_async();
    __syncthreads();  // the tile and dS of the one before are there; the products with the one before that are done
    if (next_head < end) fetch(next_head, next_tile, next_stage);
    cp_async_commit();

#pragma unroll
    for (int chunk = 0; chunk < CHUNKS_T; chunk++) {
      const __half* q_chunk = q_smem + stage * QUERIES + chunk * 64 * 64;
      const __half* do_chunk = do_smem + stage * QUERIES + chunk * 64 * 64;
      const float4* stats_chunk = stats_smem + (stage * BLOCK_T + chunk * 64) / 2;
      float p[32], ds[32], dq[32];
      unsigned left[4][4];
      wgmma_fence();
      multiply_rows(p, k_smem + warpgroup * 64 * 64, q_chunk);
      wgmma_commit();
      if (chunk == 0)  // the first time, of whatever stands there, and for nothing: a branch would part the products
        multiply_queries(dq, ds_smem + ((half ^ 1) * CHUNKS_T + q_piece) * BLOCK_S * 64,
                         k_smem + d_piece * BLOCK_S * 64);
      wgmma_commit();
      multiply_rows(ds, v_smem + warpgroup * 64 * 64, do_chunk);
      wgmma_commit();
      wgmma_wait<2>();  // scores are there; dq and dP may still be under way
      pinned(p);
      to_weights(p, stats_chunk, scale_log2e, lane);
      if (masked) mask_weights(p, first + chunk * 64, block_key + warp * 16, T, S, lane);
      wgmma_wait<1>();  // dq is there; dP may still be under way
      if (chunk == 0) {
        pinned(dq);
        if (before >= 0) add_queries(dq, head_before, before);
      }
      to_operand(left, p);
      wgmma_fence();
      add_product(dv_reg, left, do_chunk);
      wgmma_commit();
      wgmma_wait<1>();  // dP is there; dV may still be under way
      pinned(ds);
      to_score_gradients(ds, p, stats_chunk, lane);
      unsigned ds_left[4][4];
      to_operand(ds_left, ds);
      wgmma_fence();
      add_product(dk_reg, ds_left, q_chunk);
      wgmma_commit();
      share(ds_smem + (half * CHUNKS_T + chunk) * BLOCK_S * 64, ds_left, warp * 16, lane);
    }
    if (PANELS == 2) wgmma_wait<0>();  // dK: no registers are left for its operand beside the next products' sums
    before = tile;
    head_before = head;
    head = next_head;
    tile = next_tile;
    stage = next_stage;
  }
  wgmma_wait<0>();
  pinned(dk_reg);
  pinned(dv_reg);
  cp_async_wait<0>();
  fence_async();
  __syncthreads();  // the last tile's dS is there and, where no query sees a key, K
  if (before >= 0) {
    float dq[32];
    wgmma_fence();
    multiply_queries(dq, ds_smem + ((half ^ 1) * CHUNKS_T + q_piece) * BLOCK_S * 64, k_smem + d_piece * BLOCK_S * 64);
    wgmma_commit();
    wgmma_wait<0>();
    pinned(dq);
    add_queries(dq, head_before, before);
  }
  __syncthreads();  // no product reads K and V any more: their place is overwritten
  const size_t key = static_cast<size_t>(group) * S + block_key;
  store_rows(dk + key * D, dk_reg, scale, k_smem, warp * 16, S - block_key, lane);
  store_rows(dv + key * D, dv_reg, 1.0f, v_smem, warp * 16, S - block_key, lane);
}
