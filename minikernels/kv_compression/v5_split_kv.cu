// v5_split_kv: the tokens of a sequence split over blocks, so that few sequences fill the GPU too (Flash-Decoding).
//
// A block owns what one of v4_half2 does, over one of `splits` equal shares of the tokens; a second kernel merges the
// states that the shares left. absorb.cuh has what a block does with its tokens.
// Differs from v4_half2: a share of a sequence a block, not all of it, and states (m, l, o) that pass through HBM.

#include "absorb.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v5_split_kv(
    const element* __restrict__ q,  // (B, H, D)
    const unsigned char* __restrict__ k_codes,  // (B, G, N, D * BITS / 8)
    const element* __restrict__ k_scales,  // (B, G, N / K_GROUP, D)
    const element* __restrict__ k_minima,
    const element* __restrict__ k_recent,  // (B, G, S - N, D)
    const unsigned char* __restrict__ v_codes,
    const element* __restrict__ v_scales,  // (B, G, N, SHARED_SCALES)
    const element* __restrict__ v_minima,
    const element* __restrict__ v_recent,
    const int* __restrict__ lengths,  // (B,)
    float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS)
    float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    int G,
    int S,
    int quantized,  // N
    float scale_log2e) {
  __shared__ Shared shared;
  const Rows rows(blockIdx.y);
  const size_t b = blockIdx.z;
  const int length = lengths[b], tiles = (length + TILE - 1) / TILE;
  const int share = (tiles + gridDim.x - 1) / gridDim.x * TILE, begin = blockIdx.x * share;
  const Cache all = {k_codes, k_scales, k_minima, k_recent, v_codes, v_scales, v_minima, v_recent, quantized};
  State s;
  load_queries(shared, q + (b * G * R + rows.head) * D, rows.heads, scale_log2e);
  clear(s);
  absorb(s, shared.queries, all.of(b * G + rows.g, S), begin, min(length, begin + share));
  gather(shared, s);
  const size_t slot = (b * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  write_partial(ml + slot * HEADS, part + slot * HEADS * D, shared.states, rows.heads);
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_splits(
    const float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS)
    const float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int splits) {
  merge_parts(ml, part, o, G, splits);
}
