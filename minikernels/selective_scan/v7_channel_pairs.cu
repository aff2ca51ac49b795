// v7_channel_pairs: the selective scan with two channels a thread; the tokens in one pass, or split over blocks in
// three phases.
//
// local_states and v7_channel_pairs are the first and the last phase of v6_three_phase, whose carry_states runs between
// them; with one chunk a sequence, v7_channel_pairs alone is the scan. pairs.cuh has what a block does with its tokens,
// and the constants.
// Differs from v6_three_phase: a thread owns states of two neighbouring channels, and reads b and c once for both; a
// tile is staged while the one before is gone through.

#include "pairs.cuh"

constexpr int RESIDENT = 3;  // blocks of a multiprocessor that registers must leave room for

// Take the block's channels through its run of tokens; returns the sums of the pair's step sizes if there is no output.
template <bool OUTPUT>
__device__ float2 advance_all(
    Side* sides,
    States& h,
    const States& a_reg,
    const Shares& shares,
    const Sequence& s) {
  const size_t stride = static_cast<size_t>(TOKENS) * s.E;
  size_t start = static_cast<size_t>(s.begin + row(0)) * s.E + top() + column();
  Tile tile, next;
  float2 sums = {0, 0};
  load<OUTPUT>(tile, s, s.begin, start);
  load<OUTPUT>(next, s, s.begin + TOKENS, start + stride);
  stage<OUTPUT>(sides[0], tile, shares, s.end - s.begin);
  __syncthreads();  // the first tile is staged before any thread goes through it
  int now = 0;
#pragma unroll 1
  for (int first = s.begin; first < s.end; first += TOKENS, start += stride, now ^= 1) {
    const Tile later = next;
    stage<OUTPUT>(sides[now ^ 1], next, shares, s.end - first - TOKENS);
    load<OUTPUT>(next, s, first + 2 * TOKENS, start + 2 * stride);
    advance_tile<OUTPUT>(sides[now], h, a_reg, sums);
    __syncthreads();  // outputs are there, the next tile is staged, and this one is done with
    if (OUTPUT) write(s, sides[now], tile.u, tile.z, shares, s.end - first, start);
    tile = later;
  }
  return sums;
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) local_states(
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
  const Shares shares = load_shares(delta_bias, delta_bias, E);  // without outputs no d is used
  States a_reg, h = {};
  load_states(a_reg, a, E, LOG2E);
  const float2 sum = advance_all<false>(sides, h, a_reg, shares, s);
  store_states(ends + place * E * N, h, E);
  if (part() == 0 && owned(0) < E) sums[place * E + owned(0)] = sum.x;
  if (part() == 0 && owned(1) < E) sums[place * E + owned(1)] = sum.y;
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v7_channel_pairs(
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
  const Shares shares = load_shares(delta_bias, d, E);
  States a_reg, h;
  load_states(a_reg, a, E, LOG2E);
  load_states(h, before + place * E * N, E);
  advance_all<true>(sides, h, a_reg, shares, s);
  if (blockIdx.y + 1 == gridDim.y) store_states(last + static_cast<size_t>(blockIdx.z) * E * N, h, E);
}
