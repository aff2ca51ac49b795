// v5_wgmma: linear attention by wgmma, chunks of 64 tokens that the tensor memory accelerator copies, teams of warps.
//
// A block owns a segment of a head, as in v4, and has a team of scorers and a team of keepers for every 64 value
// columns: see teams.cuh. A chunk's products are begun together and its state is rounded once, not once for 16 tokens.
// Differs from v4_split_along_time: wgmma and chunks of 64 instead of mma and steps of 16; scores run ahead of the
// state, on warps of their own; one thread has whole panels copied. Decays only: gates need factors for every channel.

#include "teams.cuh"

static_assert(sizeof(Shared) + ALIGNMENT <= SHARED_BYTES, "wherever the first multiple of ALIGNMENT is");

struct Fade {  // of a chunk of `held` tokens
  float state;  // what the chunk leaves of the state
  float row[2];  // what is left of the state at the lane's first two tokens of o, times the factor on outputs
  float row_step;  // from there to the tokens 8 further on
  float token[CHUNK / 16][4];  // what is left at the chunk's end of the lane's tokens of v, times shrink
};

__device__ Fade fade_of(const Part& part, int held, int lane) {
  Fade fade;
  const int own = lane % 4 * 2;
  fade.state = exp2f(held * part.log2_decay);
  fade.row_step = exp2f(8 * part.log2_decay);
  for (int e = 0; e < 2; e++) fade.row[e] = part.scale / part.shrink * exp2f((own + e + 1) * part.log2_decay);
  for (int c = 0; c < CHUNK / 16; c++)
    for (int i = 0; i < 4; i++) {
      const int after = max(0, held - 1 - (16 * c + own + i % 2 + i / 2 * 8));  // tokens of the chunk that follow
      fade.token[c][i] = part.shrink * exp2f(after * part.log2_decay);
    }
  return fade;
}

// The scorers: copies, and scores, faded and scaled.
__device__ void score(Shared& shared, const Maps& maps, const Part& part) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = 16 * warp + lane / 4, column = lane % 4 * 2;
  float fade[8][4], sum[8][4];  // fade: of key 8 i + column + e % 2 at query row + e / 2 * 8, the same in every chunk
  for (int i = 0; i < 8; i++)
    for (int e = 0; e < 4; e++)
      fade[i][e] = part.scale * exp2f(max(0, row + e / 2 * 8 - (8 * i + column + e % 2)) * part.log2_decay);
  if (threadIdx.x == 0)
    for (int n = 0; n < min(AHEAD, part.chunks()); n++) load_chunk<true>(shared, maps, part, n);
  for (int n = 0; n < part.chunks(); n++) {
    if (n >= 2) barrier_wait(&shared.absorbed[stage_of(n - 2)], phase_of(n - 2));  // its stage and scores are free
    if (threadIdx.x == 0 && n + AHEAD < part.chunks()) load_chunk<true>(shared, maps, part, n + AHEAD);
    barrier_wait(&shared.landed[stage_of(n)], phase_of(n));
    multiply_queries(sum, shared, n);
#pragma unroll
    for (int i = 0; i < 8; i++)
      for (int e = 0; e < 4; e++)
        sum[i][e] = 8 * i + column + e % 2 <= row + e / 2 * 8 ? sum[i][e] * fade[i][e] : 0.0f;
    store_scores(shared.score[n % 2], sum, warp, lane);
    barrier_arrive(&shared.scored[n % 2]);
  }
}

// V^T of a chunk as a left operand: the team's columns, each token faded to the chunk's end.
__device__ void faded_values(unsigned (&left)[CHUNK / 16][4], const __half* v, const Fade& fade, int lane) {
  const int warp = threadIdx.x / 32 % 4;
#pragma unroll
  for (int c = 0; c < CHUNK / 16; c++) {
    ldmatrix_x4_trans(left[c], v + swizzled(16 * c + lane % 8 + lane / 16 * 8, 2 * warp + lane / 8 % 2));
    for (int i = 0; i < 4; i++) {
      const float2 pair = __half22float2(reinterpret_cast<const __half2&>(left[c][i]));
      left[c][i] = pack(pair.x * fade.token[c][i / 2 * 2], pair.y * fade.token[c][i / 2 * 2 + 1]);
    }
  }
}

__device__ void fade_rows(float (&o)[8][4], const Fade& fade) {
  float row[2] = {fade.row[0], fade.row[1]};
#pragma unroll
  for (int i = 0; i < 8; i++) {
    for (int e = 0; e < 4; e++) o[i][e] *= row[e % 2];
    for (int e = 0; e < 2; e++) row[e] *= fade.row_step;
  }
}

