"""Exercise 04.3: scores of keys that lie in pages.

Copying a sequence's pages to one place before each step moves every key three times: read, written, read again. A
kernel can look up where a key lies instead: in page ``table[s // P]``, slot ``s % P``. A page number takes 4 bytes; the
key that it leads to 4 D. Looked up once a key, it costs next to nothing; looked up once an element, as much as the key.

Budget: k_pages and the table are read once; no barrier but the one that stands there.
Check it with ``minikernels check 04.3``.
"""

from minikernels.launch import cuda, float32, kernel

D = 16  # head width; the grader tries other sizes too
P = 8  # tokens of a page
THREADS = 64  # of a block


@kernel
def page_scores(q, k_pages, table, length, s):
    """Write q (D,) . k to s (max_pages * P,) for every token of a sequence; all but the table are float32.

    A thread owns token s; k_pages (pages, P, D), table (max_pages,) and length (1,) int32. What is past the length
    stays as it is. Shared memory: D*4 bytes.
    """
    q_smem = cuda.shared.array(D, float32)
    for d in range(cuda.threadIdx.x, D, THREADS):
        q_smem[d] = q[d]
    cuda.syncthreads()  # the whole query is written before any thread reads it
    token = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    # Find the token's key, and write its product with q_smem to s[token].
    # Your lines start here.
    # Your lines end here.
