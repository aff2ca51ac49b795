"""A bank of broken kernels, each found for what it is, and of right ones that raise no alarm."""

import inspect
import re

import numpy as np
import pytest

from minikernels import simt
from minikernels.launch import cuda
from minikernels.simt.findings import KINDS, STOPPING
from tests.simt_bank.broken import BROKEN
from tests.simt_bank.right import RIGHT


def marked(function, number):
    """Return the lines of a kernel that carry ``# number``."""
    lines, first = inspect.getsourcelines(getattr(function, "py_func", function))
    return [first + k for k, line in enumerate(lines) if re.search(rf"# [\d ]*{number}", line)]


def findings_of(case, **options):
    try:
        return simt.run(case.kernel, case.grid, case.block, *case.arguments(), shared_bytes=case.shared_bytes,
                        **options).findings
    except simt.KernelError as error:
        assert error.finding is not None, error
        return [error.finding]


@pytest.mark.parametrize("case", BROKEN, ids=lambda c: c.name)
def test_broken_kernel_is_found(case):
    findings = findings_of(case)
    assert findings, "no finding"
    assert {f.kind for f in findings} == {case.kind}
    found = findings[0]
    if case.array:
        assert found.array == case.array
    if case.index is not None:
        assert found.index == case.index
    if case.threads:
        assert tuple((b[0], t[0] if np.ndim(case.block) == 0 else t[1]) for b, t in found.threads) == case.threads
    assert case.says in found.message
    first, second = (marked(case.device or case.kernel, 1), marked(case.kernel, 2))
    assert list(found.lines[:1]) == first[:1]
    if case.kind == "race":
        assert list(found.lines[1:]) == second[:1]
        assert len(found.threads) == 2


@pytest.mark.parametrize("case", BROKEN, ids=lambda c: c.name)
def test_finding_is_a_sentence_with_lines_and_no_jargon(case):
    found = findings_of(case)[0]
    assert found.kind in KINDS
    assert str(found).startswith(f"{found.kind}: ")
    assert 40 < len(found.message) < 330
    assert "shadow" not in found.message and "epoch" not in found.message
    for line in found.lines:
        assert f"line {line}" in found.message
    if found.array and found.index and found.kind != "out_of_bounds":
        assert f"{found.array}[{', '.join(map(str, found.index))}]" in found.message


@pytest.mark.parametrize("case", BROKEN, ids=lambda c: c.name)
def test_strict_launch_raises_on_the_first_finding_but_float64(case):
    arguments = case.arguments()
    if case.kind == "float64":
        simt.run(case.kernel, case.grid, case.block, *arguments, strict=True)
        return
    with pytest.raises(simt.KernelError) as raised:
        simt.run(case.kernel, case.grid, case.block, *arguments, shared_bytes=case.shared_bytes, strict=True)
    assert raised.value.kind == raised.value.finding.kind == case.kind


def two_axes(x, out):
    i, j = cuda.grid(2)
    out[i, j] = x[j, i]
    x[i, j] = out[i, j]


def test_threads_of_a_two_axis_block_are_named_by_both_axes():
    found = simt.run(two_axes, 1, (8, 8), np.arange(64.0).reshape(8, 8), np.zeros((8, 8))).findings
    assert re.match(r"thread \(\d, \d\) reads x\[\d, \d\] in line \d+ and thread \(\d, \d\) of block 0 writes it",
                    found[0].message), found[0].message
    assert found[0].threads[0][1] != found[0].threads[1][1]


def test_bank_is_large_and_covers_every_kind():
    assert len(BROKEN) >= 40 and len(RIGHT) >= 30
    assert {c.kind for c in BROKEN} == set(KINDS)
    assert set(STOPPING) < set(KINDS)


@pytest.mark.parametrize("case", RIGHT, ids=lambda c: c.name)
def test_right_kernel_has_no_finding_and_the_right_result(case):
    arguments = case.arguments()
    wanted = case.wanted(*[a.copy() if isinstance(a, np.ndarray) else a for a in arguments])
    launch = simt.run(case.kernel, case.grid, case.block, *arguments, shared_bytes=case.shared_bytes)
    assert [str(f) for f in launch.findings] == []
    result = arguments[case.result]
    np.testing.assert_allclose(result, np.asarray(wanted).reshape(result.shape), rtol=2e-5, atol=1e-5)


MAPS = ("i", "63 - i", "i ^ 1", "i ^ 32", "i // 2", "(i * 5) % 64", "i % 32", "(i + 1) % 64", "3", "i ^ 7")
GUARDS = ("True", "i < 32", "i >= 32", "i % 2 == 0", "i == 5", "i < 40", "i == 32 or i == 33")


def random_accesses(rng):
    """Return (kernel text, whether two of its accesses race by the definition)."""
    lines, accesses, epoch, warp_epoch = [], [], 0, [0, 0]
    for step in range(rng.integers(2, 9)):
        kind = rng.choice(["write", "read", "write", "read", "atomic", "barrier", "warps", "one warp"])
        if kind == "barrier":
            lines.append("cuda.syncthreads()")
            epoch += 1
        elif kind == "warps":
            lines.append("cuda.syncwarp()")
            warp_epoch = [e + 1 for e in warp_epoch]
        elif kind == "one warp":
            lines += ["if i < 32:", "    cuda.syncwarp()"]
            warp_epoch = [warp_epoch[0] + 1, warp_epoch[1]]
        else:
            index, guard = rng.choice(MAPS), rng.choice(GUARDS)
            text = {"write": f"s[{index}] = i + {100 * step}", "read": f"t += s[{index}]",
                    "atomic": f"cuda.atomic.add(s, {index}, 1)"}[kind]
            lines += [f"if {guard}:", f"    {text}"]
            accesses += [(i, eval(index, {"i": i}), kind, epoch, warp_epoch[i // 32])
                         for i in range(64) if eval(guard, {"i": i})]
    body = ["s = cuda.shared.array(64, int32)", "i = cuda.threadIdx.x", "t = 0", "s[i] = 0", "cuda.syncthreads()",
            *lines, "out[i] = t"]
    races = any(a[1] == b[1] and a[0] != b[0] and a[3] == b[3] and {a[2], b[2]} not in ({"read"}, {"atomic"})
                and not (a[0] // 32 == b[0] // 32 and a[4] != b[4])
                for n, a in enumerate(accesses) for b in accesses[:n])
    return "def k(out):\n" + "\n".join("    " + line for line in body) + "\n", races


@pytest.mark.parametrize("seed", range(4))
def test_races_are_found_exactly_where_the_definition_has_one(seed):
    rng = np.random.default_rng(seed)
    seen = set()
    for _ in range(25):
        text, races = random_accesses(rng)
        findings = simt.run_source(text, "k", 1, 64, np.zeros(64, np.int64), strict=False).findings
        mine = any(f.kind == "race" and f.array == "s" for f in findings)
        assert mine == races, text
        seen.add(races)
    assert seen == {True, False}
