// What the paged kernels share: finding a token in the pool, and merging states (m, l, o) that blocks left in HBM.
//
// Constants, by -D: D head width, rows a multiple of 16 bytes; ITEM_BYTES 2 (float16) or 4 (float32); P tokens of a
// page; R = H / G query heads of a group; HEADS of them that a block owns.

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
constexpr int VEC = 16 / ITEM_BYTES;  // elements of a load
constexpr int CHUNKS = D / VEC;  // loads of a row
constexpr int BLOCKS = (R + HEADS - 1) / HEADS;  // blocks that share a key/value head

static_assert(D * ITEM_BYTES % 16 == 0, "rows are read 16 bytes at a time");
static_assert(HEADS >= 1 && HEADS <= R, "a block owns heads of one group");
static_assert(P >= 1, "a page holds a token");

// PTX ISA 9.7.3.21: 2 to the x by the special-function unit; exp2f adds steps for results below 2^-126, which become 0.
__device__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ float minus_infinity() { return __int_as_float(0xff800000); }

// -inf becomes 0: exp2(x - base(m)) has no inf - inf where no key was seen.
__device__ float base(float m) { return m == minus_infinity() ? 0.0f : m; }

// The sum l of no key; a sequence of length -1 leads out of the pool (screen.cu), and all that is made of it is NaN.
__device__ float fresh_sum(int length) { return length < 0 ? __int_as_float(0x7fffffff) : 0.0f; }

// The rows of block `row` of a sequence: it owns `heads` query heads from `head` on, which share head g.
struct Rows {
  int g, head, heads;
  __device__ explicit Rows(int row)
      : g(row / BLOCKS), head(g * R + row % BLOCKS * HEADS), heads(min(HEADS, R - row % BLOCKS * HEADS)) {}
};

// One key/value head of the pool, as one sequence finds its tokens there.
struct Pool {
  const element* k;  // (pages, P, G, D), from head g on
  const element* v;
  const int* table;  // (max_pages,), the sequence's row
  int token;  // elements from a token to the next one of its page
  __device__ Pool(const element* k_pages, const element* v_pages, const int* row, int g, int G)
      : k(k_pages + g * D), v(v_pages + g * D), table(row), token(G * D) {}
  __device__ int page(int s, int end) const { return s < end ? table[s / P] : 0; }  // no key is read past the end
  __device__ size_t place(int page, int s) const { return (static_cast<size_t>(page) * P + s % P) * token; }
};

// The keys begin .. end - 1 that this block takes of a sequence, its blocks sharing them in whole steps.
struct Share {
  int begin, end;
  __device__ Share(int length, int step) {
    const int steps = (length + step - 1) / step, each = (steps + gridDim.x - 1) / gridDim.x * step;
    begin = blockIdx.x * each;
    end = min(length, begin + each);
  }
};

struct Merged {  // one column of one row; o unnormalised
  float m, l, o;
};

__device__ Merged merged(const Merged& a, const Merged& b) {
  const float m = fmaxf(a.m, b.m), first = exp2_approx(a.m - base(m)), second = exp2_approx(b.m - base(m));
  return {m, first * a.l + second * b.l, first * a.o + second * b.o};
}

__device__ element finish(const Merged& all) { return static_cast<element>(all.l == 0.0f ? 0.0f : all.o / all.l); }

// Merge the states that the shares of one query head left, and write its output.
__device__ void merge_shares(
    element* __restrict__ o,  // (D,)
    const float2* __restrict__ ml,  // (shares, HEADS): m and l, from this head on
    const float* __restrict__ part,  // (shares, HEADS, D), from this head on
    int shares) {
  for (int d = threadIdx.x; d < D; d += THREADS) {
    Merged all = {minus_infinity(), 0.0f, 0.0f};
#pragma unroll 4
    for (int n = 0; n < shares; n++) {
      const float2 state = ml[n * HEADS];
      all = merged(all, {state.x, state.y, part[static_cast<size_t>(n) * HEADS * D + d]});
    }
    o[d] = finish(all);
  }
}
