"""Traces made without the SIMT machine: a tiled attention kernel's accesses, row by row in the columnar format."""

import textwrap

import numpy as np

from minikernels.core.traffic import Traffic
from minikernels.simt.trace import ATOMIC, BROADCAST, COLUMNS, LOAD, STORE, ArrayInfo, Trace

FIRST_LINE = 21

SOURCE = textwrap.dedent('''\
    @kernel
    def v2_tiled(q, k, v, o, scale):
        """One thread a query row; the block walks over the keys in tiles that all of its rows share."""
        k_smem = cuda.shared.array((BLOCK, D), float32)
        v_smem = cuda.shared.array((BLOCK, D), float32)
        lane = cuda.threadIdx.x
        t = cuda.blockIdx.x * BLOCK + lane
        for s in range(0, k.shape[2], BLOCK):
            for d in range(D):
                k_smem[lane, d] = k[b, g, s + lane, d]
                v_smem[lane, d] = v[b, g, s + lane, d]
            cuda.syncthreads()  # the tile is whole
            for i in range(BLOCK):
                score = float32(0)
                for d in range(D):
                    score += q[b, h, t, d] * k_smem[i, d]
                m = max(m, score * scale)
                l = l * alpha + p
            cuda.syncthreads()  # nobody overwrites a tile that others still read
        for d in range(D):
            o[b, h, t, d] = acc[d] / l
''')