// The keepers: outputs, and the state.
template <bool OUTPUT>
__device__ void keep(State& state, Shared& shared, const Maps& maps, const Part& part) {
  const int team = threadIdx.x / TEAM - 1, lane = threadIdx.x % 32;
  Fade fade = fade_of(part, CHUNK, lane);
  for (int n = 0; n < part.chunks(); n++) {
    if (part.tokens - n * CHUNK < CHUNK) fade = fade_of(part, part.tokens - n * CHUNK, lane);
    float o[8][4];
    unsigned left[STEPS][4], faded[CHUNK / 16][4];
    if (OUTPUT) round_state(left, state);
    barrier_wait(&shared.landed[stage_of(n)], phase_of(n));
    if (OUTPUT) {
      multiply_state(o, left, shared, n);
      wgmma_commit();
    }
#pragma unroll
    for (int i = 0; i < WIDTH / 8; i++)  // meanwhile
      for (int e = 0; e < 4; e++) state[i][e] *= fade.state;
    faded_values(faded, shared.v[stage_of(n)][team], fade, lane);
    if (OUTPUT) {
      wgmma_wait<0>();
      fade_rows(o, fade);
      barrier_wait(&shared.scored[n % 2], n / 2 % 2);
      multiply_scores(o, shared, n, team);
      wgmma_commit();
    }
    wgmma_fence();
#pragma unroll
    for (int c = 0; c < CHUNK / 16; c++)
      wgmma<BY_COLUMNS>(flat(state), faded[c], tokens_of(shared.k[stage_of(n)][0], c), true);
    wgmma_commit();
    if (OUTPUT) {
      wgmma_wait<1>();  // o is there, while the state is being summed
      store_outputs(shared, o, maps, part, n);
    }
    wgmma_wait<0>();
    release_chunk(shared, n);
  }
  if (OUTPUT && threadIdx.x % TEAM == 0) tma_store_wait<0>();  // the block's shared memory outlives its last copy
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) v5_wgmma(
    const __grid_constant__ TensorMap q,  // (B * H, T, D), panels of 64 tokens and 64 channels, as k, v and o
    const __grid_constant__ TensorMap k,
    const __grid_constant__ TensorMap v,
    const __grid_constant__ TensorMap o,
    const float* __restrict__ decay,  // (H)
    const float* __restrict__ states,  // (B, H, segments, D, D): the state before each segment; null for zeros
    float* __restrict__ last_state,  // (B, H, D, D), or null
    int H,
    int T,
    int segments,
    int segment_tokens,  // whole chunks
    float scale,
    float shrink) {
  extern __shared__ unsigned char smem[];
  Shared& shared = placed<Shared>(smem);
  if (threadIdx.x == 0) make_barriers(shared);
  __syncthreads();  // the barriers are made before any thread waits on one
  const Maps maps = {&q, &k, &v, &o};
  const int head = blockIdx.x / segments, segment = blockIdx.x % segments, first = segment * segment_tokens;
  const Part part = {head, first, min(segment_tokens, T - first), log2f(decay[head % H]), scale, shrink};
  if (threadIdx.x < TEAM) {
    registers_keep<SCORER_REGISTERS>();
    score(shared, maps, part);
  } else {
    registers_take<KEEPER_REGISTERS>();
    State state = {};
    if (states) load_state(state, states + static_cast<size_t>(blockIdx.x) * D * D, shrink);
    keep<true>(state, shared, maps, part);
    if (last_state && segment == segments - 1)
      store_state(last_state + static_cast<size_t>(head) * D * D, state, shrink);
  }
}

// As in v4: every segment's own state, but for the last segment of a head.
extern "C" __global__ void __launch_bounds__(THREADS, 1) local_states(
    const __grid_constant__ TensorMap k,
    const __grid_constant__ TensorMap v,
    const float* __restrict__ decay,  // (H)
    float* __restrict__ states,  // (B, H, segments, D, D): a segment's own state, from zeros
    float* __restrict__ lefts,  // (B, H, segments, D): what a segment leaves of each channel
    int H,
    int segments,
    int segment_tokens,
    float shrink) {
  extern __shared__ unsigned char smem[];
  Shared& shared = placed<Shared>(smem);
  if (threadIdx.x == 0) make_barriers(shared);
  __syncthreads();  // the barriers are made before any thread waits on one
  const Maps maps = {nullptr, &k, &v, nullptr};
  const int head = blockIdx.x / (segments - 1), segment = blockIdx.x % (segments - 1);
  const size_t row = static_cast<size_t>(head) * segments + segment;
  const Part part = {head, segment * segment_tokens, segment_tokens, log2f(decay[head % H]), 1.0f, shrink};
  if (threadIdx.x < TEAM) {
    registers_keep<SCORER_REGISTERS>();
    load_ahead(shared, maps, part);
    if (threadIdx.x < D) lefts[row * D + threadIdx.x] = exp2f(part.tokens * part.log2_decay);
  } else {
    registers_take<KEEPER_REGISTERS>();
    State state = {};
    keep<false>(state, shared, maps, part);
    store_state(states + row * D * D, state, shrink);
  }
}
