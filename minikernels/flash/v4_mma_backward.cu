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

// What a lane adds to the start of a swizzled tile, in bytes. Rows are 128 bytes; 16 bytes of row r stand (r % 8) * 16
// further on, by exclusive or, so that another column of the same row is one exclusive or away: `beside`.
struct Lane {
  int id;
  int left;  // of ldmatrix: 16 rows of 16 columns as a left operand or, transposed, as two right ones
  int right;  // 16 rows of 16 columns as two right operands or, transposed, as a left one
  int cell;  // of the accumulators: row id / 4, columns 2 * (id % 4) and the next
  __device__ explicit Lane(int id)
      : id(id), left(id % 16 * 128 + (id / 16 * 16 ^ id % 8 * 16)),
        right((id / 16 * 8 + id % 8) * 128 + (id / 8 % 2 * 16 ^ id % 8 * 16)), cell(id / 4 * 144 + id % 4 * 4) {}
};

// Where the lane's part stands in the columns from `column` on, a multiple of 8, of a tile (panels, COUNT, 64).
template <int COUNT>
__device__ __half* beside(__half* tile, int lane_bytes, int column) {
  return reinterpret_cast<__half*>(reinterpret_cast<char*>(tile) + (lane_bytes ^ column % 64 * 2)) +
         column / 64 * COUNT * 64;
}

// One of the 16 x 8 tiles side by side that a warp holds.
template <int N>
__device__ float (&nth(float (&c)[N], int n))[4] { return reinterpret_cast<float (&)[4]>(c[4 * n]); }

// c += a b^T: the warp's keys, rows of a, against CHUNK queries, rows of b.
__device__ void multiply_rows(
    float (&c)[MTILES][4 * NTILES],
    __half* a,  // the warp's rows of (PANELS, BLOCK_S, 64)
    __half* b,  // the chunk's rows of (PANELS, BLOCK_T, 64)
    const Lane& lane) {
#pragma unroll
  for (int d = 0; d < 8 * DTILES; d += 16) {
    unsigned x[MTILES][4];
#pragma unroll
    for (int i = 0; i < MTILES; i++) ldmatrix_x4(x[i], beside<BLOCK_S>(a + 16 * i * 64, lane.left, d));
#pragma unroll
    for (int n = 0; n < NTILES; n += 2) {
      unsigned y[4];
      ldmatrix_x4(y, beside<BLOCK_T>(b + 8 * n * 64, lane.right, d));
#pragma unroll
      for (int i = 0; i < MTILES; i++) {
        mma_m16n8k16(nth(c[i], n), x[i], y[0], y[1]);
        mma_m16n8k16(nth(c[i], n + 1), x[i], y[2], y[3]);
      }
    }
  }
}

// c += a b: a, the warp's keys against CHUNK queries, from the registers in which it was computed.
__device__ void add_product(
    float (&c)[MTILES][4 * DTILES],
    const unsigned (&a)[MTILES][NTILES / 2][4],
    __half* b,  // the chunk's rows of (PANELS, BLOCK_T, 64)
    const Lane& lane) {
#pragma unroll
  for (int n = 0; n < NTILES / 2; n++)
#pragma unroll
    for (int d = 0; d < DTILES; d += 2) {
      unsigned y[4];
      ldmatrix_x4_trans(y, beside<BLOCK_T>(b + 16 * n * 64, lane.left, 8 * d));
#pragma unroll
      for (int i = 0; i < MTILES; i++) {
        mma_m16n8k16(nth(c[i], d), a[i][n], y[0], y[1]);
        mma_m16n8k16(nth(c[i], d + 1), a[i][n], y[2], y[3]);
      }
    }
}

__device__ void to_operands(unsigned (&a)[MTILES][NTILES / 2][4], const float (&c)[MTILES][4 * NTILES]) {
#pragma unroll
  for (int i = 0; i < MTILES; i++) to_operand(a[i], c[i]);
}

// The sums of dP start at -delta: dP - delta costs nothing.
__device__ void start_at_minus_delta(
    float (&dp)[MTILES][4 * NTILES],
    const float4* stats,  // (CHUNK / 2): lse2 and -delta of two queries
    const Lane& lane) {
#pragma unroll
  for (int n = 0; n < NTILES; n++) {
    const float4 two = stats[4 * n + lane.id % 4];
#pragma unroll
    for (int i = 0; i < MTILES; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) dp[i][4 * n + e] = e % 2 ? two.w : two.y;
  }
}

