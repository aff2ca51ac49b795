// v4_fetch_ahead: one new token's attention over pages, with 16-byte loads whose page was looked up a step before.
//
// A block owns up to 8 query heads that share a key/value head, and all the keys of their sequence. launch/absorb.cuh
// has what it does with them, and the constants.
// Differs from v3_warp_key: a lane reads 16 neighbouring bytes at a time, not one element, UNROLL rows of K and of V
// before it waits for the first of them, and the page of the next ones meanwhile.

#include "cache.cuh"
#include "launch/absorb.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v4_fetch_ahead(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k_pages,  // (pages, P, G, D)
    const element* __restrict__ v_pages,
    const int* __restrict__ page_table,  // (B, max_pages)
    const int* __restrict__ lengths,  // (B,)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int max_pages,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  __shared__ Shared shared;
  const Rows rows(blockIdx.y);
  const size_t b = blockIdx.z, out = (b * G * R + rows.head) * D;
  const int length = lengths[b];
  float q_reg[HEADS][VEC];
  State s;
  load_queries(q_reg, q + out, rows.heads, TILE, scale_log2e);
  clear(s, length);
  absorb(s, q_reg, Cache(k_pages, v_pages, page_table + b * max_pages, rows.g, G), 0, length);
  gather(shared, s);
  write_output(o + out, shared, rows.heads);
}
