"""A recording holds every step of the chosen blocks, saves to one file, and loads from it."""

import numpy as np
import pytest

from minikernels import simt
from minikernels.launch import cuda, float32
from minikernels.simt import execute
from minikernels.simt.trace import ATOMIC, BROADCAST, COLUMNS, LOAD, STORE, Trace

N = 32


def mirror(x, out):
    s = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    g = cuda.grid(1)
    total = float32(0)
    s[i] = x[g]
    cuda.syncthreads()
    for k in range(2):
        if i < 20:
            total += s[(i + k) % N]
    cuda.syncwarp()
    out[g] = total


def recorded(blocks=(0,), grid=3, registers=("total", "k"), lanes=(0, 25), **options):
    x, out = np.arange(N * grid, dtype=np.float32), np.zeros(N * grid, np.float32)
    with simt.record(blocks=blocks, registers=registers, lanes=lanes, **options) as recording:
        launch = simt.run(mirror, grid, N, x, out)
    assert recording.trace is launch.trace
    return launch, x, out


def steps_at(trace, text):
    offset = next(k for k, line in enumerate(trace.source.splitlines()) if text in line)
    return np.flatnonzero(trace.columns["step_line"] == trace.first_line + offset)


def test_steps_name_lines_barriers_and_active_lanes():
    trace = recorded()[0].trace
    assert trace.source.startswith("def mirror") and trace.filename == "test_simt_trace.py"
    assert (trace.grid, trace.block, trace.blocks) == ((3, 1, 1), (N, 1, 1), [(0, 0, 0)])
    kinds = trace.columns["step_kind"]
    assert kinds[steps_at(trace, "syncthreads")].tolist() == [1]
    assert kinds[steps_at(trace, "syncwarp")].tolist() == [2]
    assert kinds.sum() == 3
    active = np.unpackbits(trace.columns["step_active"][:, 0], axis=1, bitorder="little")
    assert active[steps_at(trace, "total +=")].sum(1).tolist() == [20, 20]
    assert active[steps_at(trace, "out[g]")].all()


def test_accesses_have_lane_index_value_and_cost():
    launch, x, out = recorded(blocks=(1,))
    trace, c = launch.trace, launch.trace.columns
    step = steps_at(trace, "s[i] = x[g]")[0]
    load, store = range(*trace.accesses(step).indices(len(c["access_op"])))
    assert (c["access_op"][load], c["access_op"][store]) == (LOAD, STORE)
    assert [trace.arrays[c["access_array"][a]].name for a in (load, store)] == ["x", "s"]
    assert (c["access_requests"][load], c["access_units"][load], c["access_bytes"][load]) == (1, 4, 128)
    part = slice(c["access_start"][load], c["access_start"][load + 1])
    assert c["pool_lane"][part].tolist() == list(range(N))
    assert (c["pool_index"][part] == N + np.arange(N)).all()
    assert (c["pool_value"][part] == x[N : 2 * N]).all()


def test_contents_follow_the_steps():
    launch, x, out = recorded(blocks=(0, 2))
    trace = launch.trace
    write = steps_at(trace, "s[i] = x[g]")[0]
    assert np.isnan(trace.contents("s", write - 1)).all()
    assert (trace.contents("s", write, block=0) == x[:N]).all()
    assert (trace.contents("s", write, block=1) == x[2 * N :]).all()
    last = trace.contents("out", trace.steps - 1)
    assert (last[:N] == out[:N]).all() and (last[2 * N :] == out[2 * N :]).all()
    assert not last[N : 2 * N].any()  # block 1 was not recorded
    assert not trace.contents("out", write).any()
    with pytest.raises(KeyError, match="no array 'nothing'"):
        trace.contents("nothing", 0)


def test_registers_of_chosen_lanes():
    launch, x, _ = recorded()
    trace, c = launch.trace, launch.trace.columns
    assert (trace.registers, trace.register_lanes) == (["total", "k"], [0, 25])
    total = c["register_value"][c["register_name"] == 0][:, 0]
    assert total[:, 0].tolist() == [0, x[0], x[0] + x[1]]
    assert total[0, 1] == 0 and np.isnan(total[1:, 1]).all()  # lane 25 is off inside the branch
    assert c["register_value"][c["register_name"] == 1][:, 0, 0].tolist() == [0, 1]


def test_traffic_in_the_trace_is_the_whole_launch():
    launch, *_ = recorded()
    assert launch.trace.traffic == launch.traffic.as_dict()
    c = launch.trace.columns
    globals_ = [k for k, a in enumerate(launch.trace.arrays) if a.space == "global"]
    loads = (c["access_op"] == LOAD) & np.isin(c["access_array"], globals_)
    assert 3 * c["access_units"][loads].sum() == launch.traffic.load_sectors


