// What every kernel with an online softmax computes alike: weights exp2(x - m) under a maximum m that may be -inf.

#pragma once

#include "launch/exp2.cuh"

__device__ inline float minus_infinity() { return __int_as_float(0xff800000); }

// -inf becomes 0: exp2(x - base(m)) has no inf - inf where no key was seen.
__device__ inline float base(float m) { return m == minus_infinity() ? 0.0f : m; }

// Over the 4 lanes that hold a row of scores as mma and wgmma leave it.
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}
