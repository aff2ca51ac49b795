// Gates, which weigh every channel of every pair of tokens on its own. Everything here is a product of numbers up to 1:
// a gate of -20 makes a factor of 2e-9, and nothing is ever divided by it.

#pragma once

#include "step.cuh"

// What each token of the tile leaves of each channel: 1 where there is no token, so that it counts for nothing.
__device__ void exponentiate(const Tile& tile, const Scratch& scratch, const Part& part, int rows) {
  for (int i = threadIdx.x; i < TILE * WIDTH; i += THREADS) {
    const int row = i / WIDTH, channel = i % WIDTH;
    const unsigned char* gates = reinterpret_cast<const unsigned char*>(tile.gate) + row * GATE_ROW_BYTES;
    const float gate = row < rows && channel < D ? float(reinterpret_cast<const gate_t*>(gates)[channel]) : 0.0f;
    scratch.left[i] = row < rows ? exp2f(gate * LOG2E + part.log2_decay) : 1.0f;
  }
}

// The dot products of one key with the 16 queries of its step over a fourth of the channels; the key fades on the way.
__device__ void fading_dots(
    float (&dot)[STEP],
    const __half* k_row,  // (WIDTH)
    const __half* q_rows,  // (STEP, ROW)
    const float* left_rows,  // (STEP, WIDTH)
    int key,
    int part) {
  for (int channel = 2 * part; channel < WIDTH; channel += 8) {
    float2 faded = unpack(*reinterpret_cast<const unsigned*>(k_row + channel));
#pragma unroll
    for (int t = 0; t < STEP; t++) {  // lanes of one part read the same address: a broadcast
      const float2 left = *reinterpret_cast<const float2*>(left_rows + t * WIDTH + channel);
      const float2 q = unpack(*reinterpret_cast<const unsigned*>(q_rows + t * ROW + channel));
      if (t > key) faded = {faded.x * left.x, faded.y * left.y};
      dot[t] += q.x * faded.x + q.y * faded.y;  // of no use where t < key; dropped below
    }
  }
}

// With gates: the scores of every step against itself, scaled; a lane has one of 8 keys and a fourth of the channels.
__device__ void score_gated_steps(
    const Tile& tile, const Scratch& scratch, const Part& part, int steps, int warp, int lane) {
  for (int unit = warp; unit < 2 * steps; unit += WARPS) {
    const int top = unit / 2 * STEP, key = unit % 2 * 8 + lane % 8;
    float dot[STEP] = {};
    fading_dots(dot, tile.k + (top + key) * ROW, tile.q + top * ROW, scratch.left + top * WIDTH, key, lane / 8);
#pragma unroll
    for (int t = 0; t < STEP; t++) {
      dot[t] += __shfl_xor_sync(0xffffffff, dot[t], 8);
      dot[t] += __shfl_xor_sync(0xffffffff, dot[t], 16);
      if (t % 4 == lane / 8)  // the four parts of a key share out the rows
        scratch.score[(top + t) * SHORT_ROW + key] = __float2half_rn(key <= t ? dot[t] * part.scale : 0.0f);
    }
  }
}

// Fade Q to where the state before its step meets it, and K to its step's end, in place; a thread has two channels.
template <bool OUTPUT>
__device__ void fade_steps(const Tile& tile, const Scratch& scratch, int steps) {
  for (int unit = threadIdx.x; unit < steps * WIDTH / 2; unit += THREADS) {
    const int step = unit / (WIDTH / 2), channel = unit % (WIDTH / 2) * 2, top = step * STEP;
    const float* left_column = scratch.left + top * WIDTH + channel;
    float2 kept = {1.0f, 1.0f};
    for (int t = 0; t < STEP; t++) {
      const float2 left = *reinterpret_cast<const float2*>(left_column + t * WIDTH);
      kept = {kept.x * left.x, kept.y * left.y};
      unsigned* q = reinterpret_cast<unsigned*>(tile.q + (top + t) * ROW + channel);
      if (OUTPUT) *q = pack(unpack(*q).x * kept.x, unpack(*q).y * kept.y);
    }
    *reinterpret_cast<float2*>(scratch.total + step * WIDTH + channel) = kept;
    kept = {1.0f, 1.0f};
    for (int t = STEP - 1; t >= 0; t--) {
      unsigned* k = reinterpret_cast<unsigned*>(tile.k + (top + t) * ROW + channel);
      *k = pack(unpack(*k).x * kept.x, unpack(*k).y * kept.y);
      const float2 left = *reinterpret_cast<const float2*>(left_column + t * WIDTH);
      kept = {kept.x * left.x, kept.y * left.y};
    }
  }
}
