// v7_wgmma: softmax attention by products of whole warpgroups, fed by the copy engine.
//
// A block stays on its SM and takes one item after the other: BLOCK_T query rows of one head. One thread, the producer,
// asks the copy engine (TMA) for Q, and for tiles of K and V into rings of STAGES places. CONSUMERS warpgroups own 64
// rows each and all keys. The tensor cores read Q, K and V from shared memory themselves; P is their left operand in
// the registers where its scores were computed. Two overlaps hide the softmax: a warpgroup computes the weights of tile
// j + 1 while its product P V of tile j runs, and the warpgroups issue their products in turns, so that while one
// computes exponentials the tensor cores have another's products.
// Differs from v6_async: wgmma on operands in shared memory in place of ldmatrix and mma.sync; copies by one thread.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; BLOCK_S, CONSUMERS, STAGES.

#include "launch/hopper.cuh"
#include "launch/softmax.cuh"

constexpr int PANELS = (D + 63) / 64;  // of 64 columns; columns past D are zeros by the copy engine
constexpr int WIDTH = 64 * PANELS;
constexpr int BLOCK_T = 64 * CONSUMERS;
constexpr int THREADS = 128 * (CONSUMERS + 1);
constexpr int Q_TILE = BLOCK_T * WIDTH, KV_TILE = BLOCK_S * WIDTH;  // elements
constexpr int ROW = WIDTH + 8;  // of the output in shared memory: an odd multiple of 16 bytes
constexpr int PRODUCER_REGISTERS = CONSUMERS == 2 ? 24 : 32;
constexpr int CONSUMER_REGISTERS = CONSUMERS == 2 ? 240 : 160;  // together at most 65,536 of an SM
constexpr float LN2 = 0.69314718f;

static_assert(D >= 8 && D % 8 == 0 && D <= 128, "the copy engine takes rows of a multiple of 16 bytes");
static_assert(BLOCK_S == 64 || BLOCK_S == 128, "wgmma stands for these numbers of keys");
static_assert(CONSUMERS == 2 || CONSUMERS == 3, "registers are dealt out for these");
static_assert(2 * Q_TILE % 1024 == 0 && 2 * KV_TILE % 1024 == 0, "every panel begins where the swizzle does");

struct Smem {
  __half q[Q_TILE];  // (PANELS, BLOCK_T, 64), swizzled
  __half k[STAGES][KV_TILE], v[STAGES][KV_TILE];  // (PANELS, BLOCK_S, 64) each, swizzled
  __half o[BLOCK_T * ROW];
  int number;  // of the item whose Q stands here
  Barrier q_full, q_empty, k_full[STAGES], k_empty[STAGES], v_full[STAGES], v_empty[STAGES];
};

// Where the ring stands: which place is next, and the parity of the phase that fills it.
struct Ring {
  int place = 0, parity = 0;
  __device__ void next() {
    if (++place == STAGES) place = 0, parity ^= 1;
  }
};

// What an item asks for.
struct Item {
  int head, first, tiles;  // [b, h] of q; its first row; how many tiles of keys any of its rows sees
};

struct Sizes {
  int heads, share, bunch, T, S;  // B * H; query heads of a key/value head; heads whose K and V fit in L2 together
};

// How many keys row t sees: a prefix. Bottom right aligned, so negative where T > S and t sees none.
__device__ int keys_seen(int t, int T, int S) { return CAUSAL ? min(S, t + 1 + S - T) : S; }

// One bunch of heads after the other; in a bunch the items that see the most keys first: short ones fill the end.
__device__ Item item_of(int number, const Sizes& size) {
  const int row_tiles = (size.T + BLOCK_T - 1) / BLOCK_T, before = number / (size.bunch * row_tiles) * size.bunch;
  const int heads = min(size.bunch, size.heads - before), nth = number - before * row_tiles;  // of the bunch
  const int first = (row_tiles - 1 - nth / heads) * BLOCK_T;
  const int seen = keys_seen(min(first + BLOCK_T, size.T) - 1, size.T, size.S);
  return {before + nth % heads, first, max(0, seen + BLOCK_S - 1) / BLOCK_S};
}

