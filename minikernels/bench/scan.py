"""What is timed of the selective scan: cases, rungs, peers, the check before the clock, time per token against T."""

import os
import time
from collections import defaultdict
from dataclasses import replace
from functools import cached_property, partial
from importlib import import_module

import numpy as np

from minikernels import catalog, flash, launch, selective_scan
from minikernels.bench import attention
from minikernels.bench.suite import Entry, Suite, on_gpu
from minikernels.core.oracle import check
from minikernels.selective_scan import reference, traffic

__all__ = ["per_token", "suites", "token_us"]

BATCH = {"B": 8, "T": 2048, "E": 2048, "N": 16}
LONG = {**BATCH, "B": 1, "T": 16_384}  # one sequence: its channels alone are 64 blocks
TEACHING = {"B": 1, "T": 1024, "E": 256, "N": 16}
CASES = [(sizes, dtype) for sizes in (BATCH, LONG) for dtype in ("float16", "float32")] + [(TEACHING, "float32")]
LENGTHS = tuple(1024 * 2**k for k in range(9))  # 1k to 256k tokens of one sequence
ATTENTION = {"B": 1, "H": 16, "G": 16, "D": 64}  # of a model as wide as one whose Mamba layers have E = 2048
LONGEST_ATTENTION = 65_536  # tokens; a layer takes seconds beyond
SERIES = "per token against T"  # the variant of what is timed for it
LESSONS = ("v3_hillis_steele", "v4_blelloch")  # timed at the first sizes alone
PERIOD = 4096  # tokens after which a long input repeats
SAMPLED = 4  # channels at either end that are held to the oracle


def suites(technique, shapes=None):
    """Yield the suites of the scan, then those of time per token; of the given cases alone where there are some."""
    if shapes is not None:
        for case in shapes:
            yield suite(technique, case.sizes, case.dtype)
        return
    for sizes, dtype in CASES:
        yield suite(technique, sizes, dtype)
    for T in LENGTHS:
        whole = suite(technique, {**LONG, "T": T}, "float16")
        raw = {rung.name for rung in technique.rungs if rung.kind == "raw"}
        kept = [entry for entry in whole.entries if entry.kind == "peer" or entry.name in raw]
        yield replace(whole, entries=tuple(kept), variant=SERIES)
        if T <= LONGEST_ATTENTION:
            yield attention_suite(T)


def suite(technique, sizes, dtype):
    """Return the suite of one case: softplus, bias and direct share, no gates; speed is the least bytes over time."""
    inputs = random(sizes, dtype)
    there = on_gpu(inputs)
    entries = []
    for rung in technique.rungs:
        if rung.kind != "numpy":
            absent = "" if dtype in rung.dtypes else f"takes {' or '.join(rung.dtypes)}"
            if rung.name in LESSONS and sizes not in (BATCH, TEACHING):
                absent = "a rung for learning, timed at two shapes alone"
            given = channel_major(there) if rung.name == "v1_channel_major" else there
            entries.append(Entry("rung", rung.name, partial(scanned, given, rung.name), absent))
    entries += [mamba(there), jax_scan(there), *([] if sizes != TEACHING else [torch_loop(there)])]
    moved = traffic.least_bytes(**sizes, itemsize=inputs["u"].itemsize, gated=False)
    judge = Samples(inputs).judge
    return Suite("selective_scan", sizes, dtype, False, traffic.flop(**sizes), tuple(entries), judge, bytes=moved)


