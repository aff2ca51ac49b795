// v5_split_kv: the keys of a sequence split over blocks, so that few sequences fill the GPU too (vLLM's second kernel).
//
// A block owns what one of v4_fetch_ahead does, over one of gridDim.x equal shares of the keys; a second kernel merges
// the states that the shares left. launch/absorb.cuh has what a block does with its keys, and the constants.
// Differs from v4_fetch_ahead: a share of a sequence a block, not all of it; states (m, l, o) pass through HBM.

#include "cache.cuh"
#include "launch/absorb.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v5_split_kv(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k_pages,  // (pages, P, G, D)
    const element* __restrict__ v_pages,
    const int* __restrict__ page_table,  // (B, max_pages)
    const int* __restrict__ lengths,  // (B,)
    float2* __restrict__ ml,  // (B, G * BLOCKS, shares, HEADS)
    float* __restrict__ part,  // (B, G * BLOCKS, shares, HEADS, D)
    int G,
    int max_pages,
    float scale_log2e) {
  __shared__ Shared shared;
  const Rows rows(blockIdx.y);
  const size_t b = blockIdx.z, slot = (b * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const Share share(lengths[b], TILE);
  float q_reg[HEADS][VEC];
  State s;
  load_queries(q_reg, q + (b * G * R + rows.head) * D, rows.heads, TILE, scale_log2e);
  clear(s, lengths[b]);
  absorb(s, q_reg, Cache(k_pages, v_pages, page_table + b * max_pages, rows.g, G), share.begin, share.end);
  gather(shared, s);
  write_partial(ml + slot * HEADS, part + slot * HEADS * D, shared, rows.heads);
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_splits(
    const float2* __restrict__ ml,  // (B, G * BLOCKS, shares, HEADS)
    const float* __restrict__ part,  // (B, G * BLOCKS, shares, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int shares) {
  merge_shares(ml, part, o, G, shares);
}
