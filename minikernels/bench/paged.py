"""What is timed of decoding from pages: cases, rungs, peers, and the check before the clock."""

from functools import partial
from importlib import import_module

import numpy as np

from minikernels import launch, paged
from minikernels.bench import decode
from minikernels.bench.suite import Entry, Suite, on_gpu
from minikernels.core.oracle import check
from minikernels.paged import reference

__all__ = ["suites"]

BATCH = {"B": 64, "H": 32, "G": 8, "S": 8192, "P": 16, "D": 128}
MANY_HEADS = {**BATCH, "G": 32, "S": 4096}
ONE_HEAD = {**BATCH, "G": 1}
LONG = {**BATCH, "B": 1, "S": 131_072}  # one sequence: without splits 8 blocks have all the work
TEACHING = {"B": 4, "H": 8, "G": 2, "S": 1024, "P": 16, "D": 64}
CASES = [(BATCH, "float16"), (MANY_HEADS, "float16"), (ONE_HEAD, "float16"), (LONG, "float16")]
CASES += [({**BATCH, "P": P}, "float16") for P in (1, 4, 64, 128)]
CASES += [({**BATCH, "B": 16}, "float32"), (TEACHING, "float16"), (TEACHING, "float32")]
RAGGED = [(BATCH, "ragged lengths"), ({**BATCH, "B": 32, "S": 65_536}, "one long sequence")]
LESSONS = ("v1_gather", "v2_page_table")  # timed in these cases alone
LESSON_CASES = [(BATCH, "float16"), ({**BATCH, "B": 16}, "float32"), (TEACHING, "float16"), (TEACHING, "float32")]
WORKSPACE_BYTES = 2**29  # flashinfer's; states of 64 sequences with 32 heads on one take more than 2**28


def suites(technique, shapes=None):
    """Yield the suites of paged decoding; of the given cases alone where there are some."""
    if shapes is not None:
        for case in shapes:
            yield suite(technique, case.sizes, case.dtype)
        return
    for sizes, dtype in CASES:
        yield suite(technique, sizes, dtype)
    for sizes, variant in RAGGED:
        yield suite(technique, sizes, "float16", variant)


def suite(technique, sizes, dtype, variant=""):
    """Return the suite of one case: speed is what of the pages any kernel must read, over time."""
    kept = decode.LENGTHS[variant](sizes["B"], sizes["S"])
    inputs = random(sizes, dtype, kept)
    there = strewn(on_gpu(inputs), sizes["P"])
    entries = []
    for rung in technique.rungs:
        if rung.kind != "numpy":
            absent = "" if dtype in rung.dtypes else f"takes {' or '.join(rung.dtypes)}"
            if rung.name in LESSONS and ((sizes, dtype) not in LESSON_CASES or variant):
                absent = "a rung for learning, timed at a few shapes alone"
            entries.append(Entry("rung", rung.name, partial(decoded, there, rung.name), absent))
    entries += contiguous_peers(there, kept, bool(variant))
    entries.append(flashinfer_peer(there, kept))
    read = 2 * sizes["G"] * sizes["D"] * int(np.sum(kept)) * inputs["q"].itemsize
    judged = partial(judge, inputs)
    return Suite("paged", sizes, dtype, False, decode.work(sizes, kept), tuple(entries), judged, variant, read)


