"""Train SeerAttention's gate on the tiny model, and record what it finds: ``python -m minikernels.bench.gate``.

The gate of every layer is trained on text that the model was trained on, and judged on text that neither has seen: what
share of attention lies in the blocks that it keeps, and what the model's text costs when attention has no others.
"""

import argparse
import hashlib
import json
import platform
import time
from pathlib import Path

import numpy as np

from minikernels import block_sparse, model
from minikernels.block_sparse import distill, gate, lists, patterns
from minikernels.model.text import corpus, held_out

__all__ = ["RECORDED", "judge", "lessons", "masks", "measure", "readme", "recorded", "table", "train"]

RECORDED = Path(block_sparse.__file__).parent / "recorded" / "gate.json"
README = Path(block_sparse.__file__).parent / "README.md"
BLOCK = (16, 16)
DENSITIES = (0.5, 0.25, 0.125)
CHOICES = {  # which blocks are kept -> in words
    "mass": "those that hold the most attention, which takes all of attention to know",
    "gate": "a gate trained on the mass of blocks",
    "gate_max": "a gate trained on the largest probability of blocks, as in the paper",
    "pooled": "where mean query and mean key meet best: the gate before training",
    "local": "the newest",
}
WINDOWS, LENGTH = 24, 1024  # texts that the gate is trained on, and bytes of each
JUDGED = 4  # texts of LENGTH that it is judged on
STEPS, RATE = 100, 0.001


def lessons(tiny, pool="mass", windows=WINDOWS, length=LENGTH, block=BLOCK, layers=None):
    """Return {layer: samples} to train on: what attention did in windows spread evenly over the training text."""
    text = corpus("train")
    starts = np.linspace(0, len(text) - length, windows + 2, dtype=int)[1:-1]
    found = {layer: [] for layer in (range(len(tiny.config.layers)) if layers is None else layers)}
    for start in starts:
        for layer, x in activations(tiny, text[start : start + length]).items():
            if layer in found:
                found[layer].append(distill.Sample.of(x.q, x.k, block, pool=pool))
    return found


def activations(tiny, text):
    """Return {layer: q, k and v} of one pass over a text."""
    seen = {}
    tiny.forward(np.frombuffer(text, np.uint8)[None], hook=seen.__setitem__)
    return seen


def train(tiny, samples, steps=STEPS, rate=RATE):
    """Return {layer: (gate, losses)} for {layer: samples}."""
    start = gate.untrained(tiny.config.H, tiny.config.D)
    return {layer: distill.train(each, start, steps, rate) for layer, each in samples.items()}


def masks(q, k, p, density, gates, block=BLOCK):
    """Return {choice: mask} of one layer, all with as many blocks in each row, the diagonal among them.

    Parameters
    ----------
    q, k : ndarray of shape (B, H, T, D)
    p : ndarray of shape (B, H, T, T)
        Their attention.
    density : float
    gates : dict of str to Gate
        Choice -> the layer's gate.
    block : (int, int)
    """
    T = q.shape[2]
    newest = -patterns.distances(T, T, block)[0]
    scores = {"mass": distill.block_mass(p, block), "local": np.broadcast_to(newest, (*q.shape[:2], *newest.shape))}
    found = {name: patterns.best(score, T, T, block, density=density) for name, score in scores.items()}
    for name, one in {**gates, "pooled": None}.items():
        found[name] = patterns.from_gate(q, k, block=block, gate=one, density=density)
    return {name: found[name] for name in CHOICES if name in found}


def judge(tiny, gates, texts, densities=DENSITIES, block=BLOCK):
    """Return {layer: {choice: recall at each density}}, a mean over texts; gates is {layer: {choice: gate}}."""
    rows = {layer: {} for layer in gates}
    for text in texts:
        for layer, x in activations(tiny, text).items():
            if layer in gates:
                p = distill.probabilities(x.q, x.k, causal=True)
                for density in densities:
                    for name, mask in masks(x.q, x.k, p, density, gates[layer], block).items():
                        rows[layer].setdefault(name, []).append(distill.recall(p, mask, block))
    return {layer: {name: np.reshape(found, (len(texts), -1)).mean(axis=0).round(4).tolist()
                    for name, found in by_name.items()} for layer, by_name in rows.items()}


