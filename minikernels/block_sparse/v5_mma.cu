// v5_mma: block-sparse attention on the tensor cores, by mma.sync m16n8k16; P never leaves the registers.
//
// A block of threads owns a block row of R queries of one head (or one of PARTS of it) and walks over its list of key
// blocks, the full ones first, in tiles of BLOCK_S keys. fragments.cuh has what it does with a tile, and the constants.
// Differs from v4_full_partial: products on the tensor cores in float16 with float32 sums; a warp owns 16 or 32 rows.

#include "fragments.cuh"

// One resident block is all that is asked for: left to choose, ptxas spills registers to make room for more.
extern "C" __global__ void __launch_bounds__(THREADS, 1) v5_mma(
    const __half* __restrict__ q,  // (B, H, T, D)
    const __half* __restrict__ k,  // (B, G, S, D)
    const __half* __restrict__ v,  // (B, G, S, D)
    const int* __restrict__ starts,  // (mask_b * mask_h * block rows + 1,): where each list begins
    const int* __restrict__ full,  // (mask_b * mask_h * block rows,): how many of its blocks are full
    const int* __restrict__ columns,  // of every block in the lists
    __half* __restrict__ o,  // (B, H, T, D)
    float* __restrict__ lse,  // (B, H, T), natural logarithm
    int mask_b,
    int mask_h,
    int H,
    int G,
    int T,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(16) __half smem[];  // (BLOCK_T, ROW) of Q
  __half* k_smem = smem + BLOCK_T * ROW;  // (BLOCK_S, ROW)
  __half* v_smem = k_smem + BLOCK_S * ROW;  // (BLOCK_S, ROW)

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, b = blockIdx.z, h = blockIdx.y;
  const Place place = place_of(b, h, T, mask_b, mask_h);
  const size_t head = (static_cast<size_t>(b) * H + h) * T + place.first;  // row of q, o and lse: [b, h, first]
  const size_t group = (static_cast<size_t>(b) * G + h / (H / G)) * S;  // row of k and v: [b, g, 0]
  const int begin = starts[place.list], end = starts[place.list + 1], partial = begin + full[place.list];
  __half* q_warp = smem + warp * WARP_ROWS * ROW;  // the warp's own rows

  copy_tile<BLOCK_T>(smem, q + head * D, place.rows);
  cp_async_commit();
  clear_padding(smem, BLOCK_T + 2 * BLOCK_S);  // of Q, K and V, which follow each other
  State s;
  clear(s);
  for (int n = begin; n < end; n++) {
    const int block = columns[n] * C, stop = min(S, block + C);
    for (int first = block; first < stop; first += BLOCK_S) {
      const int keys = min(BLOCK_S, stop - first);
      __syncthreads();  // every warp is done with the last tile of K and V before it is overwritten
      copy_tile<BLOCK_S>(k_smem, k + (group + first) * D, keys);
      copy_tile<BLOCK_S>(v_smem, v + (group + first) * D, keys);
      cp_async_commit();
      cp_async_wait<0>();
      __syncthreads();  // K, V and, the first time, Q are written before any warp reads them

      float score[MTILES][NTILES][4] = {};
      multiply_keys<WIDTH, ROW>(score, q_warp, k_smem, lane);
      for (auto& tiles : score)
        for (auto& cells : tiles)
          for (float& cell : cells) cell *= scale_log2e;
      if (n >= partial || (C % BLOCK_S != 0 && keys < BLOCK_S))  // a full block has no cell to hide
        hide(score, place.first + warp * WARP_ROWS, first, stop, S - T, lane);
      rescale(s, score);
      add_values<ROW>(s.o, score, v_smem, lane);
    }
  }
  cp_async_wait<0>();
  __syncthreads();  // Q is loaded, even where no key was seen, and read before its place is overwritten
  const size_t row = head + warp * WARP_ROWS;
  write_rows(o + row * D, lse + row, s, q_warp, place.rows - warp * WARP_ROWS, lane);
}
