"""What is timed of decoding over quantised caches: cases, rungs, peers on the dequantised cache, and the judge."""

from dataclasses import replace
from functools import partial

import numpy as np

from minikernels import gqa, kv_compression, launch
from minikernels.bench.decode import peers, work
from minikernels.bench.suite import Entry, Suite
from minikernels.core.oracle import check
from minikernels.kv_compression import reference

__all__ = ["suites"]

BATCH = {"B": 64, "H": 32, "G": 8, "S": 8192, "D": 128}
LONG = {**BATCH, "B": 1, "S": 65_536}  # one sequence: without splits 16 blocks have all the work
TEACHING = {"B": 4, "H": 8, "G": 2, "S": 1024, "D": 64}
GROUP = 64
CASES = [(BATCH, "float16", 4), (BATCH, "float16", 8), (LONG, "float16", 4), (LONG, "float16", 8),
         (TEACHING, "float32", 4), (TEACHING, "float16", 4), (TEACHING, "float16", 8)]
OWN = {"float16": "v7_mma_group", "float32": "v5_split_kv"}  # what gqa.decode takes by default on a GPU
LESSONS = ("v1_dequantize", "v2_folded_scales")  # not timed over one long sequence


def suites(technique, shapes=None):
    """Yield the suites of decoding over quantised caches; of given cases alone, in 4 and 8 bits, where there are."""
    cases = CASES if shapes is None else [(case.sizes, case.dtype, bits) for case in shapes for bits in (4, 8)]
    for sizes, dtype, bits in cases:
        yield suite(technique, sizes, dtype, bits)


def suite(technique, sizes, dtype, bits):
    """Return the suite of one case: speed is the bytes of codes, scales and minima over time, for the peers too.

    4 bits are the case that a ladder shows; those in 8 bits are a variant.
    """
    q, k_cache, v_cache = random(sizes, dtype, bits)
    q_there, *caches = launch.to_gpu(q), *(there(cache) for cache in (k_cache, v_cache))
    entries = []
    for rung in technique.rungs:
        if rung.kind != "numpy":
            absent = "" if dtype in rung.dtypes else f"takes {' or '.join(rung.dtypes)}"
            if rung.name in LESSONS and sizes == LONG:
                absent = "a rung for learning, timed over shorter sequences"
            entries.append(Entry("rung", rung.name, partial(decoded, q_there, *caches, rung.name), absent))
    entries += on_dequantized(q_there, *caches)
    lengths = np.full(sizes["B"], sizes["S"])
    judged, read = partial(judge, q, k_cache, v_cache), k_cache.bytes() + v_cache.bytes()
    variant = "" if bits == 4 else f"{bits} bits"
    return Suite("kv_compression", sizes, dtype, False, work(sizes, lengths), tuple(entries), judged, variant, read)


def random(sizes, dtype, bits):
    """Return random q and caches; a sequence's is the first one's, moved on by some groups of tokens."""
    B, H, G, S, D = (sizes[letter] for letter in "BHGSD")
    generator = np.random.default_rng(0)
    shapes = (B, H, D), (1, G, S, D), (1, G, S, D)
    q, k, v = (generator.standard_normal(shape, np.float32).astype(dtype) for shape in shapes)
    both = (k, "channel"), (v, "token")
    return q, *(batch(kv_compression.quantize(x, bits=bits, axis=axis, group=GROUP), B) for x, axis in both)


def batch(cache, B):
    """Return a cache of B sequences, each the given one's with its groups of tokens moved on; recent ones stay."""
    def moved(name, x, b):
        groups = {"codes": GROUP, "recent": 0}.get(name, 1 if cache.axis == "channel" else GROUP)
        return np.roll(x[0], b * groups, axis=1) if groups and x.shape[2] else x[0]

    return replace(cache, **{name: np.stack([moved(name, x, b) for b in range(B)]) for name, x in cache.arrays.items()})


def there(cache):
    """Return a cache with its arrays on the GPU."""
    return replace(cache, **{name: launch.to_gpu(x) for name, x in cache.arrays.items()})


def decoded(q, k_cache, v_cache, rung):
    """Return the outputs of one rung."""
    return {"o": kv_compression.decode(q, k_cache, v_cache, rung=rung)}


def on_dequantized(q, k_cache, v_cache):
    """Return an Entry for our own decode of the dequantised cache, and for each backend of torch's attention."""
    arrays = {"q": q, "k": k_cache.dequantize(), "v": v_cache.dequantize()}
    rung = OWN[q.dtype.name]
    own = Entry("peer", f"gqa {rung}, dequantised", lambda: {"o": gqa.decode(**arrays, rung=rung)})
    return [own, *peers(arrays, None, False)]


def judge(q, k_cache, v_cache, outputs):
    """Return verdicts on the first and last heads of the first and last sequences; a NaN anywhere in o fails too."""
    o = launch.to_numpy(outputs["o"])
    (B, H, D), (G, S) = q.shape, k_cache.shape[1:3]
    share, verdicts = H // G, []
    for b in sorted({0, B - 1}):
        for g in sorted({0, G - 1}):
            heads, here = slice(g * share, (g + 1) * share), np.s_[b : b + 1, g : g + 1]
            caches = (replace(c, **{name: x[here] for name, x in c.arrays.items()}) for c in (k_cache, v_cache))
            part = q[b : b + 1, heads], *caches, np.array([S]), D**-0.5
            verdicts += reference.judge(o[b : b + 1, heads], *part).values()
    sums = o.sum(axis=-1, dtype=np.float32)
    zeros = np.zeros_like(sums)
    return [*verdicts, check(np.where(np.isfinite(sums), zeros, sums), zeros, zeros, name="sum of o over D")]
