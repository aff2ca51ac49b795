// v4_register_tiles: softmax attention on the CUDA cores, with tiles of scores and of outputs in registers.
//
// A block owns BLOCK_T query rows of one head. Its threads stand in 16 rows (y) of TX (x); thread (y, x) owns 8 rows,
// y + 16 * i, and of those the scores of keys x + TX * j and the output columns 4 * x .. 4 * x + 3 of every 4 * TX.
// K and V pass through shared memory as float32 in tiles of BLOCK_S keys, read from HBM CHUNK numbers at a time.
// Differs from v3_split_rows: a number read from shared memory serves 4 or 8 multiply-adds, not 2, and 4 come at once.
//
// Constants, by -D: D head width; ITEM_BYTES 2 (float16) or 4 (float32); CAUSAL 0 or 1; BLOCK_T, BLOCK_S, TX;
// CHUNK 4, or 1 where rows of D numbers are not aligned for vector loads.

#include "launch/element.cuh"
#include "launch/softmax.cuh"
#include "rows.cuh"

using Float4 = Vector<float, 4>;

constexpr int TY = 16;
constexpr int THREADS = TX * TY;
constexpr int ROWS = BLOCK_T / TY;  // query rows of a thread
constexpr int KEYS = BLOCK_S / TX;  // scores of a thread in each of its rows
constexpr int WIDTH = (D + 4 * TX - 1) / (4 * TX) * (4 * TX);  // D, padded with zeros to whole columns of threads
constexpr int COLUMNS = WIDTH / TX;  // output columns of a thread in each of its rows
constexpr int ROW_FLOATS = WIDTH + 4;  // a row of Q or K: neighbouring rows start 4 banks apart
constexpr int P_FLOATS = BLOCK_S + TX;  // a row of P: the rows that one warp writes fall on different banks

static_assert(D >= 1 && D % CHUNK == 0, "rows of D numbers are read CHUNK at a time");
static_assert(TX == 8 || TX == 16, "the threads of a row must stand in one warp");
static_assert(BLOCK_T % TY == 0 && BLOCK_S % TX == 0 && BLOCK_S % 4 == 0, "tiles must divide evenly among threads");

__device__ Float4 load4(const float* source) { return *reinterpret_cast<const Float4*>(source); }

__device__ float row_max(float x) {  // over the TX threads of a row
  for (int step = TX / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, step));
  return x;
}

