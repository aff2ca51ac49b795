// How a block of the raw kernels walks over the tokens of one head, tile by tile; and how its state comes and goes.

#pragma once

#include "gates.cuh"
#include "step.cuh"

// Work off one tile that has landed in shared memory: what all warps need first, then every warp on its own.
template <bool OUTPUT>
__device__ void absorb_tile(
    State& state, const Tile& tile, const Scratch& scratch, const Part& part, const Fade& whole, int first) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int rows = min(TILE, part.tokens - first), steps = (rows + STEP - 1) / STEP;
  if constexpr (GATED) {
    exponentiate(tile, scratch, part, rows);
    __syncthreads();  // what every token leaves is written before any thread reads it
    if (OUTPUT) {
      score_gated_steps(tile, scratch, part, steps, warp, lane);
      __syncthreads();  // the scores are taken from Q and K as they came, before they are faded in place
    }
    fade_steps<OUTPUT>(tile, scratch, steps);
  } else if (OUTPUT) {
    score_steps(tile, scratch, part, steps, warp, lane);
  }
  if (GATED || OUTPUT) __syncthreads();  // scores, and faded Q and K, are written before any warp reads them
  for (int step = 0; step < steps; step++) {
    const int top = step * STEP, held = min(STEP, rows - top);
    const Fade fade = held == STEP ? whole : fade_of(part, held, lane);
    unsigned v[4];
    ldmatrix_x4_trans(v, tile.v + (top + lane % 16) * ROW + 16 * warp + lane / 16 * 8);
    if (OUTPUT) {
      float o[2][4];
      output_step(o, state, v, tile, scratch, fade, top, lane);
      __half* out = scratch.out + warp * STEP * SHORT_ROW;
      store_rows(part.o + static_cast<size_t>(first + top) * D, o, out, held, warp, lane);
    }
    update_state(state, v, tile, scratch.total + step * WIDTH, fade, top, lane);
  }
}

// Walk over all tokens. `left` becomes what they leave of channel threadIdx.x, where there are gates.
template <bool OUTPUT>
__device__ void walk(State& state, float& left, const Part& part, unsigned char* smem) {
  const Scratch scratch = scratch_of(smem);
  const Fade whole = fade_of(part, STEP, threadIdx.x % 32);
  const int tiles = (part.tokens + TILE - 1) / TILE;
  clear_padding(smem);
  for (int n = 0; n < STAGES - 1; n++) stage_tile<OUTPUT>(smem, part, n);
  for (int n = 0; n < tiles; n++) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // tile n has landed, from all threads; every warp is done with tile n - 1, whose place is next
    stage_tile<OUTPUT>(smem, part, n + STAGES - 1);
    absorb_tile<OUTPUT>(state, tile_at(smem, n), scratch, part, whole, n * TILE);
    if (GATED && threadIdx.x < WIDTH)
      for (int top = n * TILE; top < min((n + 1) * TILE, part.tokens); top += STEP)
        left *= scratch.total[(top - n * TILE) / STEP * WIDTH + threadIdx.x];
  }
}

// Load the warp's columns of a head's state, times shrink.
__device__ void load_state(State& state, const float* __restrict__ source, float shrink) {  // (D, D)
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int n = 0; n < 2 * KSTEPS; n++)
    for (int e = 0; e < 4; e++) {
      const int i = 8 * n + lane % 4 * 2 + e % 2, j = 16 * warp + lane / 4 + e / 2 * 8;  // key and value channel
      state[n][e] = i < D && j < D ? source[i * D + j] * shrink : 0.0f;
    }
}

// Store them, without the factor.
__device__ void store_state(float* __restrict__ to, const State& state, float shrink) {  // (D, D)
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int n = 0; n < 2 * KSTEPS; n++)
    for (int e = 0; e < 4; e++) {
      const int i = 8 * n + lane % 4 * 2 + e % 2, j = 16 * warp + lane / 4 + e / 2 * 8;
      if (i < D && j < D) to[i * D + j] = state[n][e] / shrink;
    }
}
