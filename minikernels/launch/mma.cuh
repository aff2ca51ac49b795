// PTX that the tensor-core kernels share: tiles to shared memory, fragments to registers, products.
//
// Sections are those of the PTX ISA 8.x manual. Lane l is threadIdx.x % 32.

#pragma once

#include <cuda_fp16.h>

__device__ inline unsigned shared_address(const void* in_shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(in_shared));
}

// PTX ISA 9.7.14.5.15: four 8x8 matrices of 16-bit numbers; lane l gives the address of row l % 8 of matrix l / 8, and
// receives columns 2 * (l % 4) + {0, 1} of row l / 4 of each.
__device__ inline void ldmatrix_x4(unsigned (&r)[4], const __half* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// Two of them, at the addresses that lanes 0 to 15 give.
__device__ inline void ldmatrix_x2(unsigned (&r)[2], const __half* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// Four of them, each transposed.
__device__ inline void ldmatrix_x4_trans(unsigned (&r)[4], const __half* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// PTX ISA 9.7.14.5.17: an 8x8 matrix of 16-bit numbers, transposed; lane l holds 2 neighbours of row l / 4.
__device__ inline unsigned transposed_8x8(unsigned x) {
  unsigned y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// PTX ISA 9.7.14.5.8: c += a b; a 16x16 by rows, b 16x8 by columns, float16; c 16x8, float32. Lane l holds
// c[l / 4, 2 * (l % 4) + {0, 1}] in c[0], c[1], and the same columns of row l / 4 + 8 in c[2], c[3].
__device__ inline void mma_m16n8k16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline unsigned pack(float low, float high) {  // two float16, the first in the lower half
  const __half2 both = __floats2half2_rn(low, high);
  return reinterpret_cast<const unsigned&>(both);
}

// PTX ISA 9.7.9.25.3.1: start copying 16 bytes to shared memory; only the first `bytes` are read, the rest become 0.
__device__ inline void cp_async_16(void* to, const void* from, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
               : "memory");
}

// The same by way of L1 (.ca), for what streams from HBM once: decode's keys came 5 to 8 % faster than past it (.cg).
__device__ inline void cp_async_16_by_l1(void* to, const void* from, int bytes = 16) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
               : "memory");
}

// PTX ISA 9.7.9.25.3.2, 9.7.9.25.3.3: close a group of copies; wait until at most PENDING groups are under way.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int PENDING>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
