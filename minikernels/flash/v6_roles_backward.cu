// v6_roles: warpgroups with roles. Two own keys, 64 each; a third sums dQ and asks for copies.
//
// The owners never wait for dQ, nor hold its sums: their registers hold K as a left operand instead, so that S = K Q^T
// reads one operand from shared memory and not two. They start the next scores before dK of the 64 queries before:
// while dK is multiplied, the scores are exponentiated. dS passes by two places and mbarriers; no barrier stops the
// whole block.
// Differs from v5_wgmma: the third warpgroup; K in registers; scores before dK. D is at most 64: for more columns of dk
// and dv the registers do not suffice beside a third warpgroup.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; BLOCK_T, the queries of a tile.

#include "wgmma_backward.cuh"

constexpr int OWNERS = 8, SUMMERS = 4;  // warps
constexpr int THREADS = 32 * (OWNERS + SUMMERS);
constexpr int OWNER_REGISTERS = 216, SUMMER_REGISTERS = 72;  // two warpgroups and one: at most 504

static_assert(D <= 64, "wider heads leave no registers for a third warpgroup");

struct Smem : Tiles {
  Barrier ds_full[2], ds_empty[2];
};

// What a block works on.
struct Block {
  int key, group, begin, tiles;  // its first key; [b, g]; the first tile of queries that sees any key; tiles of a head
  int first_head, count;  // the first query head of the group; tiles of all of them
};

// c = a b^T along D: the warpgroup's 64 keys, a row a key, from registers, against 64 queries, rows of b.
__device__ void multiply_rows(float (&c)[32], const unsigned (&a)[PITCH / 16][4], const __half* b) {
  const unsigned long long queries = by_rows(b);
#pragma unroll
  for (int d = 0; d < PITCH; d += 16) wgmma<BY_ROWS>(c, a[d / 16], further(queries, d * 2), d > 0);
}

// The third warpgroup: q and do two tiles ahead, and dq of every tile whose dS the owners have written.
__device__ void sum_queries(
    Smem& smem,
    const TensorMap& q,
    const TensorMap& d_o,
    const float4* __restrict__ stats,
    float* __restrict__ dq_sum,
    const Block& block,
    int warp,  // of the warpgroup
    int lane) {
  const bool asks = warp == 0 && lane == 0;
  Place at{block.first_head, block.begin}, ahead = at;
  int stage = 0;
  const auto fetch = [&] {
    if (asks) fetch_queries(smem, q, d_o, stats, ahead, block.tiles, stage);
    ahead.next(block.begin, block.tiles);
    stage = after(stage);
  };
  for (int n = 0; n < 2 && n < block.count; n++) fetch();
  barrier_wait(&smem.kv_full, 0);
  for (int i = 0; i < block.count; i++, at.next(block.begin, block.tiles)) {
    barrier_wait(&smem.ds_full[i % 2], i / 2 % 2);  // dS is there; the owners' products with the tile before are done
    if (i + 2 < block.count) fetch();
#pragma unroll
    for (int piece = 0; piece < CHUNKS_T; piece++) {
      float dq[32];
      wgmma_fence();
      multiply_queries(dq, smem.ds[i % 2][piece], smem.k);
      wgmma_commit();
      wgmma_wait<0>();
      pinned(dq);
      if (piece == CHUNKS_T - 1 && lane == 0) barrier_arrive(&smem.ds_empty[i % 2]);
      add_queries(dq_sum, dq, at, block.tiles, piece, 0, warp, lane);
    }
  }
}

