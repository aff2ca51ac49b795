"""Record what lessons say about the models: ``python -m minikernels.model.record``.

Attention mass by distance and by block, ranges of keys and values, and bits per byte against head groups, kept
density, cache bits, window and merge ratio, on held-out text of this interpreter's library. Writes
recorded/statistics.json and recorded/costs.json.
"""

import argparse
import hashlib
import json
import platform
import time
from pathlib import Path

import numpy as np

from minikernels.model import approximations, text
from minikernels.model.forward import load

FOLDER = Path(__file__).parent / "recorded"
BLOCK = 64
DISTANCES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)  # edges: [0, 1), [1, 2), [2, 4), ...
SHARES = (0.5, 0.9, 0.95, 0.99)


def main():
    """Record both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--windows", type=int, default=8, help="windows of a whole context to measure on")
    arguments = parser.parse_args()
    model = load("mha")
    data = sample(arguments.windows, model.config.context)
    _write(arguments.out / "costs.json", data, costs(model, data))
    statistics = {name: layer_statistics(load(name), data) for name in ("mha", "gqa2", "mqa", "hybrid")}
    _write(arguments.out / "statistics.json", data, {"block": BLOCK, "distance_edges": DISTANCES, "models": statistics})


def sample(windows, context):
    """Return held-out text, windows * context bytes, an equal share from the beginning of each of the longest modules.

    A window lies within one module, so that its long distances are real ones.
    """
    modules = text.modules()
    longest = sorted(text.HELD_OUT, key=lambda name: -max(path.stat().st_size for path in modules[name]))[:windows]
    return b"".join(modules[name][0].read_bytes()[context : 2 * context] for name in sorted(longest))


def layer_statistics(model, data):
    """Return, for each attention layer, its attention mass and the ranges of its keys and values."""
    context = model.config.context
    record = {"digest": model.digest, "layers": {}}
    for layer in (i for i, kind in enumerate(model.config.layers) if kind == "attention"):
        windows = [model.activations(data[i : i + context], layer) for i in range(0, len(data), context)]
        record["layers"][str(layer)] = {
            "attention": attention_mass(windows),
            "keys": ranges(np.concatenate([inputs.k for inputs in windows])),
            "values": ranges(np.concatenate([inputs.v for inputs in windows])),
        }
    return record


def attention_mass(windows):
    """Return where attention lies, by head, averaged over the second half of the queries of every window."""
    parts = [_mass_of_window(inputs) for inputs in windows]
    return {name: _rounded(np.mean([part[name] for part in parts], axis=0)) for name in parts[0]}


def _mass_of_window(inputs):
    T = inputs.q.shape[2]
    distance = np.arange(T)[:, None] - np.arange(T)
    p = approximations.probabilities(inputs.q, inputs.k, distance >= 0)[0]
    late = p[:, T // 2 :]  # these queries have every distance below T/2
    by_distance = [
        (late * _within(distance[T // 2 :], *edge)).sum((1, 2)) for edge in zip(DISTANCES, DISTANCES[1:], strict=False)
    ]
    blocks = approximations.block_mass(late, BLOCK) / BLOCK  # (H, rows, columns), each row sums to 1
    ordered = np.cumsum(-np.sort(-blocks, axis=-1), axis=-1)
    causal = np.arange(T // 2 // BLOCK, T // BLOCK) + 1  # blocks that each of these rows may see
    needed = [((ordered < share).sum(-1) + 1) / causal for share in SHARES]
    diagonal = np.arange(len(causal))
    return {
        "mass_by_distance": np.stack(by_distance, axis=1) / (T - T // 2),
        "mass_in_first_key": late[..., 0].mean(-1),
        "mass_in_first_block": blocks[..., 0].mean(-1),
        "mass_in_diagonal_block": blocks[:, diagonal, causal - 1].mean(-1),
        "density_holding_50_90_95_99_percent": np.stack([need.mean(-1) for need in needed], axis=1),
    }


def _within(distance, low, high):
    return (distance >= low) & (distance < high)


def ranges(x):
    """Return the range of each channel of x (B, G, S, D) over tokens, and how the ranges of tokens are spread."""
    by_token = np.abs(x).max(axis=-1)  # (B, G, S)
    return {
        "channel_min": _rounded(x.min(axis=(0, 2))),
        "channel_max": _rounded(x.max(axis=(0, 2))),
        "token_absmax_percentiles_0_50_90_99_100": _rounded(
            np.percentile(by_token, (0, 50, 90, 99, 100), axis=(0, 2)).T
        ),
    }


def costs(model, data):
    """Return bits per byte of ``mha`` under each approximation, and of the models with fewer key/value heads."""
    started = time.monotonic()

    def loss(**how):
        cost = round(_loss(model, data, **how), 4)
        print(f"{time.monotonic() - started:6.0f} s  {cost}", flush=True)
        return cost

    blocks = [(density, choose) for choose in ("mass", "pooled", "local") for density in (0.5, 0.25, 0.125, 0.0625)]
    axes = [("channel", "token"), ("token", "token")]
    return {
        "model": {"name": model.name, "digest": model.digest, "context": model.config.context},
        "exact": loss(),
        "groups": [_group_row(name, data) for name in ("mha", "gqa2", "mqa")],
        "block_sparse": [
            {"density": density, "choose": choose, "block": BLOCK}
            | {"bits_per_byte": loss(attention=approximations.keep_blocks(density, BLOCK, choose))}
            for density, choose in blocks
        ],
        "cache_bits": [
            {"bits": bits, "key_axis": key, "value_axis": value, "group": 64}
            | {"bits_per_byte": loss(hook=approximations.quantise(bits, key, value))}
            for key, value in axes
            for bits in (8, 4, 3, 2)
        ],
        "window": [
            {"kept": kept, "sinks": sinks, "bits_per_byte": loss(attention=approximations.window(kept, sinks))}
            for kept, sinks in ((1024, 4), (512, 4), (256, 4), (128, 4), (64, 4), (64, 0))
        ],
        "merge": [
            {"ratio": ratio, "recent": 64, "bits_per_byte": loss(attention=approximations.merge(ratio))}
            for ratio in (2, 4, 8)
        ],
    }


def _group_row(name, data):
    model = load(name)
    return {"name": name, "G": model.config.G, "digest": model.digest, "bits_per_byte": round(_loss(model, data), 4)}


def _loss(model, data, **how):
    """Return the mean bits per byte of the windows, each on its own: one's scores are enough to hold at once."""
    context = model.config.context
    return float(np.mean([model.loss(data[i : i + context], **how) for i in range(0, len(data), context)]))


def _rounded(x):
    """Return nested lists with four significant digits."""
    if np.ndim(x):
        return [_rounded(part) for part in x]
    return float(f"{x:.4g}")


def _write(path, data, record):
    provenance = {
        "made_by": "python -m minikernels.model.record",
        "text": {
            "modules": "the longest of the held-out",
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        },
        "python": platform.python_version(),
        "numpy": np.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"provenance": provenance} | record) + "\n")


if __name__ == "__main__":
    main()
