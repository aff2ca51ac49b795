// v6_mma_group: the query heads of a group as the 8 columns of mma.sync m16n8k16; K and V go from HBM to its operands.
//
// A block owns up to 32 query heads that share a key/value head, and one of gridDim.x equal shares of their keys; each
// of its warps takes 16 keys at a time. Scores are K Q^T (keys x heads), the output is V^T P^T (columns x heads), so
// that K and V are the left operand, 16 rows high, and 8 heads fill what 16 keys are multiplied with. Sums over D, and
// the order of the output's columns, are free: a lane takes whole 16-byte chunks of its rows as they lie in memory.
// Differs from v5_split_kv: products on the tensor cores, so that a key costs the same for 1 to 8 heads and is read
// once for 32 of them.
//
// Constants, by -D: those of cache.cuh, ITEM_BYTES 2, D up to 128, HEADS up to 32; RESIDENT blocks of a multiprocessor.

#include "cache.cuh"
#include "launch/mma.cuh"

constexpr int STEP = 16;  // keys that a warp takes at a time
constexpr int TILE = WARPS * STEP;
constexpr int TILES = (HEADS + 7) / 8;  // of 8 query heads
constexpr int K_PARTS = (CHUNKS + 3) / 4;  // chunks of a row of K that a lane holds: lane % 4 + 4 i
constexpr int V_PARTS = (CHUNKS + 7) / 8;  // chunks of a row of V that a lane holds: lane / 4 + 8 i
constexpr int EARLY = TILES < 4 ? V_PARTS : 1;  // of them, read before the scores: 4 tiles leave registers for one
constexpr int PAGES = P % STEP == 0 ? 1 : 6;  // lookups of a lane in a step: one, or one for each of its rows

static_assert(ITEM_BYTES == 2, "mma multiplies float16");
static_assert(D <= 128 && HEADS <= 32, "the output of 32 heads fills half of the registers at D = 128");

struct Step {  // what a lane reads of 16 keys
  uint4 k[2][K_PARTS];  // keys lane / 4 and lane / 4 + 8
  uint4 v[4][V_PARTS];  // keys 2 (lane % 4) + {0, 1, 8, 9}
};

struct State {  // a lane's part; heads 2 (lane % 4) + {0, 1} of each tile
  float m[TILES][2];  // the same in all lanes that share a head
  float l[TILES][2];  // over the lane's own keys
  float o[TILES][V_PARTS * 4][4];  // columns 2 w of chunk lane / 4 + 8 i, both heads, then columns 2 w + 1
};

struct Shared {
  uint4 q[TILES][K_PARTS][32];  // what lane l needs of the queries: chunk l % 4 + 4 i of head l / 4
  float m[WARPS][8], l[WARPS][8], o[WARPS][8][D];  // the states of the warps, a tile of heads at a time
};

__device__ float over_keys_max(float x) {  // over the 8 lanes that share a head
  for (int step = 4; step < 32; step *= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, step));
  return x;
}

__device__ float over_keys_sum(float x) {
  for (int step = 4; step < 32; step *= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}

__device__ unsigned word(const uint4& chunk, int i) {
  return i == 0 ? chunk.x : i == 1 ? chunk.y : i == 2 ? chunk.z : chunk.w;
}

// The lane's row i of a step: two of K, then four of V.
__device__ int row_key(int i) {
  const int lane = threadIdx.x % 32, j = i - 2;
  return i < 2 ? lane / 4 + 8 * i : lane % 4 * 2 + j % 2 + j / 2 * 8;
}

__device__ void look_up(int (&page)[PAGES], const Cache& cache, int first, int end) {
#pragma unroll
  for (int i = 0; i < PAGES; i++) page[i] = cache.page(first + (PAGES == 1 ? 0 : row_key(i)), end);
}

// Return chunk c of the lane's row i of a step, of K or V; 0 where that is not there. Of a whole step every row is.
template <bool whole>
__device__ uint4 load_chunk(
    const element* __restrict__ rows, const Cache& cache, const int (&page)[PAGES], int i, int first, int end, int c) {
  const int s = first + row_key(i);
  const uint4* row = reinterpret_cast<const uint4*>(rows + cache.place(page[PAGES == 1 ? 0 : i], s));
  return (whole || s < end) && c < CHUNKS ? row[c] : uint4{};
}

template <bool whole>
__device__ void load_keys(Step& step, const Cache& cache, const int (&page)[PAGES], int first, int end) {
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < K_PARTS; n++)
    for (int i = 0; i < 2; i++) step.k[i][n] = load_chunk<whole>(cache.k, cache, page, i, first, end, c + 4 * n);
}

