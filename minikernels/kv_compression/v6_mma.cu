// v6_mma: tensor cores over codes: mma.sync m16n8k16, whose operands are made of codes in registers.
//
// A warp takes a group of K_GROUP tokens at a time, STEP of them at once; a block owns up to 8 query heads that share a
// key/value head, over one of `splits` equal shares of the tokens. Scores are q (rows: heads) times codes of keys
// (columns: 8 tokens). The layout in which mma leaves them is the one in which it wants its right operand: codes of
// values (rows: 16 channels) times weights (columns: heads) is the output, turned over. operands.cuh has the
// operands, rescaled.cuh what a lane keeps of the tokens before.
// Differs from v5_split_kv: products on the tensor cores, 16 x 8 x 16 at a time, and no shuffles to add up a score.
//
// Constants, by -D: those of states.cuh, with HEADS at most 8 and K_GROUP a multiple of 16; RESIDENT.

#include "rescaled.cuh"

constexpr int STEP = K_GROUP % 32 == 0 && PARTS == 1 ? 32 : 16;  // tokens whose codes are under way at once

static_assert(K_GROUP % 16 == 0, "a product with values takes 16 tokens");
static_assert(HEADS <= 8, "heads are the 8 columns of a product");

struct alignas(16) Queries {  // read 16 bytes at a time
  float q[8][D + 4];  // of the heads that are there, then 0
};

constexpr int RANGES_BYTES = 2 * SHARED_SCALES * ITEM_BYTES;

struct alignas(RANGES_BYTES < 16 ? RANGES_BYTES : 16) Ranges {  // scales, or minima, of two neighbouring value tokens
  element item[2 * SHARED_SCALES];
};

// Make operands of the queries times a group's scales; start the scores with the queries times its minima.
__device__ void fold(
    Pair (&scaled)[OCTETS][2][2],
    float (&start)[4],
    const Queries& queries,
    const element* __restrict__ scales,  // (D,), or none: then queries as they are, and 0
    const element* __restrict__ minima) {
  for (float& cell : start) cell = 0.0f;
  __syncwarp();  // a fence to the compiler, which would keep the queries in registers that it does not have
#pragma unroll
  for (int t = 0; t < OCTETS; t++) {
    float q[8], x[8];
    read_8(q, queries.q[lane() / 4] + octet(t));
    arrange(scaled[t], q);
    if (scales == nullptr) continue;
    Pair minimum[2][2];
    read_8(x, minima + octet(t));
    arrange(minimum, x);
    for (int j = 0; j < 2; j++) mma_rows(start, scaled[t][j], minimum[j]);
    read_8(x, scales + octet(t));
    for (int i = 0; i < 8; i++) x[i] *= q[i];
    arrange(scaled[t], x);
  }
}

__device__ void multiply_values(float (&c)[4], const unsigned (&codes)[4], const Pair (&weight)[2]) {
  for (int i = 0; i < PARTS; i++) mma_m16n8k16(c, codes, weight[0].part[i], weight[1].part[i]);
}

// Absorb the tokens first .. end - 1, at most STEP of them, of one group.
__device__ void absorb_codes(
    Rescaled& s,
    Output& o,
    const Pair (&q)[OCTETS][2][2],
    const float (&start)[4],
    const Cache& cache,
    float scale_log2e,
    int first,
    int end) {
  constexpr int count = STEP / 8;
  const int row = lane() / 4, pair = lane() % 4 * 2;
  unsigned key[count][WORDS], value[count][2][UNITS];  // every load is under way before the first is waited for
  float scale[count][2][SHARED_SCALES], minimum[count][2][SHARED_SCALES];
#pragma unroll
  for (int n = 0; n < count; n++) {
    const size_t token = first + 8 * n;  // past the end of a sequence there are codes too, to the end of its group
    read_key(key[n], cache.k_codes + (token + row) * ROW_BYTES);
    const Ranges scales = reinterpret_cast<const Ranges*>(cache.v_scales + (token + pair) * SHARED_SCALES)[0];
    const Ranges minima = reinterpret_cast<const Ranges*>(cache.v_minima + (token + pair) * SHARED_SCALES)[0];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const unsigned char* codes = cache.v_codes + (token + pair + i) * ROW_BYTES;
      for (int u = 0; u < UNITS; u++) value[n][i][u] = read_value(codes + u * RUN * BITS);
      const bool held = token + pair + i < end;
      for (int x = 0; x < SHARED_SCALES; x++) {
        scale[n][i][x] = held ? static_cast<float>(scales.item[i * SHARED_SCALES + x]) : 0.0f;
        minimum[n][i][x] = held ? static_cast<float>(minima.item[i * SHARED_SCALES + x]) : 0.0f;
      }
    }
  }
  float weight[count][2];
