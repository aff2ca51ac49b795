// How a block absorbs keys on the tensor cores: the query heads of a group are the columns of mma.sync m16n8k16.
//
// Scores are K Q^T (keys x heads), the output is V^T P^T (columns x heads), so that K and V are the left operand, 16
// rows high, and 8 heads fill what 16 keys are multiplied with. Every warp has a ring of STAGES steps of 16 keys in
// shared memory, which it alone fills and reads: STAGES - 1 steps are on their way while one is multiplied, also those
// of the next row while this one's states are merged. No warp waits for another before a row is done. Copies pass
// through L1, which has what shared memory leaves: a larger ring, or a buffer more, makes them slower.
// What a technique's struct Cache must have stands in absorb.cuh; here also MAY_LOSE and has(found), whether a key can
// be lost and is not; in_row<keys>(), whether so many keys, from a multiple of that number on, always lie `token`
// elements apart. Its struct Store has cache(b, g), where the keys of one head of one sequence lie.
//
// Constants, by -D: those of decode.cuh, ITEM_BYTES 2, D up to 128, HEADS up to 32; STAGES; SHARED_BYTES
// of a block; RESIDENT blocks of a multiprocessor.

#pragma once

#include "launch/decode.cuh"
#include "launch/mma.cuh"

constexpr int STEP = 16;  // keys that a warp takes at a time
constexpr int TILE = WARPS * STEP;
constexpr int TILES = (HEADS + 7) / 8;  // of 8 query heads
constexpr int WIDTH = (D + 15) / 16 * 16;  // D, padded to whole steps of mma
constexpr int ROW = WIDTH + 8;  // of shared memory: an odd multiple of 16 bytes, so ldmatrix meets no bank conflict
constexpr int OUT_ROW = D + 4;  // the same for two floats that a lane stores: 4 heads fall on 4 times 8 banks

static_assert(ITEM_BYTES == 2, "mma multiplies float16");
static_assert(D <= 128 && HEADS <= 32, "the output of 32 heads fills half of the registers at D = 128");
static_assert(STAGES >= 2, "one step is multiplied while another is on its way");

struct alignas(16) Step {  // 16 keys and values
  __half k[STEP][ROW], v[STEP][ROW];
};

// Outputs of two tiles of heads, on their way from one warp to all: in the step of its ring that no copy is on its way
// to. A buffer of their own would be taken from L1, which the copies pass through.
using Output = float[16][OUT_ROW];

struct alignas(16) Shared {
  __half q[TILES * 8][ROW];
  Step ring[WARPS][STAGES];
  float m[WARPS][TILES * 8], l[WARPS][TILES * 8];  // the states of the warps
  int free[WARPS];  // that step of each ring
  alignas(16) int last;  // whether this block is the last to leave a state of its row

  __device__ Output& output(int warp) { return reinterpret_cast<Output&>(ring[warp][free[warp]]); }
};

static_assert(sizeof(Output) <= sizeof(Step), "a step has room for it");

static_assert(sizeof(Shared) == SHARED_BYTES, "the launcher asks for as much");

struct State {  // a lane's part; heads 2 (lane % 4) + {0, 1} of each tile
  float m[TILES][2];  // the same in all lanes that share a head
  float l[TILES][2];  // over the lane's own keys
  float o[TILES][WIDTH / 16][4];  // column lane / 4 of 16, both heads, then column lane / 4 + 8
};

__device__ inline float over_keys_max(float x) {  // over the 8 lanes that share a head
  for (int step = 4; step < 32; step *= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, step));
  return x;
}

