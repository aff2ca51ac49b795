// v7_wgmma: softmax attention by products of whole warpgroups, fed by the copy engine.
//
// A block stays on its SM and takes one item after the other: BLOCK_T query rows of one head. One thread, the producer,
// asks the copy engine (TMA) for Q, and for tiles of K and V into rings of STAGES places. CONSUMERS warpgroups own 64
// rows each and all keys. The tensor cores read Q, K and V from shared memory themselves; P is their left operand in
// the registers where its scores were computed; outputs leave by the copy engine too. Three overlaps hide the rest:
// warpgroups issue their products in turns, so that while one computes exponentials the tensor cores have another's; a
// warpgroup looks for the maxima of tile j + 1 while its own product P V of tile j runs; and the tiles of all items are
// one stream, so that an item's first scores run beside the last values of the item before.
// Differs from v6_async: wgmma on operands in shared memory in place of ldmatrix and mma.sync; copies by one thread.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; BLOCK_S, CONSUMERS, STAGES.

#include "launch/hopper.cuh"
#include "launch/wgmma_softmax.cuh"

constexpr int PANELS = (D + 63) / 64;  // of 64 columns; columns past D are zeros by the copy engine
constexpr int WIDTH = 64 * PANELS;
constexpr int BLOCK_T = 64 * CONSUMERS;
constexpr int THREADS = 128 * (CONSUMERS + 1);
constexpr int Q_TILE = BLOCK_T * WIDTH, KV_TILE = BLOCK_S * WIDTH;  // elements
constexpr int PRODUCER_REGISTERS = CONSUMERS == 2 ? 24 : 32;
constexpr int CONSUMER_REGISTERS = CONSUMERS == 2 ? 240 : 160;
constexpr int START_REGISTERS = 65536 / THREADS / 8 * 8;  // of every thread, and what is dealt out anew

static_assert(D >= 8 && D % 8 == 0 && D <= 128, "the copy engine takes rows of a multiple of 16 bytes");
static_assert(BLOCK_S == 64 || BLOCK_S == 128, "wgmma stands for these numbers of keys");
static_assert(CONSUMERS == 2 || CONSUMERS == 3, "registers are dealt out for these");
static_assert(PRODUCER_REGISTERS + CONSUMERS * CONSUMER_REGISTERS <= (1 + CONSUMERS) * START_REGISTERS,
              "a consumer would wait for registers for ever");
static_assert(2 * Q_TILE % 1024 == 0 && 2 * KV_TILE % 1024 == 0, "every panel begins where the swizzle does");

// What an item asks for.
struct Item {
  int head, first, tiles;  // [b, h] of q; its first row; how many tiles of keys any of its rows sees, at least 1
};

struct Smem {
  __half q[2][Q_TILE];  // (PANELS, BLOCK_T, 64) each, swizzled
  __half k[STAGES][KV_TILE], v[STAGES][KV_TILE];  // (PANELS, BLOCK_S, 64) each, swizzled
  Outgoing<PANELS> o[4 * CONSUMERS];  // of every warp
  Item item[2];  // whose Q stand there; of 0 tiles after the last one
  Barrier q_full[2], q_empty[2], k_full[STAGES], k_empty[STAGES], v_full[STAGES], v_empty[STAGES];
};

struct Sizes {
  int heads, share, bunch, T, S;  // B * H; query heads of a key/value head; heads whose K and V fit in L2 together
};

// One bunch of heads after the other; in a bunch the items that see the most keys first: short ones fill the end.
__device__ Item item_of(int number, const Sizes& size) {
  const int row_tiles = (size.T + BLOCK_T - 1) / BLOCK_T, before = number / (size.bunch * row_tiles) * size.bunch;
  const int heads = min(size.bunch, size.heads - before), nth = number - before * row_tiles;  // of the bunch
  const int first = (row_tiles - 1 - nth / heads) * BLOCK_T;
  const int seen = keys_seen(min(first + BLOCK_T, size.T) - 1, size.T, size.S);
  return {before + nth % heads, first, (max(1, seen) + BLOCK_S - 1) / BLOCK_S};
}

