// Online softmax on a tile of scores as wgmma leaves it in a warpgroup's registers, and the way out of its outputs.
//
// A warp has 16 of the warpgroup's 64 rows. Lane l holds rows l / 4 and l / 4 + 8 of them: number i of an array belongs
// to the first row where i / 2 is even, to the second where it is odd (wgmma.cuh). Scores are as the product left them;
// scale_log2e = scale * log2(e) is greater than 0, and exp(x * scale) = exp2(x * scale_log2e).
//
// Constants, by -D: CAUSAL 0 or 1.

#pragma once

#include "launch/hopper.cuh"
#include "launch/mask.cuh"
#include "launch/softmax.cuh"

// The running maxima of the lane's two rows, and its share of their running sums.
struct Sums {
  float m[2] = {minus_infinity(), minus_infinity()}, l[2] = {};
};

// Hide the keys of a tile that a row does not see.
template <int N>
__device__ void hide(
    float (&score)[N],
    int row,  // the lane's first one
    int key,  // the tile's first one
    int T,
    int S) {
  const int first = key + threadIdx.x % 4 * 2;  // the lane's first key
  const int seen[2] = {keys_seen(row, T, S) - first, keys_seen(row + 8, T, S) - first};
#pragma unroll
  for (int i = 0; i < N; i++)
    if (i / 4 * 8 + i % 2 >= seen[i / 2 % 2]) score[i] = minus_infinity();
}

// Find the new maxima (of scores as they are: scale > 0), what they shift scores by, and what mends older sums.
template <int N>
__device__ void raise_maxima(
    const float (&score)[N], Sums& sums, float (&shift)[2], float (&alpha)[2], float scale_log2e) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float m_new = sums.m[half];
#pragma unroll
    for (int i = 2 * half; i < N; i += 4) m_new = fmaxf(m_new, fmaxf(score[i], score[i + 1]));
    m_new = quad_max(m_new);
    shift[half] = base(m_new) * scale_log2e;
    alpha[half] = exp2_approx(__fmul_rn(sums.m[half], scale_log2e) - shift[half]);  // the older shift, rounded as then
    sums.m[half] = m_new;
    sums.l[half] *= alpha[half];
  }
}

// Turn scores into weights, and add them up.
template <int N>
__device__ void weigh(float (&score)[N], Sums& sums, const float (&shift)[2], float scale_log2e) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 2 * half; i < N; i += 4)
      for (int e = i; e < i + 2; e++) sum += score[e] = exp2_approx(score[e] * scale_log2e - shift[half]);
    sums.l[half] += sum;
  }
}

template <int N>
__device__ void rescale(float (&o)[N], const float (&alpha)[2]) {
#pragma unroll
  for (int i = 0; i < N; i++) o[i] *= alpha[i / 2 % 2];
}

// P in float16: where the scores of 16 keys stand is where wgmma wants its left operand.
template <int N>
__device__ void round_weights(unsigned (&p)[N][4], const float (&score)[8 * N]) {
#pragma unroll
  for (int i = 0; i < 4 * N; i++) p[i / 4][i % 4] = pack(score[2 * i], score[2 * i + 1]);
}

// A warp's 16 rows of outputs on their way out, in panels of 64 columns as the copy engine wants them.
template <int PANELS>
struct alignas(1024) Outgoing {
  __half panel[PANELS][16][64];
};

// Divide a warp's outputs by their sums and have the copy engine write them; write lse. The engine leaves out what is
// past row T or column D. It reads `out` on while the warp goes on, and until the warp calls this or sent() again.
template <int PANELS>
__device__ void send_rows(
    const TensorMap& map,  // of o (B * H, T, D), boxes of 16 rows and 64 columns
    float* __restrict__ lse,  // (T,), of the head, natural logarithm
    Outgoing<PANELS>& out,  // the warp's own
    const float (&o)[32 * PANELS],
    const Sums& sums,
    int head,  // [b, h]
    int row,  // the warp's first one
    int T,
    float scale_log2e) {
  const int lane = threadIdx.x % 32;
  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float sum = quad_sum(sums.l[half]);
    const int t = row + 8 * half + lane / 4;
    inverse[half] = sum == 0.0f ? 0.0f : 1.0f / sum;
    if (t < T && lane % 4 == 0)
      lse[t] = sum == 0.0f ? minus_infinity() : sums.m[half] * scale_log2e * LN2 + logf(sum);
  }
  if (lane == 0) tma_store_wait<0>();
  __syncwarp();  // the engine has read the rows before, which are overwritten now
#pragma unroll
  for (int i = 0; i < 32 * PANELS; i += 8) {  // two groups of 8 columns; a lane names row lane % 16 of one of them
    const int group = i / 4 + lane / 16;
    const auto both = [&](int at, int half) { return pack(o[at] * inverse[half], o[at + 1] * inverse[half]); };
    stmatrix_x4(&out.panel[group / 8][lane % 16][(group % 8 ^ lane % 8) * 8],
                both(i, 0), both(i + 2, 1), both(i + 4, 0), both(i + 6, 1));
  }
  fence_async();
  __syncwarp();  // all rows are there, for the engine too, before it is asked
  if (lane == 0) {
    for (int p = 0; p < PANELS; p++) tma_store(map, out.panel[p], 64 * p, row, head);
    tma_store_commit();
  }
}

// Wait until the engine has read all that the warp has sent: shared memory must outlive it.
__device__ inline void sent() {
  if (threadIdx.x % 32 == 0) tma_store_wait<0>();
}
