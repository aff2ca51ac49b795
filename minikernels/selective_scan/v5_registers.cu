// v5_registers: the selective scan with its states in registers, one pass over the tokens.
//
// A block owns CHANNELS neighbouring channels of one sequence from the first token to the last. scan.cuh has what it
// does with them, and the constants.
// Differs from v4_blelloch: tokens follow one another again, and channels and states are what is parallel: no
// composition of maps, no barrier but two a tile. Rates are scaled once so that a decay is one exp2; b and c pass
// through shared memory.

#include "scan.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v5_registers(
    const element* __restrict__ u,  // (B, T, E)
    const element* __restrict__ delta,  // (B, T, E)
    const float* __restrict__ a,  // (E, N)
    const element* __restrict__ b,  // (B, T, N)
    const element* __restrict__ c,  // (B, T, N)
    const float* __restrict__ d,  // (E,)
    const element* __restrict__ z,  // (B, T, E)
    const float* __restrict__ delta_bias,  // (E,)
    const float* __restrict__ state,  // (B, E, N)
    element* __restrict__ o,  // (B, T, E)
    float* __restrict__ last,  // (B, E, N)
    int T,
    int E) {
  __shared__ Shared shared;
  const size_t batch = blockIdx.y, tokens = batch * T * E, mixes = batch * T * N, states = batch * E * N;
  const Sequence s = {u + tokens, delta + tokens, b + mixes, c + mixes, z + tokens, o + tokens, E, 0, T};
  const Shares shares = load_shares(delta_bias, d, E);
  float a_reg[PER], h[PER];
  load_rates(a_reg, a, E);
  load_states(h, state + states, E);
  advance_all<true>(shared, h, a_reg, shares, s);
  store_states(last + states, h, E);
}
