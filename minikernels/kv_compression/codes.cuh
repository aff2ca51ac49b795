// What the CUDA-core kernels do with codes: how they become numbers, and how a row's state takes them in.
//
// Constants, by -D, with those of states.cuh: UNROLL; PAIRS 0 or 1; RESIDENT blocks that a multiprocessor is to hold.

#pragma once

#include "states.cuh"

__device__ constexpr int power_of_two(int n) { return n <= 1 ? 1 : 2 * power_of_two((n + 1) / 2); }

constexpr int CODES = 128 / BITS;  // codes of a 16-byte load
constexpr int LOADS = D / CODES;  // loads of a token
constexpr int LANES = power_of_two(LOADS);  // lanes that share a token; the last of them idle where LOADS is less
constexpr int KEYS = 32 / LANES;  // tokens of a request
constexpr int STEP = KEYS * UNROLL;  // tokens that a warp takes at a time
constexpr int PART = CODES + 4;  // floats that CODES channels of q take in shared memory: lanes meet no bank conflict

static_assert(D % CODES == 0, "tokens are read 16 bytes at a time");
static_assert(LANES <= 32, "a token must fit in one request of a warp");
static_assert(V_GROUP >= D || V_GROUP % CODES == 0, "the channels of a load share a scale");

struct alignas(16) Chunk {  // 16 bytes of codes: two words of 8-bit codes, or one of 4-bit codes, are 8 channels
  unsigned word[4];
};

struct State {  // of HEADS rows, over the tokens that a lane's group of LANES lanes has absorbed; o unnormalised
  float m[HEADS], l[HEADS], o[HEADS][CODES], o_min[HEADS];  // o_min: what values' minima add to all of a lane's columns
};

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
