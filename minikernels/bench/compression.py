"""What each way to compress a cache costs, on the tiny model: bits per byte of text against bytes of cache.

``python -m minikernels.bench.compression`` measures all of them on held-out text and writes
``model/recorded/compression.json`` and the table in kv_compression's README; a test holds those two in step.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minikernels import model
from minikernels.kv_compression import evict, quantize
from minikernels.model import approximations, record

__all__ = ["METHODS", "Method", "measure", "rows", "slots_by_head", "table"]

RECORDED = Path(model.__file__).parent / "recorded" / "compression.json"
README = Path(__file__).resolve().parent.parent / "kv_compression" / "README.md"
BEGIN, END = "<!-- costs:begin -->", "<!-- costs:end -->"
ITEM = 2  # bytes of a number of the cache that is compressed: float16
BLOCK_T = 256  # queries whose scores exist at a time
PAGE = 16  # slots of a page


@dataclass(frozen=True)
class Method:
    """One way to keep fewer bytes.

    Attributes
    ----------
    name : str
    attend : callable
        ``attend(q, k, v) -> o, bytes``: what T queries see, each of the cache as it stands when it comes, and the bytes
        of the cache after the last; all arrays float32, k and v as they come back from 16 bits.
    """

    name: str
    attend: Callable


def exact(q, k, v):
    """Keep everything."""
    return approximations.window(k.shape[2])(q, k, v, 0), 2 * k.size * ITEM


def rounded(bits, key_axis="channel", group=64, window=0):
    """Return the method of a quantised cache: full groups of tokens in few bits, the newest as they are."""
    def attend(q, k, v):
        how = {"bits": bits, "group": group, "window": window}
        caches = [quantize(x.astype(np.float16), axis=axis, **how) for x, axis in ((k, key_axis), (v, "token"))]
        k_codes, v_codes = (cache.dequantize(np.float32) for cache in caches)
        o, (_, H, T, D), S = np.empty_like(q), q.shape, k.shape[2]
        spread = [np.repeat(x, H // k.shape[1], axis=1) for x in (k, v, k_codes, v_codes)]
        for first in range(0, T, BLOCK_T):
            t = np.arange(first, min(T, first + BLOCK_T))[:, None]
            s, rows_ = np.arange(S), q[:, :, first : first + BLOCK_T] * np.float32(D**-0.5)
            old = s < np.maximum(0, t + 1 - window) // group * group  # rounded when query t comes
            fresh, codes = (rows_ @ x.swapaxes(-1, -2) for x in (spread[0], spread[2]))
            score = np.where(s <= t, np.where(old, codes, fresh), -np.inf)
            p = np.exp(score - score.max(axis=-1, keepdims=True))
            p /= p.sum(axis=-1, keepdims=True)
            o[:, :, first : first + BLOCK_T] = (p * ~old) @ spread[1] + (p * old) @ spread[3]
        return o, sum(cache.bytes() for cache in caches)

    return attend


def streaming(recent, sinks=4):
    """Return the method that keeps the first tokens and the newest."""
    def attend(q, k, v):
        kept = len(evict.streaming(k.shape[2], sinks=sinks, recent=recent))
        o = approximations.window(recent, sinks)(q, k, v, 0)
        return o, 2 * kept * k.shape[0] * k.shape[1] * k.shape[3] * ITEM

    return attend


def heavy_hitters(keep, recent):
    """Return the method that drops the token with the least attention so far whenever there is one too many."""
    def attend(q, k, v):
        (B, H, T, D), G = q.shape, k.shape[1]
        held, mass = [x[:, :, :0] for x in (k, v)], np.zeros((B, G, 0), np.float32)
        o = np.empty_like(q)
        for t in range(T):
            held = [np.concatenate((x, new[:, :, t : t + 1]), axis=2) for x, new in zip(held, (k, v))]
            p = weights(q[:, :, t], held[0])
            o[:, :, t] = (p @ held[1]).reshape(B, H, D)
            mass = np.append(mass, np.zeros((B, G, 1), np.float32), axis=2) + p.sum(axis=2)
            if mass.shape[2] > keep + recent:
                kept = evict.heavy_hitters(mass, keep=keep, recent=recent)
                held, mass = [evict.take(x, kept) for x in held], evict.take(mass, kept)
        return o, sum(x.size for x in held) * ITEM

    return attend


def merging(least, slots=None):
    """Return the method of DMC's slots: a token whose key points as the last slot's does is averaged into it.

    The model was not trained to decide: `least` is the cosine from which on it is merged; every token weighs the same.
    `slots` hears how many slots each head has at the end.
    """
    def attend(q, k, v):
        (B, H, T, D), G = q.shape, k.shape[1]
        held = [np.zeros_like(x) for x in (k, v)]
        count, z = np.zeros((B, G), int), np.zeros((B, G, 1), np.float32)
        o, b, g = np.empty_like(q), *np.ogrid[:B, :G]
        for t in range(T):
            last = [x[b, g, np.maximum(0, count - 1)] for x in held]
            alpha = (count > 0) & (cosine(last[0], k[:, :, t]) >= least)
            count += ~alpha
            z = np.where(alpha[..., None], z + 1, np.float32(1))
            for x, old, new in zip(held, last, (k, v)):
                x[b, g, count - 1] = np.where(alpha[..., None], old + (new[:, :, t] - old) / z, new[:, :, t])
            most = int(count.max())
            p = weights(q[:, :, t], held[0][:, :, :most], count)
            o[:, :, t] = (p @ held[1][:, :, :most]).reshape(B, H, D)
        if slots is not None:
            slots.append(count[0].tolist())
        return o, int(np.sum(-(-count // PAGE))) * PAGE * 2 * D * ITEM

    return attend


def weights(q, k, count=None):
    """Return softmax weights (B, G, H / G, S) of one query a head over keys, the first ``count[b, g]`` of them."""
    (B, H, D), G = q.shape, k.shape[1]
    score = (q * np.float32(D**-0.5)).reshape(B, G, H // G, D) @ k.swapaxes(-1, -2)
    if count is not None:
        score = np.where(np.arange(k.shape[2]) < count[..., None, None], score, -np.inf)
    p = np.exp(score - score.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def cosine(x, y):
    """Return the cosine between the vectors of the last axis; 0 where one has no length."""
    length = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.sum(x * y, axis=-1) / np.where(length == 0, 1, length)


METHODS = [
    Method("float16", exact),
    Method("int8, keys by channel", rounded(8)),
    Method("int4, keys by channel", rounded(4)),
    Method("int4, keys by channel, 128 newest kept", rounded(4, window=128)),
    Method("int4, keys by token", rounded(4, key_axis="token")),
    *(Method(f"streaming: 4 first, {n:,} newest", streaming(n)) for n in (1020, 508, 252)),
    *(Method(f"heavy hitters: {n // 2:,} of them, {n // 2:,} newest", heavy_hitters(n // 2, n // 2))
      for n in (1024, 512, 256)),
    *(Method(f"DMC: merged from cosine {least:g} on", merging(least)) for least in (0.95, 0.9, 0.85)),
]


def measure(method, tiny, data):
    """Return (bits per byte, bytes of all layers' caches at the end of a window, mean of all windows)."""
    context, held = tiny.config.context, []

    def attention(q, k, v, layer):
        k, v = (x.astype(np.float16).astype(np.float32) for x in (k, v))
        o, size = method.attend(q, k, v)
        held.append(size)
        return o

    windows = [data[i : i + context] for i in range(0, len(data), context)]
    bits = float(np.mean([tiny.loss(window, attention=attention) for window in windows]))
    return bits, sum(held) // len(windows)


def slots_by_head(tiny, text, least):
    """Return how many slots each head of each layer has after a text, under `merging`: nested lists (layers, G)."""
    slots = []
    measure(Method("", merging(least, slots)), tiny, text)
    return slots


def rows():
    """Return the recorded rows: dicts of method, bytes and bits_per_byte."""
    return json.loads(RECORDED.read_text("utf-8"))["rows"]


def table():
    """Return the recorded costs as a Markdown table: a row a method."""
    recorded = json.loads(RECORDED.read_text("utf-8"))
    found = recorded["rows"]
    whole = found[0]["bytes"]
    lines = ["| cache | bytes | of 16 bits | bits per byte |", "| --- | ---: | ---: | ---: |"]
    for row in found:
        size, bits = row["bytes"], row["bits_per_byte"]
        lines.append(f"| {row['method']} | {size:,} | {100 * size / whole:.1f} % | {bits:.3f} |")
    about = recorded["model"]
    said = f"after {about['context']:,} bytes of held-out text, mean of {recorded['windows']} windows"
    return "\n".join([*lines, "", f"Tiny model `{about['name']}`, all layers, {said}, {recorded['date']}."])


def main(windows=2):
    """Measure all methods, and write the recording and the README's table."""
    tiny = model.load("mha")
    data, found = record.sample(windows, tiny.config.context), []
    for method in METHODS:
        started = time.monotonic()
        bits, size = measure(method, tiny, data)
        found.append({"method": method.name, "bytes": size, "bits_per_byte": round(bits, 4)})
        print(f"{time.monotonic() - started:6.1f} s  {found[-1]}", flush=True)
    about = {"name": tiny.name, "digest": tiny.digest, "context": tiny.config.context}
    made = {"made_by": "python -m minikernels.bench.compression", "date": time.strftime("%Y-%m-%d"), "model": about,
            "windows": windows, "sha256": hashlib.sha256(data).hexdigest(), "rows": found}
    RECORDED.write_text(json.dumps(made, indent=1) + "\n", "utf-8", newline="\n")
    README.write_text(in_readme(), "utf-8", newline="\n")


def in_readme():
    """Return kv_compression's README with the table as it should be."""
    before, begin, rest = README.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{README.name} lacks {BEGIN} and {END}, between which the table of costs stands")
    return f"{before}{begin}\n{table()}\n{end}{after}"


if __name__ == "__main__":
    main()