__device__ void load_tile(__half* tile, const TensorMap& map, Barrier* full, int rows, int row, int slice) {
  barrier_expect(full, rows * WIDTH * sizeof(__half));
  for (int p = 0; p < PANELS; p++) tma_load(tile + p * rows * 64, map, full, 64 * p, row, slice);
}

// The producer: Q of an item, and its tiles of K and V from the last one on, each when its place is free.
__device__ void produce(
    Smem& smem, const TensorMap& q, const TensorMap& k, const TensorMap& v, int* next, int items, const Sizes& size) {
  Ring ring;
  int q_parity = 1, number = blockIdx.x;
  while (true) {
    barrier_wait(&smem.q_empty, q_parity);  // the last item's number is read, and its scores are all computed
    smem.number = number;
    if (number >= items) break;
    const Item item = item_of(number, size);
    load_tile(smem.q, q, &smem.q_full, BLOCK_T, item.first, item.head);
    for (int j = item.tiles - 1; j >= 0; j--, ring.next()) {
      barrier_wait(&smem.k_empty[ring.place], ring.parity ^ 1);  // every warp is done with what stands there
      load_tile(smem.k[ring.place], k, &smem.k_full[ring.place], BLOCK_S, j * BLOCK_S, item.head / size.share);
      barrier_wait(&smem.v_empty[ring.place], ring.parity ^ 1);
      load_tile(smem.v[ring.place], v, &smem.v_full[ring.place], BLOCK_S, j * BLOCK_S, item.head / size.share);
    }
    number = CAUSAL ? gridDim.x + atomicAdd(next, 1) : number + gridDim.x;  // alike items need no counter
    q_parity ^= 1;
  }
  barrier_arrive(&smem.q_full);  // there is none: its number says so
}

// Start score = Q K^T: 64 rows against BLOCK_S keys, 16 columns a step.
__device__ void multiply_keys(float (&score)[BLOCK_S / 2], const __half* q, const __half* k) {
  const unsigned long long rows = by_rows(q), keys = by_rows(k);
#pragma unroll
  for (int d = 0; d < D; d += 16) {
    const int panel = d / 64, in_panel = d % 64 * sizeof(__half);
    wgmma<BY_ROWS>(score, further(rows, panel * BLOCK_T * 128 + in_panel),
                   further(keys, panel * BLOCK_S * 128 + in_panel), d > 0);
  }
  wgmma_commit();
}

// Start o += P V, 16 keys a step.
__device__ void add_values(float (&o)[WIDTH / 2], const unsigned (&p)[BLOCK_S / 16][4], const __half* v) {
  const unsigned long long values = by_columns(v, BLOCK_S * 128);
#pragma unroll
  for (int n = 0; n < BLOCK_S / 16; n++) wgmma<BY_COLUMNS>(o, p[n], further(values, n * 2048), true);
  wgmma_commit();
}

// Hide the keys that a row does not see; `seen` counts from the tile's first key, for each of the lane's two rows.
__device__ void hide(float (&score)[BLOCK_S / 2], const int (&seen)[2], int lane) {
#pragma unroll
  for (int i = 0; i < BLOCK_S / 2; i++)
    if (i / 4 * 8 + lane % 4 * 2 + i % 2 >= seen[i / 2 % 2]) score[i] = minus_infinity();
}

// Turn scores into weights under the new maxima (of scores as they are: scale > 0) and find what mends older sums.
__device__ void weigh(
    float (&score)[BLOCK_S / 2], float (&m)[2], float (&l)[2], float (&alpha)[2], float scale_log2e) {
#pragma unroll
  for (int half = 0; half < 2; half++) {  // rows lane / 4 and lane / 4 + 8
    float m_new = m[half], sum = 0.0f;
#pragma unroll
    for (int i = 2 * half; i < BLOCK_S / 2; i += 4) m_new = fmaxf(m_new, fmaxf(score[i], score[i + 1]));
    m_new = quad_max(m_new);
    const float shift = base(m_new) * scale_log2e;
    alpha[half] = exp2_approx(__fmul_rn(m[half], scale_log2e) - shift);  // the older shift, rounded as it was then
    m[half] = m_new;
#pragma unroll
    for (int i = 2 * half; i < BLOCK_S / 2; i += 4)
      for (int e = i; e < i + 2; e++) sum += score[e] = exp2_approx(score[e] * scale_log2e - shift);
    l[half] = l[half] * alpha[half] + sum;  // this lane's share
  }
}

