"""ONE table of every technique: rungs, input makers, oracle, traffic model, papers, notebook and exercises.

Reading the table imports no technique and nothing heavy; a technique's code is imported when a row is run.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minikernels.core.errors import ShapeError

__all__ = ["Paper", "Rung", "Technique", "names", "technique"]

BOTH = ("float32", "float16")


@dataclass(frozen=True)
class Paper:
    """A paper that a chapter answers for."""

    title: str
    arxiv: str


@dataclass(frozen=True)
class Rung:
    """One step of a ladder.

    Attributes
    ----------
    name : str
        The same in the technique's code, traffic model and README.
    kind : str
        ``numpy`` runs anywhere, ``numba`` on a GPU or on the SIMT machine, ``raw`` on a GPU alone.
    idea : str
        What is new against the rung before it.
    dtypes : tuple of str
        Input dtypes that it takes.
    """

    name: str
    kind: str
    idea: str
    dtypes: tuple = BOTH


@dataclass(frozen=True)
class Technique:
    """One ladder, with the functions that feed it and judge it.

    Attributes
    ----------
    name, title : str
        The folder under ``minikernels``, and the idea in a few words.
    letters : str
        The sizes that describe an input, in the order of ``--random``.
    rungs : tuple of Rung
        From the equation to the fastest kernel.
    random : callable
        ``random(sizes, dtype, **options) -> inputs``: random arrays of the sizes {letter: size}.
    activations : callable
        ``activations(arrays, dtype, **options) -> inputs``: the same from the tiny model's {name: array} of one layer.
    cut : callable
        ``cut(inputs) -> inputs``: a slice small enough to watch step by step.
    sizes : callable
        ``sizes(inputs) -> {letter: size}``.
    run : callable
        ``run(rung, inputs) -> {name: array}``: the outputs of one rung, through the technique's public function.
    judge : callable
        ``judge(outputs, inputs) -> {name: Verdict}`` against the float64 oracle and its error budget.
    traffic : callable
        ``traffic(rung, inputs) -> Traffic``, the closed form.
    shown : tuple of str
        The two rungs that the climb's page plays side by side.
    registers : tuple of str
        The kernels' variables that the page shows for a few threads.
    model : str
        The tiny model whose activations are the real input.
    papers : tuple of Paper
        What the chapter answers for.
    notebook, exercises : str
        Paths in the repository.
    """

    name: str
    title: str
    letters: str
    rungs: tuple
    random: Callable
    activations: Callable
    cut: Callable
    sizes: Callable
    run: Callable
    judge: Callable
    traffic: Callable
    shown: tuple
    registers: tuple
    model: str
    papers: tuple
    notebook: str
    exercises: str

    def rung(self, name):
        """Return the rung of that name; KeyError if there is none."""
        return {rung.name: rung for rung in self.rungs}[name]


def names():
    """Return the names of the techniques, in the order of the course."""
    return tuple(TABLE)


def technique(name):
    """Return the technique of that name; KeyError if there is none."""
    return TABLE[name]


def part(path):
    """Import ``flash.traffic`` from minikernels when it is needed, and not before."""
    return importlib.import_module(f"minikernels.{path}")


def random_attention(sizes, dtype="float32", causal=True, seed=0):
    """Return random q, k and v of the sizes B, H, G, T, S and D."""
    B, H, G, T, S, D = (sizes[letter] for letter in "BHGTSD")
    if H and (G == 0 or H % G):
        raise ShapeError(f"G={G} must divide H={H}: every key/value head serves the same number of query heads")
    generator = np.random.default_rng(seed)
    q, k, v = (generator.standard_normal(shape).astype(dtype) for shape in ((B, H, T, D), (B, G, S, D), (B, G, S, D)))
    return {"q": q, "k": k, "v": v, "causal": causal}


def model_attention(arrays, dtype="float32", causal=True):
    """Return the q, k and v that one attention layer of the tiny model computed."""
    return {**{name: np.ascontiguousarray(arrays[name], dtype) for name in "qkv"}, "causal": causal}


def cut_attention(inputs, rows=96, width=8):
    """Return the first head of the first sequence: its first rows, and their first few columns."""
    small = {name: np.ascontiguousarray(inputs[name][:1, :1, :rows, :width]) for name in "qkv"}
    return {**small, "causal": inputs["causal"]}


def attention_sizes(inputs):
    """Return the letters of an attention's inputs."""
    B, H, T, D = inputs["q"].shape
    return {"B": B, "H": H, "G": inputs["k"].shape[1], "T": T, "S": inputs["k"].shape[2], "D": D}


def run_flash(rung, inputs):
    """Return o and lse of one rung of flash."""
    o, lse = part("flash").attention(**inputs, return_lse=True, rung=rung.name)
    return {"o": o, "lse": lse}


def judge_flash(outputs, inputs):
    """Hold o and lse against the float64 equation."""
    q, k, v, causal = (inputs[name] for name in ("q", "k", "v", "causal"))
    return part("flash.reference").judge(outputs["o"], outputs["lse"], q, k, v, causal, max(1, q.shape[-1]) ** -0.5)


def traffic_flash(rung, inputs):
    """Return the closed form of one rung of flash."""
    form = getattr(part("flash.traffic"), rung.name)
    return form(**attention_sizes(inputs), itemsize=inputs["q"].itemsize, causal=inputs["causal"])


def later(path):
    """Return a function that imports ``gqa.entry.random`` from minikernels when it is first called."""
    module, name = path.rsplit(".", 1)
    return lambda *args, **options: getattr(part(module), name)(*args, **options)


