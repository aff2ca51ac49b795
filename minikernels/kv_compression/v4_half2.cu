// v4_half2: one new token's attention over a cache of 8-bit or 4-bit codes, two codes to a float16 pair at a time.
//
// A block owns up to 8 (4 bits: 4) query heads that share a key/value head, and all the tokens of their sequence.
// absorb.cuh has what it does with them; states.cuh and codes.cuh have the constants, of which PAIRS is 1 here.
// Differs from v3_wide_loads: no integer is converted; a logical operation makes two float16 numbers of two codes.

#include "absorb.cuh"

static_assert(PAIRS == 1, "codes become numbers two by two");

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v4_half2(
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
    element* __restrict__ o,  // (B, H, D)
    int G,
    int S,
    int quantized,  // N
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  __shared__ Shared shared;
  const Rows rows(blockIdx.x);
  const size_t b = blockIdx.y, out = (b * G * R + rows.head) * D;
  const Cache all = {k_codes, k_scales, k_minima, k_recent, v_codes, v_scales, v_minima, v_recent, quantized};
  State s;
  load_queries(shared, q + out, rows.heads, scale_log2e);
  clear(s);
  absorb(s, shared.queries, all.of(b * G + rows.g, S), 0, lengths[b]);
  gather(shared, s);
  write_output(o + out, shared.states, rows.heads);
}
