// v7_matrices: whole steps of codes in shared memory, from where ldmatrix deals them out as operands of mma.sync.
//
// A warp owns a group of K_GROUP tokens at a time, STEP of them at once; a block owns up to 8 query heads that share a
// key/value head, over one of `splits` equal shares of the tokens. Shared memory: a step a warp. matrices.cuh has what
// is done with a step.
// Differs from v6_mma: no code is loaded by the lane that multiplies it, and one or two instructions make it a number.
//
// Constants, by -D: those of matrices.cuh; RESIDENT blocks that a multiprocessor is to hold; SHARED_BYTES.

#include "matrices.cuh"

struct Shared {
  Queries queries;
  union {
    Step step[WARPS];
    States states;  // when the steps have been multiplied
  };
};

static_assert(sizeof(Shared) == SHARED_BYTES, "the launcher asks for this much");

// Absorb the codes of the tokens begin .. end - 1, begin the first of a group, the block's warps taking groups in turn.
__device__ void absorb_codes(
    Rescaled& s,
    const Queries& queries,
    Step& step,
    const Cache& cache,
    float scale_log2e,
    int begin,
    int end) {
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
  const Rows rows(blockIdx.y);
  const int b = blockIdx.z, row = b * G * R + rows.head;  // the first of the block's rows of q and o
  const int length = lengths[b], tiles = (length + TILE - 1) / TILE, warp = threadIdx.x / 32;
  const int share = (tiles + gridDim.x - 1) / gridDim.x * TILE, begin = blockIdx.x * share;
  const int end = min(length, begin + share);
  const Cache all = {k_codes, k_scales, k_minima, k_recent, v_codes, v_scales, v_minima, v_recent, quantized};
  const Cache cache = all.of(b * G + rows.g, S);
  Rescaled s = {{minus_infinity(), minus_infinity()}};
  load_queries(shared->queries, q + static_cast<size_t>(row) * D, rows.heads);
  absorb_codes(s, shared->queries, shared->step[warp], cache, scale_log2e, begin, min(end, quantized));
  settle(s);
  for (int first = max(begin, quantized) + 16 * warp; first < end; first += 16 * WARPS)
    absorb_recent(s, shared->queries, cache, scale_log2e, first, end);
  __syncthreads();  // every warp is done with its step, whose place the states take
  gather(shared->states, s);
  const size_t slot = (b * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  if (gridDim.x == 1) write_output(o + static_cast<size_t>(row) * D, shared->states, rows.heads);
  else write_partial(ml + slot * HEADS, part + slot * HEADS * D, shared->states, rows.heads);
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_splits(
    const float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS)
    const float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int splits) {
  merge_parts(ml, part, o, G, splits);
}
