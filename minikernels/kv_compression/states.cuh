// What all kernels over quantised caches share: where a cache's numbers lie, and how states (m, l, o) are merged.
//
// Constants, by -D: D head width; ITEM_BYTES 2 (float16) or 4 (float32); BITS 8 or 4; K_GROUP tokens that share a key
// channel's scale; V_GROUP channels that share a value token's scale; R = H / G; HEADS of a block.

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

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
constexpr int ROW_BYTES = D * BITS / 8;  // of a token's codes
constexpr int SHARED_SCALES = (D + V_GROUP - 1) / V_GROUP;  // scales of a value token
constexpr int TILE = WARPS * K_GROUP;  // tokens that a block takes at a time, a group a warp
constexpr int BLOCKS = (R + HEADS - 1) / HEADS;  // blocks that share a key/value head

static_assert(BITS == 4 || BITS == 8, "codes have 4 or 8 bits");
static_assert(HEADS >= 1 && HEADS <= R, "a block owns heads of one group");

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

struct Merged {  // one column of one row, over all tokens
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
  for (int w = 0; w < WARPS; w++) all.m = fmaxf(all.m, states.m[w][h]);
  for (int w = 0; w < WARPS; w++) {
    const float share = exp2_approx(states.m[w][h] - base(all.m));
    all.l += share * states.l[w][h];
    all.o += share * states.o[w][h][d];
  }
  return all;
}

__device__ element finish(const Merged& all) { return static_cast<element>(all.l == 0.0f ? 0.0f : all.o / all.l); }

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

// Merge the states of `splits` shares of a row; `slot` is the first one's place.
__device__ void merge_shares(
    element* __restrict__ o,  // (heads, D)
    const float2* __restrict__ ml,  // (slots, HEADS)
    const float* __restrict__ part,  // (slots, HEADS, D)
    int heads,
    size_t slot,
    int splits) {
  for (int i = threadIdx.x; i < heads * D; i += THREADS) {
    Merged all = {minus_infinity(), 0.0f, 0.0f};
    for (int n = 0; n < splits; n++) {
      const float2 state = ml[(slot + n) * HEADS + i / D];
      const float m_new = fmaxf(all.m, state.x);
      const float before = exp2_approx(all.m - base(m_new)), here = exp2_approx(state.x - base(m_new));
      all = {m_new, before * all.l + here * state.y, before * all.o + here * part[(slot + n) * HEADS * D + i]};
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
