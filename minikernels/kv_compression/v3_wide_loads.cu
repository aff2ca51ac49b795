// v3_wide_loads: one new token's attention over a cache of 8-bit or 4-bit codes, read 16 bytes at a time.
//
// A block owns up to 8 (4 bits: 4) query heads that share a key/value head, and all the tokens of their sequence.
// absorb.cuh has what it does with them; states.cuh and codes.cuh have the constants, of which PAIRS is 0 here.
// Differs from v2_folded_scales: a load is 16 bytes, 16 or 32 codes of a token, and several are under way at once.

#include "absorb.cuh"

static_assert(PAIRS == 0, "codes are converted one by one");

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v3_wide_loads(
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
