// v5_split_kv: the keys of a sequence split over blocks, so that few sequences fill the GPU too (Flash-Decoding).
//
// A block owns what one of v4_wide_loads does, over one of `splits` equal shares of the keys; a second kernel merges
// the states that the shares left. launch/absorb.cuh has what a block does with its keys, and the constants.
// Differs from v4_wide_loads: a share of a sequence a block, not all of it, and states (m, l, o) that pass through HBM.

#include "cache.cuh"
#include "launch/absorb.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v5_split_kv(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k,  // (B, G, S, D)
    const element* __restrict__ v,
    const int* __restrict__ lengths,  // (B,), or null: all S keys of every sequence
    float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS)
    float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    int G,
    int S,
    float scale_log2e) {
  __shared__ Shared shared;
  const Rows rows(blockIdx.y);
  const size_t b = blockIdx.z, slot = (b * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int length = keys_of(lengths, b, S);
  const Share share(length, TILE);
  float q_reg[HEADS][VEC];
  State s;
  load_queries(q_reg, q + (b * G * R + rows.head) * D, rows.heads, share.end - share.begin, scale_log2e);
  clear(s, length);
  absorb(s, q_reg, Cache(k, v, b * G + rows.g, S), share.begin, share.end);
  gather(shared, s);
  write_partial(ml + slot * HEADS, part + slot * HEADS * D, shared, rows.heads);
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_splits(
    const float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS)
    const float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int splits) {
  merge_shares(ml, part, o, G, splits);
}
