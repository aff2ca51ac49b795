"""What is timed of block-sparse attention: densities, rungs, peers, and the speed-up that a density buys."""

from functools import cache, lru_cache, partial
from importlib import import_module

import numpy as np

from minikernels import block_sparse, launch
from minikernels.bench.recorded import recordings
from minikernels.bench.sdpa import scaled_dot_product_attention
from minikernels.bench.suite import Entry, Suite, on_gpu
from minikernels.block_sparse import patterns, reference, traffic
from minikernels.block_sparse.api import ATTENTION
from minikernels.block_sparse.lists import reach
from minikernels.block_sparse.raw_wgmma import sorted_lists
from minikernels.core.oracle import check

__all__ = ["speedups", "suites", "table", "with_speedups"]

LONG = {"B": 1, "H": 16, "G": 16, "T": 16_384, "S": 16_384, "D": 128, "R": 128, "C": 128}
TEACHING = {**LONG, "H": 4, "G": 4, "T": 2048, "S": 2048, "D": 64}
DENSITIES = (0.25, 0.1, 0.5, 1.0)  # the first is the case that the ladder's table shows
CASES = [(LONG, "float16", False, density) for density in DENSITIES] + [(LONG, "float16", True, 0.25)]
CASES += [(TEACHING, dtype, False, density) for dtype in ("float32", "float16") for density in (0.25, 1.0)]
FLEX, DENSE = "FlexAttention", "SDPA flash, dense"
SAMPLED = 2  # block rows of the first and of the last head at which outputs are held to the oracle


def suites(technique, shapes=None):
    """Yield the suites; of the given cases alone where there are some, at all densities."""
    if shapes is None:
        chosen = CASES
    else:
        blocks = {"R": 128, "C": 128}
        chosen = [({**blocks, **case.sizes}, case.dtype, case.causal, density) for case in shapes
                  for density in DENSITIES]
    for case in chosen:
        yield suite(technique, *case)


def suite(technique, sizes, dtype, causal, density):
    """Return the suite of one case; the work is that of the cells which are seen, for dense attention too."""
    inputs = random(sizes, dtype, causal, density)
    there = on_gpu(inputs)
    B, H, T, S, D = (sizes[letter] for letter in "BHTSD")
    flop = traffic.work(B, H, T, S, D, inputs["mask"], inputs["block"], causal)
    entries = []
    for rung in technique.rungs:
        if rung.kind != "numpy":
            absent = "" if dtype in rung.dtypes else f"takes {' or '.join(rung.dtypes)}"
            if rung.kind == "numba" and T > 4096 and (density, causal) != (DENSITIES[0], False):
                absent = "a rung for learning, timed at one density alone"
            entries.append(Entry("rung", rung.name, ours(rung, there), absent))
    entries += peers(there, dtype)
    judged, variant = partial(judge, inputs, cache(partial(sample, inputs))), f"density {density:g}"
    return Suite(technique.name, sizes, dtype, causal, flop, tuple(entries), judged, variant)


def random(sizes, dtype, causal, density):
    """Return random q, k and v, and the mask of a density for every head; each row keeps as many blocks."""
    B, H, G, T, S, D = (sizes[letter] for letter in "BHGTSD")
    block = sizes["R"], sizes["C"]
    q, k, v = drawn((B, H, T, D), (B, G, S, D), dtype)
    mask = patterns.random(T, S, block=block, density=density, heads=H)
    return {"q": q, "k": k, "v": v, "mask": mask, "block": block, "causal": causal}


@lru_cache(maxsize=1)
def drawn(queries, keys, dtype):
    """Return q, k and v of these shapes, which are the same at all densities."""
    generator = np.random.default_rng(0)
    return tuple(generator.standard_normal(shape, np.float32).astype(dtype) for shape in (queries, keys, keys))


def ours(rung, there):
    """Return a function that runs a rung; raw rungs are handed their lists, as FlexAttention is its block mask."""
    if rung.kind == "numba":
        return lambda: outputs(block_sparse.attention(**there, return_lse=True, rung=rung.name))
    q, k, v, mask, block, causal = there.values()
    if rung.name == "v7_wgmma":
        made = cache(partial(sorted_lists, q, k, mask, block, causal))
    else:
        made = cache(partial(block_sparse.block_lists, mask, q.shape[2], k.shape[2], block, causal))
    run = ATTENTION.function(rung.name)
    return lambda: outputs(run(q, k, v, mask, block, causal, q.shape[3] ** -0.5, made()))


def outputs(pair):
    """Return o and lse by name."""
    return dict(zip(("o", "lse"), pair, strict=True))


def peers(there, dtype):
    """Return entries for FlexAttention over the same blocks, compiled, and for dense attention over all of them."""
    try:
        torch = import_module("torch")  # a peer, not a dependency
        flex = import_module("torch.nn.attention.flex_attention")
    except ImportError as error:
        return [Entry("peer", name, None, f"{error.name} is not installed") for name in (FLEX, DENSE)]
    q, k, v = (torch.from_dlpack(there[name]) for name in "qkv")
    causal, shared = there["causal"], q.shape[1] != k.shape[1]

    @cache
    def compiled():
        blocks = block_mask(torch, flex, there)
        return partial(torch.compile(flex.flex_attention), block_mask=blocks, enable_gqa=shared)

    def dense():
        return scaled_dot_product_attention(torch, "FLASH_ATTENTION", q, k, v, causal)

    return [
        Entry("peer", FLEX, lambda: {"o": launch.to_cupy(compiled()(q, k, v))}),
        Entry("peer", DENSE, lambda: {"dense": launch.to_cupy(dense())}, "" if dtype == "float16" else "takes float16"),
    ]


