// What v7_wgmma does with the scores of a warpgroup: hides, weighs and rounds them; and the way out.
//
// A warp has 16 of the warpgroup's 64 rows. Lane l holds rows l / 4 and l / 4 + 8 of them, as launch/wgmma.cuh lays out
// the result of a product: number i of an array belongs to the first row where i / 2 is even, to the second where odd.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; BLOCK_S.

#pragma once

#include "launch/hopper.cuh"
#include "launch/softmax.cuh"

constexpr int PANELS = (D + 63) / 64;  // of 64 columns; columns past D are zeros by the copy engine
constexpr int WIDTH = 64 * PANELS;
constexpr int ROW = WIDTH + 8;  // of the output in shared memory: an odd multiple of 16 bytes
constexpr float LN2 = 0.69314718f;

static_assert(D >= 8 && D % 8 == 0 && D <= 128, "the copy engine takes rows of a multiple of 16 bytes");
static_assert(BLOCK_S == 64 || BLOCK_S == 128, "wgmma stands for these numbers of keys");

// The running maxima of the lane's two rows, and its share of their running sums.
struct Sums {
  float m[2] = {minus_infinity(), minus_infinity()}, l[2] = {};
};

// How many keys row t sees: a prefix. Bottom right aligned, so negative where T > S and t sees none.
__device__ int keys_seen(int t, int T, int S) { return CAUSAL ? min(S, t + 1 + S - T) : S; }

// Hide the keys of a tile that a row does not see; t is the lane's first row.
__device__ void hide(float (&score)[BLOCK_S / 2], int t, int tile, int T, int S, int lane) {
  const int first = tile * BLOCK_S + lane % 4 * 2;  // the lane's first key
  const int seen[2] = {keys_seen(t, T, S) - first, keys_seen(t + 8, T, S) - first};
#pragma unroll
  for (int i = 0; i < BLOCK_S / 2; i++)
    if (i / 4 * 8 + i % 2 >= seen[i / 2 % 2]) score[i] = minus_infinity();
}

// Find the new maxima (of scores as they are: scale > 0), what they shift scores by, and what mends older sums.
__device__ void raise_maxima(
    const float (&score)[BLOCK_S / 2], Sums& sums, float (&shift)[2], float (&alpha)[2], float scale_log2e) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float m_new = sums.m[half];
#pragma unroll
    for (int i = 2 * half; i < BLOCK_S / 2; i += 4) m_new = fmaxf(m_new, fmaxf(score[i], score[i + 1]));
    m_new = quad_max(m_new);
    shift[half] = base(m_new) * scale_log2e;
    alpha[half] = exp2_approx(__fmul_rn(sums.m[half], scale_log2e) - shift[half]);  // the older shift, rounded as then
    sums.m[half] = m_new;
    sums.l[half] *= alpha[half];
  }
}

// Turn scores into weights, and add them up.
__device__ void weigh(float (&score)[BLOCK_S / 2], Sums& sums, const float (&shift)[2], float scale_log2e) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 2 * half; i < BLOCK_S / 2; i += 4)
      for (int e = i; e < i + 2; e++) sum += score[e] = exp2_approx(score[e] * scale_log2e - shift[half]);
    sums.l[half] += sum;
  }
}

__device__ void rescale(float (&o)[WIDTH / 2], const float (&alpha)[2]) {
#pragma unroll
  for (int i = 0; i < WIDTH / 2; i++) o[i] *= alpha[i / 2 % 2];
}

// P in float16: where the scores of 16 keys stand is where wgmma wants its left operand.
__device__ void round_weights(unsigned (&p)[BLOCK_S / 16][4], const float (&score)[BLOCK_S / 2]) {
#pragma unroll
  for (int i = 0; i < BLOCK_S / 4; i++) p[i / 4][i % 4] = pack(score[2 * i], score[2 * i + 1]);
}

// Write the warp's 16 rows of o, 16 bytes a lane, by way of shared memory, and of lse.
__device__ void write_rows(
    __half* __restrict__ o,  // (rows, D), of the warp
    float* __restrict__ lse,  // (rows,)
    const float (&o_reg)[WIDTH / 2],
    const Sums& sums,
    __half* smem,  // (16, ROW), of the warp
    int rows,  // 0 or fewer where the warp stands past the last one
    float scale_log2e,
    int lane) {
  __syncwarp();  // the rows of the last item are copied before they are overwritten
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = 8 * half + lane / 4;
    const float sum = quad_sum(sums.l[half]), inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    if (row < rows && lane % 4 == 0)
      lse[row] = sum == 0.0f ? minus_infinity() : sums.m[half] * scale_log2e * LN2 + logf(sum);
#pragma unroll
    for (int i = 2 * half; i < WIDTH / 2; i += 4)
      *reinterpret_cast<unsigned*>(smem + row * ROW + i / 4 * 8 + lane % 4 * 2) =
          pack(o_reg[i] * inverse, o_reg[i + 1] * inverse);
  }
  __syncwarp();  // the rows are whole before another lane copies them
  constexpr int CHUNKS = D / 8;
  for (int i = lane; i < min(rows, 16) * CHUNKS; i += 32)
    reinterpret_cast<uint4*>(o)[i] = *reinterpret_cast<const uint4*>(smem + i / CHUNKS * ROW + i % CHUNKS * 8);
}
