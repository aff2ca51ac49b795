// v7_mma_group: the query heads of a group as the columns of mma.sync, keys on their way while others are multiplied.
//
// A block owns up to 32 query heads that share a key/value head, and one of gridDim.x equal shares of their keys.
// launch/group_decode.cuh has what it does with them, and launch/group.cuh the constants.
// Differs from v5_split_kv: products on the tensor cores, so that a key costs the same for 1 to 8 heads and is read
// once for 32 of them; keys come by cp.async, in a ring in shared memory, where they take no registers. The last block
// of a row merges its states, so that no second kernel has to start.

#include "cache.cuh"
#include "launch/group_decode.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v7_mma_group(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k,  // (B, G, S, D)
    const element* __restrict__ v,
    const int* __restrict__ lengths,  // (B,), or null: all S keys of every sequence
    element* __restrict__ o,  // (B, H, D)
    float2* ml,  // (B, G * BLOCKS, shares, HEADS), written where there is more than one
    float* part,  // (B, G * BLOCKS, shares, HEADS, D)
    int* arrived,  // (B, G * BLOCKS): 0 before and after
    int G,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  decode(q, o, ml, part, arrived, Store{k, v, G, S}, OneShare(keys_of(lengths, blockIdx.z, S)), scale_log2e);
}
