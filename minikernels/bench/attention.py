"""What is timed of softmax attention, forward and backward: cases, rungs, peers, and the check before the clock."""

import math
from functools import cached_property, partial
from importlib import import_module

import numpy as np

from minikernels import flash, launch
from minikernels.bench.sdpa import peers
from minikernels.bench.suite import Entry, Suite, on_gpu
from minikernels.core.oracle import check
from minikernels.flash import api, reference

__all__ = ["suites"]

TEACHING = {"B": 1, "H": 4, "G": 4, "T": 1024, "S": 1024, "D": 64}
LONG_64 = {"B": 4, "H": 16, "G": 16, "T": 4096, "S": 4096, "D": 64}
LONG_128 = {**LONG_64, "D": 128}
SHARED_HEADS = {**LONG_128, "H": 32, "G": 8}
LONGEST = {**LONG_128, "B": 1, "T": 16_384, "S": 16_384}
FORWARD = [(LONG_64, dtype, causal) for causal in (False, True) for dtype in ("float32", "float16")]
FORWARD += [(LONG_128, dtype, causal) for causal in (False, True) for dtype in ("float32", "float16")]
FORWARD += [(SHARED_HEADS, "float16", True), (TEACHING, "float32", True), (TEACHING, "float16", True)]
FORWARD += [(LONGEST, "float16", causal) for causal in (False, True)]
MEDIUM = {**LONG_64, "T": 2048, "S": 2048}  # the oracle's gradients take all rows of a head
MEDIUM_128 = {**MEDIUM, "D": 128}
BACKWARD = [(MEDIUM, "float32", True), (MEDIUM, "float16", True), (MEDIUM, "float16", False)]
BACKWARD += [(MEDIUM_128, "float16", True), (MEDIUM_128, "float16", False), (TEACHING, "float32", True)]
LESSONS = ("v1_three_pass", "v2_tiled", "v2_keys_outside")  # timed at D=64 alone
SAMPLED_ROWS = 32  # at the start, in the middle and at the end of a head
SAMPLED_WORK = 2**26  # scores that the oracle computes for one sample


def suites(technique, shapes=None):
    """Yield the suites of attention forward, then backward; of the given cases alone where there are some."""
    chosen = None if shapes is None else [(case.sizes, case.dtype, case.causal) for case in shapes]
    for case in FORWARD if chosen is None else chosen:
        yield forward(technique, *case)
    for case in BACKWARD if chosen is None else chosen:
        yield backward(technique, *case)


def work(sizes, causal):
    """Return the FLOP of the forward pass: 4*B*H*T*S*D, half of it under a causal mask."""
    B, H, T, S, D = (sizes[letter] for letter in "BHTSD")
    return 4 * B * H * T * S * D // (2 if causal else 1)


def forward(technique, sizes, dtype, causal):
    """Return the suite of one forward case."""
    inputs = technique.random(sizes, dtype, causal=causal)
    there = on_gpu(inputs)
    lessons_here = sizes["D"] == 64
    entries = []
    for rung in technique.rungs:
        if rung.kind != "numpy":
            absent = "" if dtype in rung.dtypes else f"takes {' or '.join(rung.dtypes)}"
            if rung.name in LESSONS and not lessons_here:
                absent = "a rung for learning, timed at D=64"
            entries.append(Entry("rung", rung.name, partial(technique.run, rung, there), absent))
    entries += peers(lambda sdpa, q, k, v: partial(forward_peer, sdpa, q, k, v, causal), there)
    return Suite("flash", sizes, dtype, causal, work(sizes, causal), tuple(entries), Samples(inputs).judge)


def backward(technique, sizes, dtype, causal):
    """Return the suite of one backward case: 2.5 times the work of the forward pass."""
    inputs = technique.random(sizes, dtype, causal=causal)
    inputs["do"] = np.random.default_rng(1).standard_normal(inputs["q"].shape).astype(dtype)
    there = on_gpu(inputs)
    q, k, v, do = (there[name] for name in ("q", "k", "v", "do"))
    o, lse = flash.attention(q, k, v, causal=causal, return_lse=True)
    entries = []
    for rung in api.BACKWARD.of_kind("numba", "raw"):
        ours = partial(backward_rung, rung, q, k, v, o, lse, do, causal)
        raw = api.BACKWARD.kind(rung) == "raw"
        entries.append(Entry("rung", rung, ours, "takes float16" if raw and dtype != "float16" else ""))
    entries += peers(lambda sdpa, *qkv: backward_peer(sdpa, qkv, do, causal), there)
    flop = work(sizes, causal) * 5 // 2
    judge = partial(judge_backward, inputs)
    return Suite("flash", sizes, dtype, causal, flop, tuple(entries), judge, variant="backward")


