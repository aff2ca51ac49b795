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

// Put m and l of the warp into shared memory.
__device__ inline void gather_sums(Shared& shared, const State& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < TILES * 2; i++) {
    const int head = i / 2 * 8 + lane % 4 * 2 + i % 2;
    const float l = over_keys_sum(s.l[i / 2][i % 2]);
    if (lane < 4) shared.m[warp][head] = s.m[i / 2][i % 2], shared.l[warp][head] = l;
  }
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
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = lane % 4 * 2;
  float share[2];
  for (int h = 0; h < 2; h++)
    share[h] = exp2_approx(s.m[tile][h] - base(over_warps(shared, 8 * tile + head + h).x));
#pragma unroll
  for (int n = 0; n < WIDTH / 16; n++) {
    for (int i = 0; i < 4; i++) {
      const int d = 16 * n + lane / 4 + i / 2 * 8;
      if (d < D) shared.o[warp][head + i % 2][d] = share[i % 2] * s.o[tile][n][i];
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
    const Queries& next) {
  __syncthreads();  // every warp has multiplied its last key, and every thread read the states of the row before
  next.store(shared);
  gather_sums(shared, s);
#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
    __syncthreads();  // m, l and the next queries are written; every thread has read the tile before
    gather_output(shared, s, tile);
    __syncthreads();  // all warps' output is written before any thread adds it up
    for (int i = threadIdx.x; i < min(8, heads - 8 * tile) * (D / 4); i += THREADS) {
      const int h = i / (D / 4), d = i % (D / 4) * 4, place = (8 * tile + h) * D + d;
      const float2 state = over_warps(shared, 8 * tile + h);
      float4 sum = {};
      for (int w = 0; w < WARPS; w++) {
        const float4 x = *reinterpret_cast<const float4*>(&shared.o[w][h][d]);
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
}

// Return whether all `pieces` of a row have left their states, this block being the last; the counter is then 0 again.
__device__ inline bool last_of_row(int* counter, int pieces, Shared& shared) {
  __threadfence();  // what this thread left is seen by whoever sees the count
  __syncthreads();  // so is what the others of the block left
  if (threadIdx.x == 0) {
    shared.last = atomicAdd(counter, 1) == pieces - 1;
    if (shared.last) *counter = 0;
  }
  __syncthreads();  // the answer is written before any thread reads it
  __threadfence();  // what others left before they counted is seen from here on
  return shared.last;
}

// Merge the states that the pieces of a row left, and write its output; 4 columns of a head to a thread.
template <class Route>
__device__ void merge_row(
    element* __restrict__ o,  // (heads, D)
    const float2* ml,  // (slots, HEADS), from other blocks: past L1, which may hold what was there before
    const float* part,  // (slots, HEADS, D)
    int heads,
    int first_slot,
    int pieces) {
  for (int i = threadIdx.x; i < heads * (D / 4); i += THREADS) {
    const int h = i / (D / 4), d = i % (D / 4) * 4;
    float m = minus_infinity(), l = 0.0f;
    float4 sum = {};
    for (int first = 0; first < pieces; first += 8) {
      float2 state[8];
      float4 x[8];  // of eight pieces all loads are under way before the first is waited for
#pragma unroll
      for (int n = 0; n < 8; n++) {
        const size_t row = static_cast<size_t>(Route::slot(first_slot, first + n)) * HEADS + h;
        const bool held = first + n < pieces;
        state[n] = held ? __ldcg(ml + row) : float2{minus_infinity(), 0.0f};
        x[n] = held ? __ldcg(reinterpret_cast<const float4*>(part + row * D + d)) : float4{};
      }
#pragma unroll
      for (int n = 0; n < 8; n++) {
        const float m_new = fmaxf(m, state[n].x);
        const float before = exp2_approx(m - base(m_new)), now = exp2_approx(state[n].x - base(m_new));
        m = m_new;
        l = before * l + now * state[n].y;
        sum = {before * sum.x + now * x[n].x, before * sum.y + now * x[n].y, before * sum.z + now * x[n].z,
               before * sum.w + now * x[n].w};
      }
    }
    write_four(o + h * D + d, sum, l);
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
  Copies<Store, Route> copies(store, route);
  for (int n = 0; n < STAGES - 1; n++) copies.start(shared.ring[threadIdx.x / 32]);
  clear_padding(shared);
  Queries(q + row(route) * D, Rows(route.row).heads).store(shared);
  __syncthreads();  // all queries and all padding are written before any warp multiplies them
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
    write_rows(out, ml + slot, part + slot * D, shared, s, heads, pieces == 1, next);
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
