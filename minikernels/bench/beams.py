"""A beam search by a tiny model, run here: which sequences go on from which, for a pool to share their pages."""

import numpy as np

from minikernels import model

__all__ = ["search"]


def search(tiny, text, width, steps):
    """Return the parents of every step and the texts that were found, best first.

    Parameters
    ----------
    tiny : Model
        One of `minikernels.model`.
    text : bytes
        The prompt.
    width : int
        Sequences that each step keeps.
    steps : int
        Bytes to write.

    Returns
    -------
    parents : ndarray of shape (steps, width), int64
        ``parents[t, i]`` is the sequence of step t - 1 that sequence i of step t goes on from.
    texts : list of bytes
        What each sequence of the last step has written.
    """
    state, texts = model.State(tiny.config, width), [b""] * width
    tokens = np.tile(np.frombuffer(text, np.uint8), (width, 1))
    score = np.where(np.arange(width) == 0, 0.0, -np.inf)  # all begin alike: the first step's best come from one
    parents = np.zeros((steps, width), np.int64)
    for t in range(steps):
        logits = tiny.forward(tokens, state)[:, -1].astype(np.float64)
        top = logits.max(axis=1, keepdims=True)
        offered = score[:, None] + logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        best = np.argsort(-offered, axis=None, kind="stable")[:width]
        parents[t], token = np.divmod(best, offered.shape[1])
        score, tokens = offered.ravel()[best], token[:, None].astype(np.uint8)
        texts = [texts[parent] + bytes([byte]) for parent, byte in zip(parents[t], token, strict=True)]
        state.caches = [tuple(x[parents[t]] for x in cache) for cache in state.caches]
    return parents, texts
