// PTX of Hopper (sm_90a) that several techniques share: mbarriers, the copy engine (TMA), products by warpgroups.
//
// Sections are those of the PTX ISA 8.x manual. A warpgroup is 4 neighbouring warps, the first one's index a multiple
// of 4. Tiles in shared memory are stacks of PANELS: rows of 64 float16 (128 bytes), 128-byte swizzled, beginning where
// 1024 divides the address; a tile of 128 columns is two panels. One TMA copy of a box of 64 columns fills one panel.

#pragma once

#include "launch/mma.cuh"

struct alignas(64) TensorMap {  // CUtensorMap, as tensor_maps.py passes it; a parameter `const __grid_constant__`
  unsigned long long opaque[16];
};

// ---- mbarriers, PTX ISA 9.7.13.15. A phase ends when `arrivals` have come and no byte is still expected; waiting for
// parity p returns once a phase of that parity has ended. The first phase has parity 0, so a barrier that nobody has
// touched lets a wait for parity 1 through.
using Barrier = unsigned long long;

__device__ inline void barrier_init(Barrier* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals) : "memory");
}

// PTX ISA 9.7.13.4: the barriers that one thread set up are seen by the copy engine; then __syncthreads().
__device__ inline void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void barrier_arrive(Barrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}

// Arrive, and let the phase wait for `bytes` of copies too.
__device__ inline void barrier_expect(Barrier* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
               : "memory");
}

__device__ inline bool barrier_passed(Barrier* b, int parity) {
  unsigned passed;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
      : "=r"(passed)
      : "r"(shared_address(b)), "r"(parity)
      : "memory");
  return passed != 0;
}

__device__ inline void barrier_wait(Barrier* b, int parity) {
  while (!barrier_passed(b, parity)) {
  }
}

// By all lanes of a warp: it is done with what a barrier of one arrival a warp lets others overwrite.
__device__ inline void warp_arrive(Barrier* b) {
  if (threadIdx.x % 32 == 0) barrier_arrive(b);
}

// Where a ring stands: which of its PLACES is next, and the parity of the phase in which it is filled.
template <int PLACES>
struct Ring {
  int place = 0, parity = 0;
  __device__ void next() {
    if (++place == PLACES) place = 0, parity ^= 1;
  }
};

// ---- the copy engine, PTX ISA 9.7.9.27.1.2: start copying a box to shared memory; its bytes count on the barrier.
// Coordinates are those of the box's first element, the innermost axis first. One thread asks for the whole box.
__device__ inline void tma_load(void* to, const TensorMap& map, Barrier* b, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
      ::"r"(shared_address(to)), "l"(&map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// PTX ISA 9.7.9.27.1.2: start copying a box from shared memory; what lies outside of the array is not written. Stores
// of one thread are closed in groups, and waited for until at most PENDING groups still read shared memory.
__device__ inline void tma_store(const TensorMap& map, const void* from, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map),
               "r"(shared_address(from)), "r"(x), "r"(y), "r"(z)
               : "memory");
}

__device__ inline void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

template <int PENDING>
__device__ inline void tma_store_wait() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// PTX ISA 9.7.14.5.16: four 8x8 matrices to shared memory, as ldmatrix_x4 reads them.
__device__ inline void stmatrix_x4(void* row, unsigned a, unsigned b, unsigned c, unsigned d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}

// ---- who runs, and with what. PTX ISA 9.7.19.5: registers a thread of this warpgroup keeps, or may use from now on.
template <int COUNT>
__device__ inline void registers_keep() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT>
__device__ inline void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// PTX ISA 9.7.13.1: a numbered barrier (1 to 15; 0 is that of __syncthreads) of `threads` threads, those who only
// arrive included.
__device__ inline void named_sync(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

__device__ inline void named_arrive(int number, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// PTX ISA 9.7.13.4: what this thread wrote to shared memory is seen by TMA and wgmma; then a barrier.
__device__ inline void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- products, PTX ISA 9.7.15. Operands in shared memory are named by 64-bit descriptors (9.7.15.5.1.2): address,
// leading and stride byte offset, each over 16, and 1 << 62 for the 128-byte swizzle.
__device__ inline unsigned long long descriptor(const void* panel, int leading_bytes, int stride_bytes) {
  const unsigned long long address = shared_address(panel) >> 4 & 0x3fff;
  return address | static_cast<unsigned long long>(leading_bytes >> 4) << 16 |
         static_cast<unsigned long long>(stride_bytes >> 4) << 32 | 1ull << 62;
}

// Rows of A, or of B transposed (as K in Q K^T): 16 columns, of one panel, from `start` on. Groups of 8 rows stand
// 1024 bytes apart. A further 16 columns are 32 bytes on; after 64 the next panel begins.
__device__ inline unsigned long long by_rows(const __half* start) { return descriptor(start, 16, 1024); }

// Rows of B as it is (as V in P V): 16 rows, of every panel; groups of 8 rows stand 1024 bytes apart, panels
// `panel_bytes`. A further 16 rows are 2048 bytes on.
__device__ inline unsigned long long by_columns(const __half* start, int panel_bytes) {
  return descriptor(start, panel_bytes, 1024);
}

// What stands `bytes` further on.
__device__ inline unsigned long long further(unsigned long long descriptor, int bytes) {
  return descriptor + (bytes >> 4);
}

// PTX ISA 9.7.15.7.1: registers written before are seen by the products that follow.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Wait until at most PENDING groups of products are under way.
template <int PENDING>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// The compiler must not move what it does with these registers across this point: it does not know that products run.
template <int N>
__device__ inline void pinned(float (&r)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(r[i])::"memory");
}

// PTX ISA 9.7.19.3: an event for profilers, and otherwise nothing; but the compiler moves no arithmetic across it. Else
// it moves a wait for products in front of all arithmetic that does not need them, also what was to run beside them.
__device__ inline void in_order() { asm volatile("pmevent 0;" ::: "memory"); }

#include "launch/wgmma.cuh"