#pragma unroll
  for (int n = 0; n < count; n++) {
    float score[4] = {start[0], start[1], 0.0f, 0.0f};
#pragma unroll
    for (int t = 0; t < OCTETS; t++) add_octet(score, q[t], key[n], t);
    for (int i = 0; i < 2; i++) {
      const bool held = first + 8 * n + pair + i < end;
      weight[n][i] = held ? score[i] * scale_log2e : minus_infinity();
    }
  }
  rescale(s, o, weight);
#pragma unroll
  for (int n = 0; n < count; n += 2) {
#pragma unroll
    for (int x = 0; x < SHARED_SCALES; x++) {
      Pair scaled[2];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        scaled[i] = split(weight[n + i][0] * scale[n + i][0][x], weight[n + i][1] * scale[n + i][1][x]);
        s.o_min[x] += weight[n + i][0] * minimum[n + i][0][x] + weight[n + i][1] * minimum[n + i][1][x];
      }
#pragma unroll
      for (int u = x * SHARING; u < min(UNITS, (x + 1) * SHARING); u++) {
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
          unsigned low[2], high[2];
          side_by_side(low, value[n][0][u], value[n][1][u], tile);
          side_by_side(high, value[n + 1][0][u], value[n + 1][1][u], tile);
          const unsigned codes[4] = {low[0], low[1], high[0], high[1]};
          multiply_values(o.cell[u][tile], codes, scaled);
        }
      }
    }
  }
}

// Channel d of a recent value, 0 past the end.
__device__ float recent_value(const Cache& cache, int token, int end, int d) {
  return token < end ? static_cast<float>(cache.v_recent[static_cast<size_t>(token - cache.quantized) * D + d]) : 0.0f;
}

// Absorb the recent tokens first .. end - 1, at most 16 of them: they are numbers, not codes.
__device__ void absorb_recent(
    Rescaled& s,
    Output& o,
    const Pair (&q)[OCTETS][2][2],
    const Cache& cache,
    float scale_log2e,
    int first,
    int end) {
  const int row = lane() / 4, pair = lane() % 4 * 2;
  float weight[2][2];
#pragma unroll
  for (int n = 0; n < 2; n++) {
    const int token = first + 8 * n + row;
    float score[4] = {};
#pragma unroll
    for (int t = 0; t < OCTETS; t++) {
      float x[8] = {};
      if (token < end) read_8(x, cache.k_recent + static_cast<size_t>(token - cache.quantized) * D + octet(t));
      Pair key[2][2];
      arrange(key, x);
      for (int j = 0; j < 2; j++) mma_rows(score, q[t][j], key[j]);
    }
    for (int i = 0; i < 2; i++) {
      const bool held = first + 8 * n + pair + i < end;
      weight[n][i] = held ? score[i] * scale_log2e : minus_infinity();
    }
  }
  rescale(s, o, weight);
  const Pair scaled[2] = {split(weight[0][0], weight[0][1]), split(weight[1][0], weight[1][1])};
#pragma unroll
  for (int u = 0; u < UNITS; u++) {
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
      Pair value[4];
#pragma unroll
      for (int w = 0; w < 4; w++) {
        const int token = first + w / 2 * 8 + pair, d = (u * 8 + row) * RUN + tile + w % 2 * TILES;
        value[w] = split(recent_value(cache, token, end, d), recent_value(cache, token + 1, end, d));
      }
#pragma unroll
      for (int i = 0; i < PARTS; i++) {
        for (int j = 0; i + j < PARTS; j++) {
          const unsigned a[4] = {value[0].part[j], value[1].part[j], value[2].part[j], value[3].part[j]};
          mma_m16n8k16(o.cell[u][tile], a, scaled[0].part[i], scaled[1].part[i]);
        }
      }
    }
  }
}