// An owner: 16 keys of a warp, 64 of its warpgroup.
__device__ void sum_keys(
    Smem& smem,
    __half* __restrict__ dk,  // (B, G, S, D)
    __half* __restrict__ dv,  // (B, G, S, D)
    const Block& block,
    int T,
    int S,
    float scale,
    float scale_log2e,
    int warp,
    int lane) {
  const __half* v_rows = smem.v + warp / 4 * 64 * 64;
  float dk_reg[PITCH / 2], dv_reg[PITCH / 2];
#pragma unroll
  for (int n = 0; n < PITCH / 2; n++) dk_reg[n] = dv_reg[n] = 0.0f;
  unsigned k_left[PITCH / 16][4], ds_left[4][4] = {};  // dS^T of the 64 queries before, the first time nothing
  barrier_wait(&smem.kv_full, 0);
#pragma unroll
  for (int d = 0; d < PITCH; d += 16)
    ldmatrix_x4(k_left[d / 16], smem.k + place<BLOCK_S>(warp * 16 + lane % 16, d + lane / 16 * 8));
  Place at{block.first_head, block.begin};
  int stage = 0, stage_before = 0, parity = 0;
  for (int i = 0; i < block.count; i++, at.next(block.begin, block.tiles)) {
    const int first = at.tile * BLOCK_T;
    const bool masked = block.key + BLOCK_S > S || (CAUSAL && !sees(first, block.key + BLOCK_S - 1, T, S));
    barrier_wait(&smem.full[stage], parity);
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS_T; chunk++) {
      const __half* q_before = chunk ? smem.q[stage] : smem.q[stage_before] + (CHUNKS_T - 1) * 64 * 64;
      const float4* stats_chunk = smem.stats[stage] + chunk * 32;
      float p[32], ds[32];
      unsigned left[4][4];
      wgmma_fence();
      multiply_rows(p, k_left, smem.q[stage] + chunk * 64 * 64);
      wgmma_commit();
      add_product(dk_reg, ds_left, q_before);
      wgmma_commit();
      multiply_rows(ds, v_rows, smem.d_o[stage] + chunk * 64 * 64);
      wgmma_commit();
      wgmma_wait<2>();  // scores are there; dK and dP may still be under way
      pinned(p);
      to_weights(p, stats_chunk, scale_log2e, lane);
      if (masked) mask_weights(p, first + chunk * 64, block.key + warp * 16, T, S, lane);
      to_operand(left, p);
      wgmma_fence();
      add_product(dv_reg, left, smem.d_o[stage] + chunk * 64 * 64);
      wgmma_commit();
      wgmma_wait<1>();  // dK and dP are there; dV may still be under way
      pinned(ds);
      to_score_gradients(ds, p, stats_chunk, lane);
      to_operand(ds_left, ds);
      if (chunk == 0) barrier_wait(&smem.ds_empty[i % 2], i / 2 % 2 ^ 1);  // dS of the tile before last is summed
      share(smem.ds[i % 2][chunk], ds_left, warp * 16, lane);
    }
    fence_async();
    barrier_arrive(&smem.ds_full[i % 2]);  // every thread for itself: its rows are written, its stats are read
    stage_before = stage;
    stage = after(stage);
    if (stage == 0) parity ^= 1;
  }
  wgmma_wait<0>();
  pinned(dk_reg);
  pinned(dv_reg);
  if (block.count > 0) {
    wgmma_fence();
    add_product(dk_reg, ds_left, smem.q[stage_before] + (CHUNKS_T - 1) * 64 * 64);
    wgmma_commit();
    wgmma_wait<0>();
    pinned(dk_reg);
    const int last = block.count - 1;
    barrier_wait(&smem.ds_empty[last % 2], last / 2 % 2);  // no product reads K any more
  }
  named_sync(1, 32 * OWNERS);  // nor V: their place is overwritten
  const size_t key = static_cast<size_t>(block.group) * S + block.key;
  store_rows<BLOCK_S>(dk + key * D, dk_reg, scale, smem.k, warp * 16, S - block.key, lane);
  store_rows<BLOCK_S>(dv + key * D, dv_reg, 1.0f, smem.v, warp * 16, S - block.key, lane);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) v6_roles_backward(
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
  Smem& smem = *reinterpret_cast<Smem*>(memory);
  const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  const int key = blockIdx.x * BLOCK_S, group = blockIdx.z * G + blockIdx.y, begin = first_tile(key, T, S);
  const int tiles = (T + BLOCK_T - 1) / BLOCK_T;
  const Block block{key, group, begin, tiles, group * heads, heads * max(0, tiles - begin)};
  if (threadIdx.x == 0) {
    barrier_init(&smem.kv_full, 1);
    for (int n = 0; n < STAGES; n++) barrier_init(&smem.full[n], 1);
    for (int n = 0; n < 2; n++) {
      barrier_init(&smem.ds_full[n], 32 * OWNERS);
      barrier_init(&smem.ds_empty[n], SUMMERS);
    }
    barrier_init_done();
    fetch_keys(smem, k, v, key, group);
  }
  __syncthreads();  // the barriers are set up before anybody uses them
  if (warp >= OWNERS) {
    registers_keep<SUMMER_REGISTERS>();
    sum_queries(smem, q, d_o, stats, dq_sum, block, warp - OWNERS, lane);
  } else {
    registers_take<OWNER_REGISTERS>();
    sum_keys(smem, dk, dv, block, T, S, scale, scale_log2e, warp, lane);
  }
}