def random(sizes, dtype, lengths):
    """Return random q (B, H, D), k and v (S, G, D) of the first sequence, a shuffled page table, and the lengths."""
    B, H, G, S, P, D = (sizes[letter] for letter in "BHGSPD")
    generator = np.random.default_rng(0)
    shapes = (B, H, D), (S, G, D), (S, G, D)
    arrays = {name: generator.standard_normal(shape, np.float32).astype(dtype) for name, shape in zip("qkv", shapes)}
    max_pages = -(-S // P)
    page_table = generator.permutation(B * max_pages).astype(np.int32).reshape(B, max_pages)
    return {**arrays, "page_table": page_table, "lengths": np.asarray(lengths, np.int32)}


def strewn(inputs, P):
    """Return q, pages, page table and lengths where the inputs live."""
    q, k, v, page_table, lengths = inputs.values()
    k_pages, v_pages = (pool(x, page_table, range(len(page_table)), P) for x in (k, v))
    return {"q": q, "k_pages": k_pages, "v_pages": v_pages, "page_table": page_table, "lengths": lengths}


def pool(x, page_table, sequences, P):
    """Return a pool in whose pages some sequences lie: the first one's tokens `x` (S, G, D), moved on by some places.

    Rows of `page_table` are the sequences'; the last page of each is filled up from the beginning.
    """
    (S, G, D), max_pages = x.shape, page_table.shape[1]
    pages, whole = np.empty_like(x, shape=(page_table.size, P, G, D)), np.arange(max_pages * P, like=x) % S
    for row, b in zip(page_table, sequences, strict=True):
        pages[row] = np.roll(x, 97 * b, axis=0)[whole].reshape(max_pages, P, G, D)
    return pages


def decoded(there, rung):
    """Return the outputs of one rung."""
    return {"o": paged.decode(**there, rung=rung)}


def contiguous_peers(there, lengths, masked):
    """Return torch's backends on a cache without pages: what paging is to cost nothing against."""
    try:
        import_module("torch")  # a peer, not a dependency
    except ImportError:
        return decode.peers({}, lengths, masked)
    B, max_pages = there["page_table"].shape
    cache = {}
    for name, pages in (("k", there["k_pages"]), ("v", there["v_pages"])):
        _, P, G, D = pages.shape
        x = pages[there["page_table"]].reshape(B, max_pages * P, G, D)[:, : int(np.max(lengths))]
        cache[name] = x.swapaxes(1, 2).copy(order="C")
    return decode.peers({"q": there["q"], **cache}, lengths, masked)


def flashinfer_peer(there, lengths):
    """Return flashinfer's decoding from the same pages."""
    name = "flashinfer paged"
    try:
        flashinfer, torch = import_module("flashinfer"), import_module("torch")  # peers, not dependencies
    except ImportError as error:
        return Entry("peer", name, None, f"{error.name} is not installed")
    try:
        return Entry("peer", name, planned(flashinfer, torch, there, lengths))
    except Exception as error:  # a version with another interface, or a dtype or shape that it does not take
        return Entry("peer", name, None, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")


def planned(flashinfer, torch, there, lengths):
    """Return flashinfer's decoding with its plan made: a function without arguments."""
    q, k_pages, v_pages = (torch.from_dlpack(there[name]) for name in ("q", "k_pages", "v_pages"))
    P, G, D = k_pages.shape[1:]
    counts = -(-np.asarray(lengths) // P)
    table = launch.to_numpy(there["page_table"])
    indices = np.concatenate([row[:n] for row, n in zip(table, counts, strict=True)])
    last = np.asarray(lengths) - (counts - 1) * P
    numbers = [torch.from_numpy(x.astype(np.int32)).cuda() for x in (np.cumsum([0, *counts]), indices, last)]
    workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    share = q.shape[1] // G
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=share > 1)
    wrapper.plan(*numbers, q.shape[1], G, D, P, q_data_type=q.dtype, kv_data_type=k_pages.dtype)
    return lambda: {"o": launch.to_cupy(wrapper.run(q, (k_pages, v_pages)))}


def judge(inputs, outputs):
    """Return verdicts on the first and last heads of the first and last sequences; a NaN anywhere in o fails too."""
    o = launch.to_numpy(outputs["o"])
    q, k, v, page_table, lengths = inputs.values()
    (B, H, D), (S, G, _) = q.shape, k.shape
    share, verdicts = H // G, []
    one_page = np.zeros((1, 1), np.int32)  # of S tokens: what the oracle is told needs no pages
    for b in sorted({0, B - 1}):
        for g in sorted({0, G - 1}):
            heads, one = slice(g * share, (g + 1) * share), slice(b, b + 1)
            pages = (pool(x[:, g : g + 1], one_page, [b], S) for x in (k, v))
            part = q[one, heads], *pages, one_page, lengths[one]
            verdicts += reference.judge(o[one, heads], *part, D**-0.5).values()
    sums = o.sum(axis=-1, dtype=np.float32)
    zeros = np.zeros_like(sums)
    return [*verdicts, check(np.where(np.isfinite(sums), zeros, sums), zeros, zeros, name="sum of o over D")]
