// Operands of tensor cores, made in registers: of codes, of float16, and of float32 as three bfloat16.
//
// A lane holds a quarter of the channels of one key, and of two values a run of channels each. Which channel stands in
// which place of an operand is free, as long as both operands agree: so codes are used in the order in which they lie
// in memory. states.cuh has the constants.

#pragma once

#include "states.cuh"

constexpr int PARTS = ITEM_BYTES == 2 ? 1 : 3;  // 16-bit numbers that stand for one of q, of a weight, of a minimum
constexpr int OCTETS = D / 32;  // 8 neighbouring channels each: a lane's quarter of a key
constexpr int WORDS = D * BITS / 128;  // 32-bit words of a lane's quarter of a key
constexpr int WIDE = V_GROUP == D || V_GROUP % 64 == 0;  // whether 64 neighbouring channels of a value share a scale
constexpr int RUN = BITS == 4 && D % 64 == 0 && WIDE ? 8 : 4;  // neighbouring channels of a value that a lane loads
constexpr int UNITS = D / (8 * RUN);  // such loads of 8 lanes, side by side, that make a value
constexpr int SHARING = V_GROUP / (8 * RUN);  // units that share a scale
constexpr int TILES = RUN / 2;  // 16-channel tiles of output of a unit

static_assert(D == 32 || D == 64 || D == 128, "a lane's quarter of a key is one load, or two");
static_assert(V_GROUP == D || V_GROUP % (8 * RUN) == 0, "the channels of a unit share a scale");

struct Pair {  // two neighbouring places of an operand, the lower one in the lower half
  unsigned part[PARTS];
};

// PTX ISA 9.7.14.5.8: c += a b; a 16x16 by rows, b 16x8 by columns; c 16x8, float32. Lane l holds in a[0] the elements
// a[l / 4, 2 * (l % 4) + {0, 1}], in a[1] those of row l / 4 + 8, in a[2] and a[3] those 8 columns further; in b0
// b[2 * (l % 4) + {0, 1}, l / 4], in b1 those 8 rows further; in c[0] and c[1] c[l / 4, 2 * (l % 4) + {0, 1}], in c[2]
// and c[3] those of row l / 4 + 8.
__device__ void mma_m16n8k16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (ITEM_BYTES == 2) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// c += q k, q in the upper 8 rows: every part of one with every part of the other that matters.
__device__ void mma_rows(float (&c)[4], const Pair (&q)[2], const Pair (&k)[2]) {
#pragma unroll
  for (int i = 0; i < PARTS; i++) {
    const unsigned a[4] = {q[0].part[i], 0, q[1].part[i], 0};
    for (int j = 0; i + j < PARTS; j++) mma_m16n8k16(c, a, k[0].part[j], k[1].part[j]);
  }
}

// The same, k being codes: one part of them is all.
__device__ void mma_codes(float (&c)[4], const Pair (&q)[2], unsigned b0, unsigned b1) {
#pragma unroll
  for (int i = 0; i < PARTS; i++) {
    const unsigned a[4] = {q[0].part[i], 0, q[1].part[i], 0};
    mma_m16n8k16(c, a, b0, b1);
  }
}

// The upper halves of two words: two float32 cut to bfloat16.
__device__ unsigned upper(float low, float high) {
  return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
}

// Two numbers as operands: rounded to float16, or cut into bfloat16 that hold 8 bits each of the 24.
__device__ Pair split(float low, float high) {
  Pair pair;
  if constexpr (ITEM_BYTES == 2) {
    const __half2 both = __floats2half2_rn(low, high);
    pair.part[0] = reinterpret_cast<const unsigned&>(both);
  } else {
    for (unsigned& part : pair.part) {
      part = upper(low, high);
      low -= __uint_as_float(part << 16);
      high -= __uint_as_float(part & 0xffff0000);
    }
  }
  return pair;
}

