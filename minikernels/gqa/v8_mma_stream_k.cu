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
    int places,
    int B,
    int G,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  decode(q, o, ml, part, Store{k, v, G, S}, Walk(lengths, span, B, G * BLOCKS, S, places), scale_log2e);
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