// Write the warp's dS^T of one chunk where all warps read it.
__device__ void share(
    __half* ds_smem,  // (BLOCK_T / 64, BLOCK_S, 64)
    const unsigned (&a)[MTILES][NTILES / 2][4],
    int row,  // of the warp
    int column,  // of the chunk
    const Lane& lane) {
#pragma unroll
  for (int i = 0; i < MTILES; i++)
#pragma unroll
    for (int n = 0; n < NTILES; n++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<unsigned*>(
            beside<BLOCK_S>(ds_smem + (row + 16 * i + 8 * half) * 64, lane.cell, column + 8 * n)) =
            a[i][n / 2][n % 2 * 2 + half];
}

// Add dS K of one tile of queries to dq_sum: 16 * QTILES rows and 16 * PAIRS columns of it.
__device__ void add_queries(
    float* __restrict__ dq_sum,  // (BLOCK_T / 16, DTILES, 32, 4), in the order of mma's accumulators
    __half* ds_smem,  // (BLOCK_T / 64, BLOCK_S, 64)
    __half* k_smem,  // (PANELS, BLOCK_S, 64)
    int first_tile,  // of 16 rows
    int first_column,
    const Lane& lane) {
  float c[QTILES][2 * PAIRS][4] = {};
#pragma unroll 4
  for (int s = 0; s < BLOCK_S; s += 16) {
    unsigned x[QTILES][4];
#pragma unroll
    for (int i = 0; i < QTILES; i++)
      ldmatrix_x4_trans(x[i], beside<BLOCK_S>(ds_smem + s * 64, lane.right, 16 * (first_tile + i)));
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
      unsigned y[4];
      ldmatrix_x4_trans(y, beside<BLOCK_S>(k_smem + s * 64, lane.left, first_column + 16 * j));
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
        add_in_hbm(dq_sum + (((first_tile + i) * DTILES + d_tile) * 32 + lane.id) * 4, c[i][j]);
    }
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
    int heads,  // query heads of a key/value head, H / G
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

  Lane lane(threadIdx.x % 32);
  const int warp = threadIdx.x / 32;
  const int warp_row = warp * 16 * MTILES;
  const int block_key = blockIdx.x * BLOCK_S;
  const int group = blockIdx.z * G + blockIdx.y;  // of k, v, dk and dv: [b, g]
  const int tiles = (T + BLOCK_T - 1) / BLOCK_T;
  int head = group * heads, tile = first_tile(block_key, T, S);  // [b, h], the first of the group's

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

  float dk_reg[MTILES][4 * DTILES] = {}, dv_reg[MTILES][4 * DTILES] = {};
  for (int stage = 0; head < (group + 1) * heads && tile < tiles; stage ^= 1) {
    const bool last = tile + 1 == tiles;
    const int next_head = head + last, next_tile = last ? first_tile(block_key, T, S) : tile + 1;
    const int first = tile * BLOCK_T;
    cp_async_wait<0>();
    __syncthreads();  // the tile has arrived for all warps, which are done with dS and with the stage fetched into next
    if (next_head < (group + 1) * heads) fetch(next_head, next_tile, stage ^ 1);
    cp_async_commit();

#pragma unroll 1
    for (int chunk = 0; chunk < BLOCK_T; chunk += CHUNK) {
      if (D > 64) forget(lane.left), forget(lane.right);
      __half* q_chunk = q_smem + stage * BLOCK_T * PITCH + chunk * 64;
      __half* do_chunk = do_smem + stage * BLOCK_T * PITCH + chunk * 64;
      const float4* stats_chunk = stats_smem + (stage * BLOCK_T + chunk) / 2;
      float p[MTILES][4 * NTILES] = {}, ds[MTILES][4 * NTILES];
      unsigned left[MTILES][NTILES / 2][4];
      multiply_rows(p, k_smem + warp_row * 64, q_chunk, lane);
      const bool masked = block_key + BLOCK_S > S || (CAUSAL && !sees(first, block_key + BLOCK_S - 1, T, S));
#pragma unroll
      for (int i = 0; i < MTILES; i++) {
        to_weights(p[i], stats_chunk, scale_log2e, lane.id);
        if (masked) mask_weights(p[i], first + chunk, block_key + warp_row + 16 * i, T, S, lane.id);
      }
      start_at_minus_delta(ds, stats_chunk, lane);
      multiply_rows(ds, v_smem + warp_row * 64, do_chunk, lane);
      to_operands(left, p);
      add_product(dv_reg, left, do_chunk, lane);
      for (int i = 0; i < MTILES; i++)
        for (int n = 0; n < 4 * NTILES; n++) ds[i][n] *= p[i][n];
      to_operands(left, ds);
      share(ds_smem, left, warp_row, chunk, lane);
      add_product(dk_reg, left, q_chunk, lane);
    }
    __syncthreads();  // dS of all keys is written before any warp sums over it
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
  const size_t key = static_cast<size_t>(group) * S + block_key;
#pragma unroll
  for (int i = 0; i < MTILES; i++) {
    store_rows<BLOCK_S>(dk + key * D, dk_reg[i], scale, k_smem, warp_row + 16 * i, S - block_key, lane.id);
    store_rows<BLOCK_S>(dv + key * D, dv_reg[i], 1.0f, v_smem, warp_row + 16 * i, S - block_key, lane.id);
  }
}
