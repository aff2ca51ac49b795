// Where the keys and values of one head of one sequence lie: in pages of a pool, found through the page table.
//
// Constants, by -D: those of decode.cuh, and P tokens of a page.

#pragma once

#include "launch/decode.cuh"

static_assert(P >= 1, "a page holds a token");

struct Cache {
  const element* __restrict__ k;  // (pages, P, G, D), from head g on
  const element* __restrict__ v;
  const int* __restrict__ table;  // (max_pages,), the sequence's row
  int token;  // elements from a token to the next one of its page
  int pages;  // of the pool, for `has`

  Cache() = default;
  __device__ Cache(const element* k_pages, const element* v_pages, const int* row, int g, int G, int pages = 0)
      : k(k_pages + g * D), v(v_pages + g * D), table(row), token(G * D), pages(pages) {}

  __device__ int page(int s, int end) const { return s < end ? table[s / P] : 0; }  // no key is read past the end
  __device__ size_t place(int page, int s) const { return (static_cast<size_t>(page) * P + s % P) * token; }

  static constexpr bool MAY_LOSE = true;  // the table may lead out of the pool

  template <int keys>
  __device__ static constexpr bool in_row() {
    return P % keys == 0;  // within a page
  }

  template <int count, int stride>
  struct Found {
    static constexpr int PAGES = P % (count * stride) == 0 ? 1 : count;  // one where all are within a page
    int page[PAGES];
  };

  template <int count, int stride>
  __device__ void look_up(Found<count, stride>& found, int s, int end) const {
#pragma unroll
    for (int u = 0; u < found.PAGES; u++) found.page[u] = page(s + u * stride, end);
  }

  __device__ bool has(const Found<1, 16>& found) const {
    return static_cast<unsigned>(found.page[0]) < static_cast<unsigned>(pages);
  }

  template <int count, int stride>
  __device__ size_t place(const Found<count, stride>& found, int u, int s) const {
    return place(found.page[found.PAGES == 1 ? 0 : u], s);
  }
};

struct Store {  // of all sequences and heads
  const element *k_pages, *v_pages;  // (pages, P, G, D)
  const int* page_table;  // (B, max_pages)
  int G, max_pages, pages;
  __device__ Cache cache(int b, int g) const {
    return {k_pages, v_pages, page_table + static_cast<size_t>(b) * max_pages, g, G, pages};
  }
};
