// v5_mma: softmax attention on the tensor cores, by mma.sync m16n8k16; P never leaves the registers.
//
// A block owns BLOCK_T query rows of one head; each of its 4 warps owns BLOCK_T / 4 of them, as MTILES tiles of 16 rows,
// and all keys. A fragment of K or V fetched from shared memory serves the MTILES tiles. The layout in which mma leaves
// its result is the one in which it wants its left operand: two neighbouring 8-key tiles of P, rounded to float16, are
// the left operand of P V without any exchange between threads.
// Differs from v4_register_tiles: products on the tensor cores in float16 with float32 sums; P in registers.
//
// Constants, by -D: D head width, a multiple of 8; CAUSAL 0 or 1; BLOCK_T, BLOCK_S.

#include <cuda_fp16.h>

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
constexpr int WIDTH = (D + 15) / 16 * 16;  // D, padded with zeros to whole steps of mma
constexpr int ROW = WIDTH + 8;  // of shared memory: an odd multiple of 16 bytes, so ldmatrix meets no bank conflict
constexpr int MTILES = BLOCK_T / (16 * WARPS);  // 16-row tiles of a warp
constexpr int NTILES = BLOCK_S / 8;  // 8-key tiles of scores
constexpr int DTILES = WIDTH / 8;  // 8-column tiles of output
constexpr float LN2 = 0.69314718f;

static_assert(D >= 8 && D % 8 == 0, "rows of D float16 are read 16 bytes at a time");
static_assert(BLOCK_T % (16 * WARPS) == 0, "every warp owns whole 16-row tiles");
static_assert(BLOCK_S % 16 == 0, "P V takes 16 keys a step");

