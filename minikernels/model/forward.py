"""The decoder in NumPy: weights in, logits, losses and activations out."""

import math

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.model import layers, weights
from minikernels.model.inputs import AttentionInputs, ScanInputs, State
from minikernels.model.text import SEPARATOR

__all__ = ["Model", "load"]

BATCH = 8  # windows that one pass of loss() takes together


class Model:
    """A byte-level decoder with its weights.

    Parameters
    ----------
    config : Config
        The sizes.
    arrays : dict of ndarray
        The weights of ``config.shapes()``.
    name : str
        What the model is called.
    digest : str, optional
        The digest of the weight file.
    """

    def __init__(self, config, arrays, name="", digest=None):
        self.config, self.name, self.digest = config, name, digest
        for key, shape in config.shapes().items():
            if key not in arrays or np.shape(arrays[key]) != shape:
                came = f"has shape {np.shape(arrays[key])}" if key in arrays else "is missing"
                raise ShapeError(f"weight {key} {came}; it must be {shape}")
        self.weights = {key: np.asarray(arrays[key], np.float32) for key in config.shapes()}

    def __repr__(self):
        size = sum(array.size for array in self.weights.values())
        return f"<Model {self.name}: {', '.join(self.config.layers)}; G={self.config.G}, {size:,} parameters>"

    def forward(self, tokens, state=None, *, attention=None, hook=None):
        """Return the logits of the byte after each of `tokens`.

        Parameters
        ----------
        tokens : ndarray of shape (B, T), uint8
            Bytes.
        state : State, optional
            What came before; it is moved forward past `tokens`.
        attention : callable, optional
            ``attention(q, k, v, layer)`` in place of every layer's causal attention: q (B, H, T, D), k and v (B, G,
            S, D) to (B, H, T, D); query t sees key s iff s <= t + S - T.
        hook : callable, optional
            ``hook(layer, inputs)`` sees every layer's AttentionInputs or ScanInputs before they are used, and may
            return others in their place. What it returns is used now; what a `state` keeps is what the layer
            computed.

        Returns
        -------
        ndarray of shape (B, T, 256), float32
            Logits.
        """
        tokens = self._tokens(tokens)
        state = State(self.config, len(tokens)) if state is None else state
        self._check_state(state, tokens)
        x = self.weights["embedding"][tokens]
        for layer in range(len(self.config.layers)):
            x = self._layer(x, layer, state, attention, hook)
        state.position += tokens.shape[1]
        return layers.rms_norm(x, self.weights["norm"], self.config.epsilon) @ self.weights["embedding"].T

    def loss(self, text, *, context=None, stride=None, attention=None, hook=None):
        """Return the bits that each byte of a text costs this model.

        Parameters
        ----------
        text : str or bytes
            Text; a str is read as UTF-8.
        context : int, optional
            Window length in bytes, the model's own by default. A longer text is cut into windows.
        stride : int, optional
            Bytes by which one window follows another. The default is `context`: windows see nothing of one another
            but the byte before their first, and a byte has half a context before it on average. With a smaller
            stride windows overlap, and every byte (but the first window's) has at least ``context - stride`` before
            it.
        attention, hook : callable, optional
            As in ``forward``: an approximation whose cost is wanted.

        Returns
        -------
        float
            Bits per byte.
        """
        data = _encode(text)
        if not data:
            raise ShapeError("the text is empty: bits per byte need at least one byte")
        context = self._context(context)
        stride = context if stride is None else stride
        if not 1 <= stride <= context:
            raise ShapeError(f"stride is {stride}; it must be 1 to the context of {context}")
        stream, nats = np.frombuffer(SEPARATOR + data, np.uint8), 0.0
        for (length, scored), starts in _windows(len(data), context, stride).items():
            for i in range(0, len(starts), BATCH):
                batch = stream[np.array(starts[i : i + BATCH])[:, None] + np.arange(length + 1)]
                nats += self._nats(batch, scored, attention, hook)
        return float(nats / len(data) / math.log(2))

    def activations(self, text, layer, *, dtype=np.float32):
        """Return what one layer hands to its attention or scan, exactly as a rung takes it.

        Parameters
        ----------
        text : str or bytes
            At most ``config.context`` bytes; T = S is their number.
        layer : int
            Which layer; a negative one counts from the last.
        dtype : {float32, float16, float64}
            Of the arrays returned.

        Returns
        -------
        AttentionInputs or ScanInputs
            With B = 1.
        """
        data, count = _encode(text), len(self.config.layers)
        if not data or len(data) > self.config.context:
            raise ShapeError(f"the text has T={len(data)} bytes; it must have 1 to {self.config.context}")
        if layer not in range(-count, count):
            raise ShapeError(f"layer is {layer}; {self.name or 'the model'} has layers 0 to {count - 1}")
        if np.dtype(dtype) not in (np.float16, np.float32, np.float64):
            raise DtypeError(f"dtype is {np.dtype(dtype)}; activations come as float32, float16 or float64")
        seen = {}
        self.forward(np.frombuffer(data, np.uint8)[None], hook=seen.__setitem__)
        inputs = seen[layer % count]
        return type(inputs)(**{name: np.ascontiguousarray(array, dtype) for name, array in dict(inputs).items()})

    def generate(self, prompt="", length=200, *, temperature=0.8, seed=0, attention=None, hook=None):
        """Return `length` bytes that go on from a prompt, one at a time from the caches.

        Parameters
        ----------
        prompt : str or bytes
            What to go on from; empty begins a file.
        length : int
            Bytes to make; with the prompt they must fit the model's context.
        temperature : float
            0 takes the likeliest byte; 1 samples as the model says.
        seed : int
            Of the sampling.
        attention, hook : callable, optional
            As in ``forward``.

        Returns
        -------
        str or bytes
            As the prompt; in a str, bytes that are no UTF-8 stand as U+FFFD.
        """
        data = SEPARATOR + _encode(prompt)
        if length < 0 or temperature < 0:
            raise ShapeError(f"length={length} and temperature={temperature} must not be negative")
        if len(data) + length > self.config.context + 1:
            raise ShapeError(f"{len(data) - 1} bytes and {length} more do not fit the context of {self.config.context}")
        rng, state, made = np.random.default_rng(seed), State(self.config), bytearray()
        tokens = np.frombuffer(data, np.uint8)[None]
        for _ in range(length):
            logits = self.forward(tokens, state, attention=attention, hook=hook)[0, -1]
            made.append(_sample(logits, temperature, rng))
            tokens = np.array([[made[-1]]], np.uint8)
        return bytes(made) if isinstance(prompt, bytes) else made.decode("utf-8", errors="replace")

    def _layer(self, x, layer, state, attention, hook):
        """Return the stream after one layer, whose cache moves forward."""
        prefix, epsilon = f"layers.{layer}.", self.config.epsilon
        w = {key.removeprefix(prefix): array for key, array in self.weights.items() if key.startswith(prefix)}
        mix = self._attention if self.config.layers[layer] == "attention" else self._mamba
        x = x + mix(layers.rms_norm(x, w["norm"], epsilon), w, layer, state, attention, hook)
        return x + layers.swiglu(layers.rms_norm(x, w["norm_ffn"], epsilon), w["gate"], w["up"], w["down"])

    def _attention(self, x, w, layer, state, attention, hook):
        q, k, v = (self._heads(x, w[name]) for name in ("query", "key", "value"))
        if self.config.rotary:
            q, k = (layers.rotate(y, state.position, self.config.rotary_base) for y in (q, k))
        past = state.caches[layer]
        k, v = (
            np.concatenate(pair, axis=2) if pair[0].shape[2] else pair[1] for pair in zip(past, (k, v), strict=True)
        )
        state.caches[layer] = k, v
        inputs = _seen(hook, layer, AttentionInputs(q, k, v))
        if attention is None:
            o = layers.attend(inputs.q, inputs.k, inputs.v)
        else:
            o = np.asarray(attention(inputs.q, inputs.k, inputs.v, layer))
            if o.shape != q.shape:
                raise ShapeError(f"attention gave shape {o.shape}; it must give {q.shape} = (B, H, T, D)")
        B, H, T, D = q.shape
        return o.astype(np.float32, copy=False).swapaxes(1, 2).reshape(B, T, H * D) @ w["output"].T

    def _heads(self, x, projection):
        """Return x (B, T, M) projected to (B, heads, T, D)."""
        B, T, _ = x.shape
        D = self.config.D
        return np.ascontiguousarray((x @ projection.T).reshape(B, T, len(projection) // D, D).swapaxes(1, 2))

    def _mamba(self, x, w, layer, state, attention, hook):
        R, N = self.config.R, self.config.N
        tail, h = state.caches[layer]
        u, z = np.split(x @ w["input"].T, 2, axis=-1)
        u, tail = layers.convolve(u, tail, w["taps"], w["taps_bias"])
        u = layers.silu(u)
        delta, b, c = np.split(u @ w["select"].T, (R, R + N), axis=-1)
        delta, a = delta @ w["delta"].T, -np.exp(w["a_log"])
        inputs = _seen(hook, layer, ScanInputs(u, delta, a, b, c, w["d"], z, w["delta_bias"]))
        y, h = layers.scan(**inputs, h=h)
        state.caches[layer] = tail, h
        return y @ w["output"].T

    def _nats(self, batch, scored, attention, hook):
        """Return the summed loss of the last `scored` bytes of each row, in nats."""
        logits = self.forward(batch[:, :-1], attention=attention, hook=hook)[:, -scored:]
        logits -= logits.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(logits, batch[:, -scored:, None].astype(np.intp), axis=-1)[..., 0]
        return np.sum(np.log(np.exp(logits).sum(axis=-1)) - chosen, dtype=np.float64)

    def _context(self, context):
        if context is None:
            return self.config.context
        if not 1 <= context <= self.config.context:
            raise ShapeError(f"context is {context}; it must be 1 to {self.config.context}")
        return int(context)

    def _tokens(self, tokens):
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or tokens.shape[1] == 0:
            raise ShapeError(f"tokens has shape {tokens.shape}; it must be (B, T) with T of at least 1")
        if tokens.dtype != np.uint8:
            raise DtypeError(f"tokens has dtype {tokens.dtype}; bytes are uint8")
        return tokens

    def _check_state(self, state, tokens):
        B = state.caches[0][0].shape[0]
        if B != len(tokens):
            raise ShapeError(f"the state was made for B={B} sequences; tokens has B={len(tokens)}")


def load(name="mha"):
    """Return a shipped model: "mha", "gqa2", "mqa" or "hybrid"; or the model in a weight file, given its path.

    Raises
    ------
    ValueError
        If there is no model of that name.
    WeightsError
        If its weight file is missing or damaged.
    """
    path = weights.path_of(name) if not str(name).endswith(".npz") else name
    config, arrays, digest = weights.read(path)
    return Model(config, arrays, str(name), digest)


def _encode(text):
    """Return text as bytes."""
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, (bytes, bytearray, memoryview)):
        return bytes(text)
    raise DtypeError(f"text is a {type(text).__name__}; it must be str or bytes")


def _windows(size, context, stride):
    """Return where windows over `size` bytes start, by (their length, how many of their last bytes are scored)."""
    done = min(context, size)
    windows = {(done, done): [0]}
    while done < size:
        scored = min(stride, size - done)
        windows.setdefault((context - stride + scored, scored), []).append(done - (context - stride))
        done += scored
    return windows


def _seen(hook, layer, inputs):
    """Show a layer's inputs to the hook and return them, or what it returned in their place."""
    given = hook(layer, inputs) if hook is not None else None
    return inputs if given is None else given


def _sample(logits, temperature, rng):
    """Return a byte drawn from the logits."""
    if temperature == 0:
        return int(logits.argmax())
    p = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    return int(rng.choice(len(p), p=p / p.sum()))
