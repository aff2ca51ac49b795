// What the kernels over quantised caches share: how codes become numbers, and how a row's state takes them in.
//
// Constants, by -D: D head width; ITEM_BYTES 2 (float16) or 4 (float32); BITS 8 or 4; K_GROUP tokens that share a key
// channel's scale; V_GROUP channels that share a value token's scale; R = H / G; HEADS of a block; UNROLL; PAIRS 0 or 1;
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
constexpr int VEC = 128 / BITS;  // codes of a 16-byte load
constexpr int CHUNKS = D / VEC;  // loads of a token
constexpr int LANES = power_of_two(CHUNKS);  // lanes that share a token; the last of them idle where CHUNKS is less
constexpr int KEYS = 32 / LANES;  // tokens of a request
constexpr int STEP = KEYS * UNROLL;  // tokens that a warp takes at a time
constexpr int TILE = WARPS * K_GROUP;  // tokens that a block takes at a time, a group a warp
constexpr int SHARED_SCALES = (D + V_GROUP - 1) / V_GROUP;  // scales of a value token
constexpr int BLOCKS = (R + HEADS - 1) / HEADS;  // blocks that share a key/value head
constexpr int PART = VEC + 4;  // floats that VEC channels of q take in shared memory: no bank conflict between lanes

static_assert(BITS == 4 || BITS == 8, "codes have 4 or 8 bits");
static_assert(D % VEC == 0, "tokens are read 16 bytes at a time");
static_assert(LANES <= 32, "a token must fit in one request of a warp");
static_assert(V_GROUP >= D || V_GROUP % VEC == 0, "the channels of a load share a scale");
static_assert(HEADS >= 1 && HEADS <= R, "a block owns heads of one group");

struct alignas(16) Chunk {  // 16 bytes of codes: two words of 8-bit codes, or one of 4-bit codes, are 8 channels
  unsigned word[4];
};

struct State {  // of HEADS rows, over the tokens that a lane's group of LANES lanes has absorbed; o unnormalised
  float m[HEADS], l[HEADS], o[HEADS][VEC], o_min[HEADS];  // o_min: what values' minima add to all of a lane's columns
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

__device__ float2 without_1024(unsigned pair) {
  const __half2 number = reinterpret_cast<const __half2&>(pair);
  return __half22float2(__hsub2(number, __float2half2_rn(1024.0f)));  // exact
}

// The 8 channels of part j of a chunk, a conversion of an integer each.
__device__ void one_by_one(float (&code)[8], const Chunk& chunk, int j) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const unsigned word = chunk.word[BITS == 4 ? j : 2 * j + i / 4];
    code[i] = static_cast<float>((word >> (i * BITS % 32)) & ((1u << BITS) - 1));
  }
}

// The same, two at a time: their bits set into two float16 at once, and no integer converted.
__device__ void two_by_two(float (&code)[8], const Chunk& chunk, int j) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if constexpr (BITS == 4) {  // bits 4*i .. 4*i + 3 of each half word: channels i and i + 4
      const float2 pair = without_1024(masked_or(chunk.word[j] >> 4 * i, 0x000f000f, MAGIC));
      code[i] = pair.x;
      code[i + 4] = pair.y;
    } else {  // bytes 2*(i % 2) and 2*(i % 2) + 1 of a word, each below a byte of the magic number
      const unsigned pair = __byte_perm(chunk.word[2 * j + i / 2], MAGIC, i % 2 ? 0x7372 : 0x7170);
      const float2 two = without_1024(pair);
      code[2 * i] = two.x;
      code[2 * i + 1] = two.y;
    }
  }
}

__device__ void unpack(float (&code)[8], const Chunk& chunk, int j) {
  PAIRS ? two_by_two(code, chunk, j) : one_by_one(code, chunk, j);
}

__device__ void clear(State& s) {
  for (int h = 0; h < HEADS; h++) {
    s.m[h] = minus_infinity();
    s.l[h] = s.o_min[h] = 0.0f;
    for (float& cell : s.o[h]) cell = 0.0f;
  }
}

// Turn a row's scores into weights under the new maximum, and bring l, o and o_min under it too.
template <int count>
__device__ void rescale(State& s, float (&weight)[HEADS][count]) {
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    float m_new = s.m[h];
    for (float score : weight[h]) m_new = fmaxf(m_new, score);
    const float alpha = exp2_approx(s.m[h] - base(m_new));
    s.l[h] *= alpha;
    s.o_min[h] *= alpha;
    for (float& cell : s.o[h]) cell *= alpha;
    for (float& cell : weight[h]) {
      cell = exp2_approx(cell - base(m_new));
      s.l[h] += cell;
    }
    s.m[h] = m_new;
  }
}

// The rows of block `row` of a sequence: it owns `heads` query heads from `head` on, which share head g.
struct Rows {
  int g, head, heads;
  __device__ explicit Rows(int row)
      : g(row / BLOCKS), head(g * R + row % BLOCKS * HEADS), heads(min(HEADS, R - row % BLOCKS * HEADS)) {}
};
