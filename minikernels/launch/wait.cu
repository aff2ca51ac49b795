// Keep the GPU waiting, so that the host can queue the work to be timed before it starts.

// PTX ISA 10.26: a clock in nanoseconds that all of the GPU shares.
__device__ unsigned long long now() {
  unsigned long long nanoseconds;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(nanoseconds));
  return nanoseconds;
}

extern "C" __global__ void wait(unsigned long long nanoseconds) {
  const unsigned long long start = now();
  while (now() - start < nanoseconds) __nanosleep(500);
}
