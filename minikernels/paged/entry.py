"""What the catalog's row of paged is made of: inputs, the run of a rung, its judge and its traffic."""

import numpy as np

from minikernels import paged
from minikernels.core.errors import ShapeError
from minikernels.paged import reference, traffic
from minikernels.paged.pool import UNUSED

MOMENTS = 4  # places in a text whose next token is computed: sequences of different lengths that begin alike
PAGE = 16  # tokens of a page of activations


def random(sizes, dtype="float32", causal=True, seed=0):
    """Return random q and pages of the sizes B, H, G, S, P and D, ragged lengths up to S, and a table of strewn pages.

    Slots that no sequence holds are random too: who reads them is wrong. page_table and lengths are tuples, of which
    `run` makes arrays beside q.
    """
    B, H, G, S, P, D = (sizes[letter] for letter in "BHGSPD")
    if H and (G == 0 or H % G):
        raise ShapeError(f"G={G} must divide H={H}: every key/value head serves the same number of query heads")
    generator = np.random.default_rng(seed)
    lengths = [-(-S * (B - b) // B) if P else 0 for b in range(B)]  # a page without slots holds no token
    counts = [-(-n // P) if n else 0 for n in lengths]
    strewn = [int(page) for page in generator.permutation(sum(counts) + 1)]  # one page is nobody's
    q = generator.standard_normal((B, H, D)).astype(dtype)
    k_pages, v_pages = (generator.standard_normal((len(strewn), P, G, D)).astype(dtype) for _ in "kv")
    ends = np.cumsum([0, *counts])
    rows = [(*strewn[i : i + n], *(UNUSED,) * (max(counts) - n)) for i, n in zip(ends, counts, strict=False)]
    return {"q": q, "k_pages": k_pages, "v_pages": v_pages, "page_table": tuple(rows), "lengths": tuple(lengths)}


def activations(arrays, dtype="float32", causal=True, P=PAGE):
    """Return a layer's last query at four moments of one text, and a pool in which the four share what they can."""
    q, k, v = (np.ascontiguousarray(arrays[name], dtype) for name in "qkv")
    (_, G, T, D), moments = k.shape, min(MOMENTS, q.shape[2])
    lengths = [T * (i + 1) // moments for i in range(moments)]
    pool = paged.PagePool(-(-T // P) + moments, P, G, D, dtype)
    keys, values = (np.ascontiguousarray(x[0].swapaxes(0, 1)) for x in (k, v))  # (T, G, D)
    page_table, _ = pool.table([pool.allocate(keys[:n], values[:n]) for n in lengths])
    last = np.ascontiguousarray(q[0][:, [n - 1 for n in lengths]].swapaxes(0, 1))
    return {"q": last, "k_pages": pool.k_pages, "v_pages": pool.v_pages,
            "page_table": tuple(tuple(row) for row in page_table.tolist()), "lengths": tuple(lengths)}


def cut(inputs, keys=24, width=8, P=8):
    """Return the last sequence's first group: its first keys, their first few columns, in pages out of order."""
    share, size = inputs["q"].shape[1] // inputs["k_pages"].shape[2], inputs["k_pages"].shape[1]
    n = min(keys, inputs["lengths"][-1])
    token, count = np.arange(n), -(-n // P)
    page = np.array(inputs["page_table"][-1], int)[token // size]
    found = {"q": np.ascontiguousarray(inputs["q"][-1:, :share, :width])}
    for name in ("k_pages", "v_pages"):
        found[name] = np.zeros((count, P, 1, found["q"].shape[2]), found["q"].dtype)
        found[name][count - 1 - token // P, token % P] = inputs[name][page, token % size, :1, :width]
    return {**found, "page_table": (tuple(range(count)[::-1]),), "lengths": (n,)}


def sizes(inputs):
    """Return the letters of a decoding step's inputs; S is the longest length."""
    (B, H, D), (P, G) = inputs["q"].shape, inputs["k_pages"].shape[1:3]
    return {"B": B, "H": H, "G": G, "S": max(inputs["lengths"], default=0), "P": P, "D": D}


def tables(inputs, like=None):
    """Return page_table (B, max_pages) and lengths (B,), int32, as arrays of the kind of `like`."""
    lengths = np.array(inputs["lengths"], np.int32)
    page_table = np.array(inputs["page_table"], np.int32).reshape(len(lengths), -1 if len(lengths) else 0)
    return (x if like is None else np.asarray(x, like=like) for x in (page_table, lengths))


def run(rung, inputs):
    """Return o of one rung."""
    arrays = [inputs[name] for name in ("q", "k_pages", "v_pages")]
    like = arrays[0] if hasattr(arrays[0], "__array_function__") else None
    return {"o": paged.decode(*arrays, *tables(inputs, like), rung=rung.name)}


def judge(outputs, inputs):
    """Hold o against the float64 equation."""
    arrays = [inputs[name] for name in ("q", "k_pages", "v_pages")]
    return reference.judge(outputs["o"], *arrays, *tables(inputs), max(1, arrays[0].shape[-1]) ** -0.5)


def form(rung, inputs):
    """Return the closed form of one rung's traffic."""
    page_table, lengths = tables(inputs)
    given = {"itemsize": inputs["q"].itemsize, "lengths": lengths, "page_table": page_table}
    return getattr(traffic, rung.name)(**sizes(inputs), **given)
