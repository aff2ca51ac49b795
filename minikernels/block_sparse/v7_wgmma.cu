// v7_wgmma: block-sparse attention by wgmma and TMA: one thread copies, warpgroups multiply, long rows come first.
//
// A block of threads stays on its SM and takes the next query tile of BLOCK_T rows from a list sorted by work, whenever
// it has room for one. Its first warpgroup, the producer, gives up registers; one thread of it walks over a tile's list
// of key blocks and has TMA fill rings of STAGES tiles of K and of V, as far ahead as there is room: over the end of a
// query tile as well. The other warpgroups, the consumers, own 64 rows each (walk.cuh has the tiles and the rings).
// S = Q K^T of the next key tile and O += P V of this one are on the tensor cores together, and the softmax of the next
// tile runs while O is not ready, and while the other consumer's products are: they take turns.
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

// The running state of the lane's two rows: half 0, row l / 4 of the warp's 16, and half 1, 8 further down.
struct State {
  float m[2] = {minus_infinity(), minus_infinity()};  // maxima, not scaled
  float l[2] = {};  // this lane's shares of the sums
};

// Turn scores into p under the new maxima; alpha brings under them what was summed up before.
__device__ void absorb(float (&score)[SCORES], State& s, float (&alpha)[2], float scale_log2e) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float m = s.m[half], sum = 0.0f;
    for (int c = 2 * half; c < SCORES; c += 4) m = fmaxf(m, fmaxf(score[c], score[c + 1]));
    m = quad_max(m);
    const float shift = __fmul_rn(base(m), scale_log2e);
    alpha[half] = exp2_approx(__fmul_rn(s.m[half], scale_log2e) - shift);  // the older shift, rounded as it was then
    for (int c = 2 * half; c < SCORES; c += 4)
      for (int e = c; e < c + 2; e++) sum += score[e] = exp2_approx(score[e] * scale_log2e - shift);
    s.l[half] = s.l[half] * alpha[half] + sum;
    s.m[half] = m;
  }
}

// Two neighbouring 8-key tiles of scores are the left operand of 16 keys, as for mma.
__device__ void to_operand(unsigned (&p)[BLOCK_S / 16][4], const float (&score)[SCORES]) {
#pragma unroll
  for (int n = 0; n < SCORES / 2; n++) p[n / 4][n % 4] = pack(score[2 * n], score[2 * n + 1]);
}

// Hide the keys from S on, and those that a row does not see.
__device__ void hide(float (&score)[SCORES], int first_row, int first_key, int T, int S) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int t = first_row + 8 * half;
    const int seen = (CAUSAL ? min(S, t + S - T + 1) : S) - first_key - threadIdx.x % 4 * 2;  // from the lane's first
    for (int n = 0; n < BLOCK_S / 8; n++)
      for (int e = 0; e < 2; e++)
        if (8 * n + e >= seen) score[4 * n + 2 * half + e] = minus_infinity();
  }
}

// Divide by the sums, write lse, and have TMA write the consumer's rows of o by way of shared memory.
__device__ void finish(
    float (&o)[OUTPUTS],
    const State& s,
    __half (&o_smem)[PANELS][ROWS][PANEL],
    const TensorMap& o_map,
    float* __restrict__ lse,  // (T,), of the head
    const Tile& tile,
    int T,
    float scale_log2e) {
  const int w = threadIdx.x / GROUP - 1, thread = threadIdx.x % GROUP, lane = threadIdx.x % 32;
  for (int half = 0; half < 2; half++) {
    const float sum = quad_sum(s.l[half]), inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    const int t = tile.row + w * ROWS + thread / 32 * 16 + lane / 4 + 8 * half;
    if (t < T && lane % 4 == 0) lse[t] = sum == 0.0f ? minus_infinity() : s.m[half] * scale_log2e * LN2 + logf(sum);
    for (int c = 2 * half; c < OUTPUTS; c += 4)
      for (int e = c; e < c + 2; e++) o[e] *= inverse;
  }
  if (thread == 0) tma_store_wait<0>();
  named_sync(1 + w, GROUP);  // the copy engine has read the last tile's outputs, which are overwritten now
  const int row = thread / 32 * 16 + lane % 16;  // the lane gives the address of this row of one of two 8-column tiles
#pragma unroll
  for (int c = 0; c < OUTPUTS; c += 8) {
    const int chunk = c / 4 + lane / 16;
    stmatrix_x4(&o_smem[chunk / 8][row][(chunk % 8 ^ row % 8) * 8], pack(o[c], o[c + 1]), pack(o[c + 2], o[c + 3]),
                pack(o[c + 4], o[c + 5]), pack(o[c + 6], o[c + 7]));
  }
  fence_async();
  named_sync(1 + w, GROUP);  // all 64 rows are there before they are copied
  if (thread == 0) {
    for (int p = 0; p < PANELS; p++) tma_store(o_map, o_smem[p], p * PANEL, tile.row + w * ROWS, tile.head);
    tma_store_commit();
  }
}

