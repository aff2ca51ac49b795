"""Large grids run in chunks of blocks: same results, same counts, same findings, bounded memory."""

import tracemalloc

import numpy as np
import pytest

from minikernels import simt
from minikernels.launch import cuda, float32, int32
from minikernels.simt import execute
from tests.simt_bank.broken import BROKEN
from tests.simt_bank.right import RIGHT

N = 128


def in_chunks(monkeypatch, lanes, case):
    """Run a case of the banks with another chunk size; return (launch or error, arguments)."""
    monkeypatch.setattr(execute, "LANES_AT_ONCE", lanes)
    arguments = case.arguments()
    try:
        return simt.run(case.kernel, case.grid, case.block, *arguments, shared_bytes=case.shared_bytes), arguments
    except simt.KernelError as error:
        return error, arguments


@pytest.mark.parametrize("case", RIGHT, ids=lambda c: c.name)
def test_one_block_at_a_time_gives_the_same_counts_and_results(case, monkeypatch):
    (whole, a), (parts, b) = (in_chunks(monkeypatch, n, case) for n in (1 << 20, 1))
    assert parts.findings == whole.findings == []
    np.testing.assert_allclose(a[case.result], b[case.result], rtol=1e-5)
    if case.name not in {"last_block_adds_the_parts_up"}:  # which block comes last is open
        assert parts.traffic == whole.traffic
        assert parts.by_line == whole.by_line
        assert parts.by_array == whole.by_array


@pytest.mark.parametrize("case", [c for c in BROKEN if c.grid != 1], ids=lambda c: c.name)
def test_one_block_at_a_time_gives_the_same_findings(case, monkeypatch):
    (whole, _), (parts, _) = (in_chunks(monkeypatch, n, case) for n in (1 << 20, 1))
    if isinstance(whole, simt.KernelError):
        assert str(parts) == str(whole)
    else:
        one, two = ({(f.kind, f.array, frozenset(f.lines)) for f in launch.findings} for launch in (whole, parts))
        assert one == two  # which of two blocks comes first is open


def missing_barrier(x, out):
    s = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    s[i] = x[cuda.grid(1)]
    out[cuda.grid(1)] = s[N - 1 - i]


def test_one_mistake_is_reported_once_however_many_chunks_make_it():
    x = np.ones(4 * execute.LANES_AT_ONCE, np.float32)
    findings = simt.run(missing_barrier, len(x) // N, N, x, np.zeros_like(x)).findings
    assert len(findings) == 1


def shared_sum(x, out):
    s = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    s[i] = x[cuda.grid(1)]
    cuda.syncthreads()
    k = N // 2
    while k > 0:
        if i < k:
            s[i] += s[i + k]
        cuda.syncthreads()
        k //= 2
    if i == 0:
        out[cuda.blockIdx.x] = s[0]


def peak(chunks):
    x = np.ones(chunks * execute.LANES_AT_ONCE, np.float32)
    out = np.zeros(len(x) // N, np.float32)
    tracemalloc.start()
    launch = simt.run(shared_sum, len(out), N, x, out)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (out == N).all() and launch.findings == []
    per_chunk = simt.run(shared_sum, len(out) // chunks, N, x[: len(x) // chunks], out[: len(out) // chunks]).traffic
    assert {k: v / chunks for k, v in launch.traffic.as_dict().items()} == per_chunk.as_dict()
    return most


def test_memory_does_not_grow_with_the_grid():
    few, many = peak(2), peak(16)
    assert many < 1.25 * few


def rows(x, out):
    i = cuda.grid(1)
    for j in range(x.shape[1]):
        if j > 0:
            out[i, j] = out[i, j - 1] + x[i, j]
        else:
            out[i, j] = x[i, j]


def test_long_loops_over_written_arrays_stay_in_bounds():
    x = np.ones((256, 400), np.float32)
    out = np.zeros_like(x)
    tracemalloc.start()
    launch = simt.run(rows, 2, 128, x, out)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert launch.findings == [] and (out == np.arange(1, 401)).all()
    assert most < 40 * out.nbytes


def reads_the_first(x, out):
    g = cuda.grid(1)
    out[g] = x[0]
    if g == x.size - 1:
        x[0] = float32(5)


def writes_the_last(x, out):
    g = cuda.grid(1)
    if g == 0:
        x[x.size - 1] = float32(1)
    out[g] = x[g]


@pytest.mark.parametrize("kernel", [reads_the_first, writes_the_last], ids=lambda k: k.__name__)
def test_blocks_far_apart_race(kernel):
    x = np.zeros(3 * execute.LANES_AT_ONCE, np.float32)
    findings = simt.run(kernel, len(x) // N, N, x, np.zeros_like(x)).findings
    assert [(f.kind, f.array) for f in findings] == [("race", "x")]
    assert findings[0].threads[0][0] != findings[0].threads[1][0]
    assert "no barrier spans them" in findings[0].message


def parts_and_ticket(x, part, ticket, out):
    last = cuda.shared.array(1, int32)
    i = cuda.threadIdx.x
    if i == 0:
        part[cuda.blockIdx.x] = x[cuda.grid(1)]
        cuda.threadfence()
        last[0] = cuda.atomic.add(ticket, 0, 1)
    cuda.syncthreads()
    if last[0] == cuda.gridDim.x - 1 and i == 0:
        total = float32(0)
        for b in range(cuda.gridDim.x):
            total += part[b]
        out[0] = total


def test_fences_order_blocks_of_different_chunks():
    grid = 3 * execute.LANES_AT_ONCE // 1024
    x, out = np.ones(grid * 1024, np.float32), np.zeros(1, np.float32)
    launch = simt.run(parts_and_ticket, grid, 1024, x, np.zeros(grid, np.float32), np.zeros(1, np.int32), out)
    assert launch.findings == [] and out[0] == grid


def endless(x):
    while x[0] == 0:
        pass


def endless_for(x):
    for _ in range(2**62):
        pass


@pytest.mark.parametrize("kernel", [endless, endless_for], ids=lambda k: k.__name__)
def test_max_steps_ends_a_loop_that_never_ends(kernel):
    with pytest.raises(simt.KernelError, match="more than 1000 statements; is there a loop that never ends?") as raised:
        simt.run(kernel, 1, 32, np.zeros(1), max_steps=1000)
    assert raised.value.kind == "limit"
    simt.run(missing_barrier, 4, N, np.ones(4 * N, np.float32), np.zeros(4 * N, np.float32), max_steps=1000)


def wide(x):
    x[cuda.grid(1)] += 1


@pytest.mark.parametrize("block", [1, 31, 33, 1000, 1024])
def test_blocks_of_any_size_fill_chunks(block):
    grid = 2 * execute.LANES_AT_ONCE // block + 3
    x = np.zeros(grid * block, np.int32)
    launch = simt.run(wide, grid, block, x)
    assert (x == 1).all() and launch.findings == []
    assert launch.traffic.load_requests == grid * -(-block // 32)
    assert launch.traffic.load_bytes == 4 * grid * block
