// What the raw rungs share: a channel's states lie in the registers of LANES neighbouring threads, PER each; what they
// give of an output is summed over those lanes.
//
// Constants, by -D: N states of a channel; ITEM_BYTES 2 (float16) or 4 (float32) of a token's numbers; LANES threads of
// a channel.

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

template <typename T, int n>
struct alignas(n * sizeof(T)) Vector {
  T item[n];
};

constexpr int THREADS = 128;
constexpr int PER = 4;  // states of a thread
constexpr int WIDTH = LANES * PER;  // N, rounded up to whole threads
constexpr int UNROLL = 4;  // tokens whose outputs are summed over lanes together
constexpr int SPREAD = LANES < UNROLL ? LANES : UNROLL;  // lanes that end with outputs of different tokens
constexpr float LOG2E = 1.44269504f;

static_assert(N >= 1 && N <= WIDTH && LANES <= 32, "a channel's states must fit the lanes of one warp");

__device__ int part() { return threadIdx.x % LANES; }  // which states of its channel the thread owns
__device__ bool is_state(int i) { return N == WIDTH || part() * PER + i < N; }

// PTX ISA 9.7.3.21: 2 to the x by the special-function unit.
__device__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
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
