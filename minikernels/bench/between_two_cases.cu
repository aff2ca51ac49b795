// An empty kernel, launched between two cases so that a profile of many launches can be cut into cases.

extern "C" __global__ void between_two_cases() {}
