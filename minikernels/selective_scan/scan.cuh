// What v5_registers and v6_three_phase share: how a block takes its channels through a run of tokens.
//
// A block owns CHANNELS neighbouring channels of one sequence, LANES threads each; a thread owns PER states of its
// channel, with their rates, in registers. Tokens come in tiles. The threads first stage a tile in shared memory, each
// computing the step sizes of other channels than its own; then every channel goes through it; then the threads that
// read u and z of a token write its outputs. The next tile's loads are under way meanwhile.
//
// Constants, by -D: N states of a channel; ITEM_BYTES 2 (float16) or 4 (float32) of a token's numbers; LANES threads of
// a channel; TOKENS of a tile; VEC neighbouring channels that one load reads, 4 or 1; SOFTPLUS, SKIP (there is a d),
// GATED (there is a z) 0 or 1.

#include "lanes.cuh"

using Elements = Vector<element, VEC>;

constexpr int RESIDENT = LANES < 16 ? 4 : 3;  // blocks of a multiprocessor that registers must leave room for
constexpr int CHANNELS = THREADS / LANES;
constexpr int ROW = CHANNELS / VEC;  // loads of a token's channels
constexpr int ROWS = THREADS / ROW;  // tokens that the block reads with one load a thread
constexpr int STEPS = (TOKENS + ROWS - 1) / ROWS;
constexpr int MIXES = (TOKENS * N + THREADS - 1) / THREADS;  // elements of b, and of c, that a thread stages

static_assert(CHANNELS % VEC == 0 && THREADS % ROW == 0, "a thread must read the same channels of every token");
static_assert(TOKENS % UNROLL == 0, "tiles must be whole steps");

struct Shared {
  float2 step[TOKENS][CHANNELS];  // delta, and delta * u
  float4 b[TOKENS][LANES];
  float4 c[TOKENS][LANES];
  float y[TOKENS][CHANNELS];
};

// What one thread reads of a tile before it is needed.
struct Tile {
  Elements u[STEPS], delta[STEPS], z[STEPS];
  element b[MIXES], c[MIXES];
};

__device__ int top() { return blockIdx.x * CHANNELS; }  // first channel of the block
__device__ int column() { return threadIdx.x % ROW * VEC; }  // first channel, in the block, that the thread reads
__device__ int row(int n) { return threadIdx.x / ROW + n * ROWS; }  // token of the tile that its n-th load is of
__device__ int owned() { return top() + threadIdx.x / LANES; }  // the channel it owns states of

// PTX ISA 9.7.3.20: the logarithm to base 2 by the special-function unit; near 1 its absolute error alone is small.
__device__ float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// log(1 + w) for w in [0, 1/2]: w + w^2 q(w), where q meets the function at the Chebyshev nodes; good to one unit in
// the last place.
__device__ float log1p_small(float w) {
  float q = fmaf(-0.0329058431f, w, 0.0959996283f);
  q = fmaf(q, w, -0.152894720f);
  q = fmaf(q, w, 0.197778359f);
  q = fmaf(q, w, -0.249823153f);
  q = fmaf(q, w, 0.333327919f);
  q = fmaf(q, w, -0.499999970f);
  return fmaf(w * w, q, w);
}

// log(1 + exp(x)), and x above 20. Small steps are common and enter every state, so their relative error must be small;
// without branches, the steps of several tokens are computed side by side.
__device__ float softplus(float x) {
  const float w = expf(fminf(x, 20.0f));
  const float y = w < 0.5f ? log1p_small(w) : LN2 * log2_approx(1.0f + w);
  return x <= 20.0f ? y : x;  // a NaN is neither, and stays
}

// Read the rates of a thread's states, scaled so that exp(delta * a) is a power of two.
__device__ void load_rates(float (&a_reg)[PER], const float* __restrict__ a, int E) {  // a (E, N)
  for (int i = 0; i < PER; i++) {
    a_reg[i] = owned() < E && is_state(i) ? LOG2E * a[static_cast<size_t>(owned()) * N + part() * PER + i] : 0;
  }
}

__device__ void load_states(float (&h)[PER], const float* __restrict__ state, int E) {  // state (E, N)
  for (int i = 0; i < PER; i++) {
    h[i] = owned() < E && is_state(i) ? state[static_cast<size_t>(owned()) * N + part() * PER + i] : 0;
  }
}

__device__ void store_states(float* __restrict__ state, const float (&h)[PER], int E) {  // state (E, N)
  for (int i = 0; i < PER; i++) {
    if (owned() < E && is_state(i)) state[static_cast<size_t>(owned()) * N + part() * PER + i] = h[i];
  }
}

