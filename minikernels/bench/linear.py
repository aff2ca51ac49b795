"""What is timed of linear attention: cases, rungs, peers, and time per token against the length beside softmax's."""

from functools import partial
from importlib import import_module

import numpy as np

from minikernels import flash, launch
from minikernels import linear_attention as la
from minikernels.bench.suite import Entry, Suite, on_gpu
from minikernels.core.oracle import check
from minikernels.linear_attention import reference

__all__ = ["per_token", "suites"]

BATCH = {"B": 8, "H": 16, "T": 2048, "D": 128}
CASES = [(BATCH, "float16"), ({**BATCH, "B": 1, "T": 16_384}, "float16"), ({**BATCH, "B": 1, "T": 131_072}, "float16"),
         ({**BATCH, "D": 64}, "float16"), ({**BATCH, "D": 64}, "float32")]
GATED = CASES[:3]
LENGTHS = [1024 * 4**n for n in range(6)]  # 1k to 1M tokens of one sequence
SERIES = {"B": 1, "H": 16, "D": 128}
SOFTMAX_LIMIT = 262_144  # tokens beyond which softmax attention would keep the GPU busy for minutes
FASTEST = "v5_wgmma"  # of the rungs with decays; it takes no gates
GATES_ONLY = "v6_factored_gates"  # without gates it is the rung before it
LESSONS = {"v1_recurrent": 4096, "v2_chunk": 16_384}  # rung for learning -> longest sequence that it is timed on
BESIDE = "beside softmax"  # the variant under which the series of lengths is recorded
PERIOD = 4096  # tokens after which the inputs repeat
JUDGED = 4096  # tokens up to which the oracle's own form is affordable token by token
REACH = 65_536  # tokens back from the end beyond which no token counts, at the decays and gates of these cases
PEERS = {  # name -> (module, function), of flash-linear-attention
    "fla lightning": ("fla.ops.lightning_attn", "chunk_lightning_attn"),
    "fla simple GLA": ("fla.ops.simple_gla", "chunk_simple_gla"),
    "fla GLA": ("fla.ops.gla", "chunk_gla"),
}


def suites(technique, shapes=None):
    """Yield the suites with decays, with gates, and of the series of lengths; of the given cases alone if any."""
    if shapes is not None:
        for case in shapes:
            yield suite(technique, case.sizes, case.dtype)
        return
    for sizes, dtype in CASES:
        yield suite(technique, sizes, dtype)
    for sizes, dtype in GATED:
        yield suite(technique, sizes, dtype, gated=True)
    for T in LENGTHS:
        yield series(technique, {**SERIES, "T": T})


def work(sizes):
    """Return the FLOP of the recurrence, 4*B*H*T*D*D."""
    B, H, T, D = (sizes[letter] for letter in "BHTD")
    return 4 * B * H * T * D * D


def random(sizes, dtype, gated=False):
    """Return random q, k, v and decays, or gates where `gated`: 1 / 16 of the logarithm of a sigmoid, as GLA's are.

    They are the first tokens alone: `repeated` makes all T of them, where they are read. Each array repeats after
    another number of tokens, so that no pair comes twice for a long time.
    """
    B, H, T, D = (sizes[letter] for letter in "BHTD")
    generator = np.random.default_rng(0)

    def drawn(n, change=lambda x: x):
        return change(generator.standard_normal((B, H, min(T, PERIOD - n), D), np.float32)).astype(dtype)

    inputs = {name: drawn(n) for n, name in enumerate("qkv")}
    if gated:
        return inputs | {"gate": drawn(3, lambda x: -np.logaddexp(0, -x) / 16)}
    return inputs | {"decay": np.exp(-la.slopes(H))}


def repeated(inputs, T, heads=np.s_[:, :]):
    """Return the inputs of the chosen heads with all T tokens, where they live; decays as they are."""
    return {name: x if name == "decay" else np.take(x[heads], np.arange(T, like=x) % x.shape[2], axis=2)
            for name, x in inputs.items()}


def suite(technique, sizes, dtype, gated=False):
    """Return the suite of one case, with decays or, as a variant, with gates."""
    inputs = random(sizes, dtype, gated)
    there = repeated(on_gpu(inputs), sizes["T"])
    entries = [rung_entry(rung, there, sizes, dtype) for rung in technique.rungs if rung.kind != "numpy"]
    entries += [peer(name, there) for name in (("fla GLA",) if gated else ("fla lightning", "fla simple GLA"))]
    return made("gates" if gated else "", inputs, sizes, dtype, entries)


def made(variant, inputs, sizes, dtype, entries):
    """Return a Suite; its speed is q, k, v, gates and o once each, over time."""
    B, H, T, D = (sizes[letter] for letter in "BHTD")
    moved = B * H * T * D * np.dtype(dtype).itemsize * (5 if "gate" in inputs else 4)
    judged = partial(judge, inputs)
    return Suite("linear_attention", sizes, dtype, True, work(sizes), tuple(entries), judged, variant, moved)


def series(technique, sizes):
    """Return the suite of one length: the fastest rung of linear attention, and of softmax attention beside it."""
    inputs = random(sizes, "float16")
    there, rung = repeated(on_gpu(inputs), sizes["T"]), technique.rung(FASTEST)
    entries = [rung_entry(rung, there, sizes, "float16")]
    too_long = f"T={sizes['T']}: softmax attention would take minutes" if sizes["T"] > SOFTMAX_LIMIT else ""
    entries.append(Entry("peer", "flash v5_mma", partial(softmax, there), too_long))
    return made(BESIDE, inputs, sizes, "float16", entries)


