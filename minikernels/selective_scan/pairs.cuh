// What v7_channel_pairs and v8_staging_warps share: the steps by which a block takes its channels through a tile of
// tokens.
//
// A block owns CHANNELS neighbouring channels of one sequence; a thread owns PER states of each of two neighbours, so
// that one load of b and c from shared memory serves both. Shared memory has two sides: while the tile on one is gone
// through, the next one is staged on the other, so a tile takes one barrier. Tokens stay in the words that they came in
// until they are staged: taken apart sooner, a load would be waited for at once.
//
// Constants, by -D, beside those of lanes.cuh: TOKENS of a tile; VEC neighbouring channels, and MIX numbers of b or c,
// that one load reads; SOFTPLUS, SKIP (there is a d), GATED (there is a z) 0 or 1.

#include "lanes.cuh"

constexpr int EACH = 2;  // channels of a thread
constexpr int PAIRS = THREADS / LANES;
constexpr int CHANNELS = PAIRS * EACH;
constexpr int ROW = CHANNELS / VEC;  // loads of a token's channels
constexpr int ROWS = THREADS / ROW;  // tokens that the block reads with one load a thread
constexpr int STEPS = (TOKENS + ROWS - 1) / ROWS;
constexpr int MIXES = (TOKENS * N / MIX + THREADS - 1) / THREADS;  // loads of b, and of c, that a thread stages
constexpr int APART = 4;  // pairs of padding, so that the tokens that a warp writes outputs of lie in different banks

static_assert(CHANNELS % VEC == 0 && THREADS % ROW == 0, "a thread must read the same channels of every token");
static_assert(TOKENS % UNROLL == 0 && N % MIX == 0, "tiles must be whole steps, and loads whole");
static_assert(VEC * ITEM_BYTES <= 16 && MIX * ITEM_BYTES <= 16, "no load is wider than 16 bytes");

struct Side {
  float4 step[TOKENS][PAIRS];  // delta and delta * u of one channel, then of the other; pairs stand where slot says
  float4 b[TOKENS][LANES];
  float4 c[TOKENS][LANES];
  float2 y[TOKENS][PAIRS + APART];
};

extern __shared__ __align__(128) unsigned char room[];

__device__ Side* both_sides() { return reinterpret_cast<Side*>(room); }  // Side[2]

// n neighbouring numbers of u's type in as few registers as they take.
template <int n>
struct Words {
  static constexpr int COUNT = (n * ITEM_BYTES + 3) / 4;
  Vector<unsigned, COUNT> word;

  __device__ void load(const element* __restrict__ x) {
    if constexpr (n * ITEM_BYTES == 2) {
      word.item[0] = *reinterpret_cast<const unsigned short*>(x);
    } else {
      word = *reinterpret_cast<const Vector<unsigned, COUNT>*>(x);
    }
  }

  __device__ Vector<float, n> floats() const {
    Vector<float, n> x;
#pragma unroll
    for (int k = 0; k < n; k++) {
      const unsigned w = word.item[k * ITEM_BYTES / 4];
      if constexpr (ITEM_BYTES == 4) {
        x.item[k] = __uint_as_float(w);
      } else {
        x.item[k] = __half2float(__ushort_as_half(static_cast<unsigned short>(k % 2 ? w >> 16 : w)));
      }
    }
    return x;
  }
};

// What one thread reads of a tile before it is needed.
struct Tile {
  Words<VEC> u[STEPS], delta[STEPS], z[STEPS];
  Words<MIX> b[MIXES], c[MIXES];
};

using States = float[EACH][PER];  // a number for each state that a thread owns

__device__ int me() { return threadIdx.x % THREADS; }  // among those that do the same
__device__ int top() { return blockIdx.x * CHANNELS; }  // first channel of the block
__device__ int column() { return me() % ROW * VEC; }  // first channel, in the block, that the thread reads
__device__ int row(int n) { return me() / ROW + n * ROWS; }  // token of the tile that its n-th load is of
__device__ int pair() { return me() / LANES; }  // the pair of channels that it owns states of
__device__ int owned(int j) { return top() + pair() * EACH + j; }  // [0, 2) -> a channel of that pair

// Where a pair's steps stand in a token's row. Threads write runs of pairs, VEC / 2 apart: in order, the 8 threads that
// write together would meet in the same banks.
__device__ int slot(int pair) { return pair ^ (pair >> 3 & 3); }

