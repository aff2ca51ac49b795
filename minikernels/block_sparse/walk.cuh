// What v7_wgmma walks over: query tiles, sorted by work; their lists of key tiles; and the rings that TMA fills.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; R, C the mask's block, queries by keys; CONSUMERS
// warpgroups that multiply; BLOCK_S keys of a tile; STAGES of a ring; BLOCKS of threads that share an SM.

#pragma once

#include "launch/hopper.cuh"
#include "launch/wgmma_softmax.cuh"

constexpr int GROUP = 128;  // threads of a warpgroup
constexpr int THREADS = GROUP * (1 + CONSUMERS);
constexpr int ROWS = 64;  // of a consumer: as many as wgmma has
constexpr int BLOCK_T = ROWS * CONSUMERS;
constexpr int PARTS = R / BLOCK_T;  // query tiles of a block row of the mask
constexpr int TILES = C / BLOCK_S;  // key tiles of a block
constexpr int PANEL = 64;  // columns that stand beside each other in shared memory
constexpr int PANELS = (D + PANEL - 1) / PANEL;  // columns past D are zeros: TMA fills them in, and leaves them out
constexpr int SCORES = BLOCK_S / 2;  // a thread's of a tile of scores, and
constexpr int OUTPUTS = PANELS * PANEL / 2;  // of outputs

static_assert(D >= 8 && D % 8 == 0 && D <= 128, "TMA takes rows of a multiple of 16 bytes; registers hold 128 columns");
static_assert(R % BLOCK_T == 0 && C % BLOCK_S == 0, "tiles divide the mask's blocks");

// All that there is to do.
struct Work {
  const int *starts, *full, *columns, *order;
  int* taken;  // query tiles that blocks of threads have taken beside their first ones
  int mask_b, mask_h, H, G, block_rows, tiles;
};

// A query tile: whose it is, and what it visits.
struct Tile {
  int head, group, row;  // [b, h] of q and o, -1 after the last tile; [b, g] of k and v; first query row
  int begin, count, full;  // where its list begins, its key tiles, how many of them are of full blocks
};

struct Shared {
  __half q[2][CONSUMERS][PANELS][ROWS][PANEL];
  __half k[STAGES][PANELS][BLOCK_S][PANEL];
  __half v[STAGES][PANELS][BLOCK_S][PANEL];
  Outgoing<PANELS> o[4 * CONSUMERS];  // of every warp
  Tile tile[2];  // whose Q stand there
  Barrier q_full[2], q_empty[2], k_full[STAGES], k_empty[STAGES], v_full[STAGES], v_empty[STAGES];
};

// By one thread: a full barrier waits for the producer and its bytes, an empty one for every warp of the consumers.
__device__ void set_up(Shared& s) {
  for (int i = 0; i < 2; i++) {
    barrier_init(&s.q_full[i], 1);
    barrier_init(&s.q_empty[i], 4 * CONSUMERS);
  }
  for (int i = 0; i < STAGES; i++) {
    barrier_init(&s.k_full[i], 1);
    barrier_init(&s.v_full[i], 1);
    barrier_init(&s.k_empty[i], 4 * CONSUMERS);
    barrier_init(&s.v_empty[i], 4 * CONSUMERS);
  }
  barrier_init_done();
}

// Two consumers take turns at starting products: so one multiplies while the other has its softmax to do. Named
// barriers 3 and 4 are theirs, each passed by the one that waits and the one that has started; the last turn is taken
// in vain.
__device__ void await_turn(int w) {
  if (CONSUMERS == 2) named_sync(3 + w, 2 * GROUP);
}

__device__ void pass_turn(int w) {
  if (CONSUMERS == 2) named_arrive(4 - w, 2 * GROUP);
}

__device__ Tile tile_at(const Work& work, int place) {
  const int row = work.order[place / PARTS], head = row / work.block_rows, i = row % work.block_rows;
  const int b = head / work.H, h = head % work.H;
  const int list = (b % work.mask_b * work.mask_h + h % work.mask_h) * work.block_rows + i, begin = work.starts[list];
  return {head, b * work.G + h / (work.H / work.G), i * R + place % PARTS * BLOCK_T,
          begin, (work.starts[list + 1] - begin) * TILES, work.full[list] * TILES};
}

__device__ int first_key(const int* columns, int u) { return columns[u / TILES] * C + u % TILES * BLOCK_S; }

__device__ void load_tile(
    __half (&to)[PANELS][BLOCK_S][PANEL],
    const TensorMap& map,
    Barrier& full,
    int key,
    int group) {
  barrier_expect(&full, sizeof(to));
  for (int p = 0; p < PANELS; p++) tma_load(to[p], map, &full, p * PANEL, key, group);
}

// The producer: one thread that copies what the consumers will read, in the order in which they will. All query tiles are
// one stream: the next one is taken, and its Q asked for, before the keys of this one are all there.
__device__ void produce(
    Shared& s,
    const TensorMap& q_map,
    const TensorMap& k_map,
    const TensorMap& v_map,
    const Work& work) {
  Ring<2> queries;
  Ring<STAGES> ring;
  int place = blockIdx.x;
  const auto take = [&] { place = gridDim.x + atomicAdd(work.taken, 1); };  // of all blocks the first that is free
  const auto ask = [&] {
    const Tile tile = place < work.tiles ? tile_at(work, place) : Tile{-1};
    Barrier* const full = &s.q_full[queries.place];
    barrier_wait(&s.q_empty[queries.place], queries.parity ^ 1);  // the tile that stood there has all its scores
    s.tile[queries.place] = tile;
    if (tile.count == 0) barrier_arrive(full);
    else {
      barrier_expect(full, sizeof(s.q[0]));
      for (int w = 0; w < CONSUMERS; w++)
        for (int p = 0; p < PANELS; p++)
          tma_load(s.q[queries.place][w][p], q_map, full, p * PANEL, tile.row + w * ROWS, tile.head);
    }
    queries.next();
    return tile;
  };
  Tile tile = ask();
  while (tile.head >= 0) {
    if (tile.count == 0) {
      take();
      tile = ask();
      continue;
    }
    const int* columns = work.columns + tile.begin;
    const int taking = max(0, tile.count - 3), asking = min(tile.count - 1, taking + 1);  // at these key tiles
    int key = first_key(columns, 0);
    Tile coming;
#pragma unroll 1
    for (int u = 0; u < tile.count; u++, ring.next()) {
      const int next = u + 1 < tile.count ? first_key(columns, u + 1) : 0;  // looked up while this tile waits for room
      if (u == taking) take();
      barrier_wait(&s.k_empty[ring.place], ring.parity ^ 1);
      load_tile(s.k[ring.place], k_map, s.k_full[ring.place], key, tile.group);
      barrier_wait(&s.v_empty[ring.place], ring.parity ^ 1);
      load_tile(s.v[ring.place], v_map, s.v_full[ring.place], key, tile.group);
      if (u == asking) coming = ask();
      key = next;
    }
    tile = coming;
  }
}
