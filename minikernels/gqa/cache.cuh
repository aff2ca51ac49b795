// Where the keys and values of one head lie: one after another. decode.cuh has the constants.

#pragma once

#include "launch/decode.cuh"

struct Cache {
  const element* __restrict__ k;  // (S, D), of head [b, g]
  const element* __restrict__ v;

  Cache() = default;
  __device__ Cache(const element* k, const element* v, size_t head, int S) : k(k + head * S * D), v(v + head * S * D) {}

  static constexpr bool MAY_LOSE = false;
  static constexpr int token = D;  // elements from a key to the next

  template <int keys>
  __device__ static constexpr bool in_row() {
    return true;
  }

  template <int count, int stride>
  struct Found {};  // a key's number is its place: nothing to look up

  template <int count, int stride>
  __device__ void look_up(Found<count, stride>&, int, int) const {}

  template <class Found>
  __device__ bool has(const Found&) const {
    return true;
  }

  template <int count, int stride>
  __device__ size_t place(const Found<count, stride>&, int, int s) const {
    return static_cast<size_t>(s) * D;
  }
};

struct Store {  // of all heads
  const element *k, *v;  // (B, G, S, D)
  int G, S;
  __device__ Cache cache(int b, int g) const { return {k, v, static_cast<size_t>(b) * G + g, S}; }
};
