// v8_staging_warps: the selective scan with warps of their own for what happens to a token once.
//
// A block has THREADS threads that own states and go through staged tiles, and THREADS more that read tokens, stage
// them and write their outputs. local_states and v8_staging_warps are the first and the last phase of v6_three_phase,
// whose carry_states runs between them; with one chunk a sequence, v8_staging_warps alone is the scan. pairs.cuh has
// what is done with a tile, and the constants.
// Differs from v7_channel_pairs: the threads that own states do nothing else, and while they wait for powers of two the
// others compute step sizes.

#include "pairs.cuh"

constexpr int RESIDENT = 2;  // blocks of a multiprocessor that registers must leave room for

__device__ bool stages() { return threadIdx.x >= THREADS; }

// PTX ISA 9.7.13.1: wait until every thread of the block is here, whichever line it is on.
__device__ void meet() { asm volatile("bar.sync 1, %0;" ::"n"(2 * THREADS) : "memory"); }

// What the staging threads do in the block's run of tokens: while a tile is gone through, write the outputs of the one
// before it, stage the next, and begin to read the one after that.
template <bool OUTPUT>
__device__ void stage_all(Side* sides, const Shares& shares, const Sequence& s) {
  const size_t stride = static_cast<size_t>(TOKENS) * s.E;
  size_t start = static_cast<size_t>(s.begin + row(0)) * s.E + top() + column();
  Tile done, staged, next;
  load<OUTPUT>(staged, s, s.begin, start);
  load<OUTPUT>(next, s, s.begin + TOKENS, start + stride);
  stage<OUTPUT>(sides[0], staged, shares, s.end - s.begin);
  meet();  // the first tile is staged before any thread goes through it
  int first = s.begin, now = 0;
#pragma unroll 1
  for (; first < s.end; first += TOKENS, start += stride, now ^= 1) {
    if (OUTPUT && first > s.begin) {
      write(s, sides[now ^ 1], done.u, done.z, shares, s.end - first + TOKENS, start - stride);
    }
    done = staged, staged = next;
    stage<OUTPUT>(sides[now ^ 1], staged, shares, s.end - first - TOKENS);
    load<OUTPUT>(next, s, first + 2 * TOKENS, start + 2 * stride);
    meet();  // outputs of this tile are there, the next is staged, and each side may be used again
  }
  if (OUTPUT) write(s, sides[now ^ 1], done.u, done.z, shares, s.end - first + TOKENS, start - stride);
}

// What the threads that own states do meanwhile; returns the sums of the pair's step sizes if there is no output.
template <bool OUTPUT>
__device__ float2 advance_all(Side* sides, States& h, const States& a_reg, const Sequence& s) {
  float2 sums = {0, 0};
  int now = 0;
  meet();  // the first tile is staged
#pragma unroll 1
  for (int first = s.begin; first < s.end; first += TOKENS, now ^= 1) {
    advance_tile<OUTPUT>(sides[now], h, a_reg, sums);
    meet();  // this tile's outputs may be read and its side used again; the next is staged
  }
  return sums;
}

extern "C" __global__ void __launch_bounds__(2 * THREADS, RESIDENT) local_states(
    const element* __restrict__ u,  // (B, T, E)
    const element* __restrict__ delta,  // (B, T, E)
    const float* __restrict__ a,  // (E, N)
    const element* __restrict__ b,  // (B, T, N)
    const float* __restrict__ delta_bias,  // (E,)
    float* __restrict__ ends,  // (B, chunks, E, N), the state that each chunk but the last ends in, from 0
    float* __restrict__ sums,  // (B, chunks, E)
    int T,
    int E,
    int share,
    int chunks) {
  Side* sides = both_sides();
  const size_t place = static_cast<size_t>(blockIdx.z) * chunks + blockIdx.y;
  const Sequence s = chunk_of(u, delta, b, b, u, nullptr, T, E, share);
  if (stages()) {
    stage_all<false>(sides, load_shares(delta_bias, delta_bias, E), s);  // without outputs no d is used
    return;
  }
  States a_reg, h = {};
  load_states(a_reg, a, E, LOG2E);
  const float2 sum = advance_all<false>(sides, h, a_reg, s);
  store_states(ends + place * E * N, h, E);
  if (part() == 0 && owned(0) < E) sums[place * E + owned(0)] = sum.x;
  if (part() == 0 && owned(1) < E) sums[place * E + owned(1)] = sum.y;
}

extern "C" __global__ void __launch_bounds__(2 * THREADS, RESIDENT) v8_staging_warps(
    const element* __restrict__ u,  // (B, T, E)
    const element* __restrict__ delta,  // (B, T, E)
    const float* __restrict__ a,  // (E, N)
    const element* __restrict__ b,  // (B, T, N)
    const element* __restrict__ c,  // (B, T, N)
    const float* __restrict__ d,  // (E,)
    const element* __restrict__ z,  // (B, T, E)
    const float* __restrict__ delta_bias,  // (E,)
    const float* __restrict__ before,  // (B, chunks, E, N), the state before each chunk
    element* __restrict__ o,  // (B, T, E)
    float* __restrict__ last,  // (B, E, N)
    int T,
    int E,
    int share) {
  Side* sides = both_sides();
  const size_t place = static_cast<size_t>(blockIdx.z) * gridDim.y + blockIdx.y;
  const Sequence s = chunk_of(u, delta, b, c, z, o, T, E, share);
  if (stages()) {
    stage_all<true>(sides, load_shares(delta_bias, d, E), s);
    return;
  }
  States a_reg, h;
  load_states(a_reg, a, E, LOG2E);
  load_states(h, before + place * E * N, E);
  advance_all<true>(sides, h, a_reg, s);
  if (blockIdx.y + 1 == gridDim.y) store_states(last + static_cast<size_t>(blockIdx.z) * E * N, h, E);
}
