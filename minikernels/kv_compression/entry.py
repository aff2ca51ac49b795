"""What the catalog's row of kv_compression is made of: inputs, the run of a rung, its judge and its traffic."""

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.core.numerics import FLOATS
from minikernels.core.shapes import bind, same_dtype
from minikernels.kv_compression import decode, quantize, reference, traffic

MOMENTS = 4  # places in a text whose next token is computed: sequences of different lengths
GROUPS = 64, 32, 16, 8, 4  # numbers that share a scale: the first that gives at least two groups of tokens


def random(sizes, dtype="float32", causal=True, seed=0):
    """Return random q, k and v of the sizes B, H, G, S and D, and ragged lengths; a decoded token sees all its keys."""
    B, H, G, S, D = (sizes[letter] for letter in "BHGSD")
    if H and (G == 0 or H % G):
        raise ShapeError(f"G={G} must divide H={H}: every key/value head serves the same number of query heads")
    generator = np.random.default_rng(seed)
    q, k, v = (generator.standard_normal(shape).astype(dtype) for shape in ((B, H, D), (B, G, S, D), (B, G, S, D)))
    return {"q": q, "k": k, "v": v, **made_of(S), "lengths": tuple(-(-S * (B - b) // B) for b in range(B))}


def made_of(S, bits=4):
    """Return how a cache of S tokens is quantised."""
    return {"bits": bits, "group": next((n for n in GROUPS if 2 * n <= S), GROUPS[-1])}


def activations(arrays, dtype="float32", causal=True):
    """Return a layer's last query and its cache, at four moments of one text: after each quarter."""
    q, k, v = (np.ascontiguousarray(arrays[name], dtype) for name in "qkv")
    T, moments = q.shape[2], min(MOMENTS, q.shape[2])
    lengths = tuple(T * (i + 1) // moments for i in range(moments))
    ends = [n - 1 for n in lengths]
    k, v = (np.repeat(x, moments, axis=0) for x in (k, v))
    q = np.ascontiguousarray(q[0][:, ends].swapaxes(0, 1))
    return {"q": q, "k": k, "v": v, **made_of(T), "lengths": lengths}


def cut(inputs, keys=28, width=8):
    """Return the last sequence's first group: its first keys, and their first few columns."""
    share = inputs["q"].shape[1] // inputs["k"].shape[1]
    q = np.ascontiguousarray(inputs["q"][-1:, :share, :width])
    k, v = (np.ascontiguousarray(inputs[name][-1:, :1, :keys, :width]) for name in "kv")
    return {"q": q, "k": k, "v": v, **made_of(k.shape[2]), "lengths": (min(keys, inputs["lengths"][-1]),)}


def sizes(inputs):
    """Return the letters of a decoding step's inputs."""
    (B, H, D), (G, S) = inputs["q"].shape, inputs["k"].shape[1:3]
    return {"B": B, "H": H, "G": G, "S": S, "D": D}


def caches(inputs):
    """Return the keys, by channel, and the values, by token, as quantised caches."""
    q, k, v = (inputs[name] for name in "qkv")
    bind(q=(q, "BHD"), k=(k, "BGSD"), v=(v, "BGSD"))
    same_dtype(FLOATS, q=q, k=k, v=v)
    how = {name: inputs[name] for name in ("bits", "group")}
    return quantize(k, axis="channel", **how), quantize(v, axis="token", **how)


def run(rung, inputs):
    """Return o of one rung."""
    q, (k_cache, v_cache) = inputs["q"], caches(inputs)
    lengths = np.asarray(inputs["lengths"], dtype=np.int32, like=q if hasattr(q, "__array_function__") else None)
    return {"o": decode(q, k_cache, v_cache, lengths=lengths, rung=rung.name)}


def judge(outputs, inputs):
    """Hold o against the float64 equation on the same caches."""
    q, lengths = inputs["q"], np.asarray(inputs["lengths"], np.int32)
    return reference.judge(outputs["o"], q, *caches(inputs), lengths, max(1, q.shape[-1]) ** -0.5)


def form(rung, inputs):
    """Return the closed form of one rung's traffic."""
    given = {name: inputs[name] for name in ("lengths", "bits", "group")}
    return getattr(traffic, rung.name)(**sizes(inputs), itemsize=inputs["q"].itemsize, **given)
