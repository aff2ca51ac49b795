// How the warpgroups of a block, its teams, share the work on one head, a chunk of 64 tokens at a time.
//
// The first team, the scorers, has tokens copied to shared memory, chunks ahead, and multiplies the queries of a chunk
// with its keys: work that needs no state, so that it runs ahead of the others. Each other team, the keepers, keeps 64
// value columns of the state in its registers, transposed, S^T[value column, key channel]: the layout in which wgmma
// leaves a result is the one in which it takes a left operand, so O^T = S^T Q^T + V^T scores^T takes the state, rounded
// to float16, from the registers in which V^T K has been summed.
//
// Constants, by -D: D head width, a multiple of 8 up to 128; STAGES chunks in shared memory, 3 or more;
// SCORER_REGISTERS and KEEPER_REGISTERS of a thread; SHARED_BYTES of a block.

#pragma once

#include "launch/hopper.cuh"

constexpr int CHUNK = 64;  // tokens
constexpr int PANEL = CHUNK * 64;  // numbers of a panel: the rows of a chunk, 64 channels
constexpr int PANEL_BYTES = 2 * PANEL;
constexpr int PANELS = (D + 63) / 64;  // what D lacks to whole panels is zeros
constexpr int WIDTH = 64 * PANELS;
constexpr int STEPS = WIDTH / 16;  // of wgmma along all channels
constexpr int TEAM = 128;  // threads
constexpr int THREADS = TEAM * (1 + PANELS);
constexpr int AHEAD = STAGES - 2;  // chunks under way while one is scored and the one before it is absorbed
constexpr int ALIGNMENT = 1024;  // bytes of shared memory: where the pattern of a swizzle begins

static_assert(D >= 8 && D <= 128 && D % 8 == 0, "rows of D float16 start at multiples of 16 bytes");
static_assert(STAGES >= 3, "one chunk is scored, the one before it is absorbed, the next is under way");

struct Shared {  // starts at a multiple of ALIGNMENT
  __half q[STAGES][PANELS][PANEL];
  __half k[STAGES][PANELS][PANEL];
  __half v[STAGES][PANELS][PANEL];
  __half score[2][PANEL];  // (CHUNK, CHUNK), of two chunks in turn
  __half o[PANELS][PANEL];
  Barrier landed[STAGES];  // q, k and v of a chunk are in shared memory
  Barrier scored[2];  // the scores of a chunk are
  Barrier absorbed[STAGES];  // the keepers are done with a chunk
};

struct Part {  // some tokens of one head
  int head, first, tokens;
  float log2_decay;
  float scale;  // factor on every output
  float shrink;  // a power of two: the registers hold S * shrink, which float16 can hold where S * scale is an output

  __device__ int chunks() const { return (tokens + CHUNK - 1) / CHUNK; }
};

struct Maps {  // of arrays of shape (B * H, T, D)
  const TensorMap *q, *k, *v, *o;
};

using State = float[WIDTH / 8][4];  // the team's S^T: 64 value columns, 8 key channels a tile

// The place in a panel of 8 neighbouring numbers of a row: 128-byte swizzled, as the copies leave it.
__device__ int swizzled(int row, int chunk) { return row * 64 + (chunk ^ row % 8) * 8; }

// Step c of 16 of a product: over 16 channels of Q or K, over 16 keys of scores, over 16 tokens of K or V.
__device__ unsigned long long channels_of(const __half (*panels)[PANEL], int c) {
  return by_rows(panels[c / 4] + c % 4 * 16);
}
__device__ unsigned long long tokens_of(const __half* panel, int c) {
  return by_columns(panel + c * 16 * 64, PANEL_BYTES);
}

template <int N>
__device__ float (&flat(float (&tiles)[N][4]))[4 * N] {  // as wgmma takes it
  return reinterpret_cast<float(&)[4 * N]>(tiles);
}

