// v6_stream_k: one list of all key tiles, of which every block takes an equal run (LeanAttention).
//
// A block walks over its run row by row, a row being up to 8 query heads of one sequence that share a key/value head. A
// row that lies whole in a run is written at once; of one that a cut goes through, every block leaves its state, and a
// second kernel merges them. launch/absorb.cuh has what a block does with its keys, and the constants.
// Differs from v5_split_kv: the cuts fall where the work is, not at the same share of every sequence: on ragged lengths
// no block waits for the one that got the longest.

#include "cache.cuh"
#include "launch/absorb.cuh"

// Where a row's tiles stand in the list: those of sequence b follow those of b - 1, its G * BLOCKS rows each other.
struct Run {
  int b, row, first, tiles;  // sequence, its row, the row's first tile in the list, its tiles
};

__device__ int tiles_before(const int* __restrict__ ends, int b) { return b == 0 ? 0 : ends[b - 1]; }

// Return the row that tile `place` of the list belongs to: the last sequence that begins at or before it.
__device__ Run find(const int* __restrict__ ends, int B, int per_sequence, int place) {  // ends (B,)
  int low = 0, high = B - 1;  // the answer is in low .. high: the first b with ends[b] * per_sequence > place
  while (low < high) {
    const int middle = (low + high) / 2;
    if (ends[middle] * per_sequence > place) high = middle;
    else low = middle + 1;
  }
  const int before = tiles_before(ends, low), tiles = ends[low] - before;
  const int row = (place - before * per_sequence) / tiles;
  return {low, row, before * per_sequence + row * tiles, tiles};
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) v6_stream_k(
    const element* __restrict__ q,  // (B, H, D)
    const element* __restrict__ k,  // (B, G, S, D)
    const element* __restrict__ v,
    const int* __restrict__ lengths,  // (B,), or null: all S keys of every sequence
    const int* __restrict__ ends,  // (B,), tiles of sequences 0 .. b
    element* __restrict__ o,  // (B, H, D)
    float2* __restrict__ ml,  // (gridDim.x, 2, HEADS): a row begun by another block, then one left to others
    float* __restrict__ part,  // (gridDim.x, 2, HEADS, D)
    int B,
    int G,
    int S,
    float scale_log2e) {
  __shared__ Shared shared;
  const int total = ends[B - 1] * G * BLOCKS, share = (total + gridDim.x - 1) / gridDim.x;
  const int stop = min(total, static_cast<int>(blockIdx.x + 1) * share);
  for (int place = blockIdx.x * share; place < stop;) {
    const Run run = find(ends, B, G * BLOCKS, place);
    const Rows rows(run.row);
    const size_t out = (static_cast<size_t>(run.b) * G * R + rows.head) * D;
    const int tile = place - run.first, last = min(run.tiles, stop - run.first);
    const int begin = tile * TILE, end = min(keys_of(lengths, run.b, S), last * TILE);
    float q_reg[HEADS][VEC];
    State s;
    load_queries(q_reg, q + out, rows.heads, end - begin, scale_log2e);
    clear(s, end);
    absorb(s, q_reg, Cache(k, v, static_cast<size_t>(run.b) * G + rows.g, S), begin, end);
    __syncthreads();  // every thread is done with the last row's states before they are overwritten
    gather(shared, s);
    const size_t slot = 2 * blockIdx.x + (tile == 0);
    if (tile == 0 && last == run.tiles) write_output(o + out, shared, rows.heads);
    else write_partial(ml + slot * HEADS, part + slot * HEADS * D, shared, rows.heads);
    place = run.first + last;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) merge_runs(
    const int* __restrict__ ends,  // (B,)
    const float2* __restrict__ ml,  // (blocks, 2, HEADS)
    const float* __restrict__ part,  // (blocks, 2, HEADS, D)
    element* __restrict__ o,  // (B, H, D)
    int B,
    int G,
    int blocks) {
  const Rows rows(blockIdx.x);
  const int h = blockIdx.z;  // of the row's heads
  if (h >= rows.heads) return;
  const int b = blockIdx.y, before = tiles_before(ends, b), tiles = ends[b] - before;
  const int total = ends[B - 1] * G * BLOCKS, share = (total + blocks - 1) / blocks;
  const int place = before * G * BLOCKS + blockIdx.x * tiles;
  const int first = tiles ? place / share : 0, last = tiles ? (place + tiles - 1) / share : 0;
  if (tiles && first == last) return;  // one block had the whole row, and wrote it
  merge_states(
      o + (static_cast<size_t>(b) * G * R + rows.head + h) * D, ml + h, part + h * D, 2 * first + 1, 2 * first + 2, 2,
      tiles ? last - first + 1 : 0, tiles);
}