__device__ void consume(
    Shared& s,
    const TensorMap& o_map,
    const Work& work,
    float* __restrict__ lse,
    int T,
    int S,
    float scale_log2e) {
  const int w = threadIdx.x / GROUP - 1, row = w * ROWS + threadIdx.x % GROUP / 32 * 16 + threadIdx.x % 32 / 4;
  Ring k, v;
  Tile tile;
  int q_parity = 0, place_parity = 0;
  if (w == 1) pass_turn(w);  // the first turn is consumer 0's
  while (next_tile(tile, s, work, place_parity)) {
    const int* columns = work.columns + tile.begin;
    float o[OUTPUTS] = {}, alpha[2];
    State state;
    if (tile.count > 0) {
      float score[SCORES];
      unsigned p[BLOCK_S / 16][4];
      barrier_wait(&s.q_full, q_parity);
      q_parity ^= 1;
      barrier_wait(&s.k_full[k.stage], k.parity);
      await_turn(w);
      wgmma_fence();
      start_scores(score, s.q[w], s.k[k.stage]);
      pass_turn(w);
      wgmma_wait<0>();
      release(s.k_empty[k.stage]);
      k.advance();
      if (tile.full == 0) hide(score, tile.row + row, first_key(columns, 0), T, S);
      absorb(score, state, alpha, scale_log2e);
      to_operand(p, score);
      if (tile.count > 1) barrier_wait(&s.k_full[k.stage], k.parity);
      for (int u = 1; u < tile.count; u++) {
        await_turn(w);
        wgmma_fence();
        start_scores(score, s.q[w], s.k[k.stage]);
        barrier_wait(&s.v_full[v.stage], v.parity);
        wgmma_fence();
        start_values(o, p, s.v[v.stage]);
        pass_turn(w);
        wgmma_wait<1>();
        release(s.k_empty[k.stage]);
        k.advance();
        if (u >= tile.full) hide(score, tile.row + row, first_key(columns, u), T, S);
        absorb(score, state, alpha, scale_log2e);
        pinned(score);
        // Waiting for K here keeps the assembler from waiting for O first, and the softmax beside the products.
        if (u + 1 < tile.count) barrier_wait(&s.k_full[k.stage], k.parity);
        wgmma_wait<0>();
        release(s.v_empty[v.stage]);
        v.advance();
        to_operand(p, score);
        for (int c = 0; c < OUTPUTS; c++) o[c] *= alpha[c / 2 % 2];
      }
      release(s.q_empty);
      barrier_wait(&s.v_full[v.stage], v.parity);
      wgmma_fence();
      start_values(o, p, s.v[v.stage]);
      wgmma_wait<0>();
      release(s.v_empty[v.stage]);
      v.advance();
    }
    finish(o, state, s.o[w], o_map, lse + static_cast<size_t>(tile.head) * T, tile, T, scale_log2e);
  }
  if (w == 0) await_turn(w);  // consumer 1 has passed on a turn that nobody needs
  if (threadIdx.x % GROUP == 0) tma_store_wait<0>();  // shared memory outlives the copies from it
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) v7_wgmma(
    const __grid_constant__ TensorMap q_map,  // (B * H, T, D), boxes of 64 x 64
    const __grid_constant__ TensorMap k_map,  // (B * G, S, D), boxes of BLOCK_S x 64
    const __grid_constant__ TensorMap v_map,  // (B * G, S, D), boxes of BLOCK_S x 64
    const __grid_constant__ TensorMap o_map,  // (B * H, T, D), boxes of 64 x 64
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