// log(1 + exp(x)) = max(x, 0) + log(1 + w), w = exp(-|x|) in [0, 1], where log(1 + w) is w times a polynomial whose
// relative error is 3e-8: small steps are common and enter every state. Above 20 what is added to x rounds away. A NaN
// stays one in w.
__device__ float softplus(float x) {
  const float w = exp2_approx(-LOG2E * fabsf(x));
  float p = fmaf(0.00523262378f, w, -0.0295049567f);
  p = fmaf(p, w, 0.0782254934f);
  p = fmaf(p, w, -0.136632070f);
  p = fmaf(p, w, 0.191059887f);
  p = fmaf(p, w, -0.248429775f);
  p = fmaf(p, w, 0.333190948f);
  p = fmaf(p, w, -0.499994934f);
  p = fmaf(p, w, 0.999999940f);
  return fmaf(p, w, fmaxf(x, 0.0f));
}

// Read a number for each state that the thread owns, 0 for those that are not there.
__device__ void load_states(States& x, const float* __restrict__ from, int E, float factor = 1) {  // from (E, N)
  for (int j = 0; j < EACH; j++) {
    for (int i = 0; i < PER; i++) {
      const size_t here = static_cast<size_t>(owned(j)) * N + part() * PER + i;
      x[j][i] = owned(j) < E && is_state(i) ? factor * from[here] : 0;
    }
  }
}

__device__ void store_states(float* __restrict__ to, const States& x, int E) {  // to (E, N)
  for (int j = 0; j < EACH; j++) {
    for (int i = 0; i < PER; i++) {
      if (owned(j) < E && is_state(i)) to[static_cast<size_t>(owned(j)) * N + part() * PER + i] = x[j][i];
    }
  }
}

// Begin to read the tile whose first token is `first`, u and what is like it from element `start` on; what is not there
// is 0.
template <bool OUTPUT>
__device__ void load(Tile& tile, const Sequence& s, int first, size_t start) {
  const int there = min(TOKENS, s.end - first);
  tile = {};
#pragma unroll
  for (int n = 0; n < STEPS; n++) {
    if (row(n) >= there || top() + column() >= s.E) continue;
    const size_t here = start + static_cast<size_t>(n * ROWS) * s.E;
    tile.u[n].load(s.u + here);
    tile.delta[n].load(s.delta + here);
    if (OUTPUT && GATED) tile.z[n].load(s.z + here);
  }
#pragma unroll
  for (int n = 0; n < MIXES; n++) {
    const int i = (n * THREADS + me()) * MIX;
    if (i >= there * N) continue;
    tile.b[n].load(s.b + static_cast<size_t>(first) * N + i);
    if (OUTPUT) tile.c[n].load(s.c + static_cast<size_t>(first) * N + i);
  }
}

// Write a tile's b, or c, to shared memory.
__device__ void stage_mixes(float4 (&to)[TOKENS][LANES], const Words<MIX> (&mixes)[MIXES]) {
#pragma unroll
  for (int n = 0; n < MIXES; n++) {
    const int i = (n * THREADS + me()) * MIX, t = i / N;
    if (t < TOKENS) *reinterpret_cast<Vector<float, MIX>*>(reinterpret_cast<float*>(to[t]) + i % N) = mixes[n].floats();
  }
}

// Write a tile to shared memory: step sizes through bias and softplus, and their products with u. A token past the last
// of the `left` ones gets a step of 0, which changes no state.
template <bool OUTPUT>
__device__ void stage(Side& side, const Tile& tile, const Shares& shares, int left) {
#pragma unroll
  for (int n = 0; n < STEPS; n++) {
    if (TOKENS % ROWS && row(n) >= TOKENS) continue;
    const Vector<float, VEC> delta = tile.delta[n].floats(), u = tile.u[n].floats();
    Vector<float2, VEC> steps;
#pragma unroll
    for (int v = 0; v < VEC; v++) {
      float step = delta.item[v] + shares.bias[v];
      if (SOFTPLUS) step = softplus(step);
      step = row(n) < left ? step : 0;
      steps.item[v] = {step, step * u.item[v]};
    }
    float4* to = side.step[row(n)];
    if constexpr (VEC == 1) {
      reinterpret_cast<float2*>(to + slot(column() / EACH))[column() % EACH] = steps.item[0];
    } else {
#pragma unroll
      for (int v = 0; v < VEC; v += EACH) {
        const float2 low = steps.item[v], high = steps.item[v + 1];
        to[slot((column() + v) / EACH)] = {low.x, low.y, high.x, high.y};
      }
    }
  }
  stage_mixes(side.b, tile.b);
  if (OUTPUT) stage_mixes(side.c, tile.c);
}

