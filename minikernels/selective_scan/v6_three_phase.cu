// v6_three_phase: the tokens of a sequence split over blocks, in three phases, for when channels alone do not fill a
// GPU.
//
// local: each chunk of tokens is gone through from a state of 0, for the state that it ends in and the sum of its step
// sizes, which says how a state before the chunk decays in it: exp(a * sum). carry: from chunk to chunk, the state
// before each. apply: each chunk again, now from the state before it, with outputs. scan.cuh has what a block does with
// its tokens, and the constants.
// Differs from v5_registers: a block owns a chunk of the tokens. Everything is computed twice, and all at once.

#include "scan.cuh"

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
  __shared__ Shared shared;
  const size_t slot = static_cast<size_t>(blockIdx.z) * chunks + blockIdx.y;
  const Sequence s = chunk_of(u, delta, b, b, u, nullptr, T, E, share);
  const Shares shares = load_shares(delta_bias, delta_bias, E);  // without outputs no d is used
  float a_reg[PER], h[PER] = {};
  load_rates(a_reg, a, E);
  const float sum = advance_all<false>(shared, h, a_reg, shares, s);
  store_states(ends + slot * E * N, h, E);
  if (part() == 0 && owned() < E) sums[slot * E + owned()] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) carry_states(
    const float* __restrict__ a,  // (E, N)
    const float* __restrict__ state,  // (B, E, N)
    float* __restrict__ between,  // (B, chunks, E, N): in, what local_states left; out, the state before each chunk
    const float* __restrict__ sums,  // (B, chunks, E)
    int E,
    int chunks) {
  const int i = blockIdx.x * THREADS + threadIdx.x, states = E * N;  // state i % N of channel i / N
  if (i >= states) return;
  const float rate = LOG2E * a[i];
  float h = state[static_cast<size_t>(blockIdx.y) * states + i];
  for (int chunk = 0; chunk < chunks; chunk++) {
    const size_t slot = static_cast<size_t>(blockIdx.y) * chunks + chunk;
    const bool more = chunk + 1 < chunks;  // nobody has gone through the last chunk yet
    const float end = more ? between[slot * states + i] : 0, sum = more ? sums[slot * E + i / N] : 0;
    between[slot * states + i] = h;
    h = exp2_approx(rate * sum) * h + end;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v6_three_phase(
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
  __shared__ Shared shared;
  const size_t slot = static_cast<size_t>(blockIdx.z) * gridDim.y + blockIdx.y;
  const Sequence s = chunk_of(u, delta, b, c, z, o, T, E, share);
  const Shares shares = load_shares(delta_bias, d, E);
  float a_reg[PER], h[PER];
  load_rates(a_reg, a, E);
  load_states(h, before + slot * E * N, E);
  advance_all<true>(shared, h, a_reg, shares, s);
  if (blockIdx.y + 1 == gridDim.y) store_states(last + static_cast<size_t>(blockIdx.z) * E * N, h, E);
}