// PTX ISA 9.7.14.5.15: four 8x8 matrices of 16-bit numbers; lane l gives the address of row l % 8 of matrix l / 8.
__device__ void ldmatrix_x4(unsigned (&r)[4], const __half* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// The same, each matrix transposed.
__device__ void ldmatrix_x4_trans(unsigned (&r)[4], const __half* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// PTX ISA 9.7.14.5.8: c += a b; a 16x16 by rows, b 16x8 by columns, float16; c 16x8, float32. Lane l holds
// c[l / 4, 2 * (l % 4) + {0, 1}] in c[0], c[1], and the same columns of row l / 4 + 8 in c[2], c[3].
__device__ void mma_m16n8k16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// PTX ISA 9.7.3.21: 2 to the x by the special-function unit; exp2f adds steps for results below 2^-126, which become 0.
__device__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ float minus_infinity() { return __int_as_float(0xff800000); }

// How many keys row t sees: a prefix. Bottom right aligned, so negative where T > S and t sees none.
__device__ int keys_seen(int t, int T, int S) { return CAUSAL ? min(S, t + 1 + S - T) : S; }

__device__ float quad_max(float x) {  // over the 4 lanes that share a row
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

__device__ unsigned pack(float low, float high) {  // two float16, the lower column in the lower half
  const __half2 both = __floats2half2_rn(low, high);
  return reinterpret_cast<const unsigned&>(both);
}

// Copy `rows` rows to shared memory. Rows up to COUNT become 0: 0 * V must not be NaN.
template <int COUNT>
__device__ void load_tile(
    __half* __restrict__ tile,  // (COUNT, ROW)
    const __half* __restrict__ source,  // (rows, D)
    int rows) {
  constexpr int CHUNKS = D / 8, STEPS = (COUNT * CHUNKS + THREADS - 1) / THREADS;
  uint4 chunk[STEPS];  // 8 float16 each; every load is under way before the first is waited for
  for (int n = 0; n < STEPS; n++) {
    const int i = n * THREADS + threadIdx.x;
    chunk[n] = i < rows * CHUNKS ? reinterpret_cast<const uint4*>(source)[i] : uint4{};
  }
  for (int n = 0; n < STEPS; n++) {
    const int i = n * THREADS + threadIdx.x;
    if (i < COUNT * CHUNKS) *reinterpret_cast<uint4*>(tile + i / CHUNKS * ROW + i % CHUNKS * 8) = chunk[n];
  }
}

// The loads never touch columns D .. WIDTH; they are zero once and for all, so that products may run over them.
__device__ void clear_padding(__half* tile, int count) {  // (count, ROW)
  if (D < WIDTH)
    for (int row = threadIdx.x; row < count; row += THREADS) *reinterpret_cast<uint4*>(tile + row * ROW + D) = {};
}

// score = Q K^T: the warp's rows against all BLOCK_S keys.
__device__ void multiply_keys(
    float (&score)[MTILES][NTILES][4],
    const __half* q_smem,  // (16 * MTILES, ROW), the warp's rows
    const __half* k_smem,  // (BLOCK_S, ROW)
    int lane) {
  // Where lane l stands in four 8x8 matrices: of Q, rows 0-7 then 8-15, then the next 8 columns; of K, columns first.
  const __half* q_lane = q_smem + lane % 16 * ROW + lane / 16 * 8;
  const __half* k_lane = k_smem + (lane / 16 * 8 + lane % 8) * ROW + lane / 8 % 2 * 8;
#pragma unroll
  for (int d = 0; d < WIDTH; d += 16) {
    unsigned q[MTILES][4];
    for (int i = 0; i < MTILES; i++) ldmatrix_x4(q[i], q_lane + 16 * i * ROW + d);
#pragma unroll
    for (int n = 0; n < NTILES; n += 2) {
      unsigned k[4];
      ldmatrix_x4(k, k_lane + n * 8 * ROW + d);
      for (int i = 0; i < MTILES; i++) {
        mma_m16n8k16(score[i][n], q[i], k[0], k[1]);
        mma_m16n8k16(score[i][n + 1], q[i], k[2], k[3]);
      }
    }
  }
}

// o += P V, P taken from the registers in which the scores were computed.
__device__ void add_values(
    float (&o)[MTILES][DTILES][4],
    const float (&p)[MTILES][NTILES][4],
    const __half* v_smem,  // (BLOCK_S, ROW)
    int lane) {
  const __half* v_lane = v_smem + lane % 16 * ROW + lane / 16 * 8;  // keys 0-7, 8-15, then the next 8 columns
#pragma unroll
  for (int n = 0; n < NTILES; n += 2) {
    unsigned a[MTILES][4];
    for (int i = 0; i < MTILES; i++)
      for (int r = 0; r < 4; r++) a[i][r] = pack(p[i][n + r / 2][r % 2 * 2], p[i][n + r / 2][r % 2 * 2 + 1]);
#pragma unroll
    for (int c = 0; c < DTILES; c += 2) {
      unsigned v[4];
      ldmatrix_x4_trans(v, v_lane + n * 8 * ROW + c * 8);
      for (int i = 0; i < MTILES; i++) {
        mma_m16n8k16(o[i][c], a[i], v[0], v[1]);
        mma_m16n8k16(o[i][c + 1], a[i], v[2], v[3]);
      }
    }
  }
}

// Turn the scores of one row of the thread (half 0: row l / 4, half 1: row l / 4 + 8) into p; rescale its sums.
__device__ void absorb_row(
    float (&score)[NTILES][4],
    float (&o)[DTILES][4],
    float& m,  // running maximum
    float& l,  // this lane's share of the running sum
    int half) {
  float m_new = m;
  for (auto& cell : score)
    for (int e = 2 * half; e < 2 * half + 2; e++) m_new = fmaxf(m_new, cell[e]);
  m_new = quad_max(m_new);
  const float shift = m_new == minus_infinity() ? 0.0f : m_new;  // a row that has seen no key: no inf - inf
  const float alpha = exp2_approx(m - shift);
  l *= alpha;
  for (auto& cell : score)
    for (int e = 2 * half; e < 2 * half + 2; e++) l += cell[e] = exp2_approx(cell[e] - shift);
  for (auto& cell : o)
    for (int e = 2 * half; e < 2 * half + 2; e++) cell[e] *= alpha;
  m = m_new;
}

// Hide the keys that a row does not see.
__device__ void mask_scores(
    float (&score)[MTILES][NTILES][4],
    int first_row,  // of the warp
    int first_key,
    int T,
    int S,
    int lane) {
  for (int i = 0; i < MTILES; i++)
    for (int n = 0; n < NTILES; n++)
      for (int e = 0; e < 4; e++) {
        const int t = first_row + 16 * i + lane / 4 + e / 2 * 8, s = first_key + 8 * n + lane % 4 * 2 + e % 2;
        if (s >= keys_seen(t, T, S)) score[i][n][e] = minus_infinity();
      }
}

// Write the warp's rows of the output, 16 bytes a lane, by way of its own rows of Q, which no one needs any more.
__device__ void store_rows(
    __half* __restrict__ o,  // (rows, D)
    const float (&o_reg)[MTILES][DTILES][4],
    const float (&factor)[MTILES][2],
    __half* smem,  // (16 * MTILES, ROW)
    int rows,
    int lane) {
  for (int i = 0; i < MTILES; i++)
    for (int c = 0; c < DTILES; c++)
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<unsigned*>(smem + (16 * i + 8 * half + lane / 4) * ROW + 8 * c + lane % 4 * 2) =
            pack(o_reg[i][c][2 * half] * factor[i][half], o_reg[i][c][2 * half + 1] * factor[i][half]);
  __syncwarp();  // the rows are whole before another lane copies them
  constexpr int CHUNKS = D / 8;
  for (int i = lane; i < 16 * MTILES * CHUNKS; i += 32)
    if (i < rows * CHUNKS)
      reinterpret_cast<uint4*>(o)[i] = *reinterpret_cast<const uint4*>(smem + i / CHUNKS * ROW + i % CHUNKS * 8);
}

extern "C" __global__ void __launch_bounds__(THREADS) v5_mma(
    const __half* __restrict__ q,  // (B, H, T, D)
    const __half* __restrict__ k,  // (B, G, S, D)
    const __half* __restrict__ v,  // (B, G, S, D)
    __half* __restrict__ o,  // (B, H, T, D)
    float* __restrict__ lse,  // (B, H, T), natural logarithm
    int H,
    int G,
    int T,
    int S,
    float scale_log2e) {  // scale * log2(e): exp(x * scale) = exp2(x * scale_log2e)
  extern __shared__ __align__(16) __half smem[];
  __half* k_smem = smem + BLOCK_T * ROW;  // (BLOCK_S, ROW)
  __half* v_smem = k_smem + BLOCK_S * ROW;  // (BLOCK_S, ROW)

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  __half* q_smem = smem + warp * 16 * MTILES * ROW;  // (16 * MTILES, ROW), the warp's rows
  // A causal tile near the end sees the most keys: started first, it does not leave the GPU waiting at the end.
  const int tile = CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  const int block_row = tile * BLOCK_T, first_row = block_row + warp * 16 * MTILES;
  const size_t head = static_cast<size_t>(blockIdx.z) * H + blockIdx.y;  // of q, o and lse: [b, h]
  const size_t group = static_cast<size_t>(blockIdx.z) * G + blockIdx.y / (H / G);  // of k and v: [b, g]
  const int tile_seen = keys_seen(min(block_row + BLOCK_T, T) - 1, T, S);  // keys that any row of the tile sees
  const int all_seen = keys_seen(block_row, T, S);  // keys that every row of it sees

  k += group * S * D;  // [b, g, 0, 0]
  v += group * S * D;
  load_tile<BLOCK_T>(smem, q + (head * T + block_row) * D, min(BLOCK_T, T - block_row));
  clear_padding(smem, BLOCK_T + 2 * BLOCK_S);  // of Q, K and V, which follow each other

  float o_reg[MTILES][DTILES][4] = {}, m[MTILES][2], l[MTILES][2] = {};
  for (auto& rows : m)
    for (float& cell : rows) cell = minus_infinity();

  for (int first = 0; first < tile_seen; first += BLOCK_S) {
    const int keys = min(BLOCK_S, S - first);
    __syncthreads();  // every warp is done with the last tile of K and V before it is overwritten
    load_tile<BLOCK_S>(k_smem, k + static_cast<size_t>(first) * D, keys);
    load_tile<BLOCK_S>(v_smem, v + static_cast<size_t>(first) * D, keys);
    __syncthreads();  // K, V and, the first time, Q are written before any warp reads them

    float score[MTILES][NTILES][4] = {};
    multiply_keys(score, q_smem, k_smem, lane);
    for (auto& tiles : score)
      for (auto& cells : tiles)
        for (float& cell : cells) cell *= scale_log2e;
    if (first + BLOCK_S > all_seen)  // only the last tile, and those that the diagonal crosses, need the mask
      mask_scores(score, first_row, first, T, S, lane);
    for (int i = 0; i < MTILES; i++)
      for (int half = 0; half < 2; half++) absorb_row(score[i], o_reg[i], m[i][half], l[i][half], half);
    add_values(o_reg, score, v_smem, lane);
  }

  float factor[MTILES][2];
  for (int i = 0; i < MTILES; i++)
    for (int half = 0; half < 2; half++) {
      const float sum = quad_sum(l[i][half]);
      const int t = first_row + 16 * i + 8 * half + lane / 4;
      factor[i][half] = sum == 0.0f ? 0.0f : 1.0f / sum;
      if (t < T && lane % 4 == 0) lse[head * T + t] = sum == 0.0f ? minus_infinity() : m[i][half] * LN2 + logf(sum);
    }
  __syncthreads();  // Q is loaded, even where no key was seen, and read before its place is overwritten
  const int rows = min(16 * MTILES, T - first_row);  // 0 or fewer where the warp stands past the last row
  store_rows(o + (head * T + first_row) * D, o_reg, factor, q_smem, rows, lane);
}
