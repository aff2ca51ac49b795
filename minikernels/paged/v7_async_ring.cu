// v7_async_ring: K and V are on their way to shared memory, by cp.async, while others are multiplied.
//
// A block owns up to 32 query heads that share a key/value head, and one of gridDim.x equal shares of their keys.
// launch/group_decode.cuh has what it does with them, and launch/group.cuh the constants.
// Differs from v6_mma_group: keys that are on their way take room in a ring in shared memory, not in registers, and
// their number does not depend on the heads; a warp never stops asking for keys while it multiplies.

#include "cache.cuh"
#include "launch/group_decode.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v7_async_ring(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k_pages,  // (pages, P, G, D)
    const element* __restrict__ v_pages,
    const int* __restrict__ page_table,  // (B, max_pages)
    const int* __restrict__ lengths,  // (B,)
    element* __restrict__ o,  // (B, H, D)
    float2* ml,  // (B, G * BLOCKS, shares, HEADS), written where there is more than one
    float* part,  // (B, G * BLOCKS, shares, HEADS, D)
    int* arrived,  // (B, G * BLOCKS): 0 before and after
    int G,
    int max_pages,
    int pages,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  const Store store = {k_pages, v_pages, page_table, G, max_pages, pages};
  decode(q, o, ml, part, arrived, store, OneShare(checked(lengths[blockIdx.z], max_pages * P)), scale_log2e);
}