def backward_rung(rung, q, k, v, o, lse, do, causal):
    """Return the gradients by one rung."""
    grads = flash.attention_backward(q, k, v, o, lse, do, causal=causal, rung=rung)
    return dict(zip(("dq", "dk", "dv"), grads, strict=True))


def forward_peer(sdpa, q, k, v, causal):
    """Return the outputs of a production kernel."""
    return {"o": launch.to_cupy(sdpa(q, k, v, causal))}


def backward_peer(sdpa, qkv, do, causal):
    """Return a function that computes the gradients by a production kernel; its forward pass is run here, untimed."""
    torch = import_module("torch")
    leaves = [x.detach().requires_grad_() for x in qkv]
    o, upstream = sdpa(*leaves, causal), torch.from_dlpack(do)

    def run():
        grads = torch.autograd.grad(o, leaves, upstream, retain_graph=True)
        return {name: launch.to_cupy(x) for name, x in zip(("dq", "dk", "dv"), grads, strict=True)}

    return run


class Samples:
    """Rows of the first and the last sequence at which outputs are held to the oracle.

    Rows t .. t + n of causal attention are the last n rows of attention over the keys that row t + n - 1 sees.
    """

    def __init__(self, inputs):
        self.inputs = inputs
        (B, H, T, _), S = inputs["q"].shape, inputs["k"].shape[2]
        rows = min(SAMPLED_ROWS, T, max(1, SAMPLED_WORK // (H * S)))
        starts = sorted({0, (T - rows) // 2, T - rows})
        self.places = [(b, slice(t, t + rows)) for b in sorted({0, B - 1}) for t in starts]

    @cached_property
    def expected(self):
        """(exact, plain) outputs o and lse of every sample."""
        return [self.sample(b, rows) for b, rows in self.places]

    def sample(self, b, rows):
        """Return the oracle's and plain NumPy's outputs at some rows of one sequence."""
        q, k, v = (self.inputs[name][b : b + 1] for name in "qkv")
        causal, scale = self.inputs["causal"], q.shape[3] ** -0.5
        seen = max(0, rows.stop + k.shape[2] - q.shape[2]) if causal else k.shape[2]
        part = q[:, :, rows], k[:, :, :seen], v[:, :, :seen], causal, scale
        return (*reference.attention(*part), *reference.plain(*part))

    def judge(self, outputs):
        """Return verdicts on every sample of o, and of lse where there is one; a NaN anywhere in o fails too."""
        o = launch.to_numpy(outputs["o"])
        lse = launch.to_numpy(outputs["lse"]) if "lse" in outputs else None
        size = float(np.max(np.abs(self.inputs["v"])))
        verdicts = []
        for (b, rows), (exact, exact_lse, rough, rough_lse) in zip(self.places, self.expected, strict=True):
            verdicts.append(check(o[b : b + 1, :, rows], exact, rough, letters="BHTD", magnitude=size))
            if lse is not None:
                verdicts.append(check(lse[b : b + 1, :, rows], exact_lse, rough_lse, name="lse", letters="BHT"))
        row_sums = o.sum(axis=-1, dtype=np.float32)
        zeros = np.zeros_like(row_sums)
        verdicts.append(check(np.where(np.isfinite(row_sums), zeros, row_sums), zeros, zeros, name="sum of o over D"))
        return verdicts


def judge_backward(inputs, outputs):
    """Return verdicts on the gradients of the last key/value head of the last sequence, all rows."""
    share = inputs["q"].shape[1] // inputs["k"].shape[1]
    q, do = (inputs[name][-1:, -share:] for name in ("q", "do"))
    k, v = (inputs[name][-1:, -1:] for name in "kv")
    last = {"dq": share, "dk": 1, "dv": 1}
    grads = [launch.to_numpy(outputs[name][-1:, -heads:]) for name, heads in last.items()]
    verdicts = reference.judge_backward(*grads, q, k, v, do, inputs["causal"], 1 / math.sqrt(q.shape[3]))
    return list(verdicts.values())
