"""Exercise 07.3: weighted values, two 4-bit codes in a byte.

Value t is minima[t] + scales[t] * code, with one scale and one minimum for all its channels. Two codes share a byte:
the even channel's is the lower half. The output is the sum over tokens of p[t] times value t, and

    p[t] * (minima[t] + scales[t] * code)  =  p[t] * minima[t]  +  (p[t] * scales[t]) * code

so that what all channels share is added up once in a thread, and the loop multiplies codes.

Budget: every byte of codes is read once, with one request a token for 64 channels; p, scales and minima with one
request a token and warp; no barrier, no shared memory.
Check it with ``minikernels check 07.3``.
"""

from minikernels.launch import cuda, float32, int32, kernel

D = 64  # head width, even; the grader tries other sizes too


@kernel
def packed_values(p, codes, scales, minima, o):
    """Write o (D,), the sum over t of p[t] times value t, all float32 but codes (S, D / 2), uint8.

    A block has D / 2 threads; a thread owns the channels 2*i and 2*i + 1, which share byte i.
    """
    i = cuda.threadIdx.x
    even = float32(0)  # of the codes of channel 2*i
    odd = float32(0)  # of those of channel 2*i + 1
    shared = float32(0)  # what the minima add to every channel
    for t in range(codes.shape[0]):
        # Take the two codes out of the byte, and add to the three sums.
        # Your lines start here.
        pass
        # Your lines end here.
    o[2 * i] = even + shared
    o[2 * i + 1] = odd + shared