template <bool whole, int from, int to>  // of the V_PARTS chunks
__device__ void load_values(Step& step, const Cache& cache, const int (&page)[PAGES], int first, int end) {
  const int c = threadIdx.x % 32 / 4;
#pragma unroll
  for (int n = from; n < to; n++)
    for (int i = 0; i < 4; i++) step.v[i][n] = load_chunk<whole>(cache.v, cache, page, i + 2, first, end, c + 8 * n);
}

__device__ void load_queries(Shared& shared, const element* __restrict__ q, int heads) {  // q (heads, D)
  for (int i = threadIdx.x; i < TILES * K_PARTS * 32; i += THREADS) {
    const int lane = i % 32, h = i / 32 / K_PARTS * 8 + lane / 4, c = i / 32 % K_PARTS * 4 + lane % 4;
    const bool held = h < heads && c < CHUNKS;
    shared.q[i / 32 / K_PARTS][i / 32 % K_PARTS][lane] = held ? reinterpret_cast<const uint4*>(q + h * D)[c] : uint4{};
  }
  __syncthreads();  // all queries are written before any warp multiplies them
}

// Scores of 16 keys and 8 heads, times scale * log2(e); -inf past the end.
__device__ void multiply_keys(
    float (&score)[4], const Step& step, const uint4 (&q)[K_PARTS][32], int left, float scale_log2e) {
  const int lane = threadIdx.x % 32;
  for (float& cell : score) cell = 0.0f;
#pragma unroll
  for (int i = 0; i < K_PARTS; i++) {
    const uint4 column = q[i][lane], &low = step.k[0][i], &high = step.k[1][i];
    const unsigned left[4] = {low.x, high.x, low.y, high.y}, right[4] = {low.z, high.z, low.w, high.w};
    mma_m16n8k16(score, left, column.x, column.y);
    mma_m16n8k16(score, right, column.z, column.w);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) score[i] = lane / 4 + i / 2 * 8 < left ? score[i] * scale_log2e : minus_infinity();
}

// Turn scores into weights under the new maximum and bring l and o under it; b = the weights as P V wants them.
__device__ void soften(unsigned (&b)[2], State& s, int tile, const float (&score)[4]) {
  float alpha[2], weight[4];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const float m_new = fmaxf(s.m[tile][h], over_keys_max(fmaxf(score[h], score[h + 2])));
    alpha[h] = exp2_approx(s.m[tile][h] - base(m_new));
    weight[h] = exp2_approx(score[h] - base(m_new));
    weight[h + 2] = exp2_approx(score[h + 2] - base(m_new));
    s.l[tile][h] = alpha[h] * s.l[tile][h] + weight[h] + weight[h + 2];
    s.m[tile][h] = m_new;
  }
  if (__any_sync(0xffffffff, alpha[0] != 1.0f || alpha[1] != 1.0f)) {  // a new maximum is rare after the first keys
#pragma unroll
    for (int n = 0; n < V_PARTS * 4; n++)
      for (int i = 0; i < 4; i++) s.o[tile][n][i] *= alpha[i % 2];
  }
  b[0] = transposed_8x8(pack(weight[0], weight[1]));
  b[1] = transposed_8x8(pack(weight[2], weight[3]));
}

// o += V^T P^T: 16 keys, all heads. A register pairs one column of two neighbouring keys.
__device__ void add_values(State& s, const Step& step, const unsigned (&b)[TILES][2]) {
#pragma unroll
  for (int n = 0; n < V_PARTS * 4; n++) {
    unsigned v[4];
    for (int j = 0; j < 4; j++) v[j] = word(step.v[j][n / 4], n % 4);
    const unsigned a[4] = {
        __byte_perm(v[0], v[1], 0x5410), __byte_perm(v[0], v[1], 0x7632), __byte_perm(v[2], v[3], 0x5410),
        __byte_perm(v[2], v[3], 0x7632)};
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) mma_m16n8k16(s.o[tile][n], a, b[tile][0], b[tile][1]);
  }
}

__device__ void clear(State& s, int length) {
  for (int tile = 0; tile < TILES; tile++) {
    for (int h = 0; h < 2; h++) s.m[tile][h] = minus_infinity(), s.l[tile][h] = fresh_sum(length);
    for (int n = 0; n < V_PARTS * 4; n++)
      for (float& cell : s.o[tile][n]) cell = 0.0f;
  }
}

