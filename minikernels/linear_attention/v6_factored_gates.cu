// v6_factored_gates: linear attention with gates by wgmma: a chunk's gates are taken apart at its middle.
//
// From key s to query t a channel keeps e^(b_t - b_s), b the running sum of log-gates. With r the sum up to the chunk's
// middle that is e^(b_t - r) e^(r - b_s): one factor for the query, one for the key, and no pair of tokens needs its
// own. The scorers multiply Q and K by them, in place; scores and outputs are then plain products, and the state meets
// the factors of its channels twice a chunk: up to the middle, and from there to the end.
// One factor of a pair is above 1, so strong gates could leave float16. A half of a chunk whose gates leave less than
// 2^-REACH, or a number that grows past what float16 holds, is refused: the scorers say so, and v4_split_along_time,
// which multiplies gate by gate, does the whole segment again.
// Differs from v5_wgmma: the scorers fade Q and K by gates; the keepers fade channels of the state, not tokens of V.
//
// Constants, beside those of teams.cuh: GATE_BYTES 2 (float16) or 4 (float32).

#include "launch/exp2.cuh"
#include "teams.cuh"

constexpr int GATE_STAGES = 4 / GATE_BYTES;  // chunks of gates in shared memory
constexpr int HALF = CHUNK / 2;
constexpr int ROWS = 8;  // tokens that a scorer has in registers together
constexpr float LOG2E = 1.44269504f, LARGEST = 65000.0f, REACH = 8.0f;

static_assert(WIDTH <= TEAM, "two scorers have two channels, one the early tokens of a chunk, one the late ones");
static_assert(HALF % ROWS == 0, "a half is whole groups of rows");

struct GatedShared : Shared {
  alignas(128) unsigned char gate[GATE_STAGES][CHUNK][WIDTH * GATE_BYTES];
  float before[2][WIDTH], after[2][WIDTH];  // what the halves of two chunks leave of each channel
  Barrier gates_landed[GATE_STAGES];
};

static_assert(sizeof(GatedShared) + ALIGNMENT <= SHARED_BYTES, "wherever the first multiple of ALIGNMENT is");

struct Faded {  // what one thread has found out of its two channels in the halves of chunks that it does
  float2 sum;  // of log2 of all that is left
  bool refused;
};

__device__ float2 gates_of(const unsigned char* row, int pair) {
  if constexpr (GATE_BYTES == 4) return reinterpret_cast<const float2*>(row)[pair];
  return __half22float2(reinterpret_cast<const __half2*>(row)[pair]);
}

__device__ void load_gates(GatedShared& shared, const TensorMap* gate, const Part& part, int n) {
  Barrier* landed = &shared.gates_landed[n % GATE_STAGES];
  barrier_expect(landed, CHUNK * WIDTH * GATE_BYTES);
  tma_load(shared.gate[n % GATE_STAGES], *gate, landed, 0, part.first + n * CHUNK, part.head);
}

// Multiply two channels of a token, in shared memory, and return the larger magnitude.
__device__ float fade_pair(unsigned* at, unsigned given, float2 factor) {
  const float2 x = __half22float2(reinterpret_cast<const __half2&>(given));
  const float2 faded = {x.x * factor.x, x.y * factor.y};
  *at = pack(faded.x, faded.y);
  return fmaxf(fabsf(faded.x), fabsf(faded.y));
}

// Fade half a chunk of Q and K from and to the chunk's middle, two channels a thread, walking away from the middle.
template <bool OUTPUT>
__device__ void fade_half(GatedShared& shared, Faded& found, const Part& part, int n) {
  const int pair = threadIdx.x % (WIDTH / 2), late = threadIdx.x / (WIDTH / 2), stage = stage_of(n);
  const int held = part.tokens - n * CHUNK, column = pair % 32;
  float2 x = {0.0f, 0.0f};  // log2 of what is left from the middle to the token; negative of it where it is earlier
  float largest = 0.0f;
  for (int i = 0; i < HALF; i += ROWS) {
    float2 gate[ROWS];
    unsigned* at[2][ROWS];
    unsigned given[2][ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const int t = late ? HALF + i + r : HALF - 1 - i - r, place = swizzled(t, column / 4) + column % 4 * 2;
      const float2 g = gates_of(shared.gate[n % GATE_STAGES][t], pair);
      gate[r] = {g.x * LOG2E + part.log2_decay, g.y * LOG2E + part.log2_decay};
      if (t >= held) gate[r] = {0.0f, 0.0f};  // no token, nothing fades
      at[0][r] = reinterpret_cast<unsigned*>(shared.q[stage][pair / 32] + place);
      at[1][r] = reinterpret_cast<unsigned*>(shared.k[stage][pair / 32] + place);
      for (int m = OUTPUT ? 0 : 1; m < 2; m++) given[m][r] = *at[m][r];
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      if (late) x = {x.x + gate[r].x, x.y + gate[r].y};
      if (OUTPUT)
        largest = fmaxf(largest, fade_pair(at[0][r], given[0][r], {exp2_approx(x.x), exp2_approx(x.y)}));
      const float2 key = {part.shrink * exp2_approx(-x.x), part.shrink * exp2_approx(-x.y)};
      largest = fmaxf(largest, fade_pair(at[1][r], given[1][r], key));
      if (!late) x = {x.x - gate[r].x, x.y - gate[r].y};
    }
  }
  const float2 left = late ? x : float2{-x.x, -x.y};
  *reinterpret_cast<float2*>((late ? shared.after : shared.before)[n % 2] + 2 * pair) =
      {exp2_approx(left.x), exp2_approx(left.y)};
  found.sum = {found.sum.x + left.x, found.sum.y + left.y};
  found.refused |= !(largest <= LARGEST && fminf(left.x, left.y) >= -REACH);
}

