// What decode kernels share, whatever their cache lies in: whose rows a block has, and how states (m, l, o) are merged.
//
// Constants, by -D: D head width, rows a multiple of 16 bytes; ITEM_BYTES 2 (float16) or 4 (float32); R = H / G query
// heads of a group; HEADS of them that a block owns.

#pragma once

#include "launch/element.cuh"
#include "launch/softmax.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
constexpr int VEC = 16 / ITEM_BYTES;  // elements of a load
constexpr int CHUNKS = D / VEC;  // loads of a row
constexpr int BLOCKS = (R + HEADS - 1) / HEADS;  // blocks that share a key/value head

static_assert(D * ITEM_BYTES % 16 == 0, "rows are read 16 bytes at a time");
static_assert(HEADS >= 1 && HEADS <= R, "a block owns heads of one group");

// A length that a cache has no room for becomes -1.
__device__ inline int checked(int length, int most) { return length < 0 || length > most ? -1 : length; }

// Keys of sequence b; where no lengths are given all that its cache has room for, so that no kernel has to write them.
__device__ inline int keys_of(const int* __restrict__ lengths, int b, int most) {
  return lengths == nullptr ? most : checked(lengths[b], most);
}

// The sum l of no key. A cache marks a sequence that leads out of it by length -1, and all that is made of it is NaN.
__device__ inline float fresh_sum(int length) { return length < 0 ? __int_as_float(0x7fffffff) : 0.0f; }

// The rows of block `row` of a sequence: it owns `heads` query heads from `head` on, which share head g.
struct Rows {
  int g, head, heads;
  __device__ explicit Rows(int row)
      : g(row / BLOCKS), head(g * R + row % BLOCKS * HEADS), heads(min(HEADS, R - row % BLOCKS * HEADS)) {}
};

// The keys begin .. end - 1 that this block takes of a sequence, its gridDim.x blocks sharing them in whole tiles.
struct Share {
  int begin, end;
  __device__ Share(int length, int tile) {
    const int tiles = (length + tile - 1) / tile, each = (tiles + gridDim.x - 1) / gridDim.x * tile;
    begin = blockIdx.x * each;
    end = min(length, begin + each);
  }
};

struct Merged {  // one column of one row; o unnormalised
  float m, l, o;
};

__device__ inline Merged merged(const Merged& a, const Merged& b) {
  const float m = fmaxf(a.m, b.m), first = exp2_approx(a.m - base(m)), second = exp2_approx(b.m - base(m));
  return {m, first * a.l + second * b.l, first * a.o + second * b.o};
}

__device__ inline element finish(const Merged& all) {
  return static_cast<element>(all.l == 0.0f ? 0.0f : all.o / all.l);
}

// Merge `count` states that blocks left of one query head, and write its output. The first is in slot `first`, the
// others stand from slot `next` on, `stride` slots apart.
__device__ inline void merge_states(
    element* __restrict__ o,  // (D,)
    const float2* __restrict__ ml,  // (slots, HEADS): m and l, from this head on
    const float* __restrict__ part,  // (slots, HEADS, D): unnormalised output, from this head on
    int first,
    int next,
    int stride,
    int count,
    int length) {  // of the sequence: -1 makes NaN
  for (int d = threadIdx.x; d < D; d += THREADS) {
    Merged all = {minus_infinity(), fresh_sum(length), 0.0f};
#pragma unroll 4
    for (int n = 0; n < count; n++) {
      const size_t slot = (n == 0 ? first : next + (n - 1) * stride) * static_cast<size_t>(HEADS);
      const float2 state = ml[slot];
      all = merged(all, {state.x, state.y, part[slot * D + d]});
    }
    o[d] = finish(all);
  }
}

// Merge what the gridDim.x blocks of a row left; a block of the grid (rows, B, HEADS) owns one query head.
__device__ inline void merge_shares(
    const float2* __restrict__ ml,  // (B, rows, shares, HEADS)
    const float* __restrict__ part,  // (B, rows, shares, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int shares) {
  const Rows rows(blockIdx.x);
  const int h = blockIdx.z;  // of the row's heads
  if (h >= rows.heads) return;
  const size_t b = blockIdx.y, slot = (b * gridDim.x + blockIdx.x) * shares * HEADS + h;
  merge_states(o + (b * G * R + rows.head + h) * D, ml + slot, part + slot * D, 0, 1, 1, shares, 0);
}
