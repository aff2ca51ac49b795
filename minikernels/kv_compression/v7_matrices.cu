// v7_matrices: whole steps of codes in shared memory, from where ldmatrix deals them out as operands of mma.sync.
//
// A warp owns a group of K_GROUP tokens at a time, STEP of them at once; a block owns up to 8 query heads that share a
// key/value head, over one of `splits` equal shares of the tokens. Shared memory: a step a warp. matrices.cuh has what
// is done with a step.
// Differs from v6_mma: no code is loaded by the lane that multiplies it, and one or two instructions make it a number.
//
// Constants, by -D: those of matrices.cuh; RESIDENT blocks that a multiprocessor is to hold; SHARED_BYTES.

#include "matrices.cuh"

using Shared = SharedOf<1>;

static_assert(sizeof(Shared) == SHARED_BYTES, "the launcher asks for this much");

// Absorb the codes of the tokens begin .. end - 1, begin the first of a group, the block's warps taking groups in turn.
__device__ void absorb_codes(
    Rescaled& s,
    const Queries& queries,
    Step (&ring)[1],
    const Cache& cache,
    float scale_log2e,
    int begin,
    int end) {
  Step& step = ring[0];
  const Source source(cache);
  Fragment scaled;
  float start[2];
  for (int first = begin + threadIdx.x / 32 * K_GROUP; first < end; first = after(first)) {
    start_copies(step, source, first);
    cp_async_commit();
    cp_async_wait<0>();
    __syncwarp();  // every lane's copies have arrived before any lane reads them
    if (first % K_GROUP == 0) fold(scaled, start, queries, step);
    absorb_step(s, scaled, start, step, scale_log2e, end - first);
    __syncwarp();  // every lane has read the step before new copies overwrite it
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v7_matrices(
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
    element* __restrict__ o,  // (B, H, D), written where there is one share
    float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS), written where there are several
    float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    int G,
    int S,
    int quantized,  // N
    float scale_log2e) {
  extern __shared__ Shared shared[];
  const Cache all = {k_codes, k_scales, k_minima, k_recent, v_codes, v_scales, v_minima, v_recent, quantized};
  attend<absorb_codes>(*shared, q, all, lengths, o, ml, part, G, S, scale_log2e);
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_splits(
    const float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS)
    const float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int splits) {
  merge_parts(ml, part, o, G, splits);
}
