// v8_stream_k: one list of the key tiles of all sequences, of which every block takes an equal run (LeanAttention).
//
// launch/group.cuh has how a block absorbs keys, launch/stream_k.cuh which ones.
// Differs from v7_async_ring: as many blocks as the GPU holds, each with an equal run of tiles, whatever the lengths:
// none starts late, and none waits for the one that got the longest sequence.

#include "cache.cuh"
#include "launch/group_decode.cuh"
#include "launch/stream_k.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v8_stream_k(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k_pages,  // (pages, P, G, D)
    const element* __restrict__ v_pages,
    const int* __restrict__ page_table,  // (B, max_pages)
    const int* __restrict__ lengths,  // (B,)
    element* __restrict__ o,  // (B, H, D)
    float2* ml,  // (gridDim.x, 2, HEADS)
    float* part,  // (gridDim.x, 2, HEADS, D)
    int* arrived,  // (B, G * BLOCKS): 0 before and after
    int B,
    int G,
    int max_pages,
    int pages,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  const Store store = {k_pages, v_pages, page_table, G, max_pages, pages};
  decode(q, o, ml, part, arrived, store, Walk(lengths, B, G * BLOCKS, max_pages * P), scale_log2e);
  write_empty(o, lengths, B, G * R, max_pages * P);  // last, or its loads would be waited for first
}
