// What a lane holds where codes are operands of tensor cores: numbers made of codes, queries, and the state.
//
// The bits n of a code in the low bits of a float16 are n * 2^-24, a subnormal: tensor cores multiply it exactly.
//
// Constants, by -D: those of states.cuh, ITEM_BYTES 2, HEADS at most 8.

#pragma once

#include "launch/mma.cuh"
#include "states.cuh"

constexpr int CODES = 32 / BITS;  // of a word
constexpr int PAIRS = CODES / 2;  // registers of two float16 that a word becomes; codes of 16 bits, too
constexpr int SIDES = PAIRS / 2;  // products that a piece takes: codes in the low, and in the next 4 bits of a byte
constexpr int PIECES = ROW_BYTES / 16;  // of a token's codes
constexpr unsigned ONES = 0x3c003c00;  // two float16
constexpr float UNIT = 0x1p-24f, NEXT = BITS == 4 ? 16.0f : 1.0f;  // what a code's lowest bit is worth; a next code's

static_assert(ITEM_BYTES == 2, "mma multiplies float16");
static_assert(D == 32 || D == 64 || D == 128, "pieces of a row are turned by a power of two");
static_assert(V_GROUP >= D || V_GROUP % (8 * PAIRS) == 0, "the channels of a piece share a scale");
static_assert(HEADS <= 8, "heads are the 8 columns of a product");
static_assert(SHARED_SCALES == 1 || SHARED_SCALES == 2 || SHARED_SCALES == 4, "two tokens' scales are one load");

using Fragment = unsigned[PIECES][PAIRS];  // a lane's channels of a vector: word lane % 4 of every piece, unpacked

struct alignas(16) Queries {  // of head lane / 4, for every lane the numbers of its words
  unsigned number[PIECES][32][PAIRS];
};

// A lane's state of heads 2 * (lane % 4) + {0, 1}. Of o it has channels PAIRS * (lane / 4) + 2 * side of a piece, both
// heads, then the channels after those. Two sums over tokens are rows of one more product: row lane / 4 is what the
// minima of the values' scale lane / 4 add to o; row SHARED_SCALES is l.
struct Rescaled {
  float m[2], sums[2], o[PIECES][SIDES][4];
};

template <int words>
struct alignas(4 * words) Words {
  unsigned word[words];
};

__device__ int lane() { return threadIdx.x % 32; }

// Codes p and p + PAIRS of a word become pair p, in units of 2^-24; of 4 bits, every second pair in 16 times as much.
__device__ void unpack(unsigned (&pair)[PAIRS], unsigned word) {
#pragma unroll
  for (int p = 0; p < PAIRS; p++) {
    if constexpr (BITS == 8) pair[p] = word >> 8 * p & 0x00ff00ff;
    else pair[p] = word >> p / 2 * 8 & (p % 2 ? 0x00f000f0 : 0x000f000f);
  }
}

// Numbers of a lane's word of codes, two neighbours to a register.
__device__ void read_numbers(unsigned (&number)[PAIRS], const void* x) {
  const Words<PAIRS> held = *static_cast<const Words<PAIRS>*>(x);
#pragma unroll
  for (int i = 0; i < PAIRS; i++) number[i] = held.word[i];
}

// The same numbers in the order in which `unpack` leaves codes.
__device__ void arrange(unsigned (&pair)[PAIRS], const unsigned (&number)[PAIRS]) {
#pragma unroll
  for (int p = 0; p < PAIRS; p++)
    pair[p] = __byte_perm(number[p / 2], number[p / 2 + SIDES], p % 2 ? 0x7632 : 0x5410);
}

__device__ int first_channel(int c) { return CODES * (4 * c + lane() % 4); }  // of the lane's word of piece c

__device__ void load_queries(Queries& queries, const element* __restrict__ q, int heads) {  // q (heads, D)
  for (int c = threadIdx.x / 32; c < PIECES; c += WARPS) {
    unsigned number[PAIRS] = {};
    if (lane() / 4 < heads) read_numbers(number, q + lane() / 4 * D + first_channel(c));
    for (int i = 0; i < PAIRS; i++) queries.number[c][lane()][i] = number[i];
  }
  __syncthreads();  // all queries are written before any warp reads them
}

