// v7_wgmma: block-sparse attention by wgmma and TMA: one thread copies, warpgroups multiply, long rows come first.
//
// A block of threads stays on its SM and takes the next query tile of BLOCK_T rows from a list sorted by work, whenever
// it has room for one. Its first warpgroup, the producer, gives up registers; one thread of it walks over a tile's list
// of key blocks and has TMA fill rings of STAGES tiles of K and of V, as far ahead as there is room: over the end of a
// query tile as well. The other warpgroups, the consumers, own 64 rows each (walk.cuh has the tiles and the rings).
// S = Q K^T of the next key tile and O += P V of this one are on the tensor cores together, also where the next key tile
// is the next query tile's first; the maxima of the next are found while O is not ready, and all of its softmax runs
// beside the other consumer's products: they take turns.
// Differs from v6_async: wgmma takes its operands from shared memory, where TMA has put them, swizzled; a thread that
// does nothing but copy; query tiles that see many blocks first, so that short ones fill the end.

#include "walk.cuh"

// score = Q K^T, started: the consumer's 64 rows against BLOCK_S keys.
__device__ void multiply_keys(
    float (&score)[SCORES],
    const __half (&q)[PANELS][ROWS][PANEL],
    const __half (&k)[PANELS][BLOCK_S][PANEL]) {
#pragma unroll
  for (int d = 0; d < PANELS * PANEL; d += 16)
    wgmma<BY_ROWS>(score, by_rows(&q[d / PANEL][0][d % PANEL]), by_rows(&k[d / PANEL][0][d % PANEL]), d > 0);
  wgmma_commit();
}

// o += P V, started; P is in registers.
__device__ void add_values(
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
  const int w = threadIdx.x / GROUP - 1, lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16 - ROWS;
  Ring<2> queries;
  Ring<STAGES> keys, values;
  Sums sums;
  float score[SCORES], o[OUTPUTS] = {}, shift[2], alpha[2];
  unsigned p[BLOCK_S / 16][4];
  const auto write = [&](const Tile& tile, const float(&o)[OUTPUTS], const Sums& sums) {
    send_rows(o_map, lse + static_cast<size_t>(tile.head) * T, s.o[threadIdx.x / 32 - 4], o, sums, tile.head,
              tile.row + warp_row, T, scale_log2e);
  };
  const auto leave = [&] {
    warp_arrive(&s.q_empty[queries.place]);
    queries.next();
  };
  const auto await_tile = [&] {  // the next one that sees a key, and its Q; or the end
    while (true) {
      barrier_wait(&s.q_full[queries.place], queries.parity);
      Tile next{};
      if (lane == 0) next = s.tile[queries.place];  // by the lane that will say that it may be overwritten
      const auto all = [](int x) { return __shfl_sync(0xffffffff, x, 0); };
      const Tile tile = {all(next.head), 0, all(next.row), all(next.begin), all(next.count), all(next.full)};
      if (tile.count > 0 || tile.head < 0) return tile;
      const float none[OUTPUTS] = {};
      write(tile, none, Sums{});
      leave();
    }
  };
  const auto start_scores = [&] {
    barrier_wait(&s.k_full[keys.place], keys.parity);
    await_turn(w);
    wgmma_fence();
    multiply_keys(score, s.q[queries.place][w], s.k[keys.place]);
  };
  const auto take_scores = [&] {
    pinned(score);
    warp_arrive(&s.k_empty[keys.place]);
    keys.next();
  };
  const auto start_values = [&] {
    barrier_wait(&s.v_full[values.place], values.parity);
    wgmma_fence();
    add_values(o, p, s.v[values.place]);
  };
  const auto start_both = [&] {
    start_scores();
    start_values();
    pass_turn(w);
    wgmma_wait<1>();
    take_scores();
  };
  const auto take_values = [&] {
    in_order();  // the maxima before the wait; exponentials after it, for the compiler to mix with what mends O
    wgmma_wait<0>();
    pinned(o);
    warp_arrive(&s.v_empty[values.place]);
    values.next();
  };
  const auto hide_partial = [&](const Tile& tile, int u) {
    if (u >= tile.full) hide(score, tile.row + warp_row + lane / 4, first_key(work.columns + tile.begin, u), T, S);
  };

  Tile tile = await_tile();
  if (tile.head < 0) return sent();
  if (w == 1) pass_turn(w);  // the first turn is consumer 0's
  start_scores();
  pass_turn(w);
  wgmma_wait<0>();
  take_scores();
  hide_partial(tile, 0);
  raise_maxima(score, sums, shift, alpha, scale_log2e);
  weigh(score, sums, shift, scale_log2e);
  round_weights(p, score);
  while (true) {  // p has the weights of the tile's first keys; o is 0
    for (int u = 1; u < tile.count; u++) {
      start_both();
      hide_partial(tile, u);
      raise_maxima(score, sums, shift, alpha, scale_log2e);
      take_values();
      weigh(score, sums, shift, scale_log2e);
      rescale(o, alpha);
      round_weights(p, score);
    }
    leave();
    const Tile coming = await_tile();
    if (coming.head < 0) break;
    start_both();
    const Sums done = sums;
    sums = Sums{};
    hide_partial(coming, 0);
    raise_maxima(score, sums, shift, alpha, scale_log2e);
    take_values();
    weigh(score, sums, shift, scale_log2e);
    write(tile, o, done);
#pragma unroll
    for (float& cell : o) cell = 0.0f;
    round_weights(p, score);
    tile = coming;
  }
  start_values();
  take_values();
  write(tile, o, sums);
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
  extern __shared__ __align__(1024) unsigned char smem[];
  Shared& s = *reinterpret_cast<Shared*>(smem);
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
