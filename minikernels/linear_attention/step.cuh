// How a block of the raw kernels takes a step of 16 tokens of one head, the head's state in its registers.
//
// A block has a warp for every 16 value columns. The state is kept transposed, S^T[value column, key channel], and each
// warp owns 16 rows of it with all channels: the layout in which mma leaves a result is the one in which it wants its
// right operand, so Q S takes the state, rounded to float16, from the registers in which K^T V has summed it. No warp
// ever needs another's part of the state. Tokens come in tiles through shared memory, the next tiles on their way while
// one is worked on, and each tile in steps of 16: pairs within a step are one small matrix, computed once for all
// warps.
//
// Constants, by -D: D head width, a multiple of 8 up to 128; TILE tokens, a multiple of 16; STAGES tiles in shared
// memory, 2 or more; GATE_BYTES 2 (float16), 4 (float32), or 0 where there are no gates.

#pragma once

#include "launch/mma.cuh"

constexpr int STEP = 16;  // tokens
constexpr int WIDTH = (D + 15) / 16 * 16;  // D, padded with zeros to whole steps of mma
constexpr int WARPS = WIDTH / 16;
constexpr int THREADS = 32 * WARPS;
constexpr int ROW = WIDTH + 8;  // of shared memory: an odd multiple of 16 bytes, so ldmatrix meets no bank conflict
constexpr int SHORT_ROW = STEP + 8;  // the same for a row of 16
constexpr int KSTEPS = WIDTH / 16;
constexpr bool GATED = GATE_BYTES > 0;
constexpr int GATE_ROW_BYTES = WIDTH * GATE_BYTES + 16;
constexpr int TILE_BYTES = TILE * ROW * 2;
constexpr int STAGE_BYTES = 3 * TILE_BYTES + (GATED ? TILE * GATE_ROW_BYTES : 0);
constexpr int SCORE_BYTES = TILE * SHORT_ROW * 2;
constexpr int OUT_BYTES = WARPS * STEP * SHORT_ROW * 2;
constexpr float LOG2E = 1.44269504f;

static_assert(D >= 8 && D <= 128 && D % 8 == 0, "rows of D float16 are read 16 bytes at a time");
static_assert(TILE % STEP == 0, "a tile is whole steps");
static_assert(STAGES >= 2, "one tile is worked on while another is on its way");

template <int bytes>
struct GateOf {
  using type = __half;
};
template <>
struct GateOf<4> {
  using type = float;
};
using gate_t = GateOf<GATE_BYTES>::type;

__device__ float2 unpack(unsigned both) { return __half22float2(reinterpret_cast<const __half2&>(both)); }

struct Part {  // of one head: some tokens, from the first on
  const __half *q, *k, *v;  // (tokens, D)
  const gate_t* gate;  // (tokens, D)
  __half* o;  // (tokens, D)
  int tokens;
  float log2_decay;
  float scale;  // factor on every output
  float shrink;  // a power of two: the registers hold S * shrink, which float16 can hold where S * scale is an output
};

struct Tile {  // in shared memory
  __half *q, *k, *v;  // (TILE, ROW)
  gate_t* gate;  // (TILE, GATE_ROW_BYTES)
};

struct Scratch {  // in shared memory
  __half* score;  // (TILE, SHORT_ROW): row t against the 16 keys of its step
  __half* out;  // (WARPS, STEP, SHORT_ROW)
  float* left;  // (TILE, WIDTH): what each token leaves of each channel
  float* total;  // (TILE / STEP, WIDTH): what each step leaves
};

struct Fade {  // of a step of `held` tokens, without gates
  float state;  // what the step leaves of the state
  float row[2];  // what is left of the state at the lane's two rows, times the factor on outputs
  float token[4];  // what is left at the step's end of the lane's four tokens, times shrink
};

using State = float[2 * KSTEPS][4];  // the warp's S^T: 16 value columns, 8 key channels a tile

__device__ Tile tile_at(unsigned char* smem, int n) {
  unsigned char* base = smem + n % STAGES * STAGE_BYTES;
  return {
      reinterpret_cast<__half*>(base),
      reinterpret_cast<__half*>(base + TILE_BYTES),
      reinterpret_cast<__half*>(base + 2 * TILE_BYTES),
      reinterpret_cast<gate_t*>(base + 3 * TILE_BYTES)};
}

