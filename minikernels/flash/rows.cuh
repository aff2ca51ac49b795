// Which rows of queries a block works on, and, by launch/mask.cuh, which keys they see.
//
// Constants, by -D: CAUSAL 0 or 1.

#pragma once

#include "launch/mask.cuh"

// A block of a grid (heads of a bunch, tiles of query rows, bunches) owns one tile of one head. Blocks start along x,
// then y, then z: one bunch after the other, whose keys and values fit in L2 together, and of all its heads the causal
// tiles that see the most keys first, so that short ones fill the end. The last bunch may have room for heads past the
// last one.
__device__ inline unsigned head_of_block() { return blockIdx.z * gridDim.x + blockIdx.x; }
__device__ inline int tile_of_block() { return CAUSAL ? gridDim.y - 1 - blockIdx.y : blockIdx.y; }
