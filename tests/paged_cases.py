"""The sizes that every test of paged runs at: pages of 1 to 128 tokens, ragged lengths, length 0, G from 1 to H."""

import numpy as np

CASES = [  # B, H, G, P, D, lengths
    (1, 1, 1, 1, 1, (1,)),
    (2, 8, 2, 16, 64, (70, 33)),
    (3, 12, 1, 7, 33, (0, 1, 37)),  # a length of 0; two blocks of heads, the last of them ragged
    (1, 32, 1, 16, 128, (50,)),  # H / G = 32
    (2, 6, 6, 1, 16, (32, 33)),  # a page a token; multi-head
    (1, 6, 3, 128, 40, (127,)),
    (4, 4, 1, 32, 32, (0, 64, 65, 31)),  # whole pages, and one token more and less
    (1, 2, 1, 3, 7, (31,)),
    (1, 3, 3, 16, 130, (63,)),  # wider than a block of 128 threads
    (1, 9, 1, 8, 24, (40,)),  # a second block for one head
    (2, 2, 1, 4, 100, (0, 0)),  # no key at all
    (1, 2, 1, 128, 8, (1100,)),  # two rounds of scores
]


def label(case):
    """Return ``B2-H8-G2-P16-D64-70,33``."""
    *sizes, lengths = case
    return "-".join([*map("{}{}".format, "BHGPD", sizes), ",".join(map(str, lengths))])


def made(case, dtype="float32", seed=0, spare=2):
    """Return q, k_pages, v_pages, page_table and lengths; a slot that no sequence holds is NaN, and must not be read.

    The pages of all sequences are strewn over a pool that has `spare` more of them.
    """
    B, H, G, P, D, lengths = case
    rng = np.random.default_rng(seed)
    counts = [-(-n // P) for n in lengths]
    pages = rng.permutation(sum(counts) + spare)
    q = rng.standard_normal((B, H, D)).astype(dtype)
    k_pages, v_pages = (np.full((len(pages), P, G, D), np.nan, dtype) for _ in "kv")
    page_table = np.full((B, max(counts, default=0)), -1, np.int32)
    for b, n in enumerate(lengths):
        page_table[b, : counts[b]], pages = pages[: counts[b]], pages[counts[b] :]
        for x in (k_pages, v_pages):
            page, slot = page_table[b, np.arange(n) // P], np.arange(n) % P
            x[page, slot] = rng.standard_normal((n, G, D))
    return q, k_pages, v_pages, page_table, np.array(lengths, np.int32)


def right(verdicts):
    """Fail with the oracle's words unless every verdict passed."""
    wrong = [verdict.message for verdict in verdicts.values() if not verdict.passed]
    assert not wrong, "\n".join(wrong)