def block_mask(torch, flex, there):
    """Return the mask as FlexAttention takes it: the same full and partial blocks that our lists have."""
    mask, (R, C), (T, S) = there["mask"], there["block"], (there["q"].shape[2], there["k"].shape[2])
    seen, whole = reach(mask, T, S, (R, C), there["causal"])
    full, partly = (
        [torch.from_dlpack(x.astype(np.int32)) for x in (np.sum(kept, axis=3), np.argsort(~kept, axis=3))]
        for kept in (mask & whole, mask & seen & ~whole))
    below = S - T if there["causal"] else S
    return flex.BlockMask.from_kv_blocks(*partly, *full, BLOCK_SIZE=(R, C), seq_lengths=(T, S),
                                         mask_mod=lambda b, h, t, s: s <= t + below)


def judge(inputs, sampled, found):
    """Return verdicts on some block rows of the first and of the last head; a NaN anywhere in o fails too.

    ``sampled(b, h, i)`` is `sample` of the inputs, which all kernels share.

    Dense attention is another function, timed for comparison: there only the latter is looked at.
    """
    if "dense" in found:
        return [finite(launch.to_numpy(found["dense"]))]
    o = launch.to_numpy(found["o"])
    lse = launch.to_numpy(found["lse"]) if "lse" in found else None
    verdicts = []
    for b, h, i in places(inputs):
        exact, rough, rows = sampled(b, h, i)
        given = {"magnitude": float(np.max(np.abs(inputs["v"]))), "letters": "BHTD"}
        verdicts.append(check(o[b : b + 1, h : h + 1, rows], exact[0], rough[0], **given))
        if lse is not None:
            verdicts.append(check(lse[b : b + 1, h : h + 1, rows], exact[1], rough[1], name="lse", letters="BHT"))
    return [*verdicts, finite(o)]


def finite(o):
    """Return the verdict on whether every number is one."""
    sums = o.sum(axis=-1, dtype=np.float32)
    zeros = np.zeros_like(sums)
    return check(np.where(np.isfinite(sums), zeros, sums), zeros, zeros, name="sum of o over D")


def places(inputs):
    """Return which block rows are judged: the first and last of the first and of the last head."""
    B, H, NR = (*inputs["q"].shape[:2], inputs["mask"].shape[2])
    rows = sorted({0, NR - 1})[:SAMPLED]
    return [(b, h, i) for b, h in dict.fromkeys([(0, 0), (B - 1, H - 1)]) for i in rows]


def sample(inputs, b, h, i):
    """Return the oracle's and plain NumPy's o and lse of one block row, and which rows it has.

    Its rows are the last of attention over the keys that its last row sees.
    """
    q, k, v, mask, (R, C), causal = inputs.values()
    T, S, g = q.shape[2], k.shape[2], h // (q.shape[1] // k.shape[1])
    rows = slice(i * R, min(i * R + R, T))
    seen = max(0, min(S, rows.stop + S - T)) if causal else S
    columns = slice(0, -(-seen // C))
    plane = mask[b % len(mask), h % mask.shape[1], i, columns][None, None, None]
    part = q[b : b + 1, h : h + 1, rows], k[b : b + 1, g : g + 1, :seen], v[b : b + 1, g : g + 1, :seen]
    given = *part, plane, (R, C), causal, q.shape[3] ** -0.5
    return reference.attention(*given), reference.plain(*given), rows


def speedups(recording, causal=False):
    """Return what densities buy on a recorded GPU: {kernel: {density: speed-up over density 1, divided by 1/density}}.

    1 is all that there is to gain. Kernels that were not timed at density 1 in the same shape are left out.

    Parameters
    ----------
    recording : minikernels.bench.recorded.Recording
    causal : bool
        Which of the cases; they are those of the longest sequence.
    """
    return {name: {density: each[1.0].ms / result.ms * density for density, result in each.items()}
            for name, each in timed(recording, causal).items()}


def timed(recording, causal=False):
    """Return what `speedups` compares: {kernel: {density: its Result}}."""
    found = {}
    for result in recording.results:
        sizes, dtype, masked, variant = result.case
        if result.technique == "block_sparse" and masked == causal:
            density = float(variant.removeprefix("density "))
            found.setdefault((dict(sizes)["T"], sizes, dtype, result.name), {})[density] = result
    longest = max((T for T, *_ in found), default=0)
    return {name: dict(sorted(each.items()))
            for (T, *_, name), each in found.items() if T == longest and 1.0 in each}


def table():
    """Return the Markdown table of what densities buy: the share of 1/density that each kernel gets, and its speed."""
    lines = []
    for recording in recordings():
        found = speedups(recording)
        if found:
            results = timed(recording)
            densities = sorted({density for by_density in found.values() for density in by_density})
            lines += [row([recording.gpu, *(f"density {density:g}" for density in densities)])]
            lines += [row(["---", *["---:"] * len(densities)])]
            for name, by_density in found.items():
                lines.append(row([f"`{name}`" if name in ATTENTION else name, *(
                    f"{by_density[density]:.2f}, {results[name][density].tflops:.0f} TFLOP/s"
                    if density in by_density else "" for density in densities)]))
            lines.append("")
    return "\n".join(lines).rstrip() or "No time at density 1 is recorded yet, nor the gain against it."


def row(cells):
    """Return one line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def with_speedups(readme):
    """Return a README with the table between its two marks; one without marks as it is."""
    before, begin, rest = readme.partition("<!-- speedup:begin -->")
    _, end, after = rest.partition("<!-- speedup:end -->")
    return f"{before}{begin}\n{table()}\n{end}{after}" if begin and end else readme
