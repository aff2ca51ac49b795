// v8_mma_stream_k: tensor cores and a pipeline over one list of all key tiles, cut into equal runs.
//
// launch/group.cuh has how a block absorbs keys, launch/stream_k.cuh which ones.
// Differs from v7_mma_group: the schedule of v6_stream_k. As many blocks as the GPU holds, each with an equal run of
// tiles, whatever the lengths: none starts late, and none waits for the one that got the longest sequence.

#include "cache.cuh"
#include "launch/group.cuh"
#include "launch/stream_k.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v8_mma_stream_k(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k,  // (B, G, S, D)
    const element* __restrict__ v,
    const int* __restrict__ lengths,  // (B,)
    element* __restrict__ o,  // (B, H, D)
    int2* __restrict__ span,  // (B, G * BLOCKS): blocks that have a row's first tile and its last
    float2* __restrict__ ml,  // (gridDim.x, 2, HEADS)
    float* __restrict__ part,  // (gridDim.x, 2, HEADS, D)
    int B,
    int G,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ uint4 dynamic[];
  Shared& shared = *reinterpret_cast<Shared*>(dynamic);
  State s;
  for (Walk walk(lengths, B, S, G * BLOCKS); walk.left > 0; walk.advance()) {
    const Rows rows(walk.row);
    const size_t out = (static_cast<size_t>(walk.b) * G * R + rows.head) * D;
    const Cache cache(k, v, static_cast<size_t>(walk.b) * G + rows.g, S);
    const int end = min(walk.length, (walk.tile + walk.taken()) * TILE);
    absorb_row(s, shared, cache, q + out, rows.heads, walk.length, walk.tile * TILE, end, scale_log2e);
    const size_t slot = claim(span, walk) * HEADS;
    write_rows(o + out, ml + slot, part + slot * D, shared, s, rows.heads, walk.taken() == walk.tiles);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_runs(
    const int* __restrict__ lengths,  // (B,)
    const int2* __restrict__ span,  // (B, G * BLOCKS)
    const float2* __restrict__ ml,  // (blocks, 2, HEADS)
    const float* __restrict__ part,  // (blocks, 2, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int S) {
  merge_cut_rows(lengths, span, ml, part, o, G, S);
}
