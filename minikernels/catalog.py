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
            Rung("v7_mma_group", "raw", "tensor cores: a group's heads are columns; keys by cp.async", ("float16",)),
            Rung("v8_mma_stream_k", "raw", "both: tensor cores and a pipeline over equal runs of tiles", ("float16",)),
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
            Rung("v6_async", "raw", "the next tile of K and V on its way: cp.async, two places", ("float16",)),
            Rung("v7_wgmma", "raw", "sm_90a: wgmma, TMA, a producer, warpgroups that take turns", ("float16",)),
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
        papers=(Paper("FlashAttention", "2205.14135"), Paper("FlashAttention-2", "2307.08691"),
                Paper("FlashAttention-3", "2407.08608")),
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
            Rung("v7_wgmma", "raw", "Hopper: TMA fills rings, warpgroups multiply, long rows come first", ("float16",)),
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
    "paged": Technique(
        name="paged",
        title="keys and values in pages of a shared pool, found through a page table (PagedAttention)",
        letters="BHGSPD",
        rungs=(
            Rung("reference", "numpy", "the equation over gathered pages, float64 inside: the oracle"),
            Rung("tiled", "numpy", "a few pages at a time, through the table; their states (m, l, o) merged"),
            Rung("v1_gather", "numba", "pages copied into one buffer, then decoded: K and V cross HBM three times"),
            Rung("v2_page_table", "numba", "no copy: each key looked up in the page table, scores in SRAM"),
            Rung("v3_warp_key", "numba", "a warp a key, states of the group's heads in registers: no scores kept"),
            Rung("v4_fetch_ahead", "raw", "CUDA C++: 16-byte loads whose page was looked up a step before"),
            Rung("v5_split_kv", "raw", "a sequence's pages split over blocks that merge their states"),
            Rung("v6_mma_group", "raw", "tensor cores: a group's heads are the columns of mma.sync", ("float16",)),
            Rung("v7_async_ring", "raw", "cp.async: keys arrive in shared memory while others are used", ("float16",)),
            Rung("v8_stream_k", "raw", "equal runs of one list of tiles, however ragged the lengths", ("float16",)),
        ),
        random=later("paged.entry.random"),
        activations=later("paged.entry.activations"),
        cut=later("paged.entry.cut"),
        sizes=later("paged.entry.sizes"),
        run=later("paged.entry.run"),
        judge=later("paged.entry.judge"),
        traffic=later("paged.entry.form"),
        shown=("v1_gather", "v2_page_table"),
        registers=("first", "page", "m", "l", "alpha"),
        model="gqa2",
        papers=(Paper("PagedAttention", "2309.06180"),),
        notebook="notebooks/04_paged.ipynb",
        exercises="exercises/04_paged",
    ),
    "selective_scan": Technique(
        name="selective_scan",
        title="the selective scan of a Mamba layer: a state instead of a cache",
        letters="BTEN",
        rungs=(
            Rung("reference", "numpy", "the paper's recurrence, float64 inside: the oracle"),
            Rung("tiled", "numpy", "a chunk of tokens as maps that a prefix scan composes, a state between chunks"),
            Rung("v1_channel_major", "numba", "a thread a channel, its tokens side by side: 32 sectors a request"),
            Rung("v2_token_major", "numba", "a token's channels side by side: coalesced"),
            Rung("v3_hillis_steele", "numba", "a thread a token: a chunk's maps composed in log2 steps, in SRAM"),
            Rung("v4_blelloch", "numba", "up a tree and down again: less than half the work, nearly twice the steps"),
            Rung("v5_registers", "raw", "CUDA C++: states in registers, 4 to a lane, b and c through shared memory"),
            Rung("v6_three_phase", "raw", "tokens split over blocks: local states, the carry, every chunk again"),
            Rung("v7_channel_pairs", "raw", "two channels a thread share b and c; a tile staged during the one before"),
            Rung("v8_staging_warps", "raw", "warps that only stage tokens and write, beside warps that own states"),
        ),
        random=later("selective_scan.entry.random"),
        activations=later("selective_scan.entry.activations"),
        cut=later("selective_scan.entry.cut"),
        sizes=later("selective_scan.entry.sizes"),
        run=later("selective_scan.entry.run"),
        judge=later("selective_scan.entry.judge"),
        traffic=later("selective_scan.entry.form"),
        shown=("v1_channel_major", "v2_token_major"),
        registers=("t", "x", "step", "y"),
        model="hybrid",
        papers=(Paper("Mamba", "2312.00752"), Paper("Attention as an RNN", "2405.13956"), Paper("SPADE", "2212.08136")),
        notebook="notebooks/05_selective_scan.ipynb",
        exercises="exercises/05_selective_scan",
    ),
    "linear_attention": Technique(
        name="linear_attention",
        title="a D x D state in place of a cache: decay per head, gates per channel, constant time a token",
        letters="BHTD",
        rungs=(
            Rung("reference", "numpy", "the recurrence, token by token, float64 inside: the oracle"),
            Rung("tiled", "numpy", "chunks: pairs within, one product with the state before"),
            Rung("v1_recurrent", "numba", "a thread a column of the state; every warp reads every q and k"),
            Rung("v2_chunk", "numba", "a chunk in SRAM: q and k cross HBM once, the state moves on once a chunk"),
            Rung("v3_mma_chunk", "raw", "tensor cores: the state is an operand straight from registers", ("float16",)),
            Rung("v4_split_along_time", "raw", "segments of a head side by side, an affine carry", ("float16",)),
            Rung("v5_wgmma", "raw", "chunks of 64 by wgmma and TMA; scores run ahead of the state", ("float16",)),
            Rung("v6_factored_gates", "raw", "gates taken apart at a chunk's middle, one factor a token", ("float16",)),
        ),
        random=later("linear_attention.entry.random"),
        activations=later("linear_attention.entry.activations"),
        cut=later("linear_attention.entry.cut"),
        sizes=later("linear_attention.entry.sizes"),
        run=later("linear_attention.entry.run"),
        judge=later("linear_attention.entry.judge"),
        traffic=later("linear_attention.entry.form"),
        shown=("v1_recurrent", "v2_chunk"),
        registers=("t", "first", "acc", "a", "left"),
        model="mha",
        papers=(Paper("Lightning Attention-2", "2401.04658"), Paper("Various Lengths, Constant Speed", "2405.17381"),
                Paper("Gated Linear Attention", "2312.06635"), Paper("The Devil in Linear Transformer", "2210.10340"),
                Paper("TransNormerLLM", "2307.14995"), Paper("ABC", "2110.02488"),
                Paper("Continual Low-Rank Scaled Dot-product Attention", "2412.03214")),
        notebook="notebooks/06_linear_attention.ipynb",
        exercises="exercises/06_linear_attention",
    ),
    "kv_compression": Technique(
        name="kv_compression",
        title="one token's attention over a cache of 8-bit or 4-bit keys and values (KIVI, DMC, eviction)",
        letters="BHGSD",
        rungs=(
            Rung("reference", "numpy", "dequantise the cache, then attend, float64 inside: the oracle"),
            Rung("tiled", "numpy", "a tile of tokens dequantised at a time: no dequantised cache exists"),
            Rung("v1_dequantize", "numba", "codes unpacked and scaled number by number, in the loop"),
            Rung("v2_folded_scales", "numba", "scales leave the loop: keys' into q once a group, values' into p"),
            Rung("v3_wide_loads", "raw", "CUDA C++: 16-byte loads, 32 or 16 codes each, several under way"),
            Rung("v4_half2", "raw", "two codes become two float16 by one logical operation: no integer converted"),
            Rung("v5_split_kv", "raw", "Flash-Decoding: a sequence's tokens split over blocks that merge their states"),
            Rung("v6_mma", "raw", "tensor cores: codes become operands of mma.sync in registers"),
            Rung("v7_matrices", "raw", "ldmatrix deals out codes in shared memory; a mask makes them subnormals",
                 dtypes=("float16",)),
            Rung("v8_ring", "raw", "later tokens are copied into a ring of shared memory while others are multiplied",
                 dtypes=("float16",)),
        ),
        random=later("kv_compression.entry.random"),
        activations=later("kv_compression.entry.activations"),
        cut=later("kv_compression.entry.cut"),
        sizes=later("kv_compression.entry.sizes"),
        run=later("kv_compression.entry.run"),
        judge=later("kv_compression.entry.judge"),
        traffic=later("kv_compression.entry.form"),
        shown=("v1_dequantize", "v2_folded_scales"),
        registers=("s", "m", "l", "alpha"),
        model="mha",
        papers=(Paper("KIVI", "2402.02750"), Paper("Dynamic Memory Compression", "2403.09636"),
                Paper("StreamingLLM", "2309.17453"), Paper("H2O", "2306.14048")),
        notebook="notebooks/07_kv_compression.ipynb",
        exercises="exercises/07_kv_compression",
    ),
}
