// v4_mma: the backward pass of softmax attention on the tensor cores, by mma.sync m16n8k16, in five products.
//
// A block owns BLOCK_S keys of one key/value head and walks the queries that see them, of every query head that shares
// it; each of its WARPS warps owns 16 * MTILES of the keys. Scores stand transposed, a row a key: P^T and dS^T then lie
// in the registers as the left operands of dV += P^T dO and dK += dS^T Q, and dK and dV never leave them. dQ = dS K
// sums over the keys of all warps: dS crosses shared memory, and blocks add their parts in HBM, in float32, in the
// order in which the accumulators stand in registers: one instruction of a warp adds 512 neighbouring bytes.
// Differs from v3_split_rows: products on the tensor cores; dq by atomics, so 5 products a tile pair and not 7.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; WARPS; MTILES; BLOCK_T; CHUNK, the queries of which
// a warp holds scores at a time.

#include "backward.cuh"

constexpr int THREADS = 32 * WARPS;
constexpr int BLOCK_S = 16 * MTILES * WARPS;
constexpr int NTILES = CHUNK / 8;  // 8-query tiles of scores
constexpr int QTILES = BLOCK_T / 32;  // 16-row tiles of dq of a warp: two warps share the rows of a tile of queries,
constexpr int COLUMNS = PITCH / (WARPS / 2);  // WARPS / 2 its columns, of which a warp sums up to 64 at a time
constexpr int PAIRS = (COLUMNS < 64 ? COLUMNS : 64) / 16;

static_assert(BLOCK_T % 64 == 0 && BLOCK_T % CHUNK == 0 && CHUNK % 16 == 0, "whole panels of dS, whole steps of mma");
static_assert(BLOCK_T / 2 <= THREADS, "a thread fetches the stats of two queries");
static_assert(WARPS % 2 == 0 && COLUMNS * (WARPS / 2) == PITCH && COLUMNS % (16 * PAIRS) == 0, "even shares of dq");

// c += a b^T: the warp's keys, rows of a, against CHUNK queries, rows of b.
__device__ void multiply_rows(
    float (&c)[MTILES][NTILES][4],
    const __half* a,  // the warp's rows of (PANELS, BLOCK_S, 64)
    const __half* b,  // the chunk's rows of (PANELS, BLOCK_T, 64)
    int lane) {
#pragma unroll
  for (int d = 0; d < 8 * DTILES; d += 16) {
    unsigned x[MTILES][4];
#pragma unroll
    for (int i = 0; i < MTILES; i++) ldmatrix_x4(x[i], a + place<BLOCK_S>(16 * i + lane % 16, d + lane / 16 * 8));
#pragma unroll
    for (int n = 0; n < NTILES; n += 2) {
      unsigned y[4];
      ldmatrix_x4(y, b + place<BLOCK_T>(8 * n + lane / 16 * 8 + lane % 8, d + lane / 8 % 2 * 8));
#pragma unroll
      for (int i = 0; i < MTILES; i++) {
        mma_m16n8k16(c[i][n], x[i], y[0], y[1]);
        mma_m16n8k16(c[i][n + 1], x[i], y[2], y[3]);
      }
    }
  }
}

// c += a b: a, the warp's keys against CHUNK queries, from the registers in which it was computed.
__device__ void add_product(
    float (&c)[MTILES][DTILES][4],
    const unsigned (&a)[MTILES][NTILES / 2][4],
    const __half* b,  // the chunk's rows of (PANELS, BLOCK_T, 64)
    int lane) {
#pragma unroll
  for (int n = 0; n < NTILES / 2; n++)
#pragma unroll
    for (int d = 0; d < DTILES; d += 2) {
      unsigned y[4];
      ldmatrix_x4_trans(y, b + place<BLOCK_T>(16 * n + lane % 16, 8 * d + lane / 16 * 8));
#pragma unroll
      for (int i = 0; i < MTILES; i++) {
        mma_m16n8k16(c[i][d], a[i][n], y[0], y[1]);
        mma_m16n8k16(c[i][d + 1], a[i][n], y[2], y[3]);
      }
    }
}