// Two codes, set into the bits of two float16 of 1024 and more, as an operand.
__device__ unsigned operand(unsigned pair) {
  const __half2 code = __hsub2(reinterpret_cast<const __half2&>(pair), __float2half2_rn(1024.0f));  // exact
  if constexpr (ITEM_BYTES == 2) return reinterpret_cast<const unsigned&>(code);
  const float2 wide = __half22float2(code);
  return upper(wide.x, wide.y);  // 8 bits, of which bfloat16 loses none
}

__device__ int lane() { return threadIdx.x % 32; }

// The first channel of octet t of a lane's quarter of a key: the quarter is one load, or two of 16 bytes.
__device__ int octet(int t) {
  const int quarter = lane() % 4;
  return WORDS == 8 ? t / 2 * 64 + quarter * 16 + t % 2 * 8 : quarter * (D / 4) + 8 * t;
}

// Places 2 * p and 2 * p + 1 of an octet's products hold these two of its 8 channels.
__device__ constexpr int channel(int p, int which) { return BITS == 4 ? p + 4 * which : 2 * p + which; }

template <typename item_t>
__device__ void read_8(float (&x)[8], const item_t* row) {  // 16-byte aligned
  struct alignas(16) Eight {
    item_t item[8];
  };
  const Eight eight = *reinterpret_cast<const Eight*>(row);
  for (int i = 0; i < 8; i++) x[i] = static_cast<float>(eight.item[i]);
}

__device__ void arrange(Pair (&out)[2][2], const float (&x)[8]) {  // an octet as operands of its two products
#pragma unroll
  for (int p = 0; p < 4; p++) out[p / 2][p % 2] = split(x[channel(p, 0)], x[channel(p, 1)]);
}

template <int words>
struct alignas(4 * words) Words {
  unsigned word[words];
};

// Read a lane's quarter of a key's codes.
__device__ void read_key(unsigned (&word)[WORDS], const unsigned char* __restrict__ row) {
  constexpr int some = WORDS < 4 ? WORDS : 4;
#pragma unroll
  for (int i = 0; i < WORDS; i += 4) {
    const auto load = reinterpret_cast<const Words<some>*>(row + 4 * some * (lane() % 4) + 16 * i)[0];
    for (int n = 0; n < some; n++) word[i + n] = load.word[n];
  }
}

// Add an octet of codes times the queries to 8 tokens' scores.
__device__ void add_octet(float (&score)[4], const Pair (&q)[2][2], const unsigned (&word)[WORDS], int t) {
  unsigned code[4];
#pragma unroll
  for (int p = 0; p < 4; p++) {
    if constexpr (BITS == 4) code[p] = operand(masked_or(word[t] >> 4 * p, 0x000f000f, MAGIC));
    else code[p] = operand(__byte_perm(word[2 * t + p / 2], MAGIC, p % 2 ? 0x7372 : 0x7170));
  }
  for (int j = 0; j < 2; j++) mma_codes(score, q[j], code[2 * j], code[2 * j + 1]);
}

// Read a lane's run of a value's codes.
__device__ unsigned read_value(const unsigned char* __restrict__ unit) {
  if constexpr (RUN * BITS == 32) return reinterpret_cast<const unsigned*>(unit)[lane() / 4];
  return reinterpret_cast<const unsigned short*>(unit)[lane() / 4];
}

// Two tokens' codes of channels `tile` and TILES + tile of a lane's run, as operands.
__device__ void side_by_side(unsigned (&both)[2], unsigned first, unsigned second, int tile) {
  if constexpr (BITS == 8) {
    const unsigned low = __byte_perm(first, second, 0x5140), high = __byte_perm(first, second, 0x7362);
    both[0] = operand(__byte_perm(low, MAGIC, tile ? 0x7372 : 0x7170));
    both[1] = operand(__byte_perm(high, MAGIC, tile ? 0x7372 : 0x7170));
  } else {
    const unsigned low = __byte_perm(first, second, 0x5410);
    const unsigned high = RUN == 8 ? __byte_perm(first, second, 0x7632) : low >> 8;
    both[0] = operand(masked_or(low >> 4 * tile, 0x000f000f, MAGIC));
    both[1] = operand(masked_or(high >> 4 * tile, 0x000f000f, MAGIC));
  }
}