// The scorers: copies, faded Q and K and, with outputs, scores, times shrink.
template <bool OUTPUT>
__device__ Faded score(GatedShared& shared, const Maps& maps, const TensorMap* gate, const Part& part) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = 16 * warp + lane / 4, column = lane % 4 * 2;
  Faded found = {};
  if (threadIdx.x == 0) {
    for (int n = 0; n < min(GATE_STAGES, part.chunks()); n++) load_gates(shared, gate, part, n);
    for (int n = 0; n < min(AHEAD, part.chunks()); n++) load_chunk<OUTPUT>(shared, maps, part, n);
  }
  for (int n = 0; n < part.chunks(); n++) {
    if (n >= 2) barrier_wait(&shared.absorbed[stage_of(n - 2)], phase_of(n - 2));  // what they share in turn is free
    if (threadIdx.x == 0 && n + AHEAD < part.chunks()) load_chunk<OUTPUT>(shared, maps, part, n + AHEAD);
    barrier_wait(&shared.gates_landed[n % GATE_STAGES], n / GATE_STAGES % 2);
    barrier_wait(&shared.landed[stage_of(n)], phase_of(n));
    if (threadIdx.x < WIDTH) fade_half<OUTPUT>(shared, found, part, n);
    fence_async();
    named_sync(1 + PANELS, TEAM);  // Q and K are faded before they are multiplied, and the gates have been read
    if (threadIdx.x == 0 && n + GATE_STAGES < part.chunks()) load_gates(shared, gate, part, n + GATE_STAGES);
    if (OUTPUT) {
      float sum[8][4];
      multiply_queries(sum, shared, n);
#pragma unroll
      for (int i = 0; i < 8; i++)
        for (int e = 0; e < 4; e++) sum[i][e] = 8 * i + column + e % 2 <= row + e / 2 * 8 ? sum[i][e] : 0.0f;
      store_scores(shared.score[n % 2], sum, warp, lane);
    }
    barrier_arrive(&shared.scored[n % 2]);
  }
  return found;
}

// The factors of key channels, for the lane's numbers of the state.
__device__ void fade_state(State& state, const float* channels, int lane) {  // (WIDTH)
#pragma unroll
  for (int i = 0; i < WIDTH / 8; i++) {
    const float2 factor = *reinterpret_cast<const float2*>(channels + 8 * i + lane % 4 * 2);
    for (int e = 0; e < 4; e++) state[i][e] *= e % 2 ? factor.y : factor.x;
  }
}

// The keepers: outputs, and the state.
template <bool OUTPUT>
__device__ void keep(State& state, GatedShared& shared, const Maps& maps, const Part& part) {
  const int team = threadIdx.x / TEAM - 1, lane = threadIdx.x % 32;
  const float factor = part.scale / part.shrink;
  for (int n = 0; n < part.chunks(); n++) {
    float o[8][4];
    unsigned left[STEPS][4];
    barrier_wait(&shared.landed[stage_of(n)], phase_of(n));
    barrier_wait(&shared.scored[n % 2], n / 2 % 2);
    fade_state(state, shared.before[n % 2], lane);
    if (OUTPUT) {
      round_state(left, state);
      multiply_state(o, left, shared, n);
      multiply_scores(o, shared, n, team);
      wgmma_commit();
    }
    wgmma_fence();
#pragma unroll
    for (int c = 0; c < CHUNK / 16; c++)
      wgmma<BY_COLUMNS, BY_COLUMNS>(
          flat(state), tokens_of(shared.v[stage_of(n)][team], c), tokens_of(shared.k[stage_of(n)][0], c), true);
    wgmma_commit();
    if (OUTPUT) {
      wgmma_wait<1>();  // o is there, while the state is being summed
#pragma unroll
      for (int i = 0; i < 8; i++)
        for (int e = 0; e < 4; e++) o[i][e] *= factor;
      store_outputs(shared, o, maps, part, n);
    }
    wgmma_wait<0>();
    fade_state(state, shared.after[n % 2], lane);
    release_chunk(shared, n);
  }
  if (OUTPUT && threadIdx.x % TEAM == 0) tma_store_wait<0>();  // the block's shared memory outlives its last copy
}