__device__ inline float over_keys_sum(float x) {
  for (int step = 4; step < 32; step *= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}

__device__ inline void clear(State& s, int length) {
  for (int tile = 0; tile < TILES; tile++) {
    for (int h = 0; h < 2; h++) s.m[tile][h] = minus_infinity(), s.l[tile][h] = fresh_sum(length);
    for (auto& tile_o : s.o[tile])
      for (float& cell : tile_o) cell = 0.0f;
  }
}

// Columns D .. WIDTH of a step are multiplied with zeros of the queries, and are never copied to: 0 * NaN is NaN.
__device__ inline void clear_padding(Step& step) {
  if (D < WIDTH && threadIdx.x % 32 < STEP) *reinterpret_cast<uint4*>(&step.k[threadIdx.x % 32][D]) = uint4{};
}

struct Queries {  // a thread's share of a row's queries, on its way from HBM to shared memory
  static constexpr int WIDE = WIDTH / 8, COUNT = (TILES * 8 * WIDE + THREADS - 1) / THREADS;
  uint4 chunk[COUNT];

  __device__ Queries(const element* __restrict__ q, int heads) {  // q (heads, D)
#pragma unroll
    for (int n = 0; n < COUNT; n++) {
      const int i = threadIdx.x + n * THREADS, h = i / WIDE, c = i % WIDE;
      chunk[n] = h < heads && c < CHUNKS ? reinterpret_cast<const uint4*>(q + h * D)[c] : uint4{};
    }
  }

  __device__ void store(Shared& shared) const {
#pragma unroll
    for (int n = 0; n < COUNT; n++) {
      const int i = threadIdx.x + n * THREADS;
      if (i < TILES * 8 * WIDE) *reinterpret_cast<uint4*>(&shared.q[i / WIDE][i % WIDE * 8]) = chunk[n];
    }
  }
};

constexpr unsigned NANS = 0x7fff7fff;  // two float16
constexpr size_t NOWHERE = ~static_cast<size_t>(0);  // the place of a key that its cache cannot find

// Start copying a step's keys and values, of which those before `end` are there; the others become 0. Where keys may be
// lost, a lost one becomes NaN, and so does all that is made of it. Lane l knows the place of key l.
template <class Cache>
__device__ void start_copies(Step& step, const Cache& cache, size_t place, int first, int end) {
  constexpr bool in_row = Cache::template in_row<STEP>();
  const size_t start = __shfl_sync(0xffffffff, place, 0);
#pragma unroll
  for (int i = threadIdx.x % 32; i < (CHUNKS + 1) / 2 * 32; i += 32) {
    const int row = i / CHUNKS % STEP, c = i % CHUNKS * 8;
    const size_t from = in_row ? start : __shfl_sync(0xffffffff, place, row);
    const size_t chunk = from + (in_row ? row * cache.token : 0) + c;
    if (CHUNKS % 2 == 1 && i >= STEP * CHUNKS) continue;
    for (int half = 0; half < 2; half++) {
      auto* const to = reinterpret_cast<uint4*>(half ? &step.v[row][c] : &step.k[row][c]);
      if (Cache::MAY_LOSE && from == NOWHERE) *to = {NANS, NANS, NANS, NANS};
      else cp_async_16_by_l1(to, (half ? cache.v : cache.k) + chunk, first + row < end ? 16 : 0);
    }
  }
}

// Scores of 16 keys and all heads.
__device__ inline void multiply_keys(float (&score)[TILES][4], const Step& step, const Shared& shared) {
  const int lane = threadIdx.x % 32;
  for (auto& tile : score)
    for (float& cell : tile) cell = 0.0f;
#pragma unroll
  for (int d = 0; d < WIDTH; d += 16) {
    unsigned k[4];
    ldmatrix_x4(k, &step.k[lane % 16][d + lane / 16 * 8]);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
      unsigned q[2];
      ldmatrix_x2(q, &shared.q[8 * tile + lane % 8][d + lane / 8 % 2 * 8]);
      mma_m16n8k16(score[tile], k, q[0], q[1]);
    }
  }
}