// Absorb the tokens begin .. end - 1, begin the first of a group, the block's warps taking groups in turn.
__device__ void absorb(
    Rescaled& s,
    Output& o,
    const Queries& queries,
    const Cache& cache,
    float scale_log2e,
    int begin,
    int end) {
  const int warp = threadIdx.x / 32, rounded = min(end, cache.quantized);
  Pair scaled[OCTETS][2][2];
  float start[4];
  for (int first = begin + warp * K_GROUP; first < rounded; first += TILE) {
    const size_t group = static_cast<size_t>(first / K_GROUP) * D;
    fold(scaled, start, queries, cache.k_scales + group, cache.k_minima + group);
    const int stop = min(rounded, first + K_GROUP);
    for (int step = first; step < stop; step += STEP)
      absorb_codes(s, o, scaled, start, cache, scale_log2e, step, min(stop, step + STEP));
  }
  if (end <= cache.quantized) return;
  fold(scaled, start, queries, nullptr, nullptr);
  for (int first = max(begin, cache.quantized) + 16 * warp; first < end; first += 16 * WARPS)
    absorb_recent(s, o, scaled, cache, scale_log2e, first, end);
}

// Put the warps' states into shared memory.
__device__ void gather(States& states, float (&o_min)[WARPS][8][SHARED_SCALES], Rescaled& s, const Output& o) {
  const int warp = threadIdx.x / 32, row = lane() / 4;
  for (int step = 1; step < 4; step *= 2) {
    s.l += __shfl_xor_sync(0xffffffff, s.l, step);
    for (float& cell : s.o_min) cell += __shfl_xor_sync(0xffffffff, cell, step);
  }
  if (lane() % 4 == 0) {
    for (int x = 0; x < SHARED_SCALES; x++) o_min[warp][row][x] = s.o_min[x];
    if (row < HEADS) {
      states.m[warp][row] = s.m;
      states.l[warp][row] = s.l;
    }
  }
  __syncwarp();  // the shares of the minima are written before any lane adds them
#pragma unroll
  for (int u = 0; u < UNITS; u++) {
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int h = lane() % 4 * 2 + i % 2, d = (u * 8 + row) * RUN + tile + i / 2 * TILES;
        if (h < HEADS) states.o[warp][h][d] = o.cell[u][tile][i] + o_min[warp][h][d / V_GROUP];
      }
    }
  }
  __syncthreads();  // all warps' states are written before any thread reads them
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v6_mma(
    const element* __restrict__ q,  // (B, H, D)
    const unsigned char* __restrict__ k_codes,  // (B, G, N, D * BITS / 8)
    const element* __restrict__ k_scales,  // (B, G, N / K_GROUP, D)
    const element* __restrict__ k_minima,
    const element* __restrict__ k_recent,  // (B, G, S - N, D)
    const unsigned char* __restrict__ v_codes,
    const element* __restrict__ v_scales,  // (B, G, N, SHARED_SCALES)
    const element* __restrict__ v_minima,
    const element* __restrict__ v_recent,
    const int* __restrict__ lengths,  // (B,)
    element* __restrict__ o,  // (B, H, D), written where there is one share
    float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS), written where there are several
    float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    int G,
    int S,
    int quantized,  // N
    float scale_log2e) {
  __shared__ Queries queries;
  __shared__ States states;
  __shared__ float o_min[WARPS][8][SHARED_SCALES];
  const Rows rows(blockIdx.y);
  const size_t b = blockIdx.z, out = (b * G * R + rows.head) * D;
  const int length = lengths[b], tiles = (length + TILE - 1) / TILE;
  const int share = (tiles + gridDim.x - 1) / gridDim.x * TILE, begin = blockIdx.x * share;
  const Cache all = {k_codes, k_scales, k_minima, k_recent, v_codes, v_scales, v_minima, v_recent, quantized};
  Rescaled s = {minus_infinity()};
  Output sums = {};
  for (int i = threadIdx.x; i < 8 * D; i += THREADS)
    queries.q[i / D][i % D] = i / D < rows.heads ? static_cast<float>(q[out + i]) : 0.0f;
  __syncthreads();  // all queries are written before any warp reads them
  absorb(s, sums, queries, all.of(b * G + rows.g, S), scale_log2e, begin, min(length, begin + share));
  gather(states, o_min, s, sums);
  const size_t slot = (b * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  if (gridDim.x == 1) write_output(o + out, states, rows.heads);
  else write_partial(ml + slot * HEADS, part + slot * HEADS * D, states, rows.heads);
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_splits(
    const float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS)
    const float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int splits) {
  merge_parts(ml, part, o, G, splits);
}