__device__ float row_sum(float x) {
  for (int step = TX / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}

// Copy `rows` rows to shared memory as float32, times `factor`. Rows up to COUNT become 0: 0 * V must not be NaN.
template <int COUNT, int STRIDE>
__device__ void load_tile(
    float* __restrict__ tile,  // (COUNT, STRIDE)
    const element* __restrict__ source,  // (rows, D)
    int rows,
    float factor) {
  constexpr int CHUNKS = D / CHUNK, STEPS = (COUNT * CHUNKS + THREADS - 1) / THREADS;
  Vector<element, CHUNK> chunk[STEPS];  // every load is under way before the first is waited for
  for (int n = 0; n < STEPS; n++) {
    const int i = n * THREADS + threadIdx.x;
    chunk[n] = {};
    if (i < rows * CHUNKS) chunk[n] = reinterpret_cast<const Vector<element, CHUNK>*>(source)[i];
  }
  for (int n = 0; n < STEPS; n++) {
    const int i = n * THREADS + threadIdx.x;
    Vector<float, CHUNK> wide;
    for (int j = 0; j < CHUNK; j++) wide.item[j] = static_cast<float>(chunk[n].item[j]) * factor;
    if (i < COUNT * CHUNKS)
      *reinterpret_cast<Vector<float, CHUNK>*>(tile + i / CHUNKS * STRIDE + i % CHUNKS * CHUNK) = wide;
  }
}

// The loads never touch columns D .. WIDTH; they are zero once and for all, so that dot products may run over them.
template <int COUNT, int STRIDE>
__device__ void clear_padding(float* tile) {
  for (int row = threadIdx.x; row < COUNT; row += THREADS)
    for (int d = D; d < WIDTH; d++) tile[row * STRIDE + d] = 0.0f;
}

// score[i][j] = q[y + 16 * i] . k[x + TX * j]
__device__ void multiply_keys(
    float (&score)[ROWS][KEYS],
    const float* q_smem,  // (BLOCK_T, ROW_FLOATS)
    const float* k_smem,  // (BLOCK_S, ROW_FLOATS)
    int y,
    int x) {
  for (auto& row : score)
    for (float& cell : row) cell = 0.0f;
#pragma unroll 2
  for (int d = 0; d < WIDTH; d += 4) {
    Float4 q[ROWS];
    for (int i = 0; i < ROWS; i++) q[i] = load4(q_smem + (y + TY * i) * ROW_FLOATS + d);
    for (int j = 0; j < KEYS; j++) {
      const Float4 k = load4(k_smem + (x + TX * j) * ROW_FLOATS + d);
      for (int i = 0; i < ROWS; i++)
        for (int n = 0; n < 4; n++) score[i][j] += q[i].item[n] * k.item[n];
    }
  }
}

// o[i] += p[y + 16 * i] V, for the thread's columns
__device__ void add_values(
    float (&o)[ROWS][COLUMNS],
    const float* p_smem,  // (BLOCK_T, P_FLOATS)
    const float* v_smem,  // (BLOCK_S, WIDTH)
    int y,
    int x) {
#pragma unroll 2
  for (int s = 0; s < BLOCK_S; s += 4) {
    Float4 p[ROWS];
    for (int i = 0; i < ROWS; i++) p[i] = load4(p_smem + (y + TY * i) * P_FLOATS + s);
    for (int n = 0; n < 4; n++)
      for (int c = 0; c < COLUMNS; c += 4) {
        const Float4 v = load4(v_smem + (s + n) * WIDTH + c * TX + 4 * x);
        for (int i = 0; i < ROWS; i++)
          for (int e = 0; e < 4; e++) o[i][c + e] += p[i].item[n] * v.item[e];
      }
  }
}

// Turn a row's scores (times log2 e) into p, and rescale what the row has summed so far to the new maximum.
__device__ void absorb_row(
    float (&score)[KEYS],
    float (&o)[COLUMNS],
    float& m,  // running maximum
    float& l,  // this thread's share of the running sum
    float* p_row,  // (BLOCK_S)
    int x) {
  float m_new = m;
  for (float cell : score) m_new = fmaxf(m_new, cell);
  m_new = row_max(m_new);
  const float shift = base(m_new);
  const float alpha = exp2_approx(m - shift);
  l *= alpha;
  for (float& cell : o) cell *= alpha;
  for (int j = 0; j < KEYS; j++) {
    const float p = exp2_approx(score[j] - shift);
    l += p;
    p_row[x + TX * j] = p;
  }
  m = m_new;
}

// Write the thread's columns of one row of the output.
__device__ void store_row(
    element* __restrict__ row,  // (D)
    const float (&o)[COLUMNS],
    float factor,
    int x) {
  for (int c = 0; c < COLUMNS; c += 4)
    for (int e = 0; e < 4; e += CHUNK) {
      const int d = c * TX + 4 * x + e;
      Vector<element, CHUNK> chunk;
      for (int j = 0; j < CHUNK; j++) chunk.item[j] = static_cast<element>(o[c + e + j] * factor);
      if (d < D) *reinterpret_cast<Vector<element, CHUNK>*>(row + d) = chunk;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) v4_register_tiles(
    const element* __restrict__ q,  // (B, H, T, D)
    const element* __restrict__ k,  // (B, G, S, D)
    const element* __restrict__ v,  // (B, G, S, D)
    element* __restrict__ o,  // (B, H, T, D)
    float* __restrict__ lse,  // (B, H, T), natural logarithm
    int heads,  // B * H
    int share,  // query heads of a key/value head
    int T,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(16) float smem[];
  float* q_smem = smem;  // (BLOCK_T, ROW_FLOATS)
  float* k_smem = q_smem + BLOCK_T * ROW_FLOATS;  // (BLOCK_S, ROW_FLOATS)
  float* v_smem = k_smem + BLOCK_S * ROW_FLOATS;  // (BLOCK_S, WIDTH)
  float* p_smem = v_smem + BLOCK_S * WIDTH;  // (BLOCK_T, P_FLOATS)

  const int x = threadIdx.x % TX, y = threadIdx.x / TX;
  if (head_of_block() >= heads) return;
  const size_t head = head_of_block(), group = head_of_block() / share;  // [b, h] of q, o and lse; [b, g] of k and v
  const int first_row = tile_of_block() * BLOCK_T;
  const int tile_seen = keys_seen(min(first_row + BLOCK_T, T) - 1, T, S);  // keys that any row of the tile sees
  const int all_seen = keys_seen(first_row, T, S);  // keys that every row of it sees

  q += (head * T + first_row) * D;  // [b, h, first_row, 0]
  k += group * S * D;  // [b, g, 0, 0]
  v += group * S * D;
  load_tile<BLOCK_T, ROW_FLOATS>(q_smem, q, min(BLOCK_T, T - first_row), scale_log2e);
  clear_padding<BLOCK_T, ROW_FLOATS>(q_smem);
  clear_padding<BLOCK_S, ROW_FLOATS>(k_smem);
  clear_padding<BLOCK_S, WIDTH>(v_smem);

  float o_reg[ROWS][COLUMNS] = {}, l[ROWS] = {}, m[ROWS];
  for (float& cell : m) cell = minus_infinity();

  for (int first = 0; first < tile_seen; first += BLOCK_S) {
    const int keys = min(BLOCK_S, S - first);
    __syncthreads();  // every thread is done with the last tile of K and V before it is overwritten
    load_tile<BLOCK_S, ROW_FLOATS>(k_smem, k + static_cast<size_t>(first) * D, keys, 1.0f);
    load_tile<BLOCK_S, WIDTH>(v_smem, v + static_cast<size_t>(first) * D, keys, 1.0f);
    __syncthreads();  // K, V and, the first time, Q are written before any thread reads them

    float score[ROWS][KEYS];
    multiply_keys(score, q_smem, k_smem, y, x);
    if (first + BLOCK_S > all_seen)  // only the last tile, and those that the diagonal crosses, need the mask
      for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < KEYS; j++)
          if (first + x + TX * j >= keys_seen(first_row + y + TY * i, T, S)) score[i][j] = minus_infinity();
    for (int i = 0; i < ROWS; i++) absorb_row(score[i], o_reg[i], m[i], l[i], p_smem + (y + TY * i) * P_FLOATS, x);
    __syncwarp();  // a row's threads stand in one warp: its p are written before they are read
    add_values(o_reg, p_smem, v_smem, y, x);
  }

  for (int i = 0; i < ROWS; i++) {
    const int t = first_row + y + TY * i;
    const float sum = row_sum(l[i]);
    if (t >= T) continue;
    store_row(o + (head * T + t) * D, o_reg[i], sum == 0.0f ? 0.0f : 1.0f / sum, x);
    if (x == 0) lse[head * T + t] = sum == 0.0f ? minus_infinity() : m[i] * LN2 + logf(sum);
  }
}
