// v8_stream_k: one list of the key tiles of all sequences, of which every block takes an equal run (LeanAttention).
//
// launch/group.cuh has how a block absorbs keys, launch/stream_k.cuh which ones.
// Differs from v7_async_ring: as many blocks as the GPU holds, each with an equal run of tiles, whatever the lengths:
// none starts late, and none waits for the one that got the longest sequence.

#include "cache.cuh"
#include "launch/group.cuh"
#include "launch/stream_k.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v8_stream_k(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k_pages,  // (pages, P, G, D)
    const element* __restrict__ v_pages,
    const int* __restrict__ page_table,  // (B, max_pages)
    const int* __restrict__ lengths,  // (B,)
    element* __restrict__ o,  // (B, H, D)
    int2* __restrict__ span,  // (B, G * BLOCKS): blocks that have a row's first tile and its last
    float2* __restrict__ ml,  // (gridDim.x, 2, HEADS)
    float* __restrict__ part,  // (gridDim.x, 2, HEADS, D)
    int places,
    int B,
    int G,
    int max_pages,
    int pages,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  const Store store = {k_pages, v_pages, page_table, G, max_pages, pages};
  decode(q, o, ml, part, store, Walk(lengths, span, B, G * BLOCKS, max_pages * P, places), scale_log2e);
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_runs(
    const int* __restrict__ lengths,  // (B,)
    const int2* __restrict__ span,  // (B, G * BLOCKS)
    const float2* __restrict__ ml,  // (blocks, 2, HEADS)
    const float* __restrict__ part,  // (blocks, 2, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int max_pages) {
  merge_cut_rows(lengths, span, ml, part, o, G, max_pages * P);
}