__device__ void load_tile(__half* tile, const TensorMap& map, Barrier* full, int rows, int row, int slice) {
  barrier_expect(full, rows * WIDTH * sizeof(__half));
  for (int p = 0; p < PANELS; p++) tma_load(tile + p * rows * 64, map, full, 64 * p, row, slice);
}

// The producer: tiles of K and V of an item from the last one on, each when its place is free, and Q of the next item
// before its turn comes. Of unlike items the next is taken late: a block that takes one early keeps it from idle ones.
__device__ void produce(
    Smem& smem, const TensorMap& q, const TensorMap& k, const TensorMap& v, int* next, int items, const Sizes& size) {
  Ring<2> queries;
  Ring<STAGES> ring;
  const auto ask_for_queries = [&](int number) {
    const Item item = number < items ? item_of(number, size) : Item{};  // of 0 tiles after the last one
    barrier_wait(&smem.q_empty[queries.place], queries.parity ^ 1);  // the item that stood there has all its scores
    smem.item[queries.place] = item;
    Barrier* const full = &smem.q_full[queries.place];
    if (item.tiles > 0) load_tile(smem.q[queries.place], q, full, BLOCK_T, item.first, item.head);
    else barrier_arrive(full);
    queries.next();
    return item;
  };
  int number = blockIdx.x;
  Item item = ask_for_queries(number), coming;
  while (item.tiles > 0) {
    const int slice = item.head / size.share;  // [b, g] of k and v
    const int taking = CAUSAL ? min(item.tiles - 1, 2) : item.tiles - 1, asking = max(0, taking - 1);  // at these tiles
    for (int j = item.tiles - 1; j >= 0; j--, ring.next()) {
      if (j == taking) number = CAUSAL ? gridDim.x + atomicAdd(next, 1) : number + gridDim.x;
      barrier_wait(&smem.k_empty[ring.place], ring.parity ^ 1);  // every warp is done with what stands there
      load_tile(smem.k[ring.place], k, &smem.k_full[ring.place], BLOCK_S, j * BLOCK_S, slice);
      barrier_wait(&smem.v_empty[ring.place], ring.parity ^ 1);
      load_tile(smem.v[ring.place], v, &smem.v_full[ring.place], BLOCK_S, j * BLOCK_S, slice);
      if (j == asking) coming = ask_for_queries(number);
    }
    item = coming;
  }
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

// A consumer: warpgroup `group` of CONSUMERS, its 64 rows of every item.
__device__ void consume(
    Smem& smem,
    const TensorMap& o,
    float* __restrict__ lse,
    const Sizes& size,
    float scale_log2e,
    int group,
    int warp,  // of the warpgroup
    int lane) {
  const int warp_row = 64 * group + 16 * warp, lane_row = warp_row + lane / 4;  // the first one of either, of an item
  const __half* q = smem.q[0] + 64 * group * 64;  // the warpgroup's rows of the first panel
  Ring<2> queries;
  Ring<STAGES> keys, values;
  Sums sums;
  float score[BLOCK_S / 2], o_reg[WIDTH / 2] = {}, shift[2], alpha[2];
  unsigned p[BLOCK_S / 16][4];
  const auto write = [&](const Item& item, const Sums& sums) {
    send_rows(o, lse + static_cast<size_t>(item.head) * size.T, smem.o[4 * group + warp], o_reg, sums, item.head,
              item.first + warp_row, size.T, scale_log2e);
  };
  const auto await_item = [&] {  // the next one, and its Q
    barrier_wait(&smem.q_full[queries.place], queries.parity);
    Item item{};
    if (lane == 0) item = smem.item[queries.place];  // by the lane that will say that it may be overwritten
    const auto all = [](int x) { return __shfl_sync(0xffffffff, x, 0); };
    return Item{all(item.head), all(item.first), all(item.tiles)};
  };
  const auto start_scores = [&] {
    barrier_wait(&smem.k_full[keys.place], keys.parity);
    named_sync(1 + group, 256);  // this warpgroup's turn at the tensor cores
    wgmma_fence();
    multiply_keys(score, q + queries.place * Q_TILE, smem.k[keys.place]);
  };
  const auto start_values = [&] {
    barrier_wait(&smem.v_full[values.place], values.parity);
    wgmma_fence();
    add_values(o_reg, p, smem.v[values.place]);
  };
  const auto end_turn = [&] { named_arrive(1 + (group + 1) % CONSUMERS, 256); };
  const auto take_scores = [&] {
    pinned(score);
    warp_arrive(&smem.k_empty[keys.place]);
    keys.next();
  };
  const auto start_both = [&] {
    start_scores();
    start_values();
    end_turn();
    wgmma_wait<1>();  // the scores are there; the values' product still runs
    take_scores();
  };
  const auto take_values = [&] {
    in_order();  // the maxima before the wait; exponentials after it, for the compiler to mix with what mends o
    wgmma_wait<0>();  // from now on p and o may be written
    pinned(o_reg);
    warp_arrive(&smem.v_empty[values.place]);
    values.next();
  };

  if (group == CONSUMERS - 1) named_arrive(1, 256);  // the first turn is group 0's
  Item item = await_item();
  start_scores();
  end_turn();
  wgmma_wait<0>();
  take_scores();
  hide(score, item.first + lane_row, (item.tiles - 1) * BLOCK_S, size.T, size.S);  // ragged, or the diagonal crosses it
  raise_maxima(score, sums, shift, alpha, scale_log2e);
  weigh(score, sums, shift, scale_log2e);
  round_weights(p, score);
  while (true) {  // p has the weights of the item's first tile, the last one of its keys; o is 0
    for (int j = item.tiles - 2; j >= 0; j--) {  // scores of tile j, values of tile j + 1
      start_both();
      if (CAUSAL && (j + 1) * BLOCK_S > keys_seen(item.first + warp_row, size.T, size.S))
        hide(score, item.first + lane_row, j * BLOCK_S, size.T, size.S);
      raise_maxima(score, sums, shift, alpha, scale_log2e);
      take_values();
      weigh(score, sums, shift, scale_log2e);
      rescale(o_reg, alpha);
      round_weights(p, score);
    }
    warp_arrive(&smem.q_empty[queries.place]);
    queries.next();
    const Item coming = await_item();
    if (coming.tiles == 0) break;
    start_both();
    const Sums done = sums;
    sums = Sums{};
    hide(score, coming.first + lane_row, (coming.tiles - 1) * BLOCK_S, size.T, size.S);
    raise_maxima(score, sums, shift, alpha, scale_log2e);
    take_values();
    weigh(score, sums, shift, scale_log2e);
    write(item, done);
#pragma unroll
    for (float& cell : o_reg) cell = 0.0f;
    round_weights(p, score);
    item = coming;
  }
  start_values();
  take_values();
  write(item, sums);
  sent();
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) v7_wgmma(
    const __grid_constant__ TensorMap q,  // (B * H, T, D)
    const __grid_constant__ TensorMap k,  // (B * G, S, D)
    const __grid_constant__ TensorMap v,  // (B * G, S, D)
    const __grid_constant__ TensorMap o,  // (B * H, T, D)
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
    for (int n = 0; n < 2; n++) {
      barrier_init(&smem.q_full[n], 1);
      barrier_init(&smem.q_empty[n], 4 * CONSUMERS);  // warps
    }
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
    consume(smem, o, lse, size, scale_log2e, warp / 4 - 1, warp % 4, lane);
  }
}
