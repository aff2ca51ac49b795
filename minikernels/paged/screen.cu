// screen: which sequences could lead a kernel out of the pool, found before any kernel follows them.
//
// A block owns a sequence. Its length is copied; -1 stands for a length or a page that is out of range, and the kernels
// make NaN of it. The host does not wait to learn of it.
//
// Constants, by -D: LENGTH_BYTES and ENTRY_BYTES, 4 or 8 each.

template <int bytes>
struct IntOf;
template <>
struct IntOf<4> {
  using type = int;
};
template <>
struct IntOf<8> {
  using type = long long;
};

constexpr int AHEAD = 8;  // entries of a thread whose loads are under way at once

extern "C" __global__ void __launch_bounds__(1024) screen(
    const IntOf<ENTRY_BYTES>::type* __restrict__ page_table,  // (B, max_pages)
    const IntOf<LENGTH_BYTES>::type* __restrict__ lengths,  // (B,)
    int* __restrict__ safe,  // (B,)
    int max_pages,
    int P,
    int pages) {
  const size_t b = blockIdx.x;
  const long long length = lengths[b];
  int wrong = length < 0 || length > static_cast<long long>(max_pages) * P;
  const int used = wrong ? 0 : static_cast<int>((length + P - 1) / P);
#pragma unroll AHEAD
  for (int j = threadIdx.x; j < used; j += blockDim.x) {
    const long long page = page_table[b * max_pages + j];
    wrong |= page < 0 || page >= pages;
  }
  wrong = __syncthreads_or(wrong);  // every thread has looked at its entries
  if (threadIdx.x == 0) safe[b] = wrong ? -1 : static_cast<int>(length);
}