// Turn scores into weights under the new maximum and bring l and o under it; b = the weights as P V wants them.
__device__ inline void soften(unsigned (&b)[2], State& s, int tile, const float (&score)[4], float scale_log2e,
                              int left) {  // keys that are there
  const int key = threadIdx.x % 32 / 4;
  float x[4], alpha[2];
#pragma unroll
  for (int i = 0; i < 4; i++) x[i] = key + i / 2 * 8 < left ? score[i] * scale_log2e : minus_infinity();
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const float m_new = fmaxf(s.m[tile][h], over_keys_max(fmaxf(x[h], x[h + 2])));
    alpha[h] = exp2_approx(s.m[tile][h] - base(m_new));
    x[h] = exp2_approx(x[h] - base(m_new));
    x[h + 2] = exp2_approx(x[h + 2] - base(m_new));
    s.l[tile][h] = alpha[h] * s.l[tile][h] + x[h] + x[h + 2];
    s.m[tile][h] = m_new;
  }
  if (__any_sync(0xffffffff, alpha[0] != 1.0f || alpha[1] != 1.0f)) {  // a new maximum is rare after the first keys
#pragma unroll
    for (auto& tile_o : s.o[tile])
      for (int i = 0; i < 4; i++) tile_o[i] *= alpha[i % 2];
  }
  b[0] = transposed_8x8(pack(x[0], x[1]));
  b[1] = transposed_8x8(pack(x[2], x[3]));
}

// o += V^T P^T: 16 keys, all heads.
__device__ inline void add_values(State& s, const Step& step, const unsigned (&b)[TILES][2]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < WIDTH / 16; n++) {
    unsigned v[4];
    ldmatrix_x4_trans(v, &step.v[lane / 16 * 8 + lane % 8][16 * n + lane / 8 % 2 * 8]);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) mma_m16n8k16(s.o[tile][n], v, b[tile][0], b[tile][1]);
  }
}

// What the warp copies: 16 keys of every TILE of each piece of the route, ahead of those that it multiplies.
template <class Store, class Route>
struct Copies {
  using Cache = decltype(Store().cache(0, 0));
  const Store& store;
  Route route;
  Cache cache;
  typename Cache::template Found<1, STEP> found;  // where the lane's key of the next step lies
  int first, end, stage;

  __device__ Copies(const Store& store, const Route& start) : store(store), route(start), stage(0) { enter(); }

  // Go to the warp's first step of this piece, or of the next that has one.
  __device__ void enter() {
    for (; route.more(); route.advance()) {
      first = route.begin() + threadIdx.x / 32 * STEP, end = route.end();
      if (first >= end) continue;
      cache = store.cache(route.b, Rows(route.row).g);
      return look_up();
    }
  }
  __device__ int key() const { return first + threadIdx.x % STEP; }
  __device__ void look_up() { cache.look_up(found, key(), end); }

  // Start the next step's copies, if there is one; either way a group is closed, so that groups can be counted.
  __device__ void start(Step (&ring)[STAGES]) {
    if (route.more()) {
      const size_t place = key() < end && !cache.has(found) ? NOWHERE : cache.place(found, 0, key());
      start_copies(ring[stage], cache, place, first, end);
      stage = (stage + 1) % STAGES;
      first += TILE;
      if (first < end) look_up();  // a step ahead: no copy waits for the table
      else route.advance(), enter();
    }
    cp_async_commit();
  }
};

// Absorb the warp's keys of begin .. end - 1; the block must have written the queries.
template <class Copies>
__device__ void absorb(State& s, Shared& shared, Copies& copies, int& stage, int begin, int end, float scale_log2e) {
  Step(&ring)[STAGES] = shared.ring[threadIdx.x / 32];
  for (int first = begin + threadIdx.x / 32 * STEP; first < end; first += TILE) {
    copies.start(ring);  // into the step that was multiplied last
    cp_async_wait<STAGES - 1>();
    __syncwarp();  // every lane's copies have arrived before any lane reads them
    float score[TILES][4];
    unsigned b[TILES][2];
    multiply_keys(score, ring[stage], shared);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) soften(b[tile], s, tile, score[tile], scale_log2e, end - first);
    add_values(s, ring[stage], b);
    stage = (stage + 1) % STAGES;
    __syncwarp();  // every lane has read the step before new copies overwrite it
  }
}
