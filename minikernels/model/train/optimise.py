"""One training run: batches, schedule, validation, checkpoints."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from minikernels.model.train.muon import Optimiser

__all__ = ["Run", "append", "bits_per_byte", "optimise"]


@dataclass(frozen=True)
class Run:
    """The choices of one training run.

    Parameters
    ----------
    steps, batch, length : int
        Updates, and the windows and their bytes that each sees.
    long_every : int
        Every so many steps the windows are four times as long and a quarter as many; 0 for never.
    rate, warmup, decay : float, int, float
        Peak learning rate, steps to reach it, weight decay of the matrices.
    dropout : float
        Share of each layer's output that is dropped.
    muon : bool
        Whether the layers' projections are updated by Muon; everything else, and without it all, is by AdamW.
    validate_every, seed : int
        Steps between validations; seed of batches and dropout.
    """

    steps: int = 4000
    batch: int = 32
    length: int = 2048
    long_every: int = 0
    rate: float = 3e-3
    warmup: int = 200
    decay: float = 0.1
    dropout: float = 0.1
    muon: bool = False
    validate_every: int = 250
    seed: int = 0


def optimise(model, train, validation, run, folder, log, seconds=None):
    """Train `model` in place and leave it with the weights that were best on the validation text.

    Parameters
    ----------
    model : Decoder
        On the device to train on.
    train, validation : ndarray of uint8
        The texts.
    run : Run
        The choices.
    folder : Path
        Where the checkpoint is kept; a run that finds one there goes on from it.
    log : callable
        Receives one dict at each validation.
    seconds : float, optional
        Stop after so long, with the checkpoint written, if the steps are not done.

    Returns
    -------
    bool
        Whether all steps are done.
    """
    device = model.embedding.device
    text = torch.from_numpy(np.array(train)).to(device)
    model.set_dropout(run.dropout)
    optimiser = Optimiser(model, run.rate, run.decay, run.muon)
    checkpoint = Path(folder) / "checkpoint.pt"
    step, best = _resume(checkpoint, model, optimiser) if checkpoint.exists() else (0, {"bits_per_byte": math.inf})
    started, running = time.monotonic(), None
    while step < run.steps:
        model.train()
        # Dropout and batch depend on the step alone: a resumed run is the same run.
        torch.manual_seed(run.seed * 1_000_003 + step)
        loss = _loss(model, _batch(text, run, step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step(_rate(step, run))
        running = loss.detach() if running is None else 0.98 * running + 0.02 * loss.detach()
        step += 1
        if step % run.validate_every == 0 or step == run.steps:
            score = bits_per_byte(model, validation, 512)
            elapsed = round(time.monotonic() - started, 1)
            train_score = round(running.item() / math.log(2), 4)
            log({"step": step, "train": train_score, "validation_512": round(score, 4), "seconds": elapsed})
            if score < best["bits_per_byte"]:
                weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
                best = {"bits_per_byte": score, "step": step, "weights": weights}
            _save(checkpoint, model, optimiser, step, best)
            if seconds is not None and elapsed > seconds and step < run.steps:
                return False
    model.load_state_dict(best["weights"])
    return True


@torch.no_grad()
def bits_per_byte(model, text, length, batch=32):
    """Return the mean bits per byte of `text`, whose first byte is only seen, cut into windows of `length`.

    A window sees nothing of the one before it but its last byte, from which it predicts its own first.
    """
    model.eval()
    device = model.embedding.device
    text = torch.from_numpy(np.array(text)).to(device)
    windows = (len(text) - 1) // length
    starts = torch.arange(windows, device=device)[:, None] * length + torch.arange(length + 1, device=device)
    nats = sum(_loss(model, text[rows], reduction="sum").item() for rows in starts.split(batch))
    rest = text[windows * length :]
    if len(rest) > 1:
        nats += _loss(model, rest[None], reduction="sum").item()
    return nats / (len(text) - 1) / math.log(2)


def _loss(model, tokens, reduction="mean"):
    """Return the cross-entropy of each byte given those before it, in nats."""
    tokens = tokens.long()
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=tokens.is_cuda):
        logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction=reduction)


def _batch(text, run, step):
    """Return windows of length + 1 at random places, the same ones for the same seed and step."""
    rng = np.random.default_rng((run.seed, step))
    longer = 4 if run.long_every and step % run.long_every == 0 else 1
    length, batch = run.length * longer, max(1, run.batch // longer)
    starts = torch.from_numpy(rng.integers(0, len(text) - length - 1, batch)).to(text.device)
    return text[starts[:, None] + torch.arange(length + 1, device=text.device)]


def _rate(step, run):
    """Return the learning rate: a linear rise, then half a cosine to a hundredth."""
    if step < run.warmup:
        return run.rate * (step + 1) / run.warmup
    done = (step - run.warmup) / max(1, run.steps - run.warmup)
    return run.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _save(path, model, optimiser, step, best):
    """Write a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "best": best}
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _resume(path, model, optimiser):
    """Load a checkpoint; return its step and its best weights so far."""
    state = torch.load(path, map_location=model.embedding.device, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["best"]


def append(path):
    """Return a logger that prints each dict and adds it to a file of JSON lines."""

    def log(record):
        line = json.dumps(record)
        print(line, flush=True)
        with Path(path).open("a") as file:
            file.write(line + "\n")

    return log
