// What the decode kernels share: how a block absorbs a range of keys into the states (m, l, o) of its query heads.
//
// LANES lanes hold one row of K or V, VEC = 16 bytes of it each, so that a warp reads KEYS rows with one request, and
// UNROLL requests for K and as many for V are under way at once. A block owns HEADS of the R = H / G query heads that
// share key/value head g, and reads each key once for all of them; the states of its lanes and warps are merged last.
//
// Constants, by -D: D head width, rows a multiple of 16 bytes; ITEM_BYTES 2 (float16) or 4 (float32); R; HEADS; UNROLL;
// RESIDENT blocks that a multiprocessor is to hold.

#pragma once

#include <cuda_fp16.h>

template <int bytes>
struct ElementOf;
template <>
struct ElementOf<2> {
  using type = __half;
};
template <>
struct ElementOf<4> {
  using type = float;
};
using element = ElementOf<ITEM_BYTES>::type;

__device__ constexpr int power_of_two(int n) { return n <= 1 ? 1 : 2 * power_of_two((n + 1) / 2); }

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
constexpr int VEC = 16 / ITEM_BYTES;  // elements of a load
constexpr int CHUNKS = D / VEC;  // loads of a row
constexpr int LANES = power_of_two(CHUNKS);  // lanes that share a row; the last of them idle where CHUNKS is less
constexpr int KEYS = 32 / LANES;  // rows of a request
constexpr int STEP = KEYS * UNROLL;  // keys that a warp takes at a time
constexpr int TILE = WARPS * STEP;  // keys that a block takes at a time
constexpr int BLOCKS = (R + HEADS - 1) / HEADS;  // blocks that share a key/value head

static_assert(D * ITEM_BYTES % 16 == 0, "rows are read 16 bytes at a time");
static_assert(LANES <= 32, "a row must fit in one request of a warp");
static_assert(HEADS >= 1 && HEADS <= R, "a block owns heads of one group");

struct alignas(16) Chunk {
  element item[VEC];
};

struct State {  // of HEADS rows, over the keys that a lane's group of LANES lanes has absorbed; o unnormalised
  float m[HEADS], l[HEADS], o[HEADS][VEC];
};

struct Shared {  // the states of the warps
  float m[WARPS][HEADS], l[WARPS][HEADS], o[WARPS][HEADS][D];
};

struct Merged {  // one column of one row, over all keys
  float m, l, o;
};

// PTX ISA 9.7.3.21: 2 to the x by the special-function unit; exp2f adds steps for results below 2^-126, which become 0.
__device__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ float minus_infinity() { return __int_as_float(0xff800000); }

// -inf becomes 0: exp2(x - base(m)) has no inf - inf where no key was seen.
__device__ float base(float m) { return m == minus_infinity() ? 0.0f : m; }

__device__ Chunk load_16(const element* __restrict__ row, bool held) {
  return held ? *reinterpret_cast<const Chunk*>(row) : Chunk{};
}

__device__ void widen(float (&wide)[VEC], const Chunk& chunk) {
  for (int i = 0; i < VEC; i++) wide[i] = static_cast<float>(chunk.item[i]);
}

// Read the block's query rows, times scale * log2(e): a lane holds its VEC columns of every head. A warp that will absorb
// none of the block's `keys` reads nothing.
__device__ void load_queries(
    float (&q_reg)[HEADS][VEC],
    const element* __restrict__ q,  // (heads, D)
    int heads,
    int keys,
    float scale_log2e) {
  const int column = threadIdx.x % LANES;
  if (threadIdx.x / 32 * STEP >= keys) heads = 0;
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    widen(q_reg[h], load_16(q + h * D + column * VEC, h < heads && column < CHUNKS));
    for (float& cell : q_reg[h]) cell *= scale_log2e;
  }
}

__device__ void clear(State& s) {
  for (int h = 0; h < HEADS; h++) {
    s.m[h] = minus_infinity();
    s.l[h] = 0.0f;
    for (float& cell : s.o[h]) cell = 0.0f;
  }
}

// weight = the scores of UNROLL keys, summed over the lanes of a row; -inf past the end.
__device__ void multiply_keys(
    float (&weight)[HEADS][UNROLL],
    const float (&q)[HEADS][VEC],
    const Chunk (&k_chunk)[UNROLL],
    int held) {  // how many of the keys, counted KEYS apart, are there
#pragma unroll
  for (int u = 0; u < UNROLL; u++) {
    float key[VEC];
    widen(key, k_chunk[u]);
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      float dot = 0.0f;
      for (int i = 0; i < VEC; i++) dot += q[h][i] * key[i];
      for (int step = LANES / 2; step > 0; step /= 2) dot += __shfl_xor_sync(0xffffffff, dot, step);
      weight[h][u] = u < held ? dot : minus_infinity();
    }
  }
}

// Turn a row's scores into weights under the new maximum, and bring l and o under it too.
__device__ void rescale(State& s, float (&weight)[HEADS][UNROLL]) {
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    float m_new = s.m[h];
    for (float score : weight[h]) m_new = fmaxf(m_new, score);
    const float alpha = exp2_approx(s.m[h] - base(m_new));
    s.l[h] *= alpha;
    for (float& cell : s.o[h]) cell *= alpha;
    for (float& cell : weight[h]) {
      cell = exp2_approx(cell - base(m_new));
      s.l[h] += cell;
    }
    s.m[h] = m_new;
  }
}

