// How a block of the CUDA-core decode kernels absorbs a range of keys into the states (m, l, o) of its query heads.
//
// LANES lanes hold one row of K or V, VEC = 16 bytes of it each, so that a warp reads KEYS rows with one request, and
// UNROLL requests for K and as many for V are under way at once. A block owns HEADS of the R = H / G query heads that
// share key/value head g, and reads each key once for all of them; the states of its lanes and warps are merged last.
// Where a row of the cache lies is for the technique to say, by a struct Cache with
//   k, v                    what offsets count from, of one key/value head
//   Found<count, stride>    what a lane must know to find the rows of keys s, s + stride, ..., `count` of them
//   look_up(found, s, end)  learn it, of those of the keys that come before end
//   place(found, u, s)      the offset of the u-th of them, key s
//
// Constants, by -D: those of decode.cuh; UNROLL; RESIDENT blocks that a multiprocessor is to hold.

#pragma once

#include "launch/decode.cuh"

__device__ constexpr int power_of_two(int n) { return n <= 1 ? 1 : 2 * power_of_two((n + 1) / 2); }

constexpr int LANES = power_of_two(CHUNKS);  // lanes that share a row; the last of them idle where CHUNKS is less
constexpr int KEYS = 32 / LANES;  // rows of a request
constexpr int STEP = KEYS * UNROLL;  // keys that a warp takes at a time
constexpr int TILE = WARPS * STEP;  // keys that a block takes at a time

static_assert(LANES <= 32, "a row must fit in one request of a warp");

struct alignas(16) Chunk {
  element item[VEC];
};

struct State {  // of HEADS rows, over the keys that a lane's group of LANES lanes has absorbed; o unnormalised
  float m[HEADS], l[HEADS], o[HEADS][VEC];
};

struct Shared {  // the states of the warps
  float m[WARPS][HEADS], l[WARPS][HEADS], o[WARPS][HEADS][D];
};

__device__ inline Chunk load_16(const element* __restrict__ row, bool held) {
  return held ? *reinterpret_cast<const Chunk*>(row) : Chunk{};
}

__device__ inline void widen(float (&wide)[VEC], const Chunk& chunk) {
  for (int i = 0; i < VEC; i++) wide[i] = static_cast<float>(chunk.item[i]);
}

// Read the block's query rows, times scale * log2(e): a lane holds its VEC columns of every head. A warp that will
// absorb none of the block's `keys` reads nothing; with `keys` TILE all read.
__device__ inline void load_queries(
    float (&q_reg)[HEADS][VEC],
    const element* __restrict__ q,  // (heads, D)
    int heads,
    int keys,
    float scale_log2e) {
  const int column = threadIdx.x % LANES;
  if (static_cast<int>(threadIdx.x / 32 * STEP) >= keys) heads = 0;  // keys may be negative
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    widen(q_reg[h], load_16(q + h * D + column * VEC, h < heads && column < CHUNKS));
    for (float& cell : q_reg[h]) cell *= scale_log2e;
  }
}

__device__ inline void clear(State& s, int length) {
  for (int h = 0; h < HEADS; h++) {
    s.m[h] = minus_infinity();
    s.l[h] = fresh_sum(length);
    for (float& cell : s.o[h]) cell = 0.0f;
  }
}

// weight = the scores of UNROLL keys, summed over the lanes of a row; -inf past the end.
__device__ inline void multiply_keys(
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
__device__ inline void rescale(State& s, float (&weight)[HEADS][UNROLL]) {
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

__device__ inline void add_values(State& s, const float (&weight)[HEADS][UNROLL], const Chunk (&v_chunk)[UNROLL]) {
#pragma unroll
  for (int u = 0; u < UNROLL; u++) {
    float value[VEC];
    widen(value, v_chunk[u]);
#pragma unroll
    for (int h = 0; h < HEADS; h++)
      for (int i = 0; i < VEC; i++) s.o[h][i] += weight[h][u] * value[i];
  }
}

// Absorb the keys begin .. end - 1, the block's warps taking STEP of them in turn; begin is a multiple of TILE.
template <class Cache>
__device__ void absorb(State& s, const float (&q)[HEADS][VEC], const Cache& cache, int begin, int end) {
  const int row = threadIdx.x % 32 / LANES, column = threadIdx.x % LANES;
  int key = begin + threadIdx.x / 32 * STEP + row;  // the lane's first of a step
  typename Cache::template Found<UNROLL, KEYS> found;
  cache.look_up(found, key, end);
  for (; key - row < end; key += TILE) {
    const int left = end - key, held = left <= 0 ? 0 : (left + KEYS - 1) / KEYS;
    size_t place[UNROLL];
    Chunk k_chunk[UNROLL], v_chunk[UNROLL];  // every load is under way before the first is waited for
#pragma unroll
    for (int u = 0; u < UNROLL; u++) place[u] = cache.place(found, u, key + u * KEYS) + column * VEC;
#pragma unroll
    for (int u = 0; u < UNROLL; u++) k_chunk[u] = load_16(cache.k + place[u], u < held && column < CHUNKS);
#pragma unroll
    for (int u = 0; u < UNROLL; u++) v_chunk[u] = load_16(cache.v + place[u], u < held && column < CHUNKS);
    cache.look_up(found, key + TILE, end);  // for the next step, while this one's rows are on their way
    float weight[HEADS][UNROLL];
    multiply_keys(weight, q, k_chunk, held);
    rescale(s, weight);
    add_values(s, weight, v_chunk);
  }
}

// Merge the states of the KEYS rows that a warp held side by side, and put the warps' states into shared memory.
__device__ inline void gather(Shared& shared, State& s) {
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
__device__ inline Merged over_warps(const Shared& shared, int h, int d) {
  Merged all = {minus_infinity(), 0.0f, 0.0f};
  for (int w = 0; w < WARPS; w++) all = merged(all, {shared.m[w][h], shared.l[w][h], shared.o[w][h][d]});
  return all;
}

__device__ inline void write_output(element* __restrict__ o, const Shared& shared, int heads) {  // o (heads, D)
  for (int i = threadIdx.x; i < heads * D; i += THREADS) o[i] = finish(over_warps(shared, i / D, i % D));
}

__device__ inline void write_partial(
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
