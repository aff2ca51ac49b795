// v4_split_along_time: the tokens of a head cut into segments, one block each; three kernels.
//
// The state after a segment is affine in the state before it, left * S + local, and such maps compose: the first kernel
// computes left and local of every segment but the last, from k, v and gates alone; the second carries the state
// through all segments of a head; the third is v3_mma_chunk on every segment, begun with its state.
// Differs from v3_mma_chunk: as many blocks as fill the GPU, however few heads there are, for k and v read twice.

#include "walk.cuh"

// The segment's tokens of a head's arrays, from token first on; q and o may be null.
__device__ Part segment_of(
    const __half* q,
    const __half* k,
    const __half* v,
    const gate_t* gate,
    __half* o,
    float decay,
    size_t head,
    int T,
    int first,
    int tokens,
    float scale,
    float shrink) {
  const size_t at = (head * T + first) * D;  // [b, h, first, 0]
  const int held = min(tokens, T - first);
  return {q ? q + at : q, k + at, v + at, GATED ? gate + at : gate, o ? o + at : o, held, log2f(decay), scale, shrink};
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) local_states(
    const __half* __restrict__ k,  // (B, H, T, D)
    const __half* __restrict__ v,  // (B, H, T, D)
    const float* __restrict__ decay,  // (H)
    const gate_t* __restrict__ gate,  // (B, H, T, D), logarithms; not read where GATE_BYTES is 0
    float* __restrict__ states,  // (B, H, segments, D, D): a segment's own state, from zeros
    float* __restrict__ lefts,  // (B, H, segments, D): what a segment leaves of each channel
    const int* __restrict__ wanted,  // (B, H, segments - 1): whether to do a segment; null for all
    int H,
    int T,
    int segments,
    int tokens,  // of a segment, whole tiles
    float shrink) {
  if (wanted && !wanted[blockIdx.x]) return;
  extern __shared__ __align__(16) unsigned char smem[];
  const size_t head = blockIdx.x / (segments - 1);
  const int segment = blockIdx.x % (segments - 1);
  const size_t row = head * segments + segment;
  const Part part =
      segment_of(nullptr, k, v, gate, nullptr, decay[head % H], head, T, segment * tokens, tokens, 1.0f, shrink);
  State state = {};
  float left = 1.0f;
  walk<false>(state, left, part, smem);
  if (!GATED) left = exp2f(part.tokens * part.log2_decay);
  store_state(states + row * D * D, state, shrink);
  if (threadIdx.x < D) lefts[row * D + threadIdx.x] = left;
}

constexpr int FETCHED = 8;  // segments whose numbers are under way together

// Put the state before each segment in the place of its own; a thread carries one number through a head's segments.
extern "C" __global__ void carry_states(
    float* __restrict__ states,  // (B, H, segments, D, D)
    const float* __restrict__ lefts,  // (B, H, segments, D)
    const float* __restrict__ initial_state,  // (B, H, D, D), or null
    int segments) {
  const size_t head = blockIdx.x;
  const int cell = blockIdx.y * blockDim.x + threadIdx.x;
  if (cell >= D * D) return;
  float carried = initial_state ? initial_state[head * D * D + cell] : 0.0f;
  for (int first = 0; first < segments; first += FETCHED) {
    float own[FETCHED], left[FETCHED];
#pragma unroll
    for (int i = 0; i < FETCHED; i++) {
      const size_t row = head * segments + first + i;
      const bool there = first + i < segments - 1;  // the last segment has no state of its own
      own[i] = there ? states[row * D * D + cell] : 0.0f;
      left[i] = there ? lefts[row * D + cell / D] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < FETCHED; i++) {
      if (first + i < segments) states[(head * segments + first + i) * D * D + cell] = carried;
      carried = left[i] * carried + own[i];
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) v4_split_along_time(
    const __half* __restrict__ q,  // (B, H, T, D)
    const __half* __restrict__ k,  // (B, H, T, D)
    const __half* __restrict__ v,  // (B, H, T, D)
    const float* __restrict__ decay,  // (H)
    const gate_t* __restrict__ gate,  // (B, H, T, D), logarithms; not read where GATE_BYTES is 0
    const float* __restrict__ states,  // (B, H, segments, D, D): the state before each segment; null for zeros
    __half* __restrict__ o,  // (B, H, T, D)
    float* __restrict__ last_state,  // (B, H, D, D), or null
    const int* __restrict__ wanted,  // (B, H, segments): whether to do a segment; null for all
    int H,
    int T,
    int segments,
    int tokens,  // of a segment, whole tiles
    float scale,
    float shrink) {
  if (wanted && !wanted[blockIdx.x]) return;
  extern __shared__ __align__(16) unsigned char smem[];
  const size_t head = blockIdx.x / segments;
  const int segment = blockIdx.x % segments;
  const Part part = segment_of(q, k, v, gate, o, decay[head % H], head, T, segment * tokens, tokens, scale, shrink);
  State state = {};
  float left = 1.0f;
  if (states) load_state(state, states + static_cast<size_t>(blockIdx.x) * D * D, shrink);
  walk<true>(state, left, part, smem);
  if (last_state && segment == segments - 1) store_state(last_state + head * D * D, state, shrink);
}