// Absorb the keys begin .. end - 1, the block's warps taking STEP of them in turn.
__device__ void absorb(
    State& s,
    const float (&q)[HEADS][VEC],
    const element* __restrict__ k,  // (S, D), of head [b, g]
    const element* __restrict__ v,
    int begin,
    int end) {
  const int row = threadIdx.x % 32 / LANES, column = threadIdx.x % LANES;
  for (int first = begin + threadIdx.x / 32 * STEP; first < end; first += TILE) {
    const int left = end - first - row;
    const int held = left <= 0 ? 0 : (left + KEYS - 1) / KEYS;
    const size_t place = static_cast<size_t>(first + row) * D + column * VEC;
    Chunk k_chunk[UNROLL], v_chunk[UNROLL];  // every load is under way before the first is waited for
#pragma unroll
    for (int u = 0; u < UNROLL; u++) k_chunk[u] = load_16(k + place + u * KEYS * D, u < held && column < CHUNKS);
#pragma unroll
    for (int u = 0; u < UNROLL; u++) v_chunk[u] = load_16(v + place + u * KEYS * D, u < held && column < CHUNKS);
    float weight[HEADS][UNROLL];
    multiply_keys(weight, q, k_chunk, held);
    rescale(s, weight);
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      float value[VEC];
      widen(value, v_chunk[u]);
#pragma unroll
      for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < VEC; i++) s.o[h][i] += weight[h][u] * value[i];
    }
  }
}

// Merge the states of the KEYS rows that a warp held side by side, and put the warps' states into shared memory.
__device__ void gather(Shared& shared, State& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
#pragma unroll
    for (int step = LANES; step < 32; step *= 2) {
      const float m_new = fmaxf(s.m[h], __shfl_xor_sync(0xffffffff, s.m[h], step));
      const float alpha = exp2_approx(s.m[h] - base(m_new));
      s.l[h] *= alpha;
      s.l[h] += __shfl_xor_sync(0xffffffff, s.l[h], step);
      for (float& cell : s.o[h]) {
        cell *= alpha;
        cell += __shfl_xor_sync(0xffffffff, cell, step);
      }
      s.m[h] = m_new;
    }
    if (lane == 0) {
      shared.m[warp][h] = s.m[h];
      shared.l[warp][h] = s.l[h];
    }
    if (lane < CHUNKS)
      for (int i = 0; i < VEC; i++) shared.o[warp][h][lane * VEC + i] = s.o[h][i];
  }
  __syncthreads();  // all warps' states are written before any thread reads them
}

// Return column d of row h, merged over the warps.
__device__ Merged over_warps(const Shared& shared, int h, int d) {
  Merged all = {minus_infinity(), 0.0f, 0.0f};
  for (int w = 0; w < WARPS; w++) all.m = fmaxf(all.m, shared.m[w][h]);
  for (int w = 0; w < WARPS; w++) {
    const float share = exp2_approx(shared.m[w][h] - base(all.m));
    all.l += share * shared.l[w][h];
    all.o += share * shared.o[w][h][d];
  }
  return all;
}

__device__ element finish(const Merged& all) { return static_cast<element>(all.l == 0.0f ? 0.0f : all.o / all.l); }

__device__ void write_output(element* __restrict__ o, const Shared& shared, int heads) {  // o (heads, D)
  for (int i = threadIdx.x; i < heads * D; i += THREADS) o[i] = finish(over_warps(shared, i / D, i % D));
}

__device__ void write_partial(
    float2* __restrict__ ml,  // (HEADS,)
    float* __restrict__ part,  // (HEADS, D)
    const Shared& shared,
    int heads) {
  for (int i = threadIdx.x; i < heads * D; i += THREADS) {
    const Merged all = over_warps(shared, i / D, i % D);
    part[i] = all.o;
    if (i % D == 0) ml[i / D] = {all.m, all.l};
  }
}

// Merge `count` partial states of the block's rows: the first at `first`, the others from `next` on, `stride` apart.
__device__ void merge_partials(
    element* __restrict__ o,  // (heads, D)
    const float2* __restrict__ ml,  // (slots, HEADS)
    const float* __restrict__ part,  // (slots, HEADS, D)
    int heads,
    int first,
    int next,
    int stride,
    int count) {
  for (int i = threadIdx.x; i < heads * D; i += THREADS) {
    Merged all = {minus_infinity(), 0.0f, 0.0f};
    for (int n = 0; n < count; n++) {
      const size_t slot = n == 0 ? first : next + (n - 1) * stride;
      const float2 state = ml[slot * HEADS + i / D];
      const float m_new = fmaxf(all.m, state.x);
      const float before = exp2_approx(all.m - base(m_new)), here = exp2_approx(state.x - base(m_new));
      all = {m_new, before * all.l + here * state.y, before * all.o + here * part[slot * HEADS * D + i]};
    }
    o[i] = finish(all);
  }
}

// The rows of block `row` of a sequence: it owns `heads` query heads from `head` on, which share head g.
struct Rows {
  int g, head, heads;
  __device__ explicit Rows(int row)
      : g(row / BLOCKS), head(g * R + row % BLOCKS * HEADS), heads(min(HEADS, R - row % BLOCKS * HEADS)) {}
};
