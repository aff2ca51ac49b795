// The type of an array's numbers, and runs of them, in kernels that take float16 and float32 alike.
//
// Constant, by -D: ITEM_BYTES 2 (float16) or 4 (float32).

#pragma once

#include <cuda_fp16.h>

template <int bytes>
struct ElementOf;
template <>
struct ElementOf<2> {
  using type = __half;
};
template <>
struct ElementOf<4> {
  using type = float;
};
using element = ElementOf<ITEM_BYTES>::type;

template <typename T, int n>
struct alignas(n * sizeof(T)) Vector {
  T item[n];
};