def random(sizes, dtype):
    """Return random inputs of a case, spread as in a trained model; longer ones repeat after PERIOD tokens."""
    B, T, E, N = (sizes[letter] for letter in "BTEN")
    generator = np.random.default_rng(0)

    def tokens(width):
        x = generator.standard_normal((B, min(T, PERIOD), width), np.float32).astype(dtype)
        return np.concatenate([x] * -(-T // PERIOD), axis=1)[:, :T] if T > PERIOD else x

    inputs = {"u": tokens(E), "delta": tokens(E), "b": tokens(N), "c": tokens(N)}
    inputs["a"] = -np.exp(generator.uniform(-1, 3, (E, N))).astype(np.float32)
    inputs["d"] = generator.standard_normal(E, np.float32)
    return inputs | {"delta_bias": generator.uniform(-6, -1, E).astype(np.float32)}


def scanned(there, rung):
    """Return the outputs of one rung."""
    o, state = selective_scan.scan(**there, delta_softplus=True, return_state=True, rung=rung)
    return {"o": o, "state": state}


def channel_major(there):
    """Return the inputs with u and delta in memory as (B, E, T): v1 wants them so, and copies nothing."""
    return there | {name: there[name].swapaxes(1, 2).copy(order="C").swapaxes(1, 2) for name in ("u", "delta")}


def mamba(there):
    """Return the Entry of mamba_ssm's kernel, which takes u and delta as (B, E, T) and b and c as (B, N, T)."""
    try:
        torch = import_module("torch")  # a peer, not a dependency
        function = import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except ImportError as error:
        return Entry("peer", "mamba_ssm", None, f"mamba_ssm cannot be imported: {error}")
    tensors = {name: torch.from_dlpack(x) for name, x in there.items()}
    swapped = {name: tensors[name].transpose(1, 2).contiguous() for name in ("u", "delta", "b", "c")}
    arguments = swapped["u"], swapped["delta"], tensors["a"], swapped["b"], swapped["c"]
    options = {"D": tensors["d"], "delta_bias": tensors["delta_bias"]}

    def run():
        o, state = function(*arguments, **options, delta_softplus=True, return_last_state=True)
        return {"o": launch.to_cupy(o).swapaxes(1, 2), "state": launch.to_cupy(state)}

    return Entry("peer", "mamba_ssm", run)


def jax_scan(there):
    """Return the Entry of jax-linear-attention's kernel, which takes bfloat16 and float32."""
    name = "jax-linear-attention"
    if there["u"].dtype != np.float32:
        return Entry("peer", name, None, "takes bfloat16 and float32, and neither is float16")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or JAX takes most of the GPU's memory
    try:
        jax = import_module("jax")  # a peer, not a dependency
        kernel = import_module("jla.ops.mosaic_gpu.mamba1").mamba1
    except ImportError as error:
        return Entry("peer", name, None, f"jax-linear-attention cannot be imported: {error}")

    @jax.jit
    def function(u, delta, a, b, c, d, delta_bias):
        return kernel(c, b, u, delta, a, d=d, dt_bias=delta_bias, dt_softplus=True, output_final_state=True)

    def run():  # arrays change hands at each run, so that JAX's stream waits for CuPy's, and CuPy's for JAX's
        o, state = function(**{name: jax.dlpack.from_dlpack(x) for name, x in there.items()})
        return {"o": launch.to_cupy(o), "state": launch.to_cupy(state)}

    return Entry("peer", name, run)


def torch_loop(there):
    """Return the Entry of the recurrence in torch, a token at a time: what one writes without a kernel."""
    try:
        torch = import_module("torch")
    except ImportError:
        return Entry("peer", "torch, a token at a time", None, "torch is not installed")
    tensors = {name: torch.from_dlpack(x).float() for name, x in there.items()}

    def run():
        u, delta, a, b, c, d, bias = (tensors[name] for name in ("u", "delta", "a", "b", "c", "d", "delta_bias"))
        step = torch.nn.functional.softplus(delta + bias)
        h, outputs = torch.zeros((len(u), *a.shape), device=u.device), []
        for t in range(u.shape[1]):
            h = torch.exp(step[:, t, :, None] * a) * h + (step[:, t] * u[:, t])[:, :, None] * b[:, t, None]
            outputs.append((h * c[:, t, None]).sum(-1))
        o = torch.stack(outputs, 1) + d * u
        return {"o": launch.to_cupy(o).astype(there["u"].dtype), "state": launch.to_cupy(h)}

    return Entry("peer", "torch, a token at a time", run)


def attention_suite(T):
    """Return the suite of causal attention over T tokens in a model of the same width."""
    sizes = {letter: T if letter in "TS" else ATTENTION[letter] for letter in "BHGTSD"}
    whole = attention.forward(catalog.technique("flash"), sizes, "float16", True)
    raw = {rung.name for rung in catalog.technique("flash").rungs if rung.kind == "raw" and rung.dtypes == ("float16",)}
    kept = [e for e in whole.entries if e.name in raw or (e.kind == "peer" and e.name != "SDPA math")]
    return replace(whole, entries=tuple(kept), variant=SERIES)


class Samples:
    """Channels of the last sequence that are held to the oracle over all their tokens: some at either end."""

    def __init__(self, inputs):
        E = inputs["u"].shape[2]
        self.channels = np.unique(np.r_[: min(SAMPLED, E), max(0, E - SAMPLED) : E])
        self.inputs = inputs

    @cached_property
    def expected(self):
        """What the sampled channels should give."""
        part = {name: self.inputs[name][-1:, :, self.channels] for name in ("u", "delta")}
        part |= {name: self.inputs[name][-1:] for name in "bc"}
        part |= {name: self.inputs[name][self.channels] for name in ("a", "d", "delta_bias")}
        return reference.expected(**part, delta_softplus=True)

    def judge(self, outputs):
        """Return verdicts on the sampled channels; a NaN anywhere in o or the state fails too."""
        o, state = outputs["o"][-1:, :, self.channels], outputs["state"][-1:, self.channels]
        verdicts = [*self.expected.judge(launch.to_numpy(o), launch.to_numpy(state)).values()]
        for name, x in outputs.items():
            sums = launch.to_numpy(x.sum(axis=-1, dtype=np.float32))
            zeros = np.zeros_like(sums)
            verdicts.append(check(np.where(np.isfinite(sums), zeros, sums), zeros, zeros, name=f"sum of {name}"))
        return verdicts


def per_token(recording):
    """Return a GPU's recorded microseconds per token against T: {name: [(T, us), ...]}, of scans and of attention.

    Parameters
    ----------
    recording : minikernels.bench.recorded.Recording
        What one GPU measured.
    """
    series = defaultdict(list)
    for result in recording.results:
        if result.case[3] == SERIES:
            T = dict(result.case[0])["T"]
            series[result.name].append((T, 1000 * result.ms / T))
    return {name: sorted(points) for name, points in series.items()}


def token_us(lengths, E=256, N=16, H=8, D=16, runs=3):
    """Return microseconds per token of the NumPy rungs on this machine, against T: {"scan": [...], "attention": [...]}.

    Parameters
    ----------
    lengths : sequence of int
        Tokens.
    E, N : int
        Channels and states of the scan.
    H, D : int
        Heads and width of causal attention; H * D = E / 2 is as wide a model.
    runs : int
        Repeats, of which the fastest counts.
    """
    times = {"scan": [], "attention": []}
    for T in lengths:
        inputs = random({"B": 1, "T": T, "E": E, "N": N}, "float32")
        q, k, v = np.random.default_rng(0).standard_normal((3, 1, H, T, D), np.float32)
        times["scan"].append(best_us(lambda x=inputs: selective_scan.scan(**x, delta_softplus=True), runs) / T)
        times["attention"].append(best_us(lambda x=(q, k, v): flash.attention(*x, causal=True), runs) / T)
    return times


def best_us(function, runs):
    """Return the shortest of some runs."""
    took = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        took.append(1e6 * (time.perf_counter() - start))
    return min(took)
