"""Sequences that grow from one prompt, in a pool that lets them share: parallel samples, and the beams of a search.

What a decoding algorithm decides is given as *parents*: an int array (steps, width), ``parents[t, i]`` the sequence of
step t - 1 (of the prompt's copies in the first) that sequence i of step t goes on from. Reference: [1] Kwon et al.,
PagedAttention, arXiv:2309.06180, section 4.4 and figures 8, 9 and 15.
"""

from typing import NamedTuple

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.paged.pool import PagePool

__all__ = ["Sharing", "beam_parents", "grow", "sample_parents"]


class Sharing(NamedTuple):
    """What `grow` saw after each step.

    Attributes
    ----------
    alone : ndarray of shape (steps,), int64
        Pages that the sequences would have if none were shared.
    used : ndarray of shape (steps,), int64
        Pages that they have.
    copied : ndarray of shape (steps,), int64
        Pages that were copied in the step because a sharer wrote.
    tables : tuple of tuple of tuple of int
        The pages of every sequence, in every step.
    """

    alone: np.ndarray
    used: np.ndarray
    copied: np.ndarray
    tables: tuple

    @property
    def saved(self):
        """Share of the pages that sharing saves, over all steps; 0.0 where there are none."""
        return float(1 - self.used.sum() / self.alone.sum()) if self.alone.sum() else 0.0


def sample_parents(width, steps):
    """Return the parents of parallel sampling: every sequence goes on from itself."""
    return np.tile(np.arange(width), (steps, 1))


def beam_parents(width, steps, seed=0):
    """Return the parents of a beam search whose model is chance: a step keeps the best `width` continuations of all.

    Each sequence offers `width` continuations, whose log-probabilities fall off like sorted exponential draws.

    Examples
    --------
    >>> beam_parents(width=3, steps=4).shape
    (4, 3)
    """
    generator, score = np.random.default_rng(seed), np.zeros(width)
    parents = np.zeros((steps, width), np.int64)
    for t in range(steps):
        offered = score[:, None] - np.sort(generator.exponential(1.0, (width, width)), axis=1)
        best = np.argsort(-offered, axis=None, kind="stable")[:width]
        parents[t], score = best // width, offered.ravel()[best]
    return parents


def grow(parents, prompt, P=16):
    """Return how the sequences share pages: the prompt is held once, a step forks the survivors and frees the others.

    Parameters
    ----------
    parents : ndarray of shape (steps, width), int
    prompt : int
        Tokens of the prompt.
    P : int
        Tokens of a page.

    Raises
    ------
    ShapeError
        If parents are not (steps, width) or name a sequence that there is not.
    """
    parents = np.asarray(parents)
    if parents.ndim != 2 or (parents.size and not 0 <= parents.min() <= parents.max() < parents.shape[1]):
        raise ShapeError(f"parents {parents.shape} must be (steps, width) with entries from 0 to width - 1")
    steps, width = parents.shape
    pool = PagePool(2 * (width + 1) * (-(-(prompt + steps) // P) + 1), P, 1, 1, np.float32)
    token = iter(range(1, prompt + steps * width + 1))  # every token another content: only what is forked is shared
    first = pool.allocate(*tokens(token, prompt))
    beams = [pool.fork(first) for _ in range(width)]
    pool.free(first)
    alone, used, copied, tables = [], [], [], []
    for row in parents:
        children = [pool.fork(beams[parent]) for parent in row]
        for beam in beams:
            pool.free(beam)
        beams, before = children, {page for child in children for page in pool.pages_of(child)}
        full = [pool.length(child) % P == 0 for child in children]
        for child in children:
            pool.append(child, *tokens(token, 1))
        tables.append(tuple(pool.pages_of(child) for child in children))
        fresh = {page for table in tables[-1] for page in table} - before
        alone.append(sum(map(len, tables[-1])))
        used.append(pool.used_pages)
        copied.append(len(fresh) if not any(full) else 0)  # of a full page nothing is copied: the new one is empty
    return Sharing(*(np.array(x, np.int64) for x in (alone, used, copied)), tuple(tables))


def tokens(token, count):
    """Return keys and values of the next `count` tokens, (count, 1, 1)."""
    k = np.array([next(token) for _ in range(count)], np.float32).reshape(count, 1, 1)
    return k, k
