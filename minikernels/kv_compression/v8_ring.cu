// v8_ring: steps of tokens copied into a ring of shared memory, STAGES - 1 of them on their way at any time.
//
// A warp owns a group of K_GROUP tokens at a time, STEP of them at once, and a ring that no other warp touches; a block
// owns what one of v7_matrices does. Shared memory: WARPS * STAGES steps.
// Differs from v7_matrices: the copies of later steps are under way while one is multiplied.
//
// Constants, by -D: those of matrices.cuh; STAGES; RESIDENT; SHARED_BYTES.

#include "matrices.cuh"

static_assert(STAGES >= 2, "one step is multiplied while another is on its way");

using Shared = SharedOf<STAGES>;

static_assert(sizeof(Shared) == SHARED_BYTES, "the launcher asks for this much");

// Absorb the codes of the tokens begin .. end - 1, begin the first of a group.
__device__ void absorb_codes(
    Rescaled& s,
    const Queries& queries,
    Step (&ring)[STAGES],
    const Cache& cache,
    float scale_log2e,
    int begin,
    int end) {
  const Source source(cache);
  int first = begin + threadIdx.x / 32 * K_GROUP, next = first, stage = 0;  // next: the first token to copy
  Fragment scaled;
  float start[2];
  const auto copy_next = [&](int into) {
    if (next < end) start_copies(ring[into], source, next);
    cp_async_commit();  // a group even where nothing is copied: they are counted
    next = after(next);
  };
  for (int n = 0; n < STAGES - 1; n++) copy_next(n);
  for (; first < end; first = after(first)) {
    copy_next((stage + STAGES - 1) % STAGES);  // into the step that was multiplied last
    cp_async_wait<STAGES - 1>();
    __syncwarp();  // every lane's copies have arrived before any lane reads them
    if (first % K_GROUP == 0) fold(scaled, start, queries, ring[stage]);
    absorb_step(s, scaled, start, ring[stage], scale_log2e, end - first);
    stage = (stage + 1) % STAGES;
    __syncwarp();  // every lane has read the step before new copies overwrite it
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v8_ring(
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
