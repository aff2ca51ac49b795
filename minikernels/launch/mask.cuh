// Which keys a row of queries sees.
//
// Constants, by -D: CAUSAL 0 or 1.

#pragma once

// How many keys row t sees: a prefix. Bottom right aligned, so negative where T > S and t sees none.
__device__ inline int keys_seen(int t, int T, int S) { return CAUSAL ? min(S, t + 1 + S - T) : S; }