// Two neighbouring 8-query tiles, rounded to float16, are one left operand, without any exchange between lanes.
__device__ void to_operand(unsigned (&a)[MTILES][NTILES / 2][4], const float (&c)[MTILES][NTILES][4]) {
#pragma unroll
  for (int i = 0; i < MTILES; i++)
#pragma unroll
    for (int n = 0; n < NTILES; n++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        a[i][n / 2][n % 2 * 2 + half] = pack(c[i][n][2 * half], c[i][n][2 * half + 1]);
}

// s = exp2(s * scale_log2e - lse2).
__device__ void to_weights(
    float (&s)[MTILES][NTILES][4],
    const float4* stats,  // (CHUNK / 2): lse2 and -delta of two queries
    float scale_log2e,
    int lane) {
#pragma unroll
  for (int n = 0; n < NTILES; n++) {
    const float4 two = stats[4 * n + lane % 4];
#pragma unroll
    for (int i = 0; i < MTILES; i++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        s[i][n][e] = exp2_approx(s[i][n][e] * scale_log2e - (e % 2 ? two.z : two.x));
  }
}

// Weights of keys that a query does not see are 0.
__device__ void mask_weights(
    float (&p)[MTILES][NTILES][4],
    int first_t,  // of the chunk
    int first_s,  // of the warp
    int T,
    int S,
    int lane) {
#pragma unroll
  for (int i = 0; i < MTILES; i++)
#pragma unroll
    for (int n = 0; n < NTILES; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int t = first_t + 8 * n + lane % 4 * 2 + e % 2, s = first_s + 16 * i + e / 2 * 8 + lane / 4;
        if (!sees(t, s, T, S)) p[i][n][e] = 0.0f;
      }
}

// The sums of dP start at -delta: dP - delta costs nothing.
__device__ void start_at_minus_delta(
    float (&dp)[MTILES][NTILES][4],
    const float4* stats,  // (CHUNK / 2): lse2 and -delta of two queries
    int lane) {
#pragma unroll
  for (int n = 0; n < NTILES; n++) {
    const float4 two = stats[4 * n + lane % 4];
#pragma unroll
    for (int i = 0; i < MTILES; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) dp[i][n][e] = e % 2 ? two.w : two.y;
  }
}

// Write the warp's dS^T of one chunk where all warps read it.
__device__ void share(
    __half* ds_smem,  // (BLOCK_T / 64, BLOCK_S, 64)
    const unsigned (&a)[MTILES][NTILES / 2][4],
    int row,  // of the warp
    int column,  // of the chunk
    int lane) {
#pragma unroll
  for (int i = 0; i < MTILES; i++)
#pragma unroll
    for (int n = 0; n < NTILES; n++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<unsigned*>(
            ds_smem + place<BLOCK_S>(row + 16 * i + 8 * half + lane / 4, column + 8 * n) + lane % 4 * 2) =
            a[i][n / 2][n % 2 * 2 + half];
}

// Add dS K of one tile of queries to dq_sum: 16 * QTILES rows and 16 * PAIRS columns of it.
__device__ void add_queries(
    float* __restrict__ dq_sum,  // (BLOCK_T / 16, DTILES, 32, 4), in the order of mma's accumulators
    const __half* ds_smem,  // (BLOCK_T / 64, BLOCK_S, 64)
    const __half* k_smem,  // (PANELS, BLOCK_S, 64)
    int first_tile,  // of 16 rows
    int first_column,
    int lane) {
  float c[QTILES][2 * PAIRS][4] = {};
#pragma unroll 4
  for (int s = 0; s < BLOCK_S; s += 16) {
    unsigned x[QTILES][4];
#pragma unroll
    for (int i = 0; i < QTILES; i++)
      ldmatrix_x4_trans(x[i], ds_smem + place<BLOCK_S>(s + lane / 16 * 8 + lane % 8,
                                                       16 * (first_tile + i) + lane / 8 % 2 * 8));
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
      unsigned y[4];
      ldmatrix_x4_trans(y, k_smem + place<BLOCK_S>(s + lane % 16, first_column + 16 * j + lane / 16 * 8));
#pragma unroll
      for (int i = 0; i < QTILES; i++) {
        mma_m16n8k16(c[i][2 * j], x[i], y[0], y[1]);
        mma_m16n8k16(c[i][2 * j + 1], x[i], y[2], y[3]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < QTILES; i++)
#pragma unroll
    for (int j = 0; j < 2 * PAIRS; j++) {
      const int d_tile = first_column / 8 + j;  // columns past DTILES were multiplied from whatever stood there
      if (8 * DTILES == PITCH || d_tile < DTILES)
        add_in_hbm(dq_sum + (((first_tile + i) * DTILES + d_tile) * 32 + lane) * 4, c[i][j]);
    }
}

// Write the warp's rows of dk or dv, 16 bytes a lane, by way of its own rows of K or V, which no one needs any more.
__device__ void store_rows(
    __half* __restrict__ out,  // (rows, D)
    const float (&c)[MTILES][DTILES][4],
    float factor,
    __half* smem,  // the warp's rows of (PANELS, BLOCK_S, 64)
    int rows,  // 0 or fewer where the warp stands past the last key
    int lane) {
#pragma unroll
  for (int i = 0; i < MTILES; i++)
#pragma unroll
    for (int d = 0; d < DTILES; d++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<unsigned*>(smem + place<BLOCK_S>(16 * i + 8 * half + lane / 4, 8 * d) + lane % 4 * 2) =
            pack(c[i][d][2 * half] * factor, c[i][d][2 * half + 1] * factor);
  __syncwarp();  // the rows are whole before another lane copies them
  constexpr int CHUNKS = D / 8;
  for (int i = lane; i < 16 * MTILES * CHUNKS && i < rows * CHUNKS; i += 32)
    reinterpret_cast<uint4*>(out)[i] =
        *reinterpret_cast<const uint4*>(smem + place<BLOCK_S>(i / CHUNKS, i % CHUNKS * 8));
}

extern "C" __global__ void __launch_bounds__(THREADS) v4_mma_backward(
    const __half* __restrict__ q,  // (B, H, T, D)
    const __half* __restrict__ k,  // (B, G, S, D)
    const __half* __restrict__ v,  // (B, G, S, D)
    const __half* __restrict__ d_o,  // (B, H, T, D)
    const float4* __restrict__ stats,  // (B, H, T rounded up to BLOCK_T / 2): lse2 and -delta of two queries
    float* __restrict__ dq_sum,  // (B, H, T rounded up to BLOCK_T / 16, DTILES, 32, 4)
    __half* __restrict__ dk,  // (B, G, S, D)
    __half* __restrict__ dv,  // (B, G, S, D)
    int H,
    int G,
    int T,
    int S,
    float scale,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(1024) __half smem[];
  __half* k_smem = smem;  // (PANELS, BLOCK_S, 64)
  __half* v_smem = k_smem + BLOCK_S * PITCH;  // (PANELS, BLOCK_S, 64)
  __half* q_smem = v_smem + BLOCK_S * PITCH;  // 2 times (PANELS, BLOCK_T, 64)
  __half* do_smem = q_smem + 2 * BLOCK_T * PITCH;  // 2 times (PANELS, BLOCK_T, 64)
  __half* ds_smem = do_smem + 2 * BLOCK_T * PITCH;  // (BLOCK_T / 64, BLOCK_S, 64)
  float4* stats_smem = reinterpret_cast<float4*>(ds_smem + BLOCK_S * BLOCK_T);  // 2 times (BLOCK_T / 2)

  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warp_row = warp * 16 * MTILES;
  const int block_key = blockIdx.x * BLOCK_S, share_of = H / G;
  const int group = blockIdx.z * G + blockIdx.y;  // of k, v, dk and dv: [b, g]
  const int tiles = (T + BLOCK_T - 1) / BLOCK_T;
  const int first_tile = CAUSAL ? max(0, block_key + T - S) / BLOCK_T : 0;  // the first that sees any of the keys
  int head = group * share_of, tile = first_tile;  // [b, h], the first of the group's
  const int end = head + share_of;

  const auto fetch = [&](int head, int tile, int stage) {  // q, do and stats of one tile of queries
    const size_t row = static_cast<size_t>(head) * T + tile * BLOCK_T;
    copy_tile<BLOCK_T, THREADS>(q_smem + stage * BLOCK_T * PITCH, q + row * D, T - tile * BLOCK_T);
    copy_tile<BLOCK_T, THREADS>(do_smem + stage * BLOCK_T * PITCH, d_o + row * D, T - tile * BLOCK_T);
    const size_t pair = (static_cast<size_t>(head) * tiles + tile) * (BLOCK_T / 2);
    if (threadIdx.x < BLOCK_T / 2)
      cp_async_16(stats_smem + stage * BLOCK_T / 2 + threadIdx.x, stats + pair + threadIdx.x);
  };

  copy_tile<BLOCK_S, THREADS>(k_smem, k + (static_cast<size_t>(group) * S + block_key) * D, S - block_key);
  copy_tile<BLOCK_S, THREADS>(v_smem, v + (static_cast<size_t>(group) * S + block_key) * D, S - block_key);
  for (int i = 0; i < 2; i++) clear_padding<BLOCK_S, THREADS>(smem + i * BLOCK_S * PITCH);  // of K and V
  for (int i = 0; i < 4; i++) clear_padding<BLOCK_T, THREADS>(q_smem + i * BLOCK_T * PITCH);  // of q and do
  if (tile < tiles) fetch(head, tile, 0);
  cp_async_commit();

  float dk_reg[MTILES][DTILES][4] = {}, dv_reg[MTILES][DTILES][4] = {};
  for (int stage = 0; head < end && tile < tiles; stage ^= 1) {
    const bool last = tile + 1 == tiles;
    const int next_head = head + last, next_tile = last ? first_tile : tile + 1, first = tile * BLOCK_T;
    const bool masked = block_key + BLOCK_S > S || (CAUSAL && !sees(first, block_key + BLOCK_S - 1, T, S));
    cp_async_wait<0>();
    __syncthreads();  // the tile has arrived for all warps, which are done with dS and with the stage fetched into next
    if (next_head < end) fetch(next_head, next_tile, stage ^ 1);
    cp_async_commit();

#pragma unroll 1
    for (int chunk = 0; chunk < BLOCK_T; chunk += CHUNK) {
      if (D > 64) forget(lane);
      const __half* q_chunk = q_smem + stage * BLOCK_T * PITCH + chunk * 64;
      const __half* do_chunk = do_smem + stage * BLOCK_T * PITCH + chunk * 64;
      const float4* stats_chunk = stats_smem + (stage * BLOCK_T + chunk) / 2;
      float p[MTILES][NTILES][4] = {}, ds[MTILES][NTILES][4];
      unsigned left[MTILES][NTILES / 2][4];
      multiply_rows(p, k_smem + warp_row * 64, q_chunk, lane);
      to_weights(p, stats_chunk, scale_log2e, lane);
      if (masked) mask_weights(p, first + chunk, block_key + warp_row, T, S, lane);
      start_at_minus_delta(ds, stats_chunk, lane);
      multiply_rows(ds, v_smem + warp_row * 64, do_chunk, lane);
      to_operand(left, p);
      add_product(dv_reg, left, do_chunk, lane);
      for (int i = 0; i < MTILES; i++)
        for (int n = 0; n < NTILES; n++)
          for (int e = 0; e < 4; e++) ds[i][n][e] *= p[i][n][e];
      to_operand(left, ds);
      share(ds_smem, left, warp_row, chunk, lane);
      add_product(dk_reg, left, q_chunk, lane);
    }
    __syncthreads();  // dS of all keys is written before any warp sums over it
    if (D > 64) forget(lane), forget(warp);
    const size_t sums = static_cast<size_t>(head) * tiles + tile;
#pragma unroll 1
    for (int part = 0; part < COLUMNS; part += 16 * PAIRS)
      add_queries(dq_sum + sums * BLOCK_T * DTILES * 8, ds_smem, k_smem, warp % 2 * QTILES, warp / 2 * COLUMNS + part,
                  lane);
    head = next_head;
    tile = next_tile;
  }
  cp_async_wait<0>();
  __syncthreads();  // K has arrived, and no warp reads it any more, before its place is overwritten
  const size_t key = static_cast<size_t>(group) * S + block_key + warp_row;
  store_rows(dk + key * D, dk_reg, scale, k_smem + warp_row * 64, S - block_key - warp_row, lane);
  store_rows(dv + key * D, dv_reg, 1.0f, v_smem + warp_row * 64, S - block_key - warp_row, lane);
}
