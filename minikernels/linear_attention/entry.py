"""What the catalog's row of linear_attention is made of: inputs, the run of a rung, its judge and its traffic."""

import numpy as np

from minikernels import linear_attention
from minikernels.linear_attention import reference, slopes, traffic


def random(sizes, dtype="float32", causal=True, seed=0):
    """Return random q, k and v of the sizes B, H, T and D, and decays from fast to slow; causal it is by nature."""
    B, H, T, D = (sizes[letter] for letter in "BHTD")
    generator = np.random.default_rng(seed)
    q, k, v = (generator.standard_normal((B, H, T, D)).astype(dtype) for _ in range(3))
    return {"q": q, "k": k, "v": v, "decay": decays(H)}


def activations(arrays, dtype="float32", causal=True):
    """Return the q, k and v of an attention layer of the tiny model, with TransNormerLLM's decays.

    The layer was trained for softmax. Its q and k carry rotary phases, as those of TransNormerLLM's attention do.
    """
    given = {name: np.ascontiguousarray(arrays[name], dtype) for name in "qkv"}
    return {**given, "decay": decays(given["q"].shape[1])}


def decays(H):
    """Return TransNormerLLM's decays of H heads, as numbers."""
    return tuple(float(x) for x in np.exp(-slopes(H))) if H else ()


def cut(inputs, rows=40, width=8):
    """Return the first head of the first sequence: its first rows, and their first few columns."""
    small = {name: np.ascontiguousarray(inputs[name][:1, :1, :rows, :width]) for name in "qkv"}
    return {**small, "decay": inputs["decay"][:1]}


def sizes(inputs):
    """Return the letters of the inputs."""
    return dict(zip("BHTD", inputs["q"].shape, strict=True))


def run(rung, inputs):
    """Return o and the last state of one rung."""
    q, k, v = (inputs[name] for name in "qkv")
    decay = np.asarray(inputs["decay"], dtype=np.float32, like=q if hasattr(q, "__array_function__") else None)
    o, state = linear_attention.attention(q, k, v, decay=decay, return_state=True, rung=rung.name)
    return {"o": o, "state": state}


def judge(outputs, inputs):
    """Hold o and the last state against the float64 recurrence."""
    q, k, v = (inputs[name] for name in "qkv")
    return reference.judge(outputs["o"], outputs["state"], q, k, v, np.asarray(inputs["decay"], np.float32), None, 1.0)


def form(rung, inputs):
    """Return the closed form of one rung's traffic."""
    return getattr(traffic, rung.name)(**sizes(inputs), itemsize=inputs["q"].itemsize, kept=True)
