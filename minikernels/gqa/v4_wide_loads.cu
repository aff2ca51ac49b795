// v4_wide_loads: one new token's attention over its cache, with 16-byte loads, several under way at once.
//
// A block owns up to 8 query heads that share a key/value head, and all the keys of their sequence. launch/absorb.cuh
// has what it does with them, and the constants.
// Differs from v3_warp_dot: a lane reads 16 neighbouring bytes at a time, not one element, and UNROLL rows before it
// waits for the first of them; a maximum and a rescaling serve UNROLL keys.

#include "cache.cuh"
#include "launch/absorb.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v4_wide_loads(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k,  // (B, G, S, D)
    const element* __restrict__ v,
    const int* __restrict__ lengths,  // (B,), or null: all S keys of every sequence
    element* __restrict__ o,  // (B, H, D)
    int G,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  __shared__ Shared shared;
  const Rows rows(blockIdx.x);
  const size_t b = blockIdx.y, out = (b * G * R + rows.head) * D;
  const int length = keys_of(lengths, b, S);
  float q_reg[HEADS][VEC];
  State s;
  load_queries(q_reg, q + out, rows.heads, length, scale_log2e);
  clear(s, length);
  absorb(s, q_reg, Cache(k, v, b * G + rows.g, S), 0, length);
  gather(shared, s);
  write_output(o + out, shared, rows.heads);
}