class Builder:
    """Collects steps and accesses of one block, and keeps the contents of its arrays."""

    def __init__(self, arrays, initial, threads, registers=(), lanes=(0,)):
        self.infos = [ArrayInfo(name, space, tuple(shape), dtype) for name, space, shape, dtype in arrays]
        self.names = [info.name for info in self.infos]
        self.initial = initial
        self.now = {i.name: np.array(initial.get(i.name, np.full(i.shape, np.nan)), np.float64).ravel()
                    for i in self.infos}
        self.threads, self.registers, self.lanes = threads, list(registers), list(lanes)
        self.rows = {name: [] for name in COLUMNS}
        self.rows["access_start"] = [0]
        self.pool = 0
        self.traffic = Traffic()

    def step(self, text, kind=0, active=None):
        """Run the statement whose source line holds ``text``."""
        line = next(FIRST_LINE + i for i, row in enumerate(SOURCE.splitlines()) if text in row)
        active = np.ones(self.threads, bool) if active is None else active
        self.rows["step_line"].append(line)
        self.rows["step_kind"].append(kind)
        self.rows["step_active"].append([np.packbits(active, bitorder="little")])
        self.traffic.barriers += kind == 1

    def access(self, name, op, index, values=None, lanes=None):
        """Let lanes touch flat indices of one array in the present step."""
        number, index = self.names.index(name), np.atleast_1d(index)
        info = self.infos[number]
        lanes = np.arange(len(index)) if lanes is None else lanes
        if op != LOAD:
            self.now[name][index] = values
        size = np.dtype(info.dtype).itemsize
        asked = size * (self.threads if lanes is BROADCAST else len(index))
        requests = -(-(self.threads if lanes is BROADCAST else len(index)) // 32)
        warps = [index] * requests if lanes is BROADCAST else np.split(index, range(32, len(index), 32))
        if info.space == "shared":  # the deepest bank of each warp
            units = sum(np.bincount(np.unique(w) % 32).max() for w in warps)
        else:
            units = sum(len(np.unique(w * size // 32)) for w in warps)
        space = "shared_" if info.space == "shared" else ""
        what = {LOAD: "load", STORE: "store", ATOMIC: "atomic"}[op]
        for field, amount in (("requests", requests), ("wavefronts" if space else "sectors", units), ("bytes", asked)):
            field = f"{space}{what}_{field}"
            if hasattr(self.traffic, field):
                setattr(self.traffic, field, getattr(self.traffic, field) + int(amount))
        self.pool += len(index)
        row = {"access_step": len(self.rows["step_line"]) - 1, "access_array": number, "access_op": op,
               "access_block": 0, "access_start": self.pool, "access_requests": requests, "access_units": units,
               "access_bytes": asked}
        for column, value in row.items():
            self.rows[column].append(value)
        self.rows["pool_lane"].append(np.full(len(index), BROADCAST) if lanes is BROADCAST else lanes)
        self.rows["pool_index"].append(index)
        self.rows["pool_value"].append(self.now[name][index])

    def register(self, name, values):
        """Assign a register in the present step: one value for each kept lane."""
        self.rows["register_step"].append(len(self.rows["step_line"]) - 1)
        self.rows["register_name"].append(self.registers.index(name))
        self.rows["register_value"].append([values])

    def trace(self, kernel="v2_tiled", grid=(1, 1, 1), block=(0, 0, 0)):
        """Return what was collected."""
        columns = {}
        for name, dtype in COLUMNS.items():
            rows = self.rows[name]
            columns[name] = (np.concatenate(rows) if name.startswith("pool") and rows else np.array(rows)).astype(dtype)
        columns["register_value"] = columns["register_value"].reshape(-1, 1, len(self.lanes))
        return Trace(kernel, "numba_cuda.py", SOURCE, FIRST_LINE, grid, (self.threads, 1, 1), [block], self.infos,
                     self.initial, self.registers, self.lanes, self.traffic.as_dict(), columns)


def odd():
    """Return a trace of what kernels rarely have: a scalar, an empty array, integers, atomics, three warps."""
    initial = {"total": np.zeros((), np.float32), "none": np.zeros((0, 4), np.float32),
               "table": np.arange(6, dtype=np.int32) * 1000003, "wide": np.zeros((2, 700), np.float16)}
    arrays = [(name, "global", a.shape, str(a.dtype)) for name, a in initial.items()]
    built = Builder([*arrays, ("sums", "shared", (4,), "float64")], initial, 70)
    built.step("lane = cuda")
    built.access("table", LOAD, np.arange(6))
    built.step("score = float32(0)", active=np.arange(70) == 69)
    built.access("sums", STORE, np.array([2]), [0.125], lanes=np.array([69]))
    built.step("the tile is whole", kind=2)
    built.step("score += q")
    built.access("total", ATOMIC, np.zeros(70, int), np.full(70, 70.0))
    built.access("wide", STORE, 700 + np.arange(70), -1.0)
    return built.trace("odd")


def attention(T=96, S=96, D=16, BLOCK=32, H=2, G=1, tile=1, head=1, kernel="v2_tiled", seed=0):
    """Return the trace of one block (a tile of queries of one head) of a tiled attention kernel."""
    rng = np.random.default_rng(seed)
    initial = {"q": rng.standard_normal((1, H, T, D)).astype(np.float32),
               "k": rng.standard_normal((1, G, S, D)).astype(np.float32),
               "v": rng.standard_normal((1, G, S, D)).astype(np.float32),
               "o": np.full((1, H, T, D), np.nan, np.float32)}
    arrays = [(name, "global", a.shape, "float32") for name, a in initial.items()]
    arrays += [("k_smem", "shared", (BLOCK, D), "float32"), ("v_smem", "shared", (BLOCK, D), "float32")]
    built = Builder(arrays, initial, BLOCK, registers=("score", "m", "l"), lanes=(0, 1, BLOCK - 1))
    lane = np.arange(BLOCK)
    group = head * G // H
    q_row = (head * T + tile * BLOCK + lane) * D
    m, l = np.full(BLOCK, -np.inf), np.zeros(BLOCK)
    kept = np.array(built.lanes)
    for s in range(0, S, BLOCK):
        for d in range(D):
            for name in "kv":
                built.step(f"{name}_smem[lane, d] =")
                index = (group * S + s + lane) * D + d
                built.access(name, LOAD, index)
                built.access(f"{name}_smem", STORE, lane * D + d, built.now[name][index])
        built.step("the tile is whole", kind=1)
        for i in range(BLOCK):
            score = np.zeros(BLOCK)
            built.step("score = float32(0)")
            built.register("score", score[kept])
            for d in range(D):
                built.step("score += q")
                built.access("q", LOAD, q_row + d)
                built.access("k_smem", LOAD, np.array([i * D + d]), lanes=BROADCAST)
                score = score + built.now["q"][q_row + d] * built.now["k_smem"][i * D + d]
                built.register("score", score[kept])
            built.step("m = max", active=lane % 2 == 0 if i == 3 else None)
            new = np.maximum(m, score * D ** -0.5)
            l, m = l * np.exp(m - new) + np.exp(score * D ** -0.5 - new), new
            built.register("m", np.where((kept % 2 == 0) | (i != 3), m[kept], np.nan))
            built.step("l = l")
            built.register("l", l[kept])
        built.step("nobody overwrites", kind=1)
    for d in range(D):
        built.step("o[b, h, t, d] =")
        built.access("o", STORE, q_row + d, rng.standard_normal(BLOCK))
    return built.trace(kernel, grid=(T // BLOCK, H, 1), block=(tile, head, 0))
