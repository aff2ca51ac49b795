// What the CUDA-core kernels over quantised caches share: how a block absorbs tokens, and how its warps' states merge.
//
// A warp takes a group of K_GROUP tokens at a time, whose keys share their scales: it multiplies the block's queries by
// them once, in shared memory, and the keys' codes then meet these. LANES lanes hold one token, CODES codes of it each,
// so that a warp reads KEYS tokens with one request, UNROLL requests for keys and as many for values under way at once.
// states.cuh and codes.cuh have the constants.

#pragma once

#include "codes.cuh"

struct alignas(16) Queries {  // read 16 bytes at a time
  float q[HEADS][D];  // scale * log2(e) included
  float scaled[WARPS][HEADS][LANES * PART];  // each warp's, times the scales of the group it is at
};

union Shared {
  Queries queries;
  States states;
};

__device__ void load_queries(
    Shared& shared,
    const element* __restrict__ q,  // (heads, D)
    int heads,
    float scale_log2e) {
  for (int i = threadIdx.x; i < HEADS * D; i += THREADS)
    shared.queries.q[i / D][i % D] = i / D < heads ? static_cast<float>(q[i]) * scale_log2e : 0.0f;
  __syncthreads();  // all queries are written before any warp scales them
}

__device__ float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}

// Multiply the queries by a group's scales, and return their products with its minima; without scales, copy them.
__device__ void fold(
    Queries& queries,
    float (&q_min)[HEADS],
    const element* __restrict__ scales,  // (D,), or none
    const element* __restrict__ minima) {
  const int warp = threadIdx.x / 32;
  for (float& cell : q_min) cell = 0.0f;
  __syncwarp();  // the warp is done with the last group's queries before they are overwritten
  for (int d = threadIdx.x % 32; d < LANES * CODES; d += 32) {
    const bool held = d < D;  // past D stand zeros, for idle lanes
    const float scale = scales == nullptr ? 1.0f : held ? static_cast<float>(scales[d]) : 0.0f;
    const float minimum = scales == nullptr || !held ? 0.0f : static_cast<float>(minima[d]);
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      const float q = held ? queries.q[h][d] : 0.0f;
      queries.scaled[warp][h][d / CODES * PART + d % CODES] = q * scale;
      q_min[h] += q * minimum;
    }
  }
#pragma unroll
  for (int h = 0; h < HEADS; h++) q_min[h] = warp_sum(q_min[h]);
  __syncwarp();  // all channels are written before any lane reads them
}

__device__ void read_8(float (&x)[8], const float* row) {  // 16-byte aligned
  const float4 low = reinterpret_cast<const float4*>(row)[0], high = reinterpret_cast<const float4*>(row)[1];
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
  x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}

// weight = the scores of the tokens that the lanes hold, summed over the lanes of a token; -inf past the end.
template <int count>
__device__ void finish_scores(float (&weight)[HEADS][count], const float (&q_min)[HEADS], int held) {
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
#pragma unroll
    for (int u = 0; u < count; u++) {
      float dot = weight[h][u];
      for (int step = LANES / 2; step > 0; step /= 2) dot += __shfl_xor_sync(0xffffffff, dot, step);
      weight[h][u] = u < held ? dot + q_min[h] : minus_infinity();
    }
  }
}

__device__ void multiply_keys(float (&weight)[HEADS][UNROLL], const Queries& queries, const Chunk (&keys)[UNROLL]) {
  const int column = threadIdx.x % LANES;
  for (auto& row : weight)
    for (float& cell : row) cell = 0.0f;
#pragma unroll
  for (int j = 0; j < CODES / 8; j++) {
    float code[UNROLL][8];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) unpack(code[u], keys[u], j);
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      float q[8];
      read_8(q, queries.scaled[threadIdx.x / 32][h] + column * PART + 8 * j);
#pragma unroll
      for (int u = 0; u < UNROLL; u++)
        for (int i = 0; i < 8; i++) weight[h][u] += q[i] * code[u][i];
    }
  }
}