// Return the block's shared memory, its barriers ready; and say that nothing is refused so far.
__device__ GatedShared& begun(unsigned char* smem, int* refused) {
  GatedShared& shared = placed<GatedShared>(smem);
  if (threadIdx.x == 0) {
    for (int i = 0; i < GATE_STAGES; i++) barrier_init(&shared.gates_landed[i], 1);
    make_barriers(shared);
    *refused = 0;
  }
  __syncthreads();  // the barriers are made before any thread waits on one, and 0 is written before any 1
  return shared;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) v6_factored_gates(
    const __grid_constant__ TensorMap q,  // (B * H, T, D), panels of 64 tokens and 64 channels, as k, v and o
    const __grid_constant__ TensorMap k,
    const __grid_constant__ TensorMap v,
    const __grid_constant__ TensorMap gate,  // (B * H, T, D), logarithms, boxes of 64 tokens and WIDTH channels
    const __grid_constant__ TensorMap o,
    const float* __restrict__ decay,  // (H)
    const float* __restrict__ states,  // (B, H, segments, D, D): the state before each segment; null for zeros
    float* __restrict__ last_state,  // (B, H, D, D), or null
    int* __restrict__ refused,  // (B, H, segments): whether a segment's outputs are to be computed again
    int H,
    int T,
    int segments,
    int segment_tokens,  // whole chunks
    float scale,
    float shrink) {
  extern __shared__ unsigned char smem[];
  GatedShared& shared = begun(smem, refused + blockIdx.x);
  const Maps maps = {&q, &k, &v, &o};
  const int head = blockIdx.x / segments, segment = blockIdx.x % segments, first = segment * segment_tokens;
  const Part part = {head, first, min(segment_tokens, T - first), log2f(decay[head % H]), scale, shrink};
  if (threadIdx.x < TEAM) {
    registers_keep<SCORER_REGISTERS>();
    if (score<true>(shared, maps, &gate, part).refused) refused[blockIdx.x] = 1;
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
    const __grid_constant__ TensorMap gate,
    const float* __restrict__ decay,  // (H)
    float* __restrict__ states,  // (B, H, segments, D, D): a segment's own state, from zeros
    float* __restrict__ lefts,  // (B, H, segments, D): what a segment leaves of each channel
    int* __restrict__ refused,  // (B, H, segments - 1)
    int H,
    int segments,
    int segment_tokens,
    float shrink) {
  extern __shared__ unsigned char smem[];
  GatedShared& shared = begun(smem, refused + blockIdx.x);
  const Maps maps = {nullptr, &k, &v, nullptr};
  const int head = blockIdx.x / (segments - 1), segment = blockIdx.x % (segments - 1);
  const size_t row = static_cast<size_t>(head) * segments + segment;
  const Part part = {head, segment * segment_tokens, segment_tokens, log2f(decay[head % H]), 1.0f, shrink};
  if (threadIdx.x < TEAM) {
    registers_keep<SCORER_REGISTERS>();
    const Faded found = score<false>(shared, maps, &gate, part);
    if (found.refused) refused[blockIdx.x] = 1;
    const int pair = threadIdx.x % (WIDTH / 2);
    float2* late = reinterpret_cast<float2*>(shared.o);  // free, for there are no outputs
    if (threadIdx.x >= WIDTH / 2 && threadIdx.x < WIDTH) late[pair] = found.sum;
    named_sync(1 + PANELS, TEAM);  // the sums of the late halves are there
    if (threadIdx.x < WIDTH / 2 && 2 * pair < D)
      *reinterpret_cast<float2*>(lefts + row * D + 2 * pair) = {
          exp2f(found.sum.x + late[pair].x), exp2f(found.sum.y + late[pair].y)};
  } else {
    registers_take<KEEPER_REGISTERS>();
    State state = {};
    keep<false>(state, shared, maps, part);
    store_state(states + row * D * D, state, shrink);
  }
}