def test_trace_survives_a_file(tmp_path):
    trace = recorded(blocks=(0, 2))[0].trace
    path = trace.save(tmp_path / "mirror.trace")
    loaded = Trace.load(path)
    assert loaded.header() == trace.header()
    assert list(loaded.initial) == list(trace.initial) == ["x", "out"]
    for name in COLUMNS:
        assert loaded.columns[name].dtype == np.dtype(COLUMNS[name])
        np.testing.assert_array_equal(loaded.columns[name], trace.columns[name])
    np.testing.assert_array_equal(loaded.contents("out", loaded.steps - 1), trace.contents("out", trace.steps - 1))
    assert [p.name for p in tmp_path.iterdir()] == ["mirror.trace"]


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "version", "other"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = recorded()[0].trace.save(tmp_path / "t.npz")
    whole = path.read_bytes()
    if damage == "other":
        np.savez(path, a=np.arange(3))
    elif damage == "version":
        with np.load(path) as file:
            columns = dict(file)
        columns["header"] = np.array(str(columns["header"]).replace('"version": 1', '"version": 99'))
        with open(path, "wb") as file:
            np.savez(file, **columns)
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"not a trace", "empty": b""}[damage])
    with pytest.raises(simt.KernelError, match=r"is not a minikernels trace|another version"):
        Trace.load(path)
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "missing.npz")


def test_limits_of_a_recording():
    with pytest.raises(simt.KernelError, match="passed 5 steps; record fewer blocks"):
        recorded(max_steps=5)
    with pytest.raises(simt.KernelError, match=r"block \(3, 0, 0\) is not in the grid"):
        recorded(blocks=(3,))
    with pytest.raises(simt.KernelError, match="thread 32 is not in a block of 32"):
        recorded(lanes=(32,))
    with pytest.raises(ValueError, match="at least one block"):
        recorded(blocks=())
    with simt.record() as recording, pytest.raises(simt.KernelError, match="nothing was recorded"):
        recording.trace  # noqa: B018


def test_one_recording_keeps_every_launch():
    x, out = np.ones(N, np.float32), np.zeros(N, np.float32)
    with simt.record() as recording, simt.collect() as launches:
        for _ in range(3):
            simt.run(mirror, 1, N, x, out)
    assert len(recording.traces) == len(launches) == 3
    assert recording.trace is recording.traces[-1] is launches[-1].trace
    assert simt.run(mirror, 1, N, x, out).trace is None


def test_blocks_of_later_chunks_are_recorded_alike():
    """More lanes than run at once: a block's recording is the same wherever its chunk starts."""
    grid = 3 * execute.LANES_AT_ONCE // N
    blocks = [0, grid // 2 + 1, grid - 1]
    launch, x, out = recorded(blocks=blocks, grid=grid)
    trace = launch.trace
    for place, number in enumerate(blocks):
        active = np.unpackbits(trace.columns["step_active"][:, place], axis=1, bitorder="little")
        mine = active.any(axis=1)
        alone = recorded(blocks=(number,), grid=grid)[0].trace
        assert (trace.columns["step_line"][mine] == alone.columns["step_line"]).all()
        final = trace.contents("out", trace.steps - 1)[number * N : (number + 1) * N]
        assert (final == out[number * N : (number + 1) * N]).all()
        assert (trace.contents("s", trace.steps - 1, block=place) == x[number * N : (number + 1) * N]).all()


def layouts(x, hist, out):
    i, j = cuda.grid(2)
    out[i, j] = x[j, i] + x[0, 0]
    cuda.atomic.add(hist, i % 2, 1)


def test_indices_count_in_c_order_whatever_the_layout():
    x = np.arange(24.0)[::-1].reshape(4, 6)[:, ::-1]
    out = np.zeros((4, 6)).T
    hist = np.zeros(2, np.int64)
    with simt.record() as recording:
        launch = simt.run(layouts, 1, (6, 4), x, hist, out)
    trace, c = recording.trace, recording.trace.columns
    assert launch.findings == []
    np.testing.assert_array_equal(trace.contents("out", trace.steps), out)
    assert trace.contents("hist", trace.steps).tolist() == hist.tolist() == [12, 12]
    np.testing.assert_array_equal(trace.initial["x"], x)
    for a in range(len(c["access_op"])):
        part = slice(c["access_start"][a], c["access_start"][a + 1])
        if trace.arrays[c["access_array"][a]].name == "x":
            assert (x.reshape(-1)[c["pool_index"][part]] == c["pool_value"][part]).all()
    assert BROADCAST in c["pool_lane"] and ATOMIC in c["access_op"]