// Take a thread's states of one channel through one token, and return its part of c . h.
template <bool OUTPUT>
__device__ float advance(
    float (&h)[PER],
    const float (&a_reg)[PER],
    float4 b,
    float4 c,
    float step,
    float drive) {
  float y = 0;
#pragma unroll
  for (int i = 0; i < PER; i++) {
    if (!is_state(i)) continue;
    h[i] = exp2_approx(step * a_reg[i]) * h[i] + drive * at(b, i);
    if (OUTPUT) y += at(c, i) * h[i];
  }
  return y;
}

// Sum the outputs of UNROLL tokens from t on over their lanes, and leave them for those that write.
__device__ void leave(Side& side, float (&y)[EACH][UNROLL], int t) {
  fold(y[0]);
  fold(y[1]);
#pragma unroll
  for (int k = 0; k < UNROLL / SPREAD; k++) {
    if (part() < SPREAD) side.y[t + folded() + k][pair()] = {y[0][k], y[1][k]};
  }
}

// Take the block's channels through a staged tile; adds to the sums of the pair's step sizes where there is no output.
// Powers of two are waited for: meanwhile the steps of the next UNROLL tokens are read, and the outputs of the last
// ones summed.
template <bool OUTPUT>
__device__ void advance_tile(Side& side, States& h, const States& a_reg, float2& sums) {
  float4 step[UNROLL];
  float before[EACH][UNROLL];
#pragma unroll
  for (int k = 0; k < UNROLL; k++) step[k] = side.step[k][slot(pair())];
#pragma unroll
  for (int t = 0; t < TOKENS; t += UNROLL) {
    float4 next[UNROLL];
    float y[EACH][UNROLL];
#pragma unroll
    for (int k = 0; k < UNROLL; k++) next[k] = side.step[(t + UNROLL + k) % TOKENS][slot(pair())];
#pragma unroll
    for (int k = 0; k < UNROLL; k++) {
      const float4 b = side.b[t + k][part()], c = OUTPUT ? side.c[t + k][part()] : b;
      y[0][k] = advance<OUTPUT>(h[0], a_reg[0], b, c, step[k].x, step[k].y);
      y[1][k] = advance<OUTPUT>(h[1], a_reg[1], b, c, step[k].z, step[k].w);
      if (!OUTPUT) sums = {sums.x + step[k].x, sums.y + step[k].z};
    }
    if (OUTPUT && t > 0) leave(side, before, t - UNROLL);
#pragma unroll
    for (int k = 0; k < UNROLL; k++) step[k] = next[k], before[0][k] = y[0][k], before[1][k] = y[1][k];
  }
  if (OUTPUT) leave(side, before, TOKENS - UNROLL);
}

// Write a tile's outputs: what the states gave, the direct share and the gate.
__device__ void write(
    const Sequence& s,
    const Side& side,
    const Words<VEC> (&u)[STEPS],
    const Words<VEC> (&z)[STEPS],
    const Shares& shares,
    int left,
    size_t start) {
#pragma unroll
  for (int n = 0; n < STEPS; n++) {
    if (row(n) >= min(TOKENS, left) || top() + column() >= s.E) continue;
    const float* from = reinterpret_cast<const float*>(side.y[row(n)]) + column();
    const auto y = *reinterpret_cast<const Vector<float, VEC>*>(from), given = u[n].floats(), gates = z[n].floats();
    Vector<element, VEC> o;
#pragma unroll
    for (int v = 0; v < VEC; v++) {
      const float whole = SKIP ? y.item[v] + shares.d[v] * given.item[v] : y.item[v];
      o.item[v] = element(GATED ? whole * silu(gates.item[v]) : whole);
    }
    *reinterpret_cast<Vector<element, VEC>*>(s.o + start + static_cast<size_t>(n * ROWS) * s.E) = o;
  }
}
