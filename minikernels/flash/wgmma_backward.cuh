// What the backward kernels by warpgroup products share: tiles by the copy engine (TMA), products, the walk.
//
// A block owns 128 keys of one key/value head, each of two warpgroups 64 of them, and walks tiles of BLOCK_T queries.
// Scores stand transposed, a row a key. A product's left operand comes from registers or shared memory, its right one
// from shared memory, once for 64 rows; it runs while the threads go on.

#pragma once

#include "backward.cuh"
#include "launch/hopper.cuh"

constexpr int BLOCK_S = 128;
constexpr int STAGES = 3;  // tiles of q and do: one in use, one whose last products may be under way, one on its way
constexpr int CHUNKS_T = BLOCK_T / 64;  // a warpgroup holds the scores of 64 queries at a time

static_assert(BLOCK_T % 64 == 0 && CHUNKS_T * PANELS == 2, "a tile's dq is two pieces of 64 x 64");

struct Tiles {  // in shared memory, swizzled
  __half k[BLOCK_S * PITCH], v[BLOCK_S * PITCH];  // (PANELS, BLOCK_S, 64)
  __half q[STAGES][BLOCK_T * PITCH], d_o[STAGES][BLOCK_T * PITCH];  // (PANELS, BLOCK_T, 64)
  __half ds[2][CHUNKS_T][BLOCK_S * 64];
  float4 stats[STAGES][BLOCK_T / 2];
  Barrier kv_full, full[STAGES];
};

// A tile of queries of one query head. The walk goes over a head's tiles from `first` on, then to the next head.
struct Place {
  int head, tile;
  __device__ void next(int first, int tiles) {
    if (++tile == tiles) tile = first, head++;
  }
};

__device__ int after(int stage) { return stage + 1 == STAGES ? 0 : stage + 1; }

template <int COUNT>
__device__ void load_tile(__half* tile, const TensorMap& map, Barrier* full, int row, int slice) {
  for (int panel = 0; panel < PANELS; panel++) tma_load(tile + panel * COUNT * 64, map, full, 64 * panel, row, slice);
}

// PTX ISA 9.7.9.25.4.1: start copying neighbours from HBM; their bytes count on the barrier.
__device__ void bulk_load(void* to, const void* from, int bytes, Barrier* full) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(full))
               : "memory");
}

// Ask for K and V; one thread does.
__device__ void fetch_keys(Tiles& smem, const TensorMap& k, const TensorMap& v, int block_key, int group) {
  barrier_expect(&smem.kv_full, sizeof(smem.k) + sizeof(smem.v));
  load_tile<BLOCK_S>(smem.k, k, &smem.kv_full, block_key, group);
  load_tile<BLOCK_S>(smem.v, v, &smem.kv_full, block_key, group);
}

// Ask for q, do and stats of one tile of queries.
__device__ void fetch_queries(
    Tiles& smem,
    const TensorMap& q,
    const TensorMap& d_o,
    const float4* __restrict__ stats,  // (B, H, tiles, BLOCK_T / 2)
    Place of,
    int tiles,
    int stage) {
  Barrier* full = &smem.full[stage];
  barrier_expect(full, sizeof(smem.q[0]) + sizeof(smem.d_o[0]) + sizeof(smem.stats[0]));
  load_tile<BLOCK_T>(smem.q[stage], q, full, of.tile * BLOCK_T, of.head);
  load_tile<BLOCK_T>(smem.d_o[stage], d_o, full, of.tile * BLOCK_T, of.head);
  bulk_load(smem.stats[stage], stats + (static_cast<size_t>(of.head) * tiles + of.tile) * (BLOCK_T / 2),
            sizeof(smem.stats[0]), full);
}

// c = a b^T along D: 64 keys, rows of a, against 64 queries, rows of b.
__device__ void multiply_rows(
    float (&c)[32],
    const __half* a,  // 64 rows of (PANELS, BLOCK_S, 64), swizzled
    const __half* b) {  // 64 rows of (PANELS, BLOCK_T, 64), swizzled
  const unsigned long long keys = by_rows(a), queries = by_rows(b);
#pragma unroll
  for (int d = 0; d < PITCH; d += 16)
    wgmma<BY_ROWS>(c, further(keys, d / 64 * BLOCK_S * 128 + d % 64 * 2),
                   further(queries, d / 64 * BLOCK_T * 128 + d % 64 * 2), d > 0);
}

// c += a b: 64 keys against 64 queries, from the registers in which they were computed, times rows of q or do.
__device__ void add_product(
    float (&c)[PITCH / 2],
    const unsigned (&a)[4][4],
    const __half* b) {  // 64 rows of (PANELS, BLOCK_T, 64), swizzled
  const unsigned long long queries = by_columns(b, BLOCK_T * 128);
#pragma unroll
  for (int n = 0; n < 4; n++) wgmma<BY_COLUMNS>(c, a[n], further(queries, n * 2048), true);
}

// c = dS K: 64 queries against 64 columns, summed over all keys of the block.
__device__ void multiply_queries(
    float (&c)[32],
    const __half* ds,  // (BLOCK_S, 64), swizzled
    const __half* k) {  // (BLOCK_S, 64), swizzled
  const unsigned long long queries = by_columns(ds, 0), columns = by_columns(k, 0);
#pragma unroll
  for (int s = 0; s < BLOCK_S; s += 16)
    wgmma<BY_COLUMNS, BY_COLUMNS>(c, further(queries, s * 128), further(columns, s * 128), s > 0);
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
  for (int n = 0; n < 4; n++)
    stmatrix_x4(ds_smem + place<BLOCK_S>(row + lane % 16, 16 * n + lane / 16 * 8), a[n][0], a[n][1], a[n][2], a[n][3]);
}

// Add one piece of a tile's dq, 64 queries against 64 columns, to the sums in HBM: 512 neighbouring bytes a warp.
__device__ void add_queries(
    float* __restrict__ dq_sum,  // (B, H, tiles, BLOCK_T / 16, DTILES, 32, 4)
    const float (&dq)[32],
    Place of,
    int tiles,
    int q_piece,
    int d_piece,
    int warp,  // of the warpgroup
    int lane) {
  const size_t rows = (static_cast<size_t>(of.head) * tiles + of.tile) * (BLOCK_T / 16) + q_piece * 4 + warp;
  float* sums = dq_sum + ((rows * DTILES + d_piece * 8) * 32 + lane) * 4;
#pragma unroll
  for (int n = 0; n < 8; n++)
    if (8 * DTILES == PITCH || d_piece * 8 + n < DTILES) add_in_hbm(sums + n * 128, dq + 4 * n);
}
