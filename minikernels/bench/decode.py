"""What is timed of decoding: cases, rungs, peers, and the check before the clock."""

from functools import partial
from importlib import import_module

import numpy as np

from minikernels import gqa, launch
from minikernels.bench.sdpa import PEERS, scaled_dot_product_attention
from minikernels.bench.suite import Entry, Suite, on_gpu
from minikernels.core.oracle import check
from minikernels.gqa import reference

__all__ = ["suites"]

BATCH = {"B": 32, "H": 32, "G": 8, "S": 4096, "D": 128}
LONG = {**BATCH, "B": 1, "S": 65_536}  # one sequence: without splits 8 blocks have all the work
CASES = [(BATCH, dtype) for dtype in ("float16", "float32")] + [({**BATCH, "G": G}, "float16") for G in (32, 4, 1)]
CASES += [(LONG, "float16"), ({**BATCH, "D": 64}, "float16")]
SERVED = {**BATCH, "B": 64, "S": 8192}  # from here on caches of gigabytes, where starting and ending do not count
CASES += [(sizes, "float16") for sizes in (
    SERVED, {**SERVED, "G": 32, "S": 4096}, {**SERVED, "G": 1}, {**LONG, "S": 131_072})]
RAGGED = [(BATCH, "ragged lengths"), ({**BATCH, "S": 65_536}, "one long sequence")]  # sizes, and a key of LENGTHS
LESSONS = ("v1_block_per_head", "v2_shared_group")  # timed at the first case of a dtype alone


def suites(technique, shapes=None):
    """Yield the suites of decoding; of the given cases alone where there are some."""
    if shapes is not None:
        for case in shapes:
            yield suite(technique, case.sizes, case.dtype)
        return
    for sizes, dtype in CASES:
        yield suite(technique, sizes, dtype)
    for sizes, variant in RAGGED:
        yield suite(technique, sizes, "float16", variant)


def ragged(B, S):
    """Return lengths of which one in eight is S and the others are spread over the first eighth of it."""
    lengths = np.random.default_rng(0).integers(1, S // 8 + 1, B)
    lengths[::8] = S
    return lengths


def one_long(B, S):
    """Return lengths of which one is S, a document among chats, and the others are up to a sixteenth of it."""
    lengths = np.random.default_rng(0).integers(1, S // 16 + 1, B)
    lengths[B // 2] = S
    return lengths


LENGTHS = {"": lambda B, S: np.full(B, S), "ragged lengths": ragged, "one long sequence": one_long}


def work(sizes, lengths):
    """Return the FLOP of one token a sequence: 4*H*D*sum(lengths)."""
    return 4 * sizes["H"] * sizes["D"] * int(np.sum(lengths))


def suite(technique, sizes, dtype, variant=""):
    """Return the suite of one case: speed is what of the cache any kernel must read, over time."""
    inputs = random(sizes, dtype)
    there = on_gpu(inputs)
    there |= {name: np.stack([moved(there[name], b) for b in range(sizes["B"])]) for name in "kv"}
    kept = LENGTHS[variant](sizes["B"], sizes["S"])
    if variant:
        there["lengths"] = launch.to_gpu(kept.astype(np.int32))  # as kernels read them: none is converted in the time
    entries = []
    for rung in technique.rungs:
        if rung.kind != "numpy":
            absent = "" if dtype in rung.dtypes else f"takes {' or '.join(rung.dtypes)}"
            if rung.name in LESSONS and (sizes != BATCH or variant):
                absent = "a rung for learning, timed at one shape alone"
            entries.append(Entry("rung", rung.name, partial(decoded, there, rung.name), absent))
    entries += peers(there, kept, bool(variant))
    read = 2 * sizes["G"] * sizes["D"] * int(np.sum(kept)) * inputs["q"].itemsize
    judged = partial(judge, inputs, kept)
    return Suite("gqa", sizes, dtype, False, work(sizes, kept), tuple(entries), judged, variant, read)


def random(sizes, dtype):
    """Return random q (B, H, D), and k and v (G, S, D) of the first sequence."""
    B, H, G, S, D = (sizes[letter] for letter in "BHGSD")
    generator = np.random.default_rng(0)
    shapes = (B, H, D), (G, S, D), (G, S, D)
    return {name: generator.standard_normal(shape, np.float32).astype(dtype) for name, shape in zip("qkv", shapes)}


def moved(x, b):
    """Return the k or v of sequence b, where `x` lives: the first sequence's, its keys moved on by some places."""
    return np.roll(x, 97 * b, axis=1)


def decoded(there, rung):
    """Return the outputs of one rung."""
    return {"o": gqa.decode(**there, rung=rung)}


def peers(there, lengths, masked):
    """Return an Entry for each backend of torch's attention, given one query token and, if ragged, a mask."""
    try:
        torch = import_module("torch")  # a peer, not a dependency
    except ImportError:
        return [Entry("peer", name, None, "torch is not installed") for name in PEERS]
    q, k, v = (torch.from_dlpack(there[name]) for name in "qkv")
    mask = None
    if masked:
        ends = torch.from_numpy(np.asarray(lengths)).cuda()
        mask = (torch.arange(k.shape[2], device="cuda") < ends[:, None])[:, None, None]
    return [Entry("peer", name, partial(peer, torch, backend, q, k, v, mask)) for name, backend in PEERS.items()]


def peer(torch, backend, q, k, v, mask):
    """Return the outputs of a production kernel: T = 1 query a head."""
    if mask is None:
        o = scaled_dot_product_attention(torch, backend, q[:, :, None], k, v, False)
    else:
        kernels = torch.nn.attention
        with kernels.sdpa_kernel(getattr(kernels.SDPBackend, backend)):
            o = torch.nn.functional.scaled_dot_product_attention(
                q[:, :, None], k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return {"o": launch.to_cupy(o[:, :, 0])}


def judge(inputs, lengths, outputs):
    """Return verdicts on the first and last heads of the first and last sequences; a NaN anywhere in o fails too."""
    o = launch.to_numpy(outputs["o"])
    q, k, v = (inputs[name] for name in "qkv")
    (B, H, D), G = q.shape, k.shape[0]
    share, verdicts = H // G, []
    for b in sorted({0, B - 1}):
        for g in sorted({0, G - 1}):
            heads = slice(g * share, (g + 1) * share)
            part = q[b : b + 1, heads], *(moved(x[g : g + 1], b)[None] for x in (k, v)), lengths[b : b + 1]
            verdicts += reference.judge(o[b : b + 1, heads], *part, D**-0.5).values()
    sums = o.sum(axis=-1, dtype=np.float32)
    zeros = np.zeros_like(sums)
    return [*verdicts, check(np.where(np.isfinite(sums), zeros, sums), zeros, zeros, name="sum of o over D")]