__device__ void rescale(float (&o)[WIDTH / 2], const float (&alpha)[2]) {
#pragma unroll
  for (int i = 0; i < WIDTH / 2; i++) o[i] *= alpha[i / 2 % 2];
}

// P in float16: where the scores of 16 keys stand is where wgmma wants its left operand.
__device__ void round_weights(unsigned (&p)[BLOCK_S / 16][4], const float (&score)[BLOCK_S / 2]) {
#pragma unroll
  for (int i = 0; i < BLOCK_S / 4; i++) p[i / 4][i % 4] = pack(score[2 * i], score[2 * i + 1]);
}

// Write the warp's 16 rows of o, 16 bytes a lane, by way of shared memory, and of lse.
__device__ void write_rows(
    __half* __restrict__ o,  // (rows, D), of the warp
    float* __restrict__ lse,  // (rows,)
    const float (&o_reg)[WIDTH / 2],
    const float (&m)[2],
    const float (&l)[2],
    __half* smem,  // (16, ROW), of the warp
    int rows,  // 0 or fewer where the warp stands past the last one
    float scale_log2e,
    int lane) {
  __syncwarp();  // the rows of the last item are copied before they are overwritten
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = 8 * half + lane / 4;
    const float sum = quad_sum(l[half]), inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    if (row < rows && lane % 4 == 0)
      lse[row] = sum == 0.0f ? minus_infinity() : m[half] * scale_log2e * LN2 + logf(sum);
#pragma unroll
    for (int i = 2 * half; i < WIDTH / 2; i += 4)
      *reinterpret_cast<unsigned*>(smem + row * ROW + i / 4 * 8 + lane % 4 * 2) =
          pack(o_reg[i] * inverse, o_reg[i + 1] * inverse);
  }
  __syncwarp();  // the rows are whole before another lane copies them
  constexpr int CHUNKS = D / 8;
  for (int i = lane; i < min(rows, 16) * CHUNKS; i += 32)
    reinterpret_cast<uint4*>(o)[i] = *reinterpret_cast<const uint4*>(smem + i / CHUNKS * ROW + i % CHUNKS * 8);
}

