"""What a key/value cache buys, and what fewer key/value heads cost, measured on the tiny models while they run here."""

import copy
import json
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minikernels import gqa, model
from minikernels.core.errors import ShapeError

__all__ = ["TokenCost", "attention_ms", "conversions", "token_costs"]

CONVERSIONS = Path(model.__file__).parent / "recorded" / "conversions.json"


class TokenCost(NamedTuple):
    """One generated token after `length` others.

    Attributes
    ----------
    length : int
        Bytes of text before it.
    without_ms, with_ms : float
        Time where all of the text is read again, and where its keys and values come from the cache.
    cache_bytes : int
        What the cache takes.
    """

    length: int
    without_ms: float
    with_ms: float
    cache_bytes: int


def token_costs(tiny, text, lengths, runs=5):
    """Return what one more token costs, with and without a cache, after each of `lengths` bytes of a text.

    Parameters
    ----------
    tiny : Model
        One of `minikernels.model`.
    text : bytes
        At least as long as the longest of the lengths, and one byte more.
    lengths : sequence of int
    runs : int
        Repeats of each measurement.

    Returns
    -------
    list of TokenCost
    """
    tokens = tokens_of(text, max(lengths) + 1)
    return [token_cost(tiny, tokens, length, runs) for length in lengths]


def token_cost(tiny, tokens, length, runs):
    """Return what one more token costs after `length` bytes."""
    state = model.State(tiny.config)
    tiny.forward(tokens[:, :length], state)

    def from_cache():
        here = copy.copy(state)  # a step moves its state on: every run starts from the same one
        here.caches = list(state.caches)
        return tiny.forward(tokens[:, length : length + 1], here)

    again = partial(tiny.forward, tokens[:, : length + 1])
    return TokenCost(length, least_ms(again, runs), least_ms(from_cache, runs), state.nbytes)


def attention_ms(tiny, text, lengths, rungs=("reference", "tiled"), layer=-1, runs=3):
    """Return {rung: times in ms} of causal attention over a whole prompt of each length, in one layer.

    ``reference`` keeps a T x T matrix of float64 scores a head; ``tiled`` never has more than a tile of them.
    """
    inputs = [tiny.activations(bytes(tokens_of(text, max(lengths))[0, :length]), layer) for length in lengths]
    return {rung: [least_ms(partial(gqa.attention, x.q, x.k, x.v, causal=True, rung=rung), runs) for x in inputs]
            for rung in rungs}


def conversions(context=2048):
    """Return the recorded cost of fewer key/value heads: rows (G, method, converted, uptrained), in bits per byte.

    ``uptrained`` is None where a conversion was not trained any further.
    """
    rows, key = json.loads(CONVERSIONS.read_text("utf-8"))["rows"], str(context)
    return [(row["G"], row["method"], row["converted"][key], row.get("uptrained", {}).get(key)) for row in rows]


def tokens_of(text, count):
    """Return the first `count` bytes of a text as a model takes them, (1, count)."""
    if len(text) < count:
        raise ShapeError(f"the text has {len(text)} bytes; {count} are needed")
    return np.frombuffer(text[:count], np.uint8)[None]


def least_ms(function, runs):
    """Return the least time of a few calls in milliseconds, after one that does not count.

    Other work on the machine can only add to a time, so the least is the nearest to this function's own.
    """
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)
