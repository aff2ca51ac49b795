// What all kernels over quantised caches share: where a cache's numbers lie, and how the states of warps are merged.
//
// Constants, by -D: D head width; ITEM_BYTES 2 (float16) or 4 (float32); BITS 8 or 4; K_GROUP tokens that share a key
// channel's scale; V_GROUP channels that share a value token's scale; R = H / G; HEADS of a block.

#pragma once

#include "launch/decode.cuh"

constexpr int ROW_BYTES = D * BITS / 8;  // of a token's codes
constexpr int SHARED_SCALES = (D + V_GROUP - 1) / V_GROUP;  // scales of a value token
constexpr int TILE = WARPS * K_GROUP;  // tokens that a block takes at a time, a group a warp

static_assert(BITS == 4 || BITS == 8, "codes have 4 or 8 bits");

struct Cache {  // of head [b, g]
  const unsigned char* __restrict__ k_codes;  // (N, ROW_BYTES)
  const element* __restrict__ k_scales;  // (N / K_GROUP, D)
  const element* __restrict__ k_minima;
  const element* __restrict__ k_recent;  // (S - N, D)
  const unsigned char* __restrict__ v_codes;
  const element* __restrict__ v_scales;  // (N, SHARED_SCALES)
  const element* __restrict__ v_minima;
  const element* __restrict__ v_recent;
  int quantized;  // N

  // The same arrays with all heads; `head` is b * G + g.
  __device__ Cache of(size_t head, int S) const {
    const size_t old = head * quantized, groups = head * (quantized / K_GROUP) * D, young = head * (S - quantized) * D;
    return {k_codes + old * ROW_BYTES, k_scales + groups, k_minima + groups, k_recent + young,
            v_codes + old * ROW_BYTES, v_scales + old * SHARED_SCALES, v_minima + old * SHARED_SCALES,
            v_recent + young, quantized};
  }
};

struct States {  // of the warps
  float m[WARPS][HEADS], l[WARPS][HEADS], o[WARPS][HEADS][D];
};

// PTX ISA 9.7.7.6: (x & mask) | bits in one instruction.
__device__ unsigned masked_or(unsigned x, unsigned mask, unsigned bits) {
  unsigned y;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(x), "r"(mask), "r"(bits));
  return y;
}

// 0x6400 is 1024 in float16, whose last place is 1 there: the low bits of a half that begins so are a whole number.
constexpr unsigned MAGIC = 0x64006400;

// Return column d of row h, merged over the warps.
__device__ Merged over_warps(const States& states, int h, int d) {
  Merged all = {minus_infinity(), 0.0f, 0.0f};
  for (int w = 0; w < WARPS; w++) all = merged(all, {states.m[w][h], states.l[w][h], states.o[w][h][d]});
  return all;
}

__device__ void write_output(element* __restrict__ o, const States& states, int heads) {  // o (heads, D)
  for (int i = threadIdx.x; i < heads * D; i += THREADS) o[i] = finish(over_warps(states, i / D, i % D));
}

__device__ void write_partial(
    float2* __restrict__ ml,  // (HEADS,)
    float* __restrict__ part,  // (HEADS, D)
    const States& states,
    int heads) {
  for (int i = threadIdx.x; i < heads * D; i += THREADS) {
    const Merged all = over_warps(states, i / D, i % D);
    part[i] = all.o;
    if (i % D == 0) ml[i / D] = {all.m, all.l};
  }
}

// Merge what `splits` blocks of a row left; a block of the grid (rows, B, HEADS) owns one query head. Every warp takes
// each WARPS-th state, its lanes the columns.
__device__ void merge_parts(
    const float2* __restrict__ ml,  // (B, rows, splits, HEADS)
    const float* __restrict__ part,  // (B, rows, splits, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int splits) {
  constexpr int COLUMNS = (D + 31) / 32;  // of a lane
  __shared__ Merged states[WARPS][D];
  const Rows rows(blockIdx.x);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, h = blockIdx.z;  // h: of the row's heads
  if (h >= rows.heads) return;
  const size_t b = blockIdx.y, first = (b * gridDim.x + blockIdx.x) * splits;
  float m = minus_infinity(), l = 0.0f, sum[COLUMNS] = {};
#pragma unroll 4
  for (int n = warp; n < splits; n += WARPS) {
    const size_t slot = (first + n) * HEADS + h;
    const float2 state = ml[slot];
    const float m_new = fmaxf(m, state.x);
    const float before = exp2_approx(m - base(m_new)), now = exp2_approx(state.x - base(m_new));
    m = m_new;
    l = before * l + now * state.y;
#pragma unroll
    for (int i = 0; i < COLUMNS; i++) {
      const int d = lane + 32 * i;
      sum[i] = before * sum[i] + now * (d < D ? part[slot * D + d] : 0.0f);
    }
  }
#pragma unroll
  for (int i = 0; i < COLUMNS; i++)
    if (lane + 32 * i < D) states[warp][lane + 32 * i] = {m, l, sum[i]};
  __syncthreads();  // every warp's state is written before any thread reads it
  for (int d = threadIdx.x; d < D; d += THREADS) {
    Merged all = states[0][d];
    for (int w = 1; w < WARPS; w++) all = merged(all, states[w][d]);
    o[(b * G * R + rows.head + h) * D + d] = finish(all);
  }
}