__device__ Scratch scratch_of(unsigned char* smem) {
  unsigned char* base = smem + STAGES * STAGE_BYTES;
  float* left = reinterpret_cast<float*>(base + SCORE_BYTES + OUT_BYTES);
  return {reinterpret_cast<__half*>(base), reinterpret_cast<__half*>(base + SCORE_BYTES), left, left + TILE * WIDTH};
}

// Start copying `rows` rows of D elements; rows up to TILE become 0, and so count for nothing.
template <typename element>
__device__ void stage_rows(
    element* tile,  // (TILE, row_bytes)
    int row_bytes,
    const element* __restrict__ source,  // (rows, D)
    int rows) {
  constexpr int VEC = 16 / sizeof(element), CHUNKS = D / VEC;
  for (int i = threadIdx.x; i < TILE * CHUNKS; i += THREADS) {
    const int row = i / CHUNKS, column = i % CHUNKS * VEC;
    unsigned char* to = reinterpret_cast<unsigned char*>(tile) + row * row_bytes + column * sizeof(element);
    const bool there = row < rows;
    cp_async_16(to, source + (there ? static_cast<size_t>(row) * D + column : 0), there ? 16 : 0);
  }
}

// Start copying tile n, if there is one; either way a group of copies is closed, so that groups can be counted.
template <bool OUTPUT>
__device__ void stage_tile(unsigned char* smem, const Part& part, int n) {
  const int first = n * TILE, rows = min(TILE, part.tokens - first);
  if (rows > 0) {
    const Tile tile = tile_at(smem, n);
    const size_t at = static_cast<size_t>(first) * D;
    if (OUTPUT) stage_rows(tile.q, 2 * ROW, part.q + at, rows);
    stage_rows(tile.k, 2 * ROW, part.k + at, rows);
    stage_rows(tile.v, 2 * ROW, part.v + at, rows);
    if constexpr (GATED) stage_rows(tile.gate, GATE_ROW_BYTES, part.gate + at, rows);
  }
  cp_async_commit();
}

// The copies never touch columns D .. WIDTH; they are zero once and for all, so that products may run over them.
__device__ void clear_padding(unsigned char* smem) {
  if (D < WIDTH)
    for (int i = threadIdx.x; i < STAGES * 3 * TILE; i += THREADS)
      *reinterpret_cast<uint4*>(tile_at(smem, i / (3 * TILE)).q + i % (3 * TILE) * ROW + D) = {};
}

// The powers of the decay that a lane needs for a step of `held` tokens.
__device__ Fade fade_of(const Part& part, int held, int lane) {
  Fade fade;
  const float factor = part.scale / part.shrink;
  fade.state = exp2f(held * part.log2_decay);
  for (int r = 0; r < 2; r++) fade.row[r] = GATED ? factor : factor * exp2f((lane / 4 + 8 * r + 1) * part.log2_decay);
  for (int i = 0; i < 4; i++) {
    const int after = max(0, held - 1 - (lane % 4 * 2 + i % 2 + i / 2 * 8));  // tokens of the step that follow
    fade.token[i] = GATED ? part.shrink : part.shrink * exp2f(after * part.log2_decay);
  }
  return fade;
}

// Without gates: the scores of every step against itself, faded and scaled, by halves of 8 keys.
__device__ void score_steps(const Tile& tile, const Scratch& scratch, const Part& part, int steps, int warp, int lane) {
  for (int unit = warp; unit < 2 * steps; unit += WARPS) {
    const int top = unit / 2 * STEP, half = unit % 2;
    const __half* q_lane = tile.q + (top + lane % 16) * ROW + lane / 16 * 8;
    const __half* k_lane = tile.k + (top + 8 * half + lane % 8) * ROW + lane / 8 % 2 * 8;
    float sum[2][4] = {};  // two chains of products, so that one need not wait for the other
#pragma unroll
    for (int c = 0; c < KSTEPS; c++) {
      unsigned q[4], k[2];
      ldmatrix_x4(q, q_lane + 16 * c);
      ldmatrix_x2(k, k_lane + 16 * c);
      mma_m16n8k16(sum[c % 2], q, k[0], k[1]);
    }
    const int s = 8 * half + lane % 4 * 2;
    for (int r = 0; r < 2; r++) {
      const int t = lane / 4 + 8 * r;
      float seen[2];
      for (int e = 0; e < 2; e++) {
        const float score = (sum[0][2 * r + e] + sum[1][2 * r + e]) * part.scale;
        seen[e] = s + e <= t ? score * exp2f((t - s - e) * part.log2_decay) : 0.0f;
      }
      *reinterpret_cast<unsigned*>(scratch.score + (top + t) * SHORT_ROW + s) = pack(seen[0], seen[1]);
    }
  }
}