// Begin to read the tile whose first token is `first`; what is not there is 0.
template <bool OUTPUT>
__device__ void load(Tile& tile, const Sequence& s, int first) {
  const int e = top() + column(), mixed = min(TOKENS, s.end - first) * N;
#pragma unroll
  for (int n = 0; n < STEPS; n++) {
    tile.u[n] = tile.delta[n] = tile.z[n] = {};
    if (row(n) >= TOKENS || first + row(n) >= s.end || e >= s.E) continue;
    const size_t at = static_cast<size_t>(first + row(n)) * s.E + e;
    tile.u[n] = *reinterpret_cast<const Elements*>(s.u + at);
    tile.delta[n] = *reinterpret_cast<const Elements*>(s.delta + at);
    if (OUTPUT && GATED) tile.z[n] = *reinterpret_cast<const Elements*>(s.z + at);
  }
#pragma unroll
  for (int n = 0; n < MIXES; n++) {
    const int i = n * THREADS + threadIdx.x;
    const size_t at = static_cast<size_t>(first) * N + i;
    tile.b[n] = i < mixed ? s.b[at] : element(0.0f);
    if (OUTPUT) tile.c[n] = i < mixed ? s.c[at] : element(0.0f);
  }
}

// Write a tile to shared memory: step sizes through bias and softplus, and their products with u. A token past the end
// gets a step of 0, which changes no state.
template <bool OUTPUT>
__device__ void stage(Shared& shared, const Tile& tile, const Shares& shares, const Sequence& s, int first) {
#pragma unroll
  for (int n = 0; n < STEPS; n++) {
    if (row(n) >= TOKENS) continue;
    for (int v = 0; v < VEC; v++) {
      float step = float(tile.delta[n].item[v]) + shares.bias[v];
      if (SOFTPLUS) step = softplus(step);
      const float2 both = {step, step * float(tile.u[n].item[v])};
      shared.step[row(n)][column() + v] = first + row(n) < s.end ? both : float2{0, 0};
    }
  }
#pragma unroll
  for (int n = 0; n < MIXES; n++) {
    const int i = n * THREADS + threadIdx.x, t = i / N;
    if (t >= TOKENS) continue;
    reinterpret_cast<float*>(shared.b[t])[i % N] = float(tile.b[n]);
    if (OUTPUT) reinterpret_cast<float*>(shared.c[t])[i % N] = float(tile.c[n]);
  }
}

// Take a thread's states through one token, and return its part of c . h.
template <bool OUTPUT>
__device__ float advance(float (&h)[PER], const float (&a_reg)[PER], const Shared& shared, float2 step, int t) {
  const float4 b = shared.b[t][part()], c = OUTPUT ? shared.c[t][part()] : b;
  float y = 0;
#pragma unroll
  for (int i = 0; i < PER; i++) {
    if (!is_state(i)) continue;
    h[i] = exp2_approx(step.x * a_reg[i]) * h[i] + step.y * at(b, i);
    if (OUTPUT) y += at(c, i) * h[i];
  }
  return y;
}

// Take the block's channels through a staged tile; returns the sum of the channel's step sizes.
template <bool OUTPUT>
__device__ float advance_tile(Shared& shared, float (&h)[PER], const float (&a_reg)[PER]) {
  const int channel = threadIdx.x / LANES;
  float steps = 0;
  for (int t = 0; t < TOKENS; t += UNROLL) {
    float y[UNROLL];
#pragma unroll
    for (int k = 0; k < UNROLL; k++) {
      const float2 step = shared.step[t + k][channel];
      y[k] = advance<OUTPUT>(h, a_reg, shared, step, t + k);
      steps += step.x;
    }
    if (!OUTPUT) continue;
    fold(y);
#pragma unroll
    for (int k = 0; k < UNROLL / SPREAD; k++) {
      if (part() < SPREAD) shared.y[t + folded() + k][channel] = y[k];
    }
  }
  return steps;
}

// Write a tile's outputs: what the states gave, the direct share and the gate.
__device__ void write(const Sequence& s, const Shared& shared, const Tile& tile, const Shares& shares, int first) {
  const int e = top() + column();
#pragma unroll
  for (int n = 0; n < STEPS; n++) {
    if (row(n) >= TOKENS || first + row(n) >= s.end || e >= s.E) continue;
    Elements o;
    for (int v = 0; v < VEC; v++) {
      float y = shared.y[row(n)][column() + v];
      if (SKIP) y += shares.d[v] * float(tile.u[n].item[v]);
      if (GATED) y *= silu(float(tile.z[n].item[v]));
      o.item[v] = element(y);
    }
    *reinterpret_cast<Elements*>(s.o + static_cast<size_t>(first + row(n)) * s.E + e) = o;
  }
}

// Take the block's channels through its run of tokens; returns the sum of the channel's step sizes.
template <bool OUTPUT>
__device__ float advance_all(
    Shared& shared,
    float (&h)[PER],
    const float (&a_reg)[PER],
    const Shares& shares,
    const Sequence& s) {
  Tile next;
  float steps = 0;
  load<OUTPUT>(next, s, s.begin);
  for (int first = s.begin; first < s.end; first += TOKENS) {
    const Tile tile = next;
    stage<OUTPUT>(shared, tile, shares, s, first);
    if (first + TOKENS < s.end) load<OUTPUT>(next, s, first + TOKENS);
    __syncthreads();  // the tile is staged before any thread goes through it
    steps += advance_tile<OUTPUT>(shared, h, a_reg);
    __syncthreads();  // outputs are there before they are read, and the tile is done with before the next one is staged
    if (OUTPUT) write(s, shared, tile, shares, first);
  }
  return steps;
}