def cost(tiny, texts, gates, density, choice):
    """Return bits per byte where every layer's attention has the chosen blocks alone."""
    def attend(q, k, v, layer):
        p = distill.probabilities(q, k, causal=True)
        mask = masks(q, k, p, density, gates[layer])[choice]
        p = p * lists.visible(mask, q.shape[2], k.shape[2], BLOCK, True)
        return p / p.sum(axis=-1, keepdims=True) @ v

    return round(float(np.mean([tiny.loss(text, attention=attend) for text in texts])), 4)


def measure(name="mha"):
    """Return what is recorded: recall and bits per byte against density, and where both come from."""
    tiny, texts = model.load(name), judged_texts()
    learned = {}
    started = time.perf_counter()
    for choice, pool in (("gate", "mass"), ("gate_max", "max")):
        learned[choice] = train(tiny, lessons(tiny, pool))
    seconds = time.perf_counter() - started
    gates = {layer: {choice: found[layer][0] for choice, found in learned.items()} for layer in learned["gate"]}
    losses = {choice: {layer: [round(each[0], 4), round(each[-1], 4)] for layer, (_, each) in found.items()}
              for choice, found in learned.items()}
    bits = {choice: [cost(tiny, texts, gates, density, choice) for density in DENSITIES] for choice in CHOICES}
    return {
        "provenance": {
            "made_by": "python -m minikernels.bench.gate", "python": platform.python_version(), "numpy": np.__version__,
            "date": time.strftime("%Y-%m-%d"), "training_seconds": round(seconds, 1),
            "held_out": {"texts": len(texts), "bytes": sum(map(len, texts)),
                         "sha256": hashlib.sha256(b"".join(texts)).hexdigest()},
        },
        "model": {"name": name, "digest": tiny.digest},
        "block": BLOCK, "densities": DENSITIES, "choices": CHOICES,
        "training": {"windows": WINDOWS, "length": LENGTH, "steps": STEPS, "rate": RATE, "loss": losses},
        "recall": judge(tiny, gates, texts),
        "bits_per_byte": {"dense": round(float(np.mean([tiny.loss(text) for text in texts])), 4), **bits},
    }


def judged_texts():
    """Return texts that neither model nor gate has seen, spread evenly over the held-out modules."""
    text = held_out()
    starts = np.linspace(0, len(text) - LENGTH, JUDGED + 2, dtype=int)[1:-1]
    return [text[start : start + LENGTH] for start in starts]


def recorded():
    """Return what `measure` found when it was last recorded."""
    return json.loads(RECORDED.read_text("utf-8"))


def table(found):
    """Return the Markdown table of a record: recall, a mean over layers, and bits per byte, at each density."""
    densities = [f"{density:g}" for density in found["densities"]]
    head = ["blocks kept", *(f"recall at {density}" for density in densities), *(f"bits at {d}" for d in densities)]
    lines = [row(head), row(["---", *["---:"] * (len(head) - 1)])]
    for choice, words in found["choices"].items():
        recalls = np.mean([by_name[choice] for by_name in found["recall"].values()], axis=0)
        bits = found["bits_per_byte"][choice]
        lines.append(row([words, *(f"{share:.4f}" for share in recalls), *(f"{cost:.4f}" for cost in bits)]))
    held_out, (R, C) = found["provenance"]["held_out"], found["block"]
    training = found["training"]
    note = (f"{found['model']['name']}, {held_out['texts']} texts of {held_out['bytes'] // held_out['texts']} bytes, "
            f"blocks of {R} x {C}; all blocks: {found['bits_per_byte']['dense']:.4f} bits per byte. Gates trained on "
            f"{training['windows']} texts of {training['length']} bytes, {training['steps']} steps.")
    return "\n".join([*lines, "", note])


def row(cells):
    """Return one line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def readme(text, found):
    """Return the technique's README with the table of a record between its two marks."""
    before, begin, rest = text.partition("<!-- gate:begin -->")
    _, end, after = rest.partition("<!-- gate:end -->")
    return f"{before}{begin}\n{table(found)}\n{end}{after}"


def main():
    """Record, unless only the README's table is asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="write the README's table from what is recorded, no more")
    if not parser.parse_args().table:
        RECORDED.parent.mkdir(exist_ok=True)
        RECORDED.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
    README.write_text(readme(README.read_text("utf-8"), recorded()), "utf-8")


if __name__ == "__main__":
    main()