TABLE = {
    "gqa": Technique(
        name="gqa",
        title="one token's attention over a cache that H / G query heads share (MHA, GQA, MQA)",
        letters="BHGSD",
        rungs=(
            Rung("reference", "numpy", "the papers' equation, float64 inside: the oracle"),
            Rung("tiled", "numpy", "the keys split into tiles, the tiles' states (m, l, o) merged"),
            Rung("v1_block_per_head", "numba", "a block a query head: K and V cross HBM H / G times"),
            Rung("v2_shared_group", "numba", "a block a group: K and V, in SRAM, cross HBM once for H / G heads"),
            Rung("v3_warp_dot", "numba", "a warp a key: coalesced, summed by shuffles, no barrier in the loop"),
            Rung("v4_wide_loads", "raw", "CUDA C++: 16-byte loads, 4 of K and 4 of V under way in each lane"),
            Rung("v5_split_kv", "raw", "Flash-Decoding: a sequence's keys split over blocks that merge their states"),
            Rung("v6_stream_k", "raw", "LeanAttention: equal runs of one list of tiles, however ragged the lengths"),
        ),
        random=later("gqa.entry.random"),
        activations=later("gqa.entry.activations"),
        cut=later("gqa.entry.cut"),
        sizes=later("gqa.entry.sizes"),
        run=later("gqa.entry.run"),
        judge=later("gqa.entry.judge"),
        traffic=later("gqa.entry.form"),
        shown=("v1_block_per_head", "v2_shared_group"),
        registers=("first", "m", "l", "alpha"),
        model="gqa2",
        papers=(Paper("Fast Transformer Decoding", "1911.02150"), Paper("GQA", "2305.13245"),
                Paper("LeanAttention", "2405.10480")),
        notebook="notebooks/01_gqa.ipynb",
        exercises="exercises/01_gqa",
    ),
    "flash": Technique(
        name="flash",
        title="softmax attention without the T x S matrix, by online-softmax tiling",
        letters="BHGTSD",
        rungs=(
            Rung("reference", "numpy", "the paper's equation, float64 inside: the oracle"),
            Rung("online", "numpy", "one pass over the keys: a row keeps m, l and o, and no scores"),
            Rung("tiled_keys_outside", "numpy", "FlashAttention's order: a row's state crosses HBM once a key tile"),
            Rung("tiled", "numpy", "FlashAttention-2's order: a row's state never leaves the chip"),
            Rung("v1_three_pass", "numba", "the equation as three kernels, scores and probabilities in HBM"),
            Rung("v2_keys_outside", "numba", "one kernel, FlashAttention's order: a thread a row, K and V in SRAM"),
            Rung("v2_tiled", "numba", "the loops exchanged: FlashAttention-2's order"),
            Rung("v3_split_rows", "numba", "four lanes a row, four rows a lane: a load from SRAM serves four rows"),
            Rung("v4_register_tiles", "raw", "CUDA C++: a thread owns an 8 x 8 tile of scores, in registers"),
            Rung("v5_mma", "raw", "tensor cores: mma.sync m16n8k16, probabilities stay in registers", ("float16",)),
        ),
        random=random_attention,
        activations=model_attention,
        cut=cut_attention,
        sizes=attention_sizes,
        run=run_flash,
        judge=judge_flash,
        traffic=traffic_flash,
        shown=("v2_tiled", "v3_split_rows"),
        registers=("t", "first", "m", "l", "alpha"),
        model="mha",
        papers=(Paper("FlashAttention", "2205.14135"), Paper("FlashAttention-2", "2307.08691")),
        notebook="notebooks/02_flash.ipynb",
        exercises="exercises/02_flash",
    ),
    "block_sparse": Technique(
        name="block_sparse",
        title="attention over the blocks that a mask keeps: work and bytes fall with the density",
        letters="BHGTSD",
        rungs=(
            Rung("reference", "numpy", "dense attention, the mask spread out, float64 inside: the oracle"),
            Rung("tiled", "numpy", "a row of query blocks walks over a list of key blocks, softmax online"),
            Rung("v1_masked_dense", "numba", "every block loaded and multiplied, hidden scores set to -inf: no gain"),
            Rung("v2_skip_test", "numba", "the mask is asked before a block is loaded"),
            Rung("v3_block_lists", "numba", "a list of kept blocks (CSR) instead of a question for every block"),
            Rung("v4_full_partial", "numba", "full blocks first, without mask code; then the partial ones"),
            Rung("v5_mma", "raw", "CUDA C++: tensor cores, mma.sync m16n8k16 over the same lists", ("float16",)),
            Rung("v6_async", "raw", "the next tile is copied while this one is multiplied", ("float16",)),
        ),
        random=later("block_sparse.entry.random"),
        activations=later("block_sparse.entry.activations"),
        cut=later("block_sparse.entry.cut"),
        sizes=later("block_sparse.entry.sizes"),
        run=later("block_sparse.entry.run"),
        judge=later("block_sparse.entry.judge"),
        traffic=later("block_sparse.entry.form"),
        shown=("v1_masked_dense", "v4_full_partial"),
        registers=("t", "j", "first", "m", "l", "alpha"),
        model="mha",
        papers=(Paper("FlashAttention", "2205.14135"), Paper("Big Bird", "2007.14062"),
                Paper("SeerAttention", "2410.13276"), Paper("DBA", "2211.16368")),
        notebook="notebooks/03_block_sparse.ipynb",
        exercises="exercises/03_block_sparse",
    ),
}
