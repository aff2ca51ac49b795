"""Broken linear-attention kernels must turn a test red: what each slip of the pen does, and how it is found."""

import inspect
import textwrap

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.errors import KernelError
from minikernels.linear_attention import numba_chunk, numba_recurrent, reference
from tests.linear_attention_cases import made

CASE = (1, 2, 21, 32, "random", True)
D, CHUNK, THREADS = 32, 16, 32
FLAGS = {"GATED": True, "BEGUN": True, "KEPT": True}
V1 = {"D": D, **FLAGS}
V2 = {"D": D, "CHUNK": CHUNK, "THREADS": THREADS, "WIDTH": D + 1, "PARTS": THREADS // CHUNK, **FLAGS}
KERNELS = {"v1_recurrent": (numba_recurrent.v1_recurrent(D, True, True, True), V1),
           "v2_chunk": (numba_chunk.v2_chunk(D, CHUNK, THREADS, True, True, True), V2)}


def broken(rung, old, new):
    """Run a rung's kernel with one piece of text replaced; return the oracle's verdicts and the findings."""
    q, k, v, decay, gate, scale, state = made(CASE)
    kernel, names = KERNELS[rung]
    text = textwrap.dedent(inspect.getsource(kernel.py_func))
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {rung}"
    o, last = np.full_like(q, np.nan), np.full_like(state, np.nan)
    head = "import math\n\nfrom minikernels.launch import cuda, float32, kernel\n\n"
    launch = simt.run_source(head + text.replace(old, new), rung, (2, 1), THREADS, q, k, v, decay, gate,
                             np.float32(scale), state, o, last, names=names, strict=False)
    return reference.judge(o, last, q, k, v, decay, gate, scale, state), launch.findings


@pytest.mark.parametrize("rung", KERNELS)
def test_the_kernel_itself_passes(rung):
    verdicts, findings = broken(rung, "lam = float32(decay[h])", "lam = float32(decay[h])")
    assert all(verdicts.values()) and not findings


@pytest.mark.parametrize(("rung", "old", "new"), [
    ("v1_recurrent", "a * s_reg[i] + ", "s_reg[i] + "),
    ("v1_recurrent", "a = lam * math.exp(float32(gate[b, h, t, i]))", "a = math.exp(float32(gate[b, h, t, i]))"),
    ("v1_recurrent", "gate[b, h, t, i]", "gate[b, h, t, j]"),
    ("v1_recurrent", "acc * scale", "acc"),
    ("v2_chunk", "if t > key:", "if t >= key:"),
    ("v2_chunk", "if t >= key:", "if t > key:"),
    ("v2_chunk", "q_smem[t, j] *= left  # q as", "q_smem[t, j] *= left / a_smem[t, j]  # q as"),
    ("v2_chunk", "k_smem[s, j] *= left  # k as it is left at the chunk's end", "pass"),
    ("v2_chunk", "acc = total_smem[i] * s_reg[i]", "acc = s_reg[i]"),
    ("v2_chunk", "for p in range(PARTS):", "for p in range(1):"),
    ("v2_chunk", "for s in range(t + 1):", "for s in range(t):"),
], ids=["nothing-fades", "decay-forgotten", "wrong-channel", "scale-forgotten", "own-key-faded", "own-key-missed",
        "a-token-late", "keys-not-faded", "state-not-faded", "half-the-channels", "own-value-missed"])
def test_a_wrong_kernel_is_wrong(rung, old, new):
    verdicts, _ = broken(rung, old, new)
    assert not all(verdicts.values())


@pytest.mark.parametrize("barrier", [
    "cuda.syncthreads()  # the chunk is written before any thread reads it",
    "cuda.syncthreads()  # every thread is done with the raw q and k, and its dot products are written",
    "cuda.syncthreads()  # scores, faded q and k are written before any thread reads them",
    "cuda.syncthreads()  # every thread is done with the chunk before the next one overwrites it",
], ids=["chunk", "parts", "scores", "reuse"])
def test_a_missing_barrier_is_a_race(barrier):
    _, findings = broken("v2_chunk", barrier, "pass")
    assert [finding for finding in findings if finding.kind == "race"]


def test_an_unguarded_last_chunk_reads_past_the_sequence():
    with pytest.raises(KernelError) as caught:
        broken("v2_chunk", "rows = min(CHUNK, T - first)", "rows = CHUNK")
    assert caught.value.kind == "out_of_bounds"


def test_a_sum_without_a_start_is_an_uninitialised_read():
    _, findings = broken("v2_chunk", "dot[t] = float32(0)", "pass")
    assert {"uninitialised"} <= {finding.kind for finding in findings}