// PTX ISA 9.7.14.5.16: four 8x8 matrices to shared memory, each transposed.
__device__ void stmatrix_x4_trans(void* row, unsigned a, unsigned b, unsigned c, unsigned d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

__device__ int stage_of(int n) { return n % STAGES; }
__device__ int phase_of(int n) { return n / STAGES % 2; }  // parity of the phase in which chunk n has its stage

// The block's shared memory, from the first multiple of ALIGNMENT on.
template <typename Layout>
__device__ Layout& placed(unsigned char* smem) {
  return *reinterpret_cast<Layout*>(smem + (ALIGNMENT - shared_address(smem) % ALIGNMENT) % ALIGNMENT);
}

// One thread makes the barriers; a barrier of the block must follow before any thread waits on one.
__device__ void make_barriers(Shared& shared) {
  for (int i = 0; i < STAGES; i++) {
    barrier_init(&shared.landed[i], 1);
    barrier_init(&shared.absorbed[i], PANELS * TEAM);
  }
  for (int i = 0; i < 2; i++) barrier_init(&shared.scored[i], TEAM);
  barrier_init_done();
}

// Start copying chunk n; tokens after the last come as zeros, and so count for nothing.
template <bool OUTPUT>
__device__ void load_chunk(Shared& shared, const Maps& maps, const Part& part, int n) {
  const int stage = stage_of(n), row = part.first + n * CHUNK;
  Barrier* landed = &shared.landed[stage];
  barrier_expect(landed, (OUTPUT ? 3 : 2) * PANELS * PANEL_BYTES);
  for (int b = 0; b < PANELS; b++) {
    if (OUTPUT) tma_load(shared.q[stage][b], *maps.q, landed, 64 * b, row, part.head);
    tma_load(shared.k[stage][b], *maps.k, landed, 64 * b, row, part.head);
    tma_load(shared.v[stage][b], *maps.v, landed, 64 * b, row, part.head);
  }
}

// The scorers' part where there are no outputs and nothing to score: as many chunks under way as there are stages.
__device__ void load_ahead(Shared& shared, const Maps& maps, const Part& part) {
  if (threadIdx.x > 0) return;
  for (int n = 0; n < part.chunks(); n++) {
    if (n >= STAGES) barrier_wait(&shared.absorbed[stage_of(n)], phase_of(n - STAGES));  // its stage is free
    load_chunk<false>(shared, maps, part, n);
  }
}

// The scorers' products of a chunk: sum (64, 64) = Q K^T.
__device__ void multiply_queries(float (&sum)[8][4], const Shared& shared, int n) {
  const int stage = stage_of(n);
  wgmma_fence();
#pragma unroll
  for (int c = 0; c < STEPS; c++)
    wgmma<BY_ROWS>(flat(sum), channels_of(shared.q[stage], c), channels_of(shared.k[stage], c), c > 0);
  wgmma_commit();
  wgmma_wait<0>();
}

// Write the scores of a chunk to where the keepers find them; a warp has 16 rows.
__device__ void store_scores(__half* panel, const float (&sum)[8][4], int warp, int lane) {
#pragma unroll
  for (int i = 0; i < 8; i += 2)
    stmatrix_x4(panel + swizzled(16 * warp + lane % 16, i + lane / 16), pack(sum[i][0], sum[i][1]),
                pack(sum[i][2], sum[i][3]), pack(sum[i + 1][0], sum[i + 1][1]), pack(sum[i + 1][2], sum[i + 1][3]));
  fence_async();
}

// The keepers' state as a left operand, in float16.
__device__ void round_state(unsigned (&left)[STEPS][4], const State& state) {
#pragma unroll
  for (int c = 0; c < STEPS; c++) {
    const float(&low)[4] = state[2 * c], (&high)[4] = state[2 * c + 1];  // channels 16 c + 0-7 and 8-15
    left[c][0] = pack(low[0], low[1]);
    left[c][1] = pack(low[2], low[3]);
    left[c][2] = pack(high[0], high[1]);
    left[c][3] = pack(high[2], high[3]);
  }
}

// O^T (64, 64 tokens) = S^T Q^T, begun.
__device__ void multiply_state(float (&o)[8][4], const unsigned (&left)[STEPS][4], const Shared& shared, int n) {
  wgmma_fence();
#pragma unroll
  for (int c = 0; c < STEPS; c++)
    wgmma<BY_ROWS>(flat(o), left[c], channels_of(shared.q[stage_of(n)], c), c > 0);
}

// O^T += V^T scores^T, begun.
__device__ void multiply_scores(float (&o)[8][4], const Shared& shared, int n, int team) {
  wgmma_fence();
#pragma unroll
  for (int c = 0; c < CHUNK / 16; c++)
    wgmma<BY_ROWS, BY_COLUMNS>(
        flat(o), tokens_of(shared.v[stage_of(n)][team], c), channels_of(&shared.score[n % 2], c), true);
}

// Have the team's 64 columns of a chunk written, by way of shared memory; rows after the last token stay out.
__device__ void store_outputs(Shared& shared, const float (&o)[8][4], const Maps& maps, const Part& part, int n) {
  const int team = threadIdx.x / TEAM - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  __half* panel = shared.o[team];
  if (threadIdx.x % TEAM == 0) tma_store_wait<0>();
  named_sync(1 + team, TEAM);  // the chunk before has left the panel
#pragma unroll
  for (int i = 0; i < 8; i += 2)  // tokens 8 i to 8 i + 15, the warp's 16 columns of each
    stmatrix_x4_trans(panel + swizzled(8 * i + lane % 8 + lane / 16 * 8, 2 * warp + lane / 8 % 2),
                      pack(o[i][0], o[i][1]), pack(o[i][2], o[i][3]), pack(o[i + 1][0], o[i + 1][1]),
                      pack(o[i + 1][2], o[i + 1][3]));
  fence_async();
  named_sync(1 + team, TEAM);  // the panel is whole before one thread has it copied
  if (threadIdx.x % TEAM == 0) {
    tma_store(*maps.o, panel, 64 * team, part.first + n * CHUNK, part.head);
    tma_store_commit();
  }
}

// Tell the scorers that this keeper is done with chunk n. Every thread arrives for itself, after its own last read.
__device__ void release_chunk(Shared& shared, int n) { barrier_arrive(&shared.absorbed[stage_of(n)]); }

// Load the team's columns of a head's state, times shrink.
__device__ void load_state(State& state, const float* __restrict__ source, float shrink) {  // (D, D)
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 - TEAM / 32;
  for (int n = 0; n < WIDTH / 8; n++)
    for (int e = 0; e < 4; e++) {
      const int i = 8 * n + lane % 4 * 2 + e % 2, j = 16 * warp + lane / 4 + e / 2 * 8;  // key and value channel
      state[n][e] = i < D && j < D ? source[i * D + j] : 0.0f;
    }
  for (int n = 0; n < WIDTH / 8; n++)  // when all loads are under way
    for (int e = 0; e < 4; e++) state[n][e] *= shrink;
}

// Store them, without the factor.
__device__ void store_state(float* __restrict__ to, const State& state, float shrink) {  // (D, D)
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 - TEAM / 32;
  const float grow = 1.0f / shrink;  // exact
  for (int n = 0; n < WIDTH / 8; n++)
    for (int e = 0; e < 4; e++) {
      const int i = 8 * n + lane % 4 * 2 + e % 2, j = 16 * warp + lane / 4 + e / 2 * 8;
      if (i < D && j < D) to[i * D + j] = state[n][e] * grow;
    }
}