def per_token(recording):
    """Return {kernel: [(T, microseconds a token)]} of a recorded series of lengths: the headline figure's data.

    Parameters
    ----------
    recording : Recording
        One of `minikernels.bench.recorded.recordings`.
    """
    series = {}
    for result in recording.results:
        sizes, *_, variant = result.case
        if (result.technique, variant) == ("linear_attention", BESIDE):
            T = dict(sizes)["T"]
            series.setdefault(result.name, []).append((T, 1000 * result.ms / (dict(sizes)["B"] * T)))
    return {name: sorted(points) for name, points in series.items()}


def rung_entry(rung, there, sizes, dtype):
    """Return the Entry of one rung, or why it is not timed."""
    absent = "" if dtype in rung.dtypes else f"takes {' or '.join(rung.dtypes)}"
    if "gate" in there and rung.name == FASTEST:
        absent = "takes no gates"
    if "gate" not in there and rung.name == GATES_ONLY:
        absent = f"without gates it is {FASTEST}"
    longest = LESSONS.get(rung.name)
    if longest and sizes["T"] > longest:
        absent = f"a rung for learning, timed up to T={longest}"
    return Entry("rung", rung.name, partial(attended, there, rung.name), absent)


def attended(there, rung):
    """Return the outputs of one rung."""
    return {"o": la.attention(**there, rung=rung)}


def softmax(there):
    """Return causal softmax attention of the same q, k and v."""
    return {"o": flash.attention(*(there[name] for name in "qkv"), causal=True, rung="v5_mma")}


def peer(name, there):
    """Return the Entry of a kernel of flash-linear-attention, which takes (B, T, H, D), or why there is none."""
    try:
        torch = import_module("torch")  # peers, not dependencies
        function = getattr(import_module(PEERS[name][0]), PEERS[name][1])
    except (ImportError, AttributeError) as error:
        return Entry("peer", name, None, f"not installed: {error}")
    q, k, v = (torch.from_dlpack(there[x]).transpose(1, 2).contiguous() for x in "qkv")
    H = q.shape[2]
    if name == "fla GLA":
        gate = torch.from_dlpack(there["gate"]).transpose(1, 2).contiguous()
        return Entry("peer", name, partial(answer, function, q, k, v, gate, scale=1.0))
    if name == "fla lightning":  # its decays are a formula of its own, which changes numbers and not the time
        return Entry("peer", name, partial(answer, function, q, k, v, layer_idx=0, num_layers=1, scale=1.0))
    rates = torch.log(torch.from_dlpack(there["decay"]))
    return Entry("peer", name, partial(answer, function, q, k, v, scale=1.0, g_gamma=rates.reshape(H)))


def answer(function, *args, **options):
    """Return a peer's output, in this project's layout."""
    o = function(*args, **options)
    return {"o": launch.to_cupy((o[0] if isinstance(o, tuple) else o).transpose(1, 2))}


def judge(inputs, outputs):
    """Return verdicts on the first head of the first and the last of the last sequence; a NaN anywhere fails too."""
    o = outputs["o"]
    B, H, T, _ = o.shape
    verdicts = []
    for b, h in sorted({(0, 0), (B - 1, H - 1)}):
        one = np.s_[b : b + 1, h : h + 1]
        head, found = repeated(inputs, T, one), launch.to_numpy(o[one])
        decay, gate = head.get("decay", np.ones(H, np.float32))[h : h + 1], head.get("gate")
        early = [x if x is None else x[:, :, :JUDGED] for x in (found, *(head[name] for name in "qkv"), gate)]
        verdicts += reference.judge(early[0], None, *early[1:4], decay, early[4], 1.0).values()
        if T > JUDGED:
            verdicts.append(ending(found, *(head[name] for name in "qkv"), decay, gate))
    sums = launch.to_numpy(o.sum(axis=-1, dtype=np.float32))
    zeros = np.zeros_like(sums)
    return [*verdicts, check(np.where(np.isfinite(sums), zeros, sums), zeros, zeros, name="sum of o over D")]


def ending(o, q, k, v, decay, gate, tail=256):
    """Return the verdict on a head's last tokens, given the float64 state before them, by chunks of the same oracle."""
    last = np.s_[:, :, -tail:]
    before = np.s_[:, :, -REACH - tail : -tail]
    state = wide_state(k[before], v[before], decay, None if gate is None else gate[before])
    gates = None if gate is None else gate[last]
    return reference.judge(o[last], None, q[last], k[last], v[last], decay, gates, 1.0, state)["o"]


def wide_state(k, v, decay, gate):
    """Return the state after many tokens in float64: what is left of each, times key and value, by products."""
    log_a = np.log(decay.astype(np.float64))[None, :, None, None] + (0 if gate is None else gate.astype(np.float64))
    log_a = np.broadcast_to(log_a, k.shape)
    after = np.cumsum(log_a[:, :, ::-1], axis=2)[:, :, ::-1] - log_a  # of the tokens that follow
    return (k * np.exp(after)).swapaxes(-1, -2) @ v.astype(np.float64)
