// Codes as operands of tensor cores with next to no arithmetic: ldmatrix deals them out, a mask makes them numbers.
//
// A step of STEP tokens lies in shared memory as it lay in the cache, but for the 16-byte pieces of a row, whose order
// is turned so that eight rows of an 8x8 matrix fall on all banks. Keys are the left operand of m16n8k16, 16 tokens
// high, the queries' 8 columns are heads; values are the left operand too, turned over by ldmatrix, 16 channels high.
// fragments.cuh has what a lane makes of it.
//
// Constants, by -D: those of states.cuh, ITEM_BYTES 2, HEADS at most 8; STEP tokens that a warp takes at a time.

#pragma once

#include "fragments.cuh"

constexpr int TILES = STEP / 16;  // of 16 tokens

static_assert(K_GROUP % STEP == 0 && STEP % 16 == 0, "a step lies in one group of keys");

struct alignas(128) Step {  // STEP tokens of one head, in shared memory
  unsigned char k_codes[STEP * ROW_BYTES], v_codes[STEP * ROW_BYTES];
  __half k_scales[D], k_minima[D];  // of the group that begins with this step, where one does
  __half v_scales[STEP][SHARED_SCALES], v_minima[STEP][SHARED_SCALES];
};

// Piece c of row r stands in place c ^ turn(r) of the row: 8 rows that follow have one piece in all 8 groups of banks.
__device__ int turn(int row) { return row * PIECES / 8 % PIECES; }

// What a lane copies of every step, 16 bytes of each, were the step the first.
struct Source {
  const unsigned char *k_codes, *v_codes;
  const __half *k_ranges, *v_ranges;  // scales, or minima; null for a lane that copies neither
  __device__ explicit Source(const Cache& cache)
      : k_codes(cache.k_codes + 16 * lane()),
        v_codes(cache.v_codes + 16 * lane()),
        k_ranges(range<D>(cache.k_scales, cache.k_minima)),
        v_ranges(range<STEP * SHARED_SCALES>(cache.v_scales, cache.v_minima)) {}

  template <int count>  // of scales; as many minima follow in shared memory
  __device__ static const __half* range(const __half* scales, const __half* minima) {
    constexpr int lanes = count / 8;
    static_assert(count % 8 == 0 && lanes <= 16, "a warp copies scales and minima at once");
    return lane() < lanes ? scales + 8 * lane() : lane() < 2 * lanes ? minima + 8 * (lane() - lanes) : nullptr;
  }
};

__device__ void copy_codes(unsigned char* to, const unsigned char* from) {
#pragma unroll
  for (int i = 0; i < STEP * PIECES; i += 32) {
    const int turned = turn(lane() / PIECES + i / PIECES % 8);  // of 8 rows all begin alike
    if (STEP * PIECES % 32 == 0 || i + lane() < STEP * PIECES)
      cp_async_16(to + 16 * (i + (lane() ^ turned)), from + 16 * i);
  }
}

// The step after the one that begins at token `first`: the warps take groups in turn.
__device__ int after(int first) {
  first += STEP;
  return first % K_GROUP == 0 ? first + (WARPS - 1) * K_GROUP : first;
}

// Start copying the tokens first .. first + STEP - 1, and what the keys of a group share with its first ones.
__device__ void start_copies(Step& step, const Source& source, size_t first) {
  copy_codes(step.k_codes, source.k_codes + first * ROW_BYTES);
  if (first % K_GROUP == 0 && source.k_ranges != nullptr)
    cp_async_16(step.k_scales + 8 * lane(), source.k_ranges + first / K_GROUP * D);
  if (source.v_ranges != nullptr) cp_async_16(step.v_scales[0] + 8 * lane(), source.v_ranges + first * SHARED_SCALES);
  copy_codes(step.v_codes, source.v_codes + first * ROW_BYTES);
}

// Where the lane's row of the matrices of tile n begins: pieces c and c + 1 of 16 tokens (c twice where it is alone).
__device__ const __half* matrix_row(const unsigned char* codes, int n, int c) {
  const int row = lane() % 16, piece = (c + lane() / 16 % PIECES) ^ turn(row);
  return reinterpret_cast<const __half*>(codes + 16 * ((16 * n + row) * PIECES + piece));
}

__device__ unsigned product(unsigned a, unsigned b) {
  const __half2 both = __hmul2(reinterpret_cast<const __half2&>(a), reinterpret_cast<const __half2&>(b));
  return reinterpret_cast<const unsigned&>(both);
}