// Absorb the tokens begin .. end - 1 of one group of rounded tokens.
__device__ void absorb_group(
    State& s,
    const Queries& queries,
    const float (&q_min)[HEADS],
    const Cache& cache,
    int begin,
    int end) {
  const int row = threadIdx.x % 32 / LANES, column = threadIdx.x % LANES;
  for (int first = begin; first < end; first += STEP) {
    const int left = end - first - row;
    const int held = left <= 0 ? 0 : (left + KEYS - 1) / KEYS;
    Chunk keys[UNROLL], values[UNROLL];  // every load is under way before the first is waited for
    float scale[UNROLL], minimum[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      const size_t token = first + row + u * KEYS;
      const bool here = u < held && column < LOADS;
      const size_t place = token * ROW_BYTES + 16 * column;
      keys[u] = here ? *reinterpret_cast<const Chunk*>(cache.k_codes + place) : Chunk{};
      values[u] = here ? *reinterpret_cast<const Chunk*>(cache.v_codes + place) : Chunk{};
      const size_t shared = token * SHARED_SCALES + column * CODES / V_GROUP;
      scale[u] = here ? static_cast<float>(cache.v_scales[shared]) : 0.0f;
      minimum[u] = here ? static_cast<float>(cache.v_minima[shared]) : 0.0f;
    }
    float weight[HEADS][UNROLL];
    multiply_keys(weight, queries, keys);
    finish_scores(weight, q_min, held);
    rescale(s, weight);
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
#pragma unroll
      for (int h = 0; h < HEADS; h++) {
        s.o_min[h] += weight[h][u] * minimum[u];
        weight[h][u] *= scale[u];
      }
#pragma unroll
      for (int j = 0; j < CODES / 8; j++) {
        float code[8];
        unpack(code, values[u], j);
#pragma unroll
        for (int h = 0; h < HEADS; h++)
          for (int i = 0; i < 8; i++) s.o[h][8 * j + i] += weight[h][u] * code[i];
      }
    }
  }
}

// Absorb recent tokens, KEYS of them a warp at a time: they are read as they are, and few.
__device__ void absorb_recent(State& s, const Queries& queries, const float (&q_min)[HEADS], const Cache& cache,
                              int begin, int end) {
  const int row = threadIdx.x % 32 / LANES, column = threadIdx.x % LANES;
  for (int first = begin + threadIdx.x / 32 * KEYS; first < end; first += WARPS * KEYS) {
    const bool held = first + row < end, here = held && column < LOADS;
    const size_t place = static_cast<size_t>(first + row - cache.quantized) * D + column * CODES;
    float weight[HEADS][1] = {};
#pragma unroll
    for (int i = 0; i < CODES; i++) {
      const float key = here ? static_cast<float>(cache.k_recent[place + i]) : 0.0f;
      for (int h = 0; h < HEADS; h++) weight[h][0] += queries.scaled[threadIdx.x / 32][h][column * PART + i] * key;
    }
    finish_scores(weight, q_min, held);
    rescale(s, weight);
#pragma unroll
    for (int i = 0; i < CODES; i++) {
      const float value = here ? static_cast<float>(cache.v_recent[place + i]) : 0.0f;
      for (int h = 0; h < HEADS; h++) s.o[h][i] += weight[h][0] * value;
    }
  }
}

// Absorb the tokens begin .. end - 1, begin the first of a group, the block's warps taking groups in turn.
__device__ void absorb(State& s, Queries& queries, const Cache& cache, int begin, int end) {
  float q_min[HEADS];
  const int rounded = min(end, cache.quantized);
  for (int first = begin + threadIdx.x / 32 * K_GROUP; first < rounded; first += TILE) {
    const size_t group = static_cast<size_t>(first / K_GROUP) * D;
    fold(queries, q_min, cache.k_scales + group, cache.k_minima + group);
    absorb_group(s, queries, q_min, cache, first, min(rounded, first + K_GROUP));
  }
  if (end <= cache.quantized) return;
  fold(queries, q_min, nullptr, nullptr);
  absorb_recent(s, queries, q_min, cache, max(begin, cache.quantized), end);
}

// Merge the states of the KEYS tokens that a warp held side by side, and put the warps' states into shared memory.
__device__ void gather(Shared& shared, State& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();  // every warp is done with the queries, whose place the states take
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    for (float& cell : s.o[h]) cell += s.o_min[h];
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
      shared.states.m[warp][h] = s.m[h];
      shared.states.l[warp][h] = s.l[h];
    }
    if (lane < LOADS)
      for (int i = 0; i < CODES; i++) shared.states.o[warp][h][lane * CODES + i] = s.o[h][i];
  }
  __syncthreads();  // all warps' states are written before any thread reads them
}
