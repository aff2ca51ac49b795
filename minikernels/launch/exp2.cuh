// Powers of two, of which every kernel here makes its exponentials.

#pragma once

constexpr float LN2 = 0.69314718f;  // what makes a logarithm to base 2 a natural one

// PTX ISA 9.7.3.21: 2 to the x by the special-function unit; exp2f adds steps for results below 2^-126, which become 0.
__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
