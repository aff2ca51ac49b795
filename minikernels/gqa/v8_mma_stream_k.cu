// v8_mma_stream_k: tensor cores and a pipeline over one list of all key tiles, cut into equal runs.
//
// launch/group.cuh has how a block absorbs keys, launch/stream_k.cuh which ones.
// Differs from v7_mma_group: the schedule of v6_stream_k. As many blocks as the GPU holds, each with an equal run of
// tiles, whatever the lengths: none starts late, and none waits for the one that got the longest sequence.

#include "cache.cuh"
#include "launch/group_decode.cuh"
#include "launch/stream_k.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v8_mma_stream_k(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k,  // (B, G, S, D)
    const element* __restrict__ v,
    const int* __restrict__ lengths,  // (B,), or null: all S keys of every sequence
    element* __restrict__ o,  // (B, H, D)
    float2* ml,  // (gridDim.x, 2, HEADS)
    float* part,  // (gridDim.x, 2, HEADS, D)
    int* arrived,  // (B, G * BLOCKS): 0 before and after
    int B,
    int G,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  const Store store = {k, v, G, S};
  decode(q, o, ml, part, arrived, store, Walk(lengths, B, G * BLOCKS, S), scale_log2e);
  write_empty(o, lengths, B, G * R, S);  // last, or its loads would be waited for first
}
