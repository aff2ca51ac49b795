"""One training run: updates, validation, checkpoints."""

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from minikernels.model.train.muon import Optimiser
from minikernels.model.train.update import Update, logits_of

__all__ = ["append", "bits_per_byte", "optimise"]


def optimise(model, train, validation, run, folder, log, seconds=None, teacher=None):
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
    teacher : Decoder, optional
        Whose probabilities ``run.taught`` mixes into the targets.

    Returns
    -------
    bool
        Whether all steps are done.
    """
    model.set_dropout(run.dropout)
    optimiser = Optimiser(model, run.decay)
    checkpoint = Path(folder) / "checkpoint.pt"
    step, best = _resume(checkpoint, model, optimiser) if checkpoint.exists() else (0, {"bits_per_byte": math.inf})
    update = Update(model, optimiser, train, run, teacher)
    started, running = time.monotonic(), None
    while step < run.steps:
        loss = update(step)
        running = loss.clone() if running is None else running.lerp_(loss, 0.02)
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
def bits_per_byte(model, text, length, stride=None, batch=64):
    """Return the mean bits per byte of `text`, whose first byte is only seen, cut into windows of `length`.

    A window sees nothing of the one before it but its last byte, from which it predicts its own first. With a
    `stride` below the length windows overlap, and of all but the first only the last `stride` bytes count.
    """
    model.eval()
    text = torch.from_numpy(np.array(text)).to(model.embedding.device)
    stride, size = stride or length, len(text) - 1
    first = min(length, size)
    nats, done = _nats(model, text[None, : first + 1], first), first
    starts = done + torch.arange((size - done) // stride, device=text.device) * stride - (length - stride)
    for some in starts.split(batch):
        nats += _nats(model, text[some[:, None] + torch.arange(length + 1, device=text.device)], stride)
    rest = size - done - len(starts) * stride
    if rest:
        nats += _nats(model, text[None, max(0, len(text) - (length - stride) - rest - 1) :], rest)
    return nats / size / math.log(2)


def _nats(model, windows, scored):
    """Return the summed loss of the last `scored` bytes of each window."""
    logits = logits_of(model, windows[:, :-1].long())[:, -scored:]
    return F.cross_entropy(logits.flatten(0, 1), windows[:, -scored:].long().flatten(), reduction="sum").item()


def _save(path, model, optimiser, step, best):
    """Write a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimiser": optimiser.tensors(), "step": step, "best": best}
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _resume(path, model, optimiser):
    """Load a checkpoint; return its step and its best weights so far."""
    state = torch.load(path, map_location=model.embedding.device, weights_only=True)
    model.load_state_dict(state["model"])
    for tensor, saved in zip(optimiser.tensors(), state["optimiser"], strict=True):
        tensor.copy_(saved)
    return state["step"], state["best"]


def append(path):
    """Return a logger that prints each dict and adds it to a file of JSON lines."""

    def log(record):
        line = json.dumps(record)
        print(line, flush=True)
        with Path(path).open("a") as file:
            file.write(line + "\n")

    return log
