"""Broken scan kernels must turn a test red: what each slip of the pen does, and how it is found."""

import inspect
import textwrap

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.errors import KernelError
from minikernels.selective_scan import numba_gates, numba_parallel, numba_sequential, reference
from tests.selective_scan_cases import made

SIZES = B, T, E, N = 2, 21, 13, 3
CHUNK, CHANNELS = 8, 8
FLAGS = {"N": N, "SOFTPLUS": True, "SKIP": True, "GATED": True}
GATES = "\n\n".join(textwrap.dedent(inspect.getsource(f.py_func)) for f in (numba_gates.softplus, numba_gates.silu))
HEAD = "import math\n\nfrom minikernels.launch import cuda, device, float32, kernel\n\n"
KERNELS = {  # rung -> (kernel, constants of its text, grid, block)
    "v2_token_major": (numba_sequential.v2_token_major(*FLAGS.values()), FLAGS, (1, B), 32),
    **{rung: (getattr(numba_parallel, rung)(*FLAGS.values(), CHUNK, CHANNELS),
              FLAGS | {"CHUNK": CHUNK, "CHANNELS": CHANNELS, "LEVELS": 3}, (2, B), CHUNK * CHANNELS)
       for rung in ("v3_hillis_steele", "v4_blelloch")},
}


def broken(rung, old, new):
    """Run a rung's kernel with one piece of text replaced; return the oracle's verdicts and the findings."""
    given = made((*SIZES, ""))
    kernel, names, grid, block = KERNELS[rung]
    text = GATES + "\n\n" + textwrap.dedent(inspect.getsource(kernel.py_func))
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {rung}"
    o, last = np.full_like(given["u"], np.nan), np.full_like(given["initial_state"], np.nan)
    order = ("u", "delta", "a", "b", "c", "d", "z", "delta_bias", "initial_state")
    arrays = [given[name] for name in order]
    launch = simt.run_source(HEAD + text.replace(old, new), rung, grid, block, *arrays, o, last, names=names,
                             strict=False)
    return reference.judge(o, last, **given), launch.findings


@pytest.mark.parametrize("rung", KERNELS)
def test_the_kernel_itself_passes(rung):
    verdicts, findings = broken(rung, "bias = delta_bias[e]", "bias = delta_bias[e]")
    assert all(verdicts.values()), verdicts
    assert not findings


@pytest.mark.parametrize(("rung", "old", "new"), [
    ("v2_token_major", "h[n] = state[batch, e, n]", "h[n] = float32(0)"),
    ("v2_token_major", "drive = step * x", "drive = x"),
    ("v2_token_major", "y += skip * x", "y += skip"),
    ("v2_token_major", "step = softplus(step)", "pass"),
    ("v2_token_major", "return x / (float32(1) + math.exp(-x))", "return float32(1) / (float32(1) + math.exp(-x))"),
    ("v3_hillis_steele", "drive += decay * drive_smem[side, earlier, channel]",
     "drive = drive * decay_smem[side, earlier, channel] + drive_smem[side, earlier, channel]"),
    ("v3_hillis_steele", "earlier >= 0", "earlier > 0"),
    ("v3_hillis_steele", "decay = float32(1)  # a", "decay = float32(0)  # a"),
    ("v3_hillis_steele", "h_smem[1 - before, n, channel] = h", "h_smem[1 - before, n, channel] = drive"),
    ("v4_blelloch", "right < CHUNK", "right < CHUNK - 1"),
    ("v4_blelloch", "right += reach", "pass"),
    ("v4_blelloch", "later * drive_smem[right - reach, channel]", "drive_smem[right - reach, channel]"),
    ("v4_blelloch", "token == CHUNK - 1", "token == 0"),
], ids=["state-ignored", "drive-without-step", "skip-without-u", "no-softplus", "sigmoid-for-silu", "order-exchanged",
        "first-token-missed", "padding-forgets", "carry-without-state", "root-missed", "never-down", "decay-missed",
        "wrong-carry"])
def test_a_wrong_kernel_is_wrong(rung, old, new):
    verdicts, _ = broken(rung, old, new)
    assert not all(verdicts.values())


@pytest.mark.parametrize(("rung", "barrier"), [
    ("v3_hillis_steele", "cuda.syncthreads()  # rates and states are written before any thread reads them"),
    ("v3_hillis_steele", "cuda.syncthreads()  # every map is written before another thread composes its own with it"),
    ("v3_hillis_steele", "cuda.syncthreads()  # this level is written before the next one reads it"),
    ("v3_hillis_steele", "cuda.syncthreads()  # the last chunk's states are written before any thread stores them"),
    ("v4_blelloch", "cuda.syncthreads()  # every map is written before another thread composes it"),
    ("v4_blelloch", "cuda.syncthreads()  # this level is written before the next one reads it"),
], ids=lambda value: value.partition("# ")[2][:24].strip().replace(" ", "-") or value)
def test_a_missing_barrier_is_a_race(rung, barrier):
    _, findings = broken(rung, barrier, "pass")
    assert "race" in {finding.kind for finding in findings}


def test_one_side_alone_is_a_race():
    """Hillis and Steele's steps read what the same step overwrites: they need two sides."""
    _, findings = broken("v3_hillis_steele", "decay_smem[1 - side, token, channel] = decay",
                         "decay_smem[side, token, channel] = decay")
    assert {finding.array for finding in findings if finding.kind == "race"} == {"decay_smem"}


@pytest.mark.parametrize("rung", ["v3_hillis_steele", "v4_blelloch"])
def test_an_unguarded_chunk_reads_past_the_end(rung):
    with pytest.raises(KernelError) as caught:
        broken(rung, "here = t < T and e < E", "here = e < E")
    assert caught.value.kind == "out_of_bounds"


def test_states_without_a_start_are_an_uninitialised_read():
    _, findings = broken("v4_blelloch", "h_smem[0, i % N, i // N] = state[batch, top + i // N, i % N]", "pass")
    assert "uninitialised" in {finding.kind for finding in findings}
