// v5_wgmma: the backward pass of softmax attention by Hopper's warpgroup products, wgmma m64n64k16 and m64n128k16.
//
// Products run while the threads go on: dQ of the tile before while P is exponentiated, dP while that dQ is added up in
// HBM, dV while dS is formed, dK while dS is handed over. dQ a tile late needs dS twice and q and do three times in
// shared memory, and spares a barrier: one a tile is left. The copy engine (TMA) brings the tiles; a thread asks.
// Differs from v4_mma: products of 64 rows, asynchronous; a warp no longer fetches fragments from shared memory.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; BLOCK_T, the queries of a tile.

#include "wgmma_backward.cuh"

constexpr int THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS, 1) v5_wgmma_backward(
    const __grid_constant__ TensorMap q,  // (B * H, T, D)
    const __grid_constant__ TensorMap k,  // (B * G, S, D)
    const __grid_constant__ TensorMap v,  // (B * G, S, D)
    const __grid_constant__ TensorMap d_o,  // (B * H, T, D)
    const float4* __restrict__ stats,  // (B, H, T rounded up to BLOCK_T / 2): lse2 and -delta of two queries
    float* __restrict__ dq_sum,  // (B, H, T rounded up to BLOCK_T / 16, DTILES, 32, 4)
    __half* __restrict__ dk,  // (B, G, S, D)
    __half* __restrict__ dv,  // (B, G, S, D)
    int heads,  // query heads of a key/value head, H / G
    int G,
    int T,
    int S,
    float scale,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(1024) unsigned char memory[];
  Tiles& smem = *reinterpret_cast<Tiles*>(memory);
  const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0), warpgroup = warp / 4;
  const int block_key = blockIdx.x * BLOCK_S;
  const int group = blockIdx.z * G + blockIdx.y;  // of k, v, dk and dv: [b, g]
  const int tiles = (T + BLOCK_T - 1) / BLOCK_T, begin = first_tile(block_key, T, S);
  const int count = heads * max(0, tiles - begin);  // tiles of all query heads that share the key/value head
  Place at{group * heads, begin}, ahead = at, before = at;

  if (threadIdx.x == 0) {
    barrier_init(&smem.kv_full, 1);
    for (int n = 0; n < STAGES; n++) barrier_init(&smem.full[n], 1);
    barrier_init_done();
    fetch_keys(smem, k, v, block_key, group);
    if (count > 0) fetch_queries(smem, q, d_o, stats, at, tiles, 0);
  }
  __syncthreads();  // the barriers are set up before anybody waits at them
  barrier_wait(&smem.kv_full, 0);

  const __half* k_rows = smem.k + warpgroup * 64 * 64;
  const __half* v_rows = smem.v + warpgroup * 64 * 64;
  const int q_piece = CHUNKS_T == 2 ? warpgroup : 0, d_piece = CHUNKS_T == 2 ? 0 : warpgroup;  // of a tile's dq
  float dk_reg[PITCH / 2], dv_reg[PITCH / 2];
#pragma unroll
  for (int n = 0; n < PITCH / 2; n++) dk_reg[n] = dv_reg[n] = 0.0f;
  int stage = 0, parity = 0;
  for (int i = 0; i < count; i++) {
    const int first = at.tile * BLOCK_T;
    const bool masked = block_key + BLOCK_S > S || (CAUSAL && !sees(first, block_key + BLOCK_S - 1, T, S));
    ahead.next(begin, tiles);
    barrier_wait(&smem.full[stage], parity);
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS_T; chunk++) {
      const __half* q_chunk = smem.q[stage] + chunk * 64 * 64;
      const __half* do_chunk = smem.d_o[stage] + chunk * 64 * 64;
      const float4* stats_chunk = smem.stats[stage] + chunk * 32;
      float p[32], ds[32], dq[32];
      unsigned left[4][4], ds_left[4][4];
      wgmma_fence();
      multiply_rows(p, k_rows, q_chunk);
      wgmma_commit();
      if (chunk == 0) {
        fence_async();
        __syncthreads();  // dS of the tile before is there for all keys; the products with the one before that are done
        if (threadIdx.x == 0 && i + 1 < count) fetch_queries(smem, q, d_o, stats, ahead, tiles, after(stage));
        wgmma_fence();  // the first time of whatever stands there, and for nothing: a branch would part the products
        multiply_queries(dq, smem.ds[(i + 1) % 2][q_piece], smem.k + d_piece * BLOCK_S * 64);
      }
      wgmma_commit();
      wgmma_wait<1>();  // scores are there; dQ may still be under way
      pinned(p);
      to_weights(p, stats_chunk, scale_log2e, lane);
      if (masked) mask_weights(p, first + chunk * 64, block_key + warp * 16, T, S, lane);
      wgmma_fence();
      multiply_rows(ds, v_rows, do_chunk);
      wgmma_commit();
      wgmma_wait<1>();  // dQ is there; dP may still be under way
      if (chunk == 0) {
        pinned(dq);
        if (i > 0) add_queries(dq_sum, dq, before, tiles, q_piece, d_piece, warp % 4, lane);
      }
      to_operand(left, p);
      wgmma_fence();
      add_product(dv_reg, left, do_chunk);
      wgmma_commit();
      wgmma_wait<1>();  // dP is there; dV may still be under way
      pinned(ds);
      to_score_gradients(ds, p, stats_chunk, lane);
      to_operand(ds_left, ds);
      wgmma_fence();
      add_product(dk_reg, ds_left, q_chunk);
      wgmma_commit();
      share(smem.ds[i % 2][chunk], ds_left, warp * 16, lane);
    }
    if (PANELS == 2) wgmma_wait<0>();  // dK: no registers are left for its operand beside the next products' sums
    before = at;
    at = ahead;
    stage = after(stage);
    if (stage == 0) parity ^= 1;
  }
  wgmma_wait<0>();
  pinned(dk_reg);
  pinned(dv_reg);
  fence_async();
  __syncthreads();  // the last tile's dS is there
  if (count > 0) {
    float dq[32];
    wgmma_fence();
    multiply_queries(dq, smem.ds[(count + 1) % 2][q_piece], smem.k + d_piece * BLOCK_S * 64);
    wgmma_commit();
    wgmma_wait<0>();
    pinned(dq);
    add_queries(dq_sum, dq, before, tiles, q_piece, d_piece, warp % 4, lane);
  }
  __syncthreads();  // no product reads K and V any more: their place is overwritten
  const size_t key = static_cast<size_t>(group) * S + block_key;
  store_rows<BLOCK_S>(dk + key * D, dk_reg, scale, smem.k, warp * 16, S - block_key, lane);
  store_rows<BLOCK_S>(dv + key * D, dv_reg, 1.0f, smem.v, warp * 16, S - block_key, lane);
}
