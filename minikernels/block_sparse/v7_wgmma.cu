// v7_wgmma: block-sparse attention by wgmma and TMA: one thread copies, warpgroups multiply, long rows come first.
//
// A block of threads stays on its SM and takes the next query tile of BLOCK_T rows from a list sorted by work, whenever
// it has room for one. Its first warpgroup, the producer, gives up registers; one thread of it walks over a tile's list
// of key blocks and has TMA fill rings of STAGES tiles of K and of V, as far ahead as there is room: over the end of a
// query tile as well. The other warpgroups, the consumers, own 64 rows each (walk.cuh has the tiles and the rings).
// S = Q K^T of the next key tile and O += P V of this one are on the tensor cores together; the maxima of the next tile
// are found while O is not ready, and all of its softmax runs beside the other consumer's products: they take turns.
// Differs from v6_async: wgmma takes its operands from shared memory, where TMA has put them, swizzled; a thread that
// does nothing but copy; query tiles that see many blocks first, so that short ones fill the end.

#include "walk.cuh"

// score = Q K^T, started: the consumer's 64 rows against BLOCK_S keys.
__device__ void start_scores(
    float (&score)[SCORES],
    const __half (&q)[PANELS][ROWS][PANEL],
    const __half (&k)[PANELS][BLOCK_S][PANEL]) {
#pragma unroll
  for (int d = 0; d < PANELS * PANEL; d += 16)
    wgmma<BY_ROWS>(score, by_rows(&q[d / PANEL][0][d % PANEL]), by_rows(&k[d / PANEL][0][d % PANEL]), d > 0);
  wgmma_commit();
}

// o += P V, started; P is in registers.
__device__ void start_values(
    float (&o)[OUTPUTS],
    const unsigned (&p)[BLOCK_S / 16][4],
    const __half (&v)[PANELS][BLOCK_S][PANEL]) {
#pragma unroll
  for (int n = 0; n < BLOCK_S / 16; n++) wgmma<BY_COLUMNS>(o, p[n], by_columns(&v[0][16 * n][0], sizeof(v[0])), true);
  wgmma_commit();
}

__device__ void consume(
    Shared& s,
    const TensorMap& o_map,
    const Work& work,
    float* __restrict__ lse,
    int T,
    int S,
    float scale_log2e) {
  const int w = threadIdx.x / GROUP - 1, warp_row = threadIdx.x / 32 * 16 - ROWS, row = warp_row + threadIdx.x % 32 / 4;
  Ring<STAGES> k, v;
  Tile tile;
  int q_parity = 0, place_parity = 0;
  if (w == 1) pass_turn(w);  // the first turn is consumer 0's
  while (next_tile(tile, s, work, place_parity)) {
    const int* columns = work.columns + tile.begin;
    float o[OUTPUTS] = {}, shift[2], alpha[2];
    Sums sums;
    if (tile.count > 0) {
      float score[SCORES];
      unsigned p[BLOCK_S / 16][4];
      barrier_wait(&s.q_full, q_parity);
      q_parity ^= 1;
      barrier_wait(&s.k_full[k.place], k.parity);
      await_turn(w);
      wgmma_fence();
      start_scores(score, s.q[w], s.k[k.place]);
      pass_turn(w);
      wgmma_wait<0>();
      pinned(score);
      warp_arrive(&s.k_empty[k.place]);
      k.next();
      if (tile.full == 0) hide(score, tile.row + row, first_key(columns, 0), T, S);
      raise_maxima(score, sums, shift, alpha, scale_log2e);
      weigh(score, sums, shift, scale_log2e);
      round_weights(p, score);
      if (tile.count > 1) barrier_wait(&s.k_full[k.place], k.parity);
      for (int u = 1; u < tile.count; u++) {
        await_turn(w);
        wgmma_fence();
        start_scores(score, s.q[w], s.k[k.place]);
        barrier_wait(&s.v_full[v.place], v.parity);
        wgmma_fence();
        start_values(o, p, s.v[v.place]);
        pass_turn(w);
        wgmma_wait<1>();
        pinned(score);
        warp_arrive(&s.k_empty[k.place]);
        k.next();
        if (u >= tile.full) hide(score, tile.row + row, first_key(columns, u), T, S);
        raise_maxima(score, sums, shift, alpha, scale_log2e);
        // Waiting for K here keeps the assembler from waiting for O first: the maxima are found beside the products,
        // and exponentials follow, mixed with what mends O.
        if (u + 1 < tile.count) barrier_wait(&s.k_full[k.place], k.parity);
        wgmma_wait<0>();
        pinned(o);
        warp_arrive(&s.v_empty[v.place]);
        v.next();
        weigh(score, sums, shift, scale_log2e);
        rescale(o, alpha);
        round_weights(p, score);
      }
      warp_arrive(&s.q_empty);
      barrier_wait(&s.v_full[v.place], v.parity);
      wgmma_fence();
      start_values(o, p, s.v[v.place]);
      wgmma_wait<0>();
      pinned(o);
      warp_arrive(&s.v_empty[v.place]);
      v.next();
    }
    send_rows(o_map, lse + static_cast<size_t>(tile.head) * T, s.o[threadIdx.x / 32 - 4], o, sums, tile.head,
              tile.row + warp_row, T, scale_log2e);
  }
  if (w == 0) await_turn(w);  // consumer 1 has passed on a turn that nobody needs
  sent();
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) v7_wgmma(
    const __grid_constant__ TensorMap q_map,  // (B * H, T, D), boxes of 64 x 64
    const __grid_constant__ TensorMap k_map,  // (B * G, S, D), boxes of BLOCK_S x 64
    const __grid_constant__ TensorMap v_map,  // (B * G, S, D), boxes of BLOCK_S x 64
    const __grid_constant__ TensorMap o_map,  // (B * H, T, D), boxes of 16 x 64
    const int* __restrict__ starts,  // (mask_b * mask_h * block rows + 1,): where each list begins
    const int* __restrict__ full,  // (mask_b * mask_h * block rows,): how many of its blocks are full
    const int* __restrict__ columns,  // of every block in the lists
    const int* __restrict__ order,  // (B * H * block rows,): block rows, in the order in which they are taken
    int* __restrict__ taken,  // (1,), 0
    float* __restrict__ lse,  // (B, H, T), natural logarithm
    int mask_b,
    int mask_h,
    int B,
    int H,
    int G,
    int T,
    int S,
    float scale_log2e) {  // scale * log2(e), above 0: exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ unsigned char smem[];
  Shared& s = *reinterpret_cast<Shared*>(smem + (1024 - shared_address(smem) % 1024) % 1024);
  const int block_rows = (T + R - 1) / R, tiles = B * H * block_rows * PARTS;
  const Work work = {starts, full, columns, order, taken, mask_b, mask_h, H, G, block_rows, tiles};
  if (threadIdx.x == 0) set_up(s);
  __syncthreads();  // the barriers are there for everyone
  if (threadIdx.x < GROUP) {
    registers_keep<40>();
    if (threadIdx.x == 0) produce(s, q_map, k_map, v_map, work);
  } else {
    registers_take<BLOCKS == 2 ? 216 : 232>();
    consume(s, o_map, work, lse, T, S, scale_log2e);
  }
}
