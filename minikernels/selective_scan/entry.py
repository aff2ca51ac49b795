"""What the catalog's row of selective_scan is made of: inputs, the run of a rung, its judge and its traffic."""

import numpy as np

from minikernels import selective_scan
from minikernels.core.errors import ShapeError
from minikernels.selective_scan import reference, traffic

TOKENS = ("u", "delta", "b", "c", "z")  # these have the inputs' dtype; the rest is float32


def random(sizes, dtype="float32", causal=True, seed=0):
    """Return random inputs of the sizes B, T, E and N, with everything that a scan may be given.

    Rates and step sizes are spread as in a trained model: some states forget at once, some remember hundreds of tokens.
    A scan is causal by itself.
    """
    B, T, E, N = (sizes[letter] for letter in "BTEN")
    generator = np.random.default_rng(seed)
    u, delta, z = (generator.standard_normal((B, T, E)) for _ in range(3))
    b, c = (generator.standard_normal((B, T, N)) for _ in range(2))
    inputs = {
        "u": u, "delta": delta, "a": -np.exp(generator.uniform(-1, 3, (E, N))), "b": b, "c": c,
        "d": generator.standard_normal(E), "z": z, "delta_bias": generator.uniform(-6, -1, E),
        "initial_state": generator.standard_normal((B, E, N)),
    }
    return typed(inputs, dtype)


def activations(arrays, dtype="float32", causal=True):
    """Return what one Mamba layer of the tiny model handed to its scan."""
    if "u" not in arrays.keys():
        raise ShapeError("this layer of the model is an attention layer; a selective scan stands in its Mamba layers")
    return typed({name: arrays[name] for name in ("u", "delta", "a", "b", "c", "d", "z", "delta_bias")}, dtype)


def typed(inputs, dtype):
    """Return contiguous arrays, those of tokens in the dtype asked for, the others in float32."""
    return {name: np.ascontiguousarray(x, dtype if name in TOKENS else np.float32) for name, x in inputs.items()}


def cut(inputs, tokens=24, channels=40, states=2):
    """Return the first sequence's first tokens, in its first channels, each with its first states: more than a warp."""
    channel, state = slice(channels), slice(states)
    shares = {"u": channel, "delta": channel, "z": channel, "b": state, "c": state}
    small = {name: inputs[name][:1, :tokens, share] for name, share in shares.items()}
    small |= {"a": inputs["a"][channel, state]} | {name: inputs[name][channel] for name in ("d", "delta_bias")}
    if "initial_state" in inputs:
        small["initial_state"] = inputs["initial_state"][:1, channel, state]
    return {name: np.ascontiguousarray(small[name]) for name in inputs}


def sizes(inputs):
    """Return the letters of a scan's inputs."""
    return {**dict(zip("BTE", inputs["u"].shape, strict=True)), "N": inputs["a"].shape[1]}


def run(rung, inputs):
    """Return o and the last state of one rung."""
    o, state = selective_scan.scan(**inputs, delta_softplus=True, return_state=True, rung=rung.name)
    return {"o": o, "state": state}


def judge(outputs, inputs):
    """Hold o and the last state against the float64 equation."""
    return reference.judge(outputs["o"], outputs["state"], **inputs, delta_softplus=True)


def form(rung, inputs):
    """Return the closed form of one rung's traffic."""
    return getattr(traffic, rung.name)(**sizes(inputs), itemsize=inputs["u"].itemsize)