// O of a step: its rows of Q against the state before it, and of scores against its own values.
__device__ void output_step(
    float (&o)[2][4],  // 16 rows, twice 8 value columns
    const State& state,
    const unsigned (&v)[4],
    const Tile& tile,
    const Scratch& scratch,
    const Fade& fade,
    int top,  // the step's first row in the tile
    int lane) {
  const __half* q_lane = tile.q + (top + lane % 16) * ROW + lane / 16 * 8;
  float sum[2][2][4] = {};  // two chains of products for each 8 columns
#pragma unroll
  for (int c = 0; c < KSTEPS; c++) {
    unsigned q[4];
    ldmatrix_x4(q, q_lane + 16 * c);
    const float(&low)[4] = state[2 * c], (&high)[4] = state[2 * c + 1];  // channels 16 c + 0-7 and 8-15
    mma_m16n8k16(sum[c % 2][0], q, pack(low[0], low[1]), pack(high[0], high[1]));
    mma_m16n8k16(sum[c % 2][1], q, pack(low[2], low[3]), pack(high[2], high[3]));
  }
  for (int n = 0; n < 2; n++)
    for (int e = 0; e < 4; e++) o[n][e] = (sum[0][n][e] + sum[1][n][e]) * fade.row[e / 2];
  unsigned p[4];
  ldmatrix_x4(p, scratch.score + (top + lane % 16) * SHORT_ROW + lane / 16 * 8);
  mma_m16n8k16(o[0], p, v[0], v[1]);
  mma_m16n8k16(o[1], p, v[2], v[3]);
}

// Write the warp's 16 columns of up to 16 rows, 16 bytes a lane, by way of the warp's own piece of shared memory.
__device__ void store_rows(
    __half* __restrict__ o,  // (rows, D)
    const float (&o_reg)[2][4],
    __half* out,  // (STEP, SHORT_ROW)
    int rows,
    int warp,
    int lane) {
  for (int c = 0; c < 2; c++)
    for (int r = 0; r < 2; r++)
      *reinterpret_cast<unsigned*>(out + (lane / 4 + 8 * r) * SHORT_ROW + 8 * c + lane % 4 * 2) =
          pack(o_reg[c][2 * r], o_reg[c][2 * r + 1]);
  __syncwarp();  // the rows are whole before another lane copies them
  const int row = lane / 2, column = 16 * warp + lane % 2 * 8;
  if (row < rows && column < D)
    *reinterpret_cast<uint4*>(o + row * D + column) =
        *reinterpret_cast<const uint4*>(out + row * SHORT_ROW + lane % 2 * 8);
  __syncwarp();  // the copy is made before the next step overwrites the rows
}

// S^T <- faded S^T + V^T K, where V (or, with gates, K) has been faded to the step's end.
__device__ void update_state(
    State& state,
    const unsigned (&v)[4],
    const Tile& tile,
    const float* total,  // (WIDTH) of the step, with gates
    const Fade& fade,
    int top,
    int lane) {
  for (int n = 0; n < 2 * KSTEPS; n++) {
    const float2 channels = GATED ? *reinterpret_cast<const float2*>(total + 8 * n + lane % 4 * 2)
                                  : float2{fade.state, fade.state};
    for (int e = 0; e < 4; e++) state[n][e] *= e % 2 ? channels.y : channels.x;
  }
  unsigned left[4];  // V^T by rows: its quarters stand in another order than those of V by columns
  for (int i = 0; i < 4; i++) {
    const float2 pair = unpack(v[i / 2 + i % 2 * 2]);
    left[i] = pack(pair.x * fade.token[i / 2 * 2], pair.y * fade.token[i / 2 * 2 + 1]);
  }
  const __half* k_lane = tile.k + (top + lane % 16) * ROW + lane / 16 * 8;
#pragma unroll
  for (int c = 0; c < KSTEPS; c++) {
    unsigned k[4];
    ldmatrix_x4_trans(k, k_lane + 16 * c);
    mma_m16n8k16(state[2 * c], left, k[0], k[1]);
    mma_m16n8k16(state[2 * c + 1], left, k[2], k[3]);
  }
}
