// What a lane of v6_mma keeps of the tokens that were absorbed, and how it is brought under a new maximum.
//
// operands.cuh has the constants.

#pragma once

#include "operands.cuh"

struct Output {  // of 8 heads: row lane / 4 of tile t is channel t of the lane's run, 8 rows further TILES + t
  float cell[UNITS][TILES][4];
};

struct Rescaled {  // a lane's state of head lane / 4; l and o_min over its own tokens
  float m, l, o_min[SHARED_SCALES];
};

// Turn the scores of `count` tiles of 8 tokens into weights under the new maximum; bring the state and o under it too.
template <int count>
__device__ void rescale(Rescaled& s, Output& o, float (&score)[count][2]) {
  float m_new = s.m;
  for (auto& tile : score)
    for (float cell : tile) m_new = fmaxf(m_new, cell);
  m_new = quad_max(m_new);
  const float alpha = exp2_approx(s.m - base(m_new));
  s.m = m_new;
  s.l *= alpha;
  for (float& cell : s.o_min) cell *= alpha;
  for (auto& tile : score) {
    for (float& cell : tile) {
      cell = exp2_approx(cell - base(m_new));
      s.l += cell;
    }
  }
  const float left = __shfl_sync(0xffffffff, alpha, lane() % 4 * 8);  // of the heads of this lane's columns of o
  const float right = __shfl_sync(0xffffffff, alpha, lane() % 4 * 8 + 4);
  for (auto& unit : o.cell)
    for (auto& tile : unit)
      for (int i = 0; i < 4; i++) tile[i] *= i % 2 ? right : left;
}
