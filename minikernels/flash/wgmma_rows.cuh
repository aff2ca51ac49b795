// What v7_wgmma hides of the scores of a warpgroup.
//
// launch/wgmma_softmax.cuh has which of the warpgroup's rows a lane holds, and what is done with their scores.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; BLOCK_S.

#pragma once

#include "launch/hopper.cuh"
#include "launch/wgmma_softmax.cuh"
#include "rows.cuh"

constexpr int PANELS = (D + 63) / 64;  // of 64 columns; columns past D are zeros by the copy engine
constexpr int WIDTH = 64 * PANELS;

static_assert(D >= 8 && D % 8 == 0 && D <= 128, "the copy engine takes rows of a multiple of 16 bytes");
static_assert(BLOCK_S == 64 || BLOCK_S == 128, "wgmma stands for these numbers of keys");

// Hide the keys of a tile that a row does not see; t is the lane's first row.
__device__ void hide(float (&score)[BLOCK_S / 2], int t, int tile, int T, int S, int lane) {
  const int first = tile * BLOCK_S + lane % 4 * 2;  // the lane's first key
  const int seen[2] = {keys_seen(t, T, S) - first, keys_seen(t + 8, T, S) - first};
#pragma unroll
  for (int i = 0; i < BLOCK_S / 2; i++)
    if (i / 4 * 8 + i % 2 >= seen[i / 2 % 2]) score[i] = minus_infinity();
}