// scaled = queries times a group's scales; start = queries times its minima, in the unit of codes.
__device__ void fold(Fragment& scaled, float (&start)[2], const Queries& queries, const Step& step) {
  float sum[4] = {};
#pragma unroll
  for (int c = 0; c < PIECES; c++) {
    unsigned q[PAIRS], scale[PAIRS], minimum[PAIRS];
    read_numbers(q, queries.number[c][lane()]);
    read_numbers(scale, step.k_scales + first_channel(c));
    read_numbers(minimum, step.k_minima + first_channel(c));
#pragma unroll
    for (int i = 0; i < PAIRS; i += 2) {
      const unsigned every_row[4] = {minimum[i], minimum[i], minimum[i + 1], minimum[i + 1]};
      mma_m16n8k16(sum, every_row, q[i], q[i + 1]);
    }
    for (int i = 0; i < PAIRS; i++) scale[i] = product(q[i], scale[i]);
    arrange(scaled[c], scale);
  }
  for (int h = 0; h < 2; h++) start[h] = UNIT * sum[h];
}

// Scores of 16 tokens in the unit of codes: of token lane / 4, both heads, then of the token 8 further.
__device__ void multiply_keys(
    float (&score)[4],
    const Fragment& scaled,
    const float (&start)[2],
    const Step& step,
    int n) {
  float sum[2][4] = {{start[0], start[1], start[0], start[1]}};
  unsigned word[4];
#pragma unroll
  for (int c = 0; c < PIECES; c++) {
    unsigned upper[PAIRS], lower[PAIRS];
    if (c % 2 == 0) ldmatrix_x4(word, matrix_row(step.k_codes, n, c));
    unpack(upper, word[c % 2 * 2]);
    unpack(lower, word[c % 2 * 2 + 1]);
#pragma unroll
    for (int i = 0; i < SIDES; i++) {
      const unsigned keys[4] = {upper[i], lower[i], upper[i + SIDES], lower[i + SIDES]};
      mma_m16n8k16(sum[i], keys, scaled[c][i], scaled[c][i + SIDES]);
    }
  }
  for (int i = 0; i < 4; i++) score[i] = sum[0][i] + sum[1][i] / NEXT;
}

// o += codes of 16 tokens, turned over, times weights and scales; the weights and minima go into the sums.
__device__ void multiply_values(Rescaled& s, const float (&weight)[4], const Step& step, int n) {
  unsigned plain[2], b[SHARED_SCALES][2], minimum[2][SHARED_SCALES], word[4];
  turn_over(plain, weight);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    unsigned scale[SHARED_SCALES];
    read_tokens(scale, step.v_scales + 16 * n + 8 * half);
    read_tokens(minimum[half], step.v_minima + 16 * n + 8 * half);
#pragma unroll
    for (int x = 0; x < SHARED_SCALES; x++) b[x][half] = product(plain[half], scale[x]);
  }
  add_sums(s, plain, minimum);
#pragma unroll
  for (int c = 0; c < PIECES; c++) {
    unsigned first[PAIRS], second[PAIRS];
    if (c % 2 == 0) ldmatrix_x4_trans(word, matrix_row(step.v_codes, n, c));
    unpack(first, word[c % 2 * 2]);
    unpack(second, word[c % 2 * 2 + 1]);
    constexpr int width = 8 * PAIRS;  // channels of a piece
    const auto& scaled = b[c * width / V_GROUP];
#pragma unroll
    for (int i = 0; i < SIDES; i++) {
      const unsigned values[4] = {first[2 * i], first[2 * i + 1], second[2 * i], second[2 * i + 1]};
      mma_m16n8k16(s.o[c][i], values, scaled[0], scaled[1]);
    }
  }
}

// Absorb a step, of whose tokens `held` are there. What is past them weighs 0, and 0 times a NaN would be a NaN.
__device__ void absorb_step(
    Rescaled& s,
    const Fragment& scaled,
    const float (&start)[2],
    Step& step,
    float scale_log2e,
    int held) {
  float score[TILES][4];
  if (held < STEP) {
    for (int token = held + lane(); token < STEP; token += 32)
      for (int x = 0; x < SHARED_SCALES; x++) step.v_scales[token][x] = step.v_minima[token][x] = 0.0f;
    __syncwarp();  // they are 0 before any lane reads them
  }
#pragma unroll
  for (int n = 0; n < TILES; n++) {
    multiply_keys(score[n], scaled, start, step, n);
    for (float& cell : score[n]) cell *= scale_log2e / UNIT;
  }
  weigh(s, score, held);
#pragma unroll
  for (int n = 0; n < TILES; n++) multiply_values(s, score[n], step, n);
}

