// What the raw rungs share: a channel's states lie in the registers of LANES neighbouring threads, PER each; what they
// give of an output is summed over those lanes. And which tokens a block takes, of which arrays.
//
// Constants, by -D: N states of a channel; ITEM_BYTES 2 (float16) or 4 (float32) of a token's numbers; LANES threads of
// a channel; VEC neighbouring channels that one load reads; SKIP (there is a d) 0 or 1.

#include "launch/element.cuh"
#include "launch/exp2.cuh"

constexpr int THREADS = 128;
constexpr int PER = 4;  // states of a thread
constexpr int WIDTH = LANES * PER;  // N, rounded up to whole threads
constexpr int UNROLL = 4;  // tokens whose outputs are summed over lanes together
constexpr int SPREAD = LANES < UNROLL ? LANES : UNROLL;  // lanes that end with outputs of different tokens
constexpr float LOG2E = 1.44269504f;

static_assert(N >= 1 && N <= WIDTH && LANES <= 32, "a channel's states must fit the lanes of one warp");

__device__ int part() { return threadIdx.x % LANES; }  // which states of its channel the thread owns
__device__ bool is_state(int i) { return N == WIDTH || part() * PER + i < N; }

// One sequence's arrays, and where in them the block stands.
struct Sequence {
  const element* __restrict__ u;  // (T, E)
  const element* __restrict__ delta;  // (T, E)
  const element* __restrict__ b;  // (T, N)
  const element* __restrict__ c;  // (T, N)
  const element* __restrict__ z;  // (T, E)
  element* __restrict__ o;  // (T, E)
  int E, begin, end;  // the tokens begin .. end - 1 are the block's
};

// The tokens of chunk blockIdx.y of sequence blockIdx.z.
__device__ Sequence chunk_of(
    const element* __restrict__ u,  // (B, T, E)
    const element* __restrict__ delta,  // (B, T, E)
    const element* __restrict__ b,  // (B, T, N)
    const element* __restrict__ c,  // (B, T, N)
    const element* __restrict__ z,  // (B, T, E)
    element* __restrict__ o,  // (B, T, E)
    int T,
    int E,
    int share) {
  const size_t batch = blockIdx.z, tokens = batch * T * E, mixes = batch * T * N;
  const int begin = blockIdx.y * share;
  return {u + tokens, delta + tokens, b + mixes, c + mixes, z + tokens, o + tokens, E, begin, min(T, begin + share)};
}

// Bias and direct share of the VEC channels whose tokens this thread reads.
struct Shares {
  float bias[VEC], d[VEC];
};

__device__ int top();  // first channel of the block, as the header says that includes this one
__device__ int column();  // first channel, in the block, that the thread reads

__device__ Shares load_shares(
    const float* __restrict__ delta_bias,  // (E,)
    const float* __restrict__ d,  // (E,)
    int E) {
  Shares shares = {};
  for (int v = 0; v < VEC; v++) {
    const int e = top() + column() + v;
    if (e < E) shares.bias[v] = delta_bias[e];
    if (SKIP && e < E) shares.d[v] = d[e];
  }
  return shares;
}

__device__ float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

__device__ float at(const float4& x, int i) { return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w; }

// Sum the outputs of UNROLL tokens over the lanes of a channel. At each exchange a lane gives away the half of the
// tokens that its partner keeps, so that SPREAD lanes end with UNROLL / SPREAD tokens each, in 3 shuffles for 4 lanes
// and not 8.
__device__ void fold(float (&y)[UNROLL]) {
  int held = UNROLL;
#pragma unroll
  for (int bit = 1; bit < LANES; bit *= 2) {
    const bool upper = part() & bit;
    if (held == 1) {
      y[0] += __shfl_xor_sync(0xffffffff, y[0], bit);
      continue;
    }
    held /= 2;
#pragma unroll
    for (int k = 0; k < UNROLL / 2; k++) {
      if (k >= held) continue;
      const float kept = upper ? y[k + held] : y[k], given = upper ? y[k] : y[k + held];
      y[k] = kept + __shfl_xor_sync(0xffffffff, given, bit);
    }
  }
}

// The first of the tokens whose sums lane `part` has after fold: the halves that it kept.
__device__ int folded() { return LANES == 1 ? 0 : LANES == 2 ? part() * 2 : (part() & 1) * 2 + (part() >> 1 & 1); }