// Absorb 16 keys; `whole` says that all of them are there, so that no load and no score has a guard.
template <bool whole>
__device__ void absorb_step(
    State& s,
    const Shared& shared,
    const Cache& cache,
    int (&page)[PAGES],  // of this step's rows; afterwards of the warp's next step's
    int first,
    int end,
    float scale_log2e) {
  Step step;  // every load up to the scores is under way before the first is waited for
  load_keys<whole>(step, cache, page, first, end);
  load_values<whole, 0, EARLY>(step, cache, page, first, end);
  unsigned b[TILES][2];
#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
    float score[4];
    multiply_keys(score, step, shared.q[tile], whole ? STEP : end - first, scale_log2e);
    soften(b[tile], s, tile, score);
  }
  load_values<whole, EARLY, V_PARTS>(step, cache, page, first, end);
  look_up(page, cache, first + TILE, end);  // for the next step, while this one's products are formed
  add_values(s, step, b);
}

// Absorb a share of a sequence, the block's warps taking 16 keys in turn; it begins at a multiple of TILE.
__device__ void absorb(State& s, const Shared& shared, const Cache& cache, const Share& share, float scale_log2e) {
  int first = share.begin + threadIdx.x / 32 * STEP, page[PAGES];
  look_up(page, cache, first, share.end);
  for (; first + STEP <= share.end; first += TILE)
    absorb_step<true>(s, shared, cache, page, first, share.end, scale_log2e);
  if (first < share.end) absorb_step<false>(s, shared, cache, page, first, share.end, scale_log2e);
}

// Put the warps' states of one tile of heads into shared memory.
__device__ void gather(Shared& shared, const State& s, int tile) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = lane % 4 * 2;
  __syncthreads();  // every thread is done with the tile before
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const float l = over_keys_sum(s.l[tile][h]);
    if (lane < 4) shared.m[warp][head + h] = s.m[tile][h], shared.l[warp][head + h] = l;
  }
#pragma unroll
  for (int n = 0; n < V_PARTS * 4; n++) {
    const int c = lane / 4 + n / 4 * 8, d = c * VEC + n % 4 * 2;
    if (c < CHUNKS)
      for (int i = 0; i < 4; i++) shared.o[warp][head + i % 2][d + i / 2] = s.o[tile][n][i];
  }
  __syncthreads();  // all warps' states are written before any thread reads them
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v6_mma_group(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k_pages,  // (pages, P, G, D)
    const element* __restrict__ v_pages,
    const int* __restrict__ page_table,  // (B, max_pages)
    const int* __restrict__ lengths,  // (B,)
    element* __restrict__ o,  // (B, H, D), written where a sequence is one share
    float2* __restrict__ ml,  // (B, G * BLOCKS, shares, HEADS), written where there are more
    float* __restrict__ part,  // (B, G * BLOCKS, shares, HEADS, D)
    int G,
    int max_pages,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  __shared__ Shared shared;
  const Rows rows(blockIdx.y);
  const size_t b = blockIdx.z, out = (b * G * R + rows.head) * D;
  const size_t slot = ((b * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * HEADS;
  State s;
  clear(s, lengths[b]);
  load_queries(shared, q + out, rows.heads);
  const Cache cache(k_pages, v_pages, page_table + b * max_pages, rows.g, G);
  absorb(s, shared, cache, Share(lengths[b], TILE), scale_log2e);
#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
    gather(shared, s, tile);
    for (int i = threadIdx.x; i < min(8, rows.heads - 8 * tile) * D; i += THREADS) {
      const int h = i / D, d = i % D, place = 8 * tile * D + i;
      Merged all = {minus_infinity(), 0.0f, 0.0f};
      for (int w = 0; w < WARPS; w++) all = merged(all, {shared.m[w][h], shared.l[w][h], shared.o[w][h][d]});
      if (gridDim.x == 1) {
        o[out + place] = finish(all);
      } else {
        part[slot * D + place] = all.o;
        if (d == 0) ml[slot + 8 * tile + h] = {all.m, all.l};
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_splits(
    const float2* __restrict__ ml,  // (B, G * BLOCKS, shares, HEADS)
    const float* __restrict__ part,  // (B, G * BLOCKS, shares, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int G,
    int shares) {
  merge_shares(ml, part, o, G, shares);
}