__device__ unsigned recent_pair(const Cache& cache, int token, int end, int d) {  // values of channels d and d + 1
  const size_t place = static_cast<size_t>(token - cache.quantized) * D + d;
  return token < end ? *reinterpret_cast<const unsigned*>(cache.v_recent + place) : 0;
}

// Absorb the recent tokens first .. end - 1, at most 16 of them: they are numbers, read from where they lie.
__device__ void absorb_recent(
    Rescaled& s,
    const Queries& queries,
    const Cache& cache,
    float scale_log2e,
    int first,
    int end) {
  float score[1][4] = {};
#pragma unroll 2  // more would need registers that there are not
  for (int c = 0; c < PIECES; c++) {
    unsigned q[PAIRS], key[2][PAIRS] = {};
    read_numbers(q, queries.number[c][lane()]);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int token = first + 8 * half + lane() / 4;
      const __half* row = cache.k_recent + static_cast<size_t>(token - cache.quantized) * D;
      if (token < end) read_numbers(key[half], row + first_channel(c));
    }
#pragma unroll
    for (int i = 0; i < PAIRS; i += 2) {
      const unsigned keys[4] = {key[0][i], key[1][i], key[0][i + 1], key[1][i + 1]};
      mma_m16n8k16(score[0], keys, q[i], q[i + 1]);
    }
  }
  for (float& cell : score[0]) cell *= scale_log2e;
  weigh(s, score, end - first);
  unsigned b[2];
  turn_over(b, score[0]);
  const unsigned none[2][SHARED_SCALES] = {};
  add_sums(s, b, none);
#pragma unroll
  for (int c = 0; c < PIECES; c++) {
#pragma unroll
    for (int i = 0; i < SIDES; i++) {
      unsigned values[4];
      for (int half = 0; half < 2; half++) {
        const int token = first + 8 * half + lane() % 4 * 2, d = (8 * c + lane() / 4) * PAIRS + 2 * i;
        const unsigned even = recent_pair(cache, token, end, d), odd = recent_pair(cache, token + 1, end, d);
        values[2 * half] = __byte_perm(even, odd, 0x5410);
        values[2 * half + 1] = __byte_perm(even, odd, 0x7632);
      }
      mma_m16n8k16(s.o[c][i], values, b[0], b[1]);
    }
  }
}

// A block's shared memory: a ring of COUNT steps a warp, in whose place the states are gathered.
template <int COUNT>
struct SharedOf {
  Queries queries;
  union {
    Step ring[WARPS][COUNT];
    States states;  // when the ring has done its work
  };
};

// Attend from the block's rows to its share of a sequence's tokens; `absorb_codes(s, queries, ring, cache, scale_log2e,
// begin, end)` is what a rung does with the quantised ones, its warp's ring being given.
template <auto absorb_codes, int COUNT>
__device__ void attend(
    SharedOf<COUNT>& shared,
    const element* __restrict__ q,  // (B, H, D)
    const Cache& all,
    const int* __restrict__ lengths,  // (B,)
    element* __restrict__ o,  // (B, H, D), written where there is one share
    float2* __restrict__ ml,  // (B, G * BLOCKS, splits, HEADS), written where there are several
    float* __restrict__ part,  // (B, G * BLOCKS, splits, HEADS, D)
    int G,
    int S,
    float scale_log2e) {
  const Rows rows(blockIdx.y);
  const int b = blockIdx.z, row = b * G * R + rows.head;  // the first of the block's rows of q and o
  const int length = lengths[b], tiles = (length + TILE - 1) / TILE, warp = threadIdx.x / 32;
  const int share = (tiles + gridDim.x - 1) / gridDim.x * TILE, begin = blockIdx.x * share;
  const int end = min(length, begin + share);
  const Cache cache = all.of(b * G + rows.g, S);
  Rescaled s = {{minus_infinity(), minus_infinity()}};
  load_queries(shared.queries, q + static_cast<size_t>(row) * D, rows.heads);
  absorb_codes(s, shared.queries, shared.ring[warp], cache, scale_log2e, begin, min(end, all.quantized));
  settle(s);
  for (int first = max(begin, all.quantized) + 16 * warp; first < end; first += 16 * WARPS)
    absorb_recent(s, shared.queries, cache, scale_log2e, first, end);
  __syncthreads();  // every warp is done with its ring, whose place the states take
  gather(shared.states, s);
  const size_t slot = (b * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  if (gridDim.x == 1) write_output(o + static_cast<size_t>(row) * D, shared.states, rows.heads);
  else write_partial(ml + slot * HEADS, part + slot * HEADS * D, shared.states, rows.heads);
}
