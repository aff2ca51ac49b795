// From a block's keys to outputs: which keys it takes, how its warps' states are merged, and those of several blocks.
//
// group.cuh has how keys are absorbed, and the constants. Which keys a block takes, a struct Route says, piece by piece
// of a row, which is up to HEADS query heads of one sequence that share a key/value head:
//   more(), advance()         whether there is a piece, and the way to the next
//   b, row, length            its sequence, which of that one's rows, keys of the sequence
//   begin(), end()            the piece's keys
//   pieces(), piece()         of how many the row is made, and which of them this is
//   first_slot(), slot(f, n)  the slot for the states of its first piece, and, that one being f, of its n-th

#pragma once

#include "launch/group.cuh"

// Put m and l of the warp into shared memory, and which step of its ring is free.
__device__ inline void gather_sums(Shared& shared, const State& s, int free) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < TILES * 2; i++) {
    const int head = i / 2 * 8 + lane % 4 * 2 + i % 2;
    const float l = over_keys_sum(s.l[i / 2][i % 2]);
    if (lane < 4) shared.m[warp][head] = s.m[i / 2][i % 2], shared.l[warp][head] = l;
  }
  if (lane == 0) shared.free[warp] = free;
}

// The maximum and the sum of all keys of one head.
__device__ inline float2 over_warps(const Shared& shared, int head) {
  float m = minus_infinity(), l = 0.0f;
  for (int w = 0; w < WARPS; w++) m = fmaxf(m, shared.m[w][head]);
  for (int w = 0; w < WARPS; w++) l += exp2_approx(shared.m[w][head] - base(m)) * shared.l[w][head];
  return {m, l};
}

// Put the warp's output of one tile of heads into shared memory, under the maximum of all warps.
__device__ inline void gather_output(Shared& shared, const State& s, int tile) {
  Output& output = shared.output(threadIdx.x / 32);
  const int lane = threadIdx.x % 32, head = tile % 2 * 8 + lane % 4 * 2;
  float share[2];
  for (int h = 0; h < 2; h++)
    share[h] = exp2_approx(s.m[tile][h] - base(over_warps(shared, tile / 2 * 16 + head + h).x));
#pragma unroll
  for (int n = 0; n < WIDTH / 16; n++) {
    for (int i = 0; i < 4; i++) {
      const int d = 16 * n + lane / 4 + i / 2 * 8;
      if (d < D) output[head + i % 2][d] = share[i % 2] * s.o[tile][n][i];
    }
  }
}

// Write 4 columns of an output whose weights add up to l.
__device__ inline void write_four(element* o, const float4& sum, float l) {
  const float factor = l == 0.0f ? 0.0f : 1.0f / l;
  const unsigned low = pack(sum.x * factor, sum.y * factor), high = pack(sum.z * factor, sum.w * factor);
  *reinterpret_cast<unsigned long long*>(o) = static_cast<unsigned long long>(high) << 32 | low;  // a store, never two
}

// Merge the warps' states of a piece of a row and write them: as output of a whole row, else as a state to be merged.
// The queries of the next row take the place of this one's meanwhile.
__device__ inline void write_rows(
    element* __restrict__ o,  // (heads, D)
    float2* __restrict__ ml,  // (HEADS,)
    float* __restrict__ part,  // (HEADS, D)
    Shared& shared,
    const State& s,
    int heads,
    bool whole,
    int free,  // the step of the warp's ring that no copy is on its way to
    const Queries& next) {
  __syncthreads();  // every warp has multiplied its last key, and every thread read the states of the row before
  next.store(shared);
  gather_sums(shared, s, free);
#pragma unroll
  for (int tile = 0; tile < TILES; tile += 2) {
    __syncthreads();  // m, l and the next queries are written; every thread has read the tiles before
    gather_output(shared, s, tile);
    if (tile + 1 < TILES) gather_output(shared, s, tile + 1);
    __syncthreads();  // all warps' output is written before any thread adds it up
    for (int i = threadIdx.x; i < min(16, heads - 8 * tile) * (D / 4); i += THREADS) {
      const int h = i / (D / 4), d = i % (D / 4) * 4, place = (8 * tile + h) * D + d;
      const float2 state = over_warps(shared, 8 * tile + h);
      float4 sum = {};
      for (int w = 0; w < WARPS; w++) {
        const float4 x = *reinterpret_cast<const float4*>(&shared.output(w)[h][d]);
        sum = {sum.x + x.x, sum.y + x.y, sum.z + x.z, sum.w + x.w};
      }
      if (whole) {
        write_four(o + place, sum, state.y);
      } else {
        *reinterpret_cast<float4*>(part + place) = sum;
        if (d == 0) ml[8 * tile + h] = state;
      }
    }
  }
  __syncthreads();  // every thread has left its part, and read the outputs before new copies take their place
  clear_padding(shared.ring[threadIdx.x / 32][free]);
}

// PTX ISA 9.7.13.5: count up, and return what was there. Acquire and release are cumulative over barriers: what the
// threads of a block left before the barrier that this one passed is seen by those behind the next barrier of a block
// that sees the count.
__device__ inline int count_up(int* counter) {
  int before;
  asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}

// Return whether all `pieces` of a row have left their states, this block being the last; the counter is then 0 again.
// The block has passed a barrier since it left its own.
__device__ inline bool last_of_row(int* counter, int pieces, Shared& shared) {
  if (threadIdx.x == 0) {
    shared.last = count_up(counter) == pieces - 1;
    if (shared.last) *counter = 0;
  }
  __syncthreads();  // the answer is written before any thread reads it; what other blocks left is seen from here on
  return shared.last;
}