// A consumer: warpgroup `group` of CONSUMERS, its 64 rows of every item.
__device__ void consume(
    Smem& smem,
    __half* __restrict__ o,
    float* __restrict__ lse,
    int items,
    const Sizes& size,
    float scale_log2e,
    int group,
    int warp,  // of the warpgroup
    int lane) {
  const int T = size.T, S = size.S;
  const __half* q = smem.q + group * 64 * 64;  // the warpgroup's rows of the first panel
  Ring keys, values;
  int q_parity = 0;
  const auto release = [&](Barrier* empty) {
    if (lane == 0) barrier_arrive(empty);
  };
  if (group == CONSUMERS - 1) named_arrive(1, 256);  // the first turn is group 0's
  while (true) {
    barrier_wait(&smem.q_full, q_parity);
    q_parity ^= 1;
    const int number = __shfl_sync(0xffffffff, smem.number, 0);  // so told to be alike in all lanes
    if (number >= items) break;
    const Item item = item_of(number, size);
    const int warp_row = item.first + 64 * group + 16 * warp;
    const int row_sees[2] = {keys_seen(warp_row + lane / 4, T, S), keys_seen(warp_row + lane / 4 + 8, T, S)};
    float score[BLOCK_S / 2], o_reg[WIDTH / 2] = {}, m[2] = {minus_infinity(), minus_infinity()}, l[2] = {}, alpha[2];
    unsigned p[BLOCK_S / 16][4];
    const auto mask = [&](int j) {
      const int seen[2] = {row_sees[0] - j * BLOCK_S, row_sees[1] - j * BLOCK_S};
      hide(score, seen, lane);
    };
    if (item.tiles > 0) {
      barrier_wait(&smem.k_full[keys.place], keys.parity);
      wgmma_fence();
      multiply_keys(score, q, smem.k[keys.place]);
      wgmma_wait<0>();
      pinned(score);
      release(&smem.k_empty[keys.place]);
      keys.next();
      mask(item.tiles - 1);  // the last tile is ragged, or the diagonal crosses it
      weigh(score, m, l, alpha, scale_log2e);
      round_weights(p, score);
      for (int j = item.tiles - 2; j >= 0; j--) {
        barrier_wait(&smem.k_full[keys.place], keys.parity);
        named_sync(1 + group, 256);  // this warpgroup's turn at the tensor cores
        wgmma_fence();
        multiply_keys(score, q, smem.k[keys.place]);
        barrier_wait(&smem.v_full[values.place], values.parity);
        add_values(o_reg, p, smem.v[values.place]);
        named_arrive(1 + (group + 1) % CONSUMERS, 256);  // the next one's
        wgmma_wait<1>();  // the scores are there; P V of the tile before still runs
        pinned(score);
        release(&smem.k_empty[keys.place]);
        keys.next();
        if (CAUSAL && (j + 1) * BLOCK_S > keys_seen(warp_row, T, S)) mask(j);
        weigh(score, m, l, alpha, scale_log2e);
        wgmma_wait<0>();  // now P and o may be written
        pinned(o_reg);
        release(&smem.v_empty[values.place]);
        values.next();
        rescale(o_reg, alpha);
        round_weights(p, score);
      }
    }
    release(&smem.q_empty);  // every score is computed
    if (item.tiles > 0) {
      barrier_wait(&smem.v_full[values.place], values.parity);
      wgmma_fence();
      add_values(o_reg, p, smem.v[values.place]);
      wgmma_wait<0>();
      pinned(o_reg);
      release(&smem.v_empty[values.place]);
      values.next();
    }
    const size_t row = static_cast<size_t>(item.head) * T + warp_row;  // of o and lse: [b, h, warp_row]
    __half* o_smem = smem.o + (64 * group + 16 * warp) * ROW;
    write_rows(o + row * D, lse + row, o_reg, m, l, o_smem, T - warp_row, scale_log2e, lane);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) v7_wgmma(
    const __grid_constant__ TensorMap q,  // (B * H, T, D)
    const __grid_constant__ TensorMap k,  // (B * G, S, D)
    const __grid_constant__ TensorMap v,  // (B * G, S, D)
    __half* __restrict__ o,  // (B, H, T, D)
    float* __restrict__ lse,  // (B, H, T), natural logarithm
    int* __restrict__ next,  // 0: how many items were taken after the first one of every block, if CAUSAL
    int heads,  // B * H
    int share,  // query heads of a key/value head
    int bunch,  // heads whose keys and values fit in L2 together
    int T,
    int S,
    float scale_log2e) {  // scale * log2(e), greater than 0: exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(1024) unsigned char memory[];
  Smem& smem = *reinterpret_cast<Smem*>(memory);
  const Sizes size{heads, share, bunch, T, S};
  const int items = heads * ((T + BLOCK_T - 1) / BLOCK_T);
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    barrier_init(&smem.q_full, 1);
    barrier_init(&smem.q_empty, 4 * CONSUMERS);  // warps
    for (int n = 0; n < STAGES; n++) {
      barrier_init(&smem.k_full[n], 1);
      barrier_init(&smem.v_full[n], 1);
      barrier_init(&smem.k_empty[n], 4 * CONSUMERS);
      barrier_init(&smem.v_empty[n], 4 * CONSUMERS);
    }
    barrier_init_done();
  }
  __syncthreads();  // the barriers are set up before anybody uses them
  if (warp < 4) {
    registers_keep<PRODUCER_REGISTERS>();
    if (threadIdx.x == 0) produce(smem, q, k, v, next, items, size);
  } else {
    registers_take<CONSUMER_REGISTERS>();
    consume(smem, o, lse, items, size, scale_log2e, warp / 4 - 1, warp % 4, lane);
  }
}
