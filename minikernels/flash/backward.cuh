// What the backward kernels on tensor cores share: tiles in shared memory, dq summed in HBM, and the two small kernels
// before and after. The including file has D and CAUSAL as constants, by -D.

#pragma once

#include "launch/mma.cuh"
#include "launch/softmax.cuh"

constexpr int PANELS = D <= 64 ? 1 : 2;  // of 64 columns: a tile stands in shared memory as panels of 128-byte rows
constexpr int PITCH = 64 * PANELS;
constexpr int DTILES = (D + 15) / 16 * 2;  // 8-column tiles of D, padded with zeros to whole steps of mma
constexpr int ROWS = 16;  // of dq a tile of mma; the small kernels take as many a block
constexpr int SMALL = 128;  // threads of the small kernels
constexpr float LOG2E = 1.44269504f;

static_assert(D >= 8 && D <= 128 && D % 8 == 0, "rows of D float16 are read 16 bytes at a time");

// Where a column, the first of 8, stands in a tile (panels, COUNT, 64): 8 rows of one column lie in 8 groups of banks.
// wgmma knows this order as the 128-byte swizzle.
template <int COUNT>
__device__ int place(int row, int column) {
  return column / 64 * COUNT * 64 + row * 64 + (column % 64 ^ row % 8 * 8);
}

// Does query t see key s? Bottom right aligned.
__device__ bool sees(int t, int s, int T, int S) { return s < S && (!CAUSAL || s <= t + S - T); }

// The first tile of queries that sees any key from `key` on.
__device__ int first_tile(int key, int T, int S) { return CAUSAL ? max(0, key + T - S) / BLOCK_T : 0; }

// PTX ISA 9.7.13.7: add four neighbours in HBM; 16 bytes at once since compute capability 9.0.
__device__ void add_in_hbm(float* to, const float* x) {
#if __CUDA_ARCH__ >= 900
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]),
               "f"(x[3])
               : "memory");
#else
  for (int e = 0; e < 4; e++) atomicAdd(to + e, x[e]);
#endif
}

// What follows from x is computed anew behind this place: sums fill the registers, and few are left to keep it in.
__device__ void forget(int& x) { asm volatile("" : "+r"(x)); }

// Start copying a tile to shared memory; rows past the last one become 0: 0 * dO must not be NaN.
template <int COUNT, int THREADS>
__device__ void copy_tile(
    __half* tile,  // (PANELS, COUNT, 64), swizzled
    const __half* __restrict__ source,  // (rows, D)
    int rows) {
  constexpr int CHUNKS = D / 8, STEPS = (COUNT * CHUNKS + THREADS - 1) / THREADS;
  constexpr bool EVEN = THREADS % (8 * CHUNKS) == 0;  // steps of whole groups of 8 rows leave the swizzle as it is
  int thread = threadIdx.x;
  forget(thread);
#pragma unroll
  for (int n = 0; n < STEPS; n++) {
    const int i = (EVEN ? 0 : n * THREADS) + thread;
    const int further = EVEN ? n * (THREADS / CHUNKS) : 0;  // rows: a constant, so no address is computed
    const int row = i / CHUNKS, column = i % CHUNKS * 8;
    if (COUNT * CHUNKS % THREADS == 0 || row < COUNT)
      cp_async_16(tile + place<COUNT>(row, column) + further * 64, source + row * D + column + further * D,
                  row + further < rows ? 16 : 0);
  }
}

// The copies never touch columns past D; they are zero once and for all, so that products may run over them.
template <int COUNT, int THREADS>
__device__ void clear_padding(__half* tile) {  // (PANELS, COUNT, 64), swizzled
  for (int row = threadIdx.x; row < COUNT; row += THREADS)
    for (int column = D; column < PITCH; column += 8)
      *reinterpret_cast<uint4*>(tile + place<COUNT>(row, column)) = {};
}

// ---- what a warp does with the scores of 16 keys, a row a key, against 2 N queries: a lane holds N cells as products
// leave them, cells 4 n to 4 n + 3 being queries 8 n + lane % 4 * 2 and the next of keys lane / 4 and lane / 4 + 8.

// s = exp2(s * scale_log2e - lse2).
template <int N>
__device__ void to_weights(
    float (&s)[N],
    const float4* stats,  // (N): lse2 and -delta of two queries
    float scale_log2e,
    int lane) {
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float4 two = stats[i / 4 * 4 + lane % 4];
    s[i] = exp2_approx(s[i] * scale_log2e - (i % 2 ? two.z : two.x));
  }
}

// Weights of keys that a query does not see are 0.
template <int N>
__device__ void mask_weights(
    float (&p)[N],
    int first_t,  // of the queries
    int first_s,  // of the 16 keys
    int T,
    int S,
    int lane) {
#pragma unroll
  for (int i = 0; i < N; i++) {
    const int t = first_t + i / 4 * 8 + lane % 4 * 2 + i % 2, s = first_s + i / 2 % 2 * 8 + lane / 4;
    if (!sees(t, s, T, S)) p[i] = 0.0f;
  }
}

