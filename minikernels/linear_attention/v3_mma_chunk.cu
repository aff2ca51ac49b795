// v3_mma_chunk: linear attention on the tensor cores, by mma.sync m16n8k16, one block a head.
//
// A block owns head h of sequence b and walks over its tokens; a warp owns 16 value columns of the state, of v and of
// o. q, k, v and the gates cross HBM once, tile by tile through shared memory by cp.async, and o once.
// Differs from v2_chunk: products on the tensor cores in float16 with float32 sums; the state is an operand straight
// from the registers it is summed in; tiles are on their way while one is worked on.

#include "walk.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 1) v3_mma_chunk(
    const __half* __restrict__ q,  // (B, H, T, D)
    const __half* __restrict__ k,  // (B, H, T, D)
    const __half* __restrict__ v,  // (B, H, T, D)
    const float* __restrict__ decay,  // (H)
    const gate_t* __restrict__ gate,  // (B, H, T, D), logarithms; not read where GATE_BYTES is 0
    const float* __restrict__ initial_state,  // (B, H, D, D), or null
    __half* __restrict__ o,  // (B, H, T, D)
    float* __restrict__ last_state,  // (B, H, D, D), or null
    int H,
    int T,
    float scale,
    float shrink) {  // a power of two
  extern __shared__ __align__(16) unsigned char smem[];
  const size_t head = blockIdx.x, at = head * T * D;  // [b, h] and [b, h, 0, 0]
  const float log2_decay = log2f(decay[head % H]);
  const Part part = {q + at, k + at, v + at, GATED ? gate + at : gate, o + at, T, log2_decay, scale, shrink};
  State state = {};
  float left = 1.0f;
  if (initial_state) load_state(state, initial_state + head * D * D, shrink);
  walk<true>(state, left, part, smem);
  if (last_state) store_state(last_state + head * D * D, state, shrink);
}