// How many fours of columns of one head a thread merges: at most 8, and few enough that no thread is idle.
__device__ constexpr int fours(int most) {
  return most == 1 || (D / 4 % most == 0 && HEADS * (D / 4) / most >= THREADS) ? most : fours(most / 2);
}
constexpr int FOURS = fours(8);
constexpr int SPREAD = D / 4 / FOURS;  // threads that share a head, and fours from one of a thread's to the next
constexpr int PIECES = 32 / FOURS;  // states whose loads are under way before the first is waited for

// Merge the states that the pieces of a row left, and write its output.
template <class Route>
__device__ void merge_row(
    element* __restrict__ o,  // (heads, D)
    const float2* ml,  // (slots, HEADS), from other blocks: past L1, which may hold what was there before
    const float* part,  // (slots, HEADS, D)
    int heads,
    int first_slot,
    int pieces) {
  for (int i = threadIdx.x; i < heads * SPREAD; i += THREADS) {
    const int h = i / SPREAD, d = i % SPREAD * 4;
    float m = minus_infinity(), l = 0.0f;
    float4 sum[FOURS] = {};
    for (int first = 0; first < pieces; first += PIECES) {
      float2 state[PIECES];
      float4 x[PIECES][FOURS];
#pragma unroll
      for (int n = 0; n < PIECES; n++) {
        const size_t row = static_cast<size_t>(Route::slot(first_slot, first + n)) * HEADS + h;
        const bool held = first + n < pieces;
        const float4* const from = reinterpret_cast<const float4*>(part + row * D + d);
        state[n] = held ? __ldcg(ml + row) : float2{minus_infinity(), 0.0f};
#pragma unroll
        for (int f = 0; f < FOURS; f++) x[n][f] = held ? __ldcg(from + f * SPREAD) : float4{};
      }
      float m_new = m;
      for (const float2& one : state) m_new = fmaxf(m_new, one.x);
      const float before = exp2_approx(m - base(m_new));
      m = m_new;
      l *= before;
      for (float4& four : sum) four = {before * four.x, before * four.y, before * four.z, before * four.w};
#pragma unroll
      for (int n = 0; n < PIECES; n++) {
        const float now = exp2_approx(state[n].x - base(m));
        l += now * state[n].y;
#pragma unroll
        for (int f = 0; f < FOURS; f++)
          sum[f] = {sum[f].x + now * x[n][f].x, sum[f].y + now * x[n][f].y,
                    sum[f].z + now * x[n][f].z, sum[f].w + now * x[n][f].w};
      }
    }
#pragma unroll
    for (int f = 0; f < FOURS; f++) write_four(o + h * D + d + f * SPREAD * 4, sum[f], l);
  }
}

// Attend from all rows of the route to their keys in it.
template <class Store, class Route>
__device__ void decode(
    const element* __restrict__ q,  // (B, H, D)
    element* __restrict__ o,  // (B, H, D)
    float2* ml,  // (slots, HEADS), of rows in more than one piece
    float* part,  // (slots, HEADS, D)
    int* arrived,  // (B, rows): 0 before and after
    const Store& store,
    Route route,
    float scale_log2e) {
  extern __shared__ uint4 dynamic[];
  Shared& shared = *reinterpret_cast<Shared*>(dynamic);
  const auto row = [&](const Route& at) { return static_cast<size_t>(at.b) * store.G * R + Rows(at.row).head; };
  if (!route.more()) return;
  Step(&ring)[STAGES] = shared.ring[threadIdx.x / 32];
  Copies<Store, Route> copies(store, route);
  for (int n = 0; n < STAGES - 1; n++) copies.start(ring);
  for (Step& step : ring) clear_padding(step);
  Queries(q + row(route) * D, Rows(route.row).heads).store(shared);
  __syncthreads();  // all queries are written before any warp multiplies them
  for (int stage = 0; route.more();) {
    State s;
    clear(s, route.length);
    absorb(s, shared, copies, stage, route.begin(), route.end(), scale_log2e);
    element* const out = o + row(route) * D;
    const int heads = Rows(route.row).heads, pieces = route.pieces(), first_slot = route.first_slot();
    const size_t slot = static_cast<size_t>(Route::slot(first_slot, route.piece())) * HEADS;
    int* const counter = arrived + route.b * store.G * BLOCKS + route.row;
    route.advance();
    const Queries next(q + row(route) * D, route.more() ? Rows(route.row).heads : 0);
    write_rows(out, ml + slot, part + slot * D, shared, s, heads, pieces == 1, copies.stage, next);
    if (pieces > 1 && last_of_row(counter, pieces, shared))
      merge_row<Route>(out, ml, part, heads, first_slot, pieces);
  }
}

// The route of a block of a grid (shares, rows, B): one of the equal shares of a sequence.
struct OneShare {
  int b, row, length;
  Share share;
  bool ahead;

  __device__ explicit OneShare(int length)
      : b(blockIdx.z), row(blockIdx.y), length(length), share(length, TILE), ahead(true) {}
  __device__ bool more() const { return ahead; }
  __device__ void advance() { ahead = false; }
  __device__ int begin() const { return share.begin; }
  __device__ int end() const { return share.end; }
  __device__ int pieces() const { return gridDim.x; }
  __device__ int piece() const { return blockIdx.x; }
  __device__ int first_slot() const { return (b * gridDim.y + row) * gridDim.x; }
  __device__ static int slot(int first, int n) { return first + n; }
};