// Two neighbouring 8-query tiles, rounded to float16, are one left operand, without any exchange between lanes.
template <int N>
__device__ void to_operand(unsigned (&a)[N / 8][4], const float (&c)[N]) {
#pragma unroll
  for (int i = 0; i < N / 2; i++) a[i / 4][i % 4] = pack(c[2 * i], c[2 * i + 1]);
}

// Write 16 rows of dk or dv, 16 bytes a lane, by way of the same rows of K or V, which no one needs any more.
template <int COUNT, int N>
__device__ void store_rows(
    __half* __restrict__ out,  // (S, D), from the block's first key on
    const float (&c)[N],
    float factor,
    __half* smem,  // (PANELS, COUNT, 64), swizzled
    int row,  // the first of the 16 in the block
    int rows,  // of the block that exist
    int lane) {
#pragma unroll
  for (int i = 0; i < N / 2; i++)
    *reinterpret_cast<unsigned*>(smem + place<COUNT>(row + i % 2 * 8 + lane / 4, i / 2 * 8) + lane % 4 * 2) =
        pack(c[2 * i] * factor, c[2 * i + 1] * factor);
  __syncwarp();  // the rows are whole before another lane copies them
  constexpr int CHUNKS = D / 8;
  for (int i = lane; i < 16 * CHUNKS && row + i / CHUNKS < rows; i += 32)
    reinterpret_cast<uint4*>(out + row * D)[i] =
        *reinterpret_cast<const uint4*>(smem + place<COUNT>(row + i / CHUNKS, i % CHUNKS * 8));
}

// ---- the two small kernels.

// Before: stats and a dq_sum of zeros, for 16 rows a block, 8 lanes a row. Rows past the last one get stats of 0.
extern "C" __global__ void __launch_bounds__(SMALL) backward_delta(
    const __half* __restrict__ o,  // (B, H, T, D)
    const __half* __restrict__ d_o,  // (B, H, T, D)
    const float* __restrict__ lse,  // (B, H, T), natural logarithm
    float2* __restrict__ stats,  // (B, H, T rounded up to BLOCK_T): lse2 = lse * log2(e), and -delta = -do . o
    float4* __restrict__ dq_sum,  // (B, H, T rounded up to BLOCK_T / 16, DTILES, 32)
    int T) {
  const size_t head = static_cast<size_t>(blockIdx.z) * gridDim.y + blockIdx.y;  // [b, h]
  const int t = blockIdx.x * ROWS + threadIdx.x / 8;
  float delta = 0.0f;
  for (int d = threadIdx.x % 8 * 8; d < D && t < T; d += 64) {
    const size_t at = (head * T + t) * D + d;
    const uint4 x = *reinterpret_cast<const uint4*>(o + at), y = *reinterpret_cast<const uint4*>(d_o + at);
    for (int e = 0; e < 4; e++) {
      const float2 u = __half22float2(reinterpret_cast<const __half2*>(&x)[e]);
      const float2 w = __half22float2(reinterpret_cast<const __half2*>(&y)[e]);
      delta += u.x * w.x + u.y * w.y;
    }
  }
  for (int step = 4; step; step /= 2) delta += __shfl_xor_sync(0xffffffff, delta, step);
  if (threadIdx.x % 8 == 0) {
    const float row_lse = t < T ? lse[head * T + t] : 0.0f;
    // A row that sees no key: lse2 = inf makes each of its weights exp2(-inf) = 0.
    const float lse2 = row_lse == minus_infinity() ? -row_lse : row_lse * LOG2E;
    stats[head * gridDim.x * ROWS + t] = {lse2, -delta};
  }
  const size_t first = (head * gridDim.x + blockIdx.x) * DTILES * 32;
  for (int i = threadIdx.x; i < DTILES * 32; i += SMALL) dq_sum[first + i] = {};
}

// After: dq = dq_sum * scale in float16, 16 rows a block; a thread gathers 8 columns of a row from four lanes' sums.
extern "C" __global__ void __launch_bounds__(SMALL) backward_round(
    const float* __restrict__ dq_sum,  // (B, H, T rounded up to BLOCK_T / 16, DTILES, 32, 4)
    __half* __restrict__ dq,  // (B, H, T, D)
    int T,
    int tiles,  // of 16 rows, in dq_sum
    float scale) {
  const size_t head = static_cast<size_t>(blockIdx.z) * gridDim.y + blockIdx.y;  // [b, h]
  constexpr int CHUNKS = D / 8;
  const float* sums = dq_sum + (head * tiles + blockIdx.x) * DTILES * 128;
  for (int i = threadIdx.x; i < ROWS * CHUNKS; i += SMALL) {
    const int row = i / CHUNKS, d_tile = i % CHUNKS, t = blockIdx.x * ROWS + row;
    if (t >= T) break;
    unsigned eight[4];
    for (int e = 0; e < 4; e++) {
      const float2 two = *reinterpret_cast<const float2*>(sums + (d_tile * 32 + row % 8 * 4 + e) * 4 + row / 8 * 2);
      eight[e] = pack(two.x * scale, two.y * scale);
    }
    *reinterpret_cast<uint4*>(dq + (head * T + t) * D + 8 * d_tile) = {eight[0], eight[1], eight[2], eight[3]};
  }
}