// Scales, or minima, of tokens 2 * (lane % 4) + {0, 1} of 8, side by side for every scale that a token has.
__device__ void read_tokens(unsigned (&pair)[SHARED_SCALES], const __half (*x)[SHARED_SCALES]) {
  const auto held = reinterpret_cast<const Words<SHARED_SCALES>*>(x + lane() % 4 * 2)[0];
#pragma unroll
  for (int n = 0; n < SHARED_SCALES; n++) {
    if (SHARED_SCALES == 1) pair[n] = held.word[0];
    else pair[n] = __byte_perm(held.word[n / 2], held.word[(SHARED_SCALES + n) / 2], n % 2 ? 0x7632 : 0x5410);
  }
}

// Turn scores, scale included, of 16 * count tokens into weights under the new maximum; bring the state under it too.
template <int count>
__device__ void weigh(Rescaled& s, float (&score)[count][4], int held) {  // tokens that are there
  float m_new[2] = {s.m[0], s.m[1]};
  if (held < 16 * count) {
#pragma unroll
    for (int n = 0; n < count; n++)
      for (int i = 0; i < 4; i++)
        if (16 * n + lane() / 4 + i / 2 * 8 >= held) score[n][i] = minus_infinity();
  }
  for (auto& tile : score)
    for (int i = 0; i < 4; i++) m_new[i % 2] = fmaxf(m_new[i % 2], tile[i]);
  if (__any_sync(0xffffffff, m_new[0] > s.m[0] || m_new[1] > s.m[1])) {  // rare after the first tokens
#pragma unroll
    for (int h = 0; h < 2; h++) {
      for (int step = 4; step < 32; step *= 2) m_new[h] = fmaxf(m_new[h], __shfl_xor_sync(0xffffffff, m_new[h], step));
      const float alpha = exp2_approx(s.m[h] - base(m_new[h]));
      s.m[h] = m_new[h];
      s.sums[h] *= alpha;
      for (auto& piece : s.o)
        for (auto& side : piece) side[h] *= alpha, side[h + 2] *= alpha;
    }
  }
  for (auto& tile : score)
    for (int i = 0; i < 4; i++) tile[i] = exp2_approx(tile[i] - base(s.m[i % 2]));
}

// Weights of 16 tokens, turned over: as the right operand of a product with values.
__device__ void turn_over(unsigned (&b)[2], const float (&weight)[4]) {
#pragma unroll
  for (int half = 0; half < 2; half++) b[half] = transposed_8x8(pack(weight[2 * half], weight[2 * half + 1]));
}

// Add 16 tokens to the sums; minimum[0] is of the first 8 tokens, and 0 of tokens that have none.
__device__ void add_sums(Rescaled& s, const unsigned (&b)[2], const unsigned (&minimum)[2][SHARED_SCALES]) {
  const int row = lane() / 4;
  unsigned a[4] = {};
#pragma unroll
  for (int half = 0; half < 2; half++) {
    a[2 * half] = row == SHARED_SCALES ? ONES : 0;
#pragma unroll
    for (int x = 0; x < SHARED_SCALES; x++)
      if (row == x) a[2 * half] = minimum[half][x];
  }
  float sums[4] = {s.sums[0], s.sums[1]};  // the lower 8 rows are of no use
  mma_m16n8k16(sums, a, b[0], b[1]);
  for (int h = 0; h < 2; h++) s.sums[h] = sums[h];
}

// From the unit of codes to that of numbers.
__device__ void settle(Rescaled& s) {
  for (auto& piece : s.o)
    for (auto& side : piece)
      for (int i = 0; i < 4; i++) side[i] *= i < 2 ? 1 / UNIT : 1 / UNIT / NEXT;
}

// Put the warps' states into shared memory.
__device__ void gather(States& states, const Rescaled& s) {
  const int warp = threadIdx.x / 32;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int h = lane() % 4 * 2 + i;
    float sum[SHARED_SCALES + 1];
#pragma unroll
    for (int x = 0; x <= SHARED_SCALES; x++) sum[x] = __shfl_sync(0xffffffff, s.sums[i], 4 * x + lane() % 4);
    if (h >= HEADS) continue;
    if (lane() < 4) states.m[warp][h] = s.m[i], states.l[warp][h] = sum[SHARED_SCALES];
#pragma unroll
    for (int c = 0; c < PIECES; c++) {
#pragma unroll
      for (int n = 0; n < PAIRS; n++) {
        const int d = (8 * c + lane() / 4) * PAIRS + n;
        states.o[warp][h][d] = s.o[c][n / 2][n % 2 * 2 + i] + sum[c * 8 * PAIRS / V_GROUP];
      }
    }
  }
  __syncthreads();  // all warps' states are written before any thread reads them
}
