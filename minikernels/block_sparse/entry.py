"""What the catalog's row of block_sparse is made of: inputs, the run of a rung, its judge and its traffic."""

import numpy as np

from minikernels.block_sparse import patterns, reference, traffic
from minikernels.block_sparse.api import attention
from minikernels.core.errors import ShapeError

KEPT = 0.5  # share of a row's blocks in random masks, and in those that a gate chooses


def random(sizes, dtype="float32", causal=True, seed=0, block=(16, 16)):
    """Return random q, k and v of the sizes B, H, G, T, S and D, and a random mask for each sequence and head."""
    B, H, G, T, S, D = (sizes[letter] for letter in "BHGTSD")
    if H and (G == 0 or H % G):
        raise ShapeError(f"G={G} must divide H={H}: every key/value head serves the same number of query heads")
    generator = np.random.default_rng(seed)
    q, k, v = (generator.standard_normal(shape).astype(dtype) for shape in ((B, H, T, D), (B, G, S, D), (B, G, S, D)))
    mask = generator.random((B, H, -(-T // block[0]), -(-S // block[1]))) < KEPT  # some rows keep nothing
    return {"q": q, "k": k, "v": v, "mask": mask, "block": block, "causal": causal}


def activations(arrays, dtype="float32", causal=True, block=(32, 32)):
    """Return a layer's q, k and v, and the mask of the blocks in which mean query and mean key meet best."""
    q, k, v = (np.ascontiguousarray(arrays[name], dtype) for name in "qkv")
    columns = -(-k.shape[2] // block[1])
    mask = patterns.from_gate(q, k, block=block, top_k=max(1, round(KEPT * columns)), causal=causal)
    return {"q": q, "k": k, "v": v, "mask": mask, "block": block, "causal": causal}


def cut(inputs, rows=96, width=8):
    """Return the first head of the first sequence: its first rows, and their first few columns."""
    small = {name: np.ascontiguousarray(inputs[name][:1, :1, :rows, :width]) for name in "qkv"}
    (R, C), T, S = inputs["block"], small["q"].shape[2], small["k"].shape[2]
    mask = np.ascontiguousarray(inputs["mask"][:1, :1, : -(-T // R), : -(-S // C)])
    return {**small, "mask": mask, "block": (R, C), "causal": inputs["causal"]}


def sizes(inputs):
    """Return the letters of an attention's inputs."""
    (B, H, T, D), (G, S) = inputs["q"].shape, inputs["k"].shape[1:3]
    return {"B": B, "H": H, "G": G, "T": T, "S": S, "D": D}


def run(rung, inputs):
    """Return o and lse of one rung."""
    o, lse = attention(**inputs, return_lse=True, rung=rung.name)
    return {"o": o, "lse": lse}


def judge(outputs, inputs):
    """Hold o and lse against the float64 equation."""
    given = {name: inputs[name] for name in ("q", "k", "v", "mask", "block", "causal")}
    return reference.judge(outputs["o"], outputs["lse"], **given, scale=max(1, inputs["q"].shape[-1]) ** -0.5)


def form(rung, inputs):
    """Return the closed form of one rung's traffic."""
    given = {name: inputs[name] for name in ("mask", "block", "causal")}
    return getattr(traffic, rung.name)(**sizes(inputs), itemsize=inputs["q"].itemsize, **given)
