"""One associative operator, three uses: the selective scan, attention as an RNN, and the merging of split keys.

A prefix scan replaces leaf t by the combination of leaves 0 to t. It asks of the operator that it be associative, and
nothing else: leaves that are pairs (decay, drive) give the selective scan's states, leaves (m, l, o) give causal
attention of one query, and a reduction of such states is what split-KV decoding ends with. The three scans below differ
in how many combinations they make (work) and in how many of them must wait for each other (depth).

Leaves are tuples of arrays whose first axis is the one that is scanned.
"""

from typing import NamedTuple

import numpy as np

from minikernels.core.numerics import merge

__all__ = ["SCANS", "Cost", "affine", "blelloch", "hillis_steele", "reduce_tree", "sequential", "softmax"]

softmax = merge  # (m, l, o): the state of a softmax over some keys


class Cost(NamedTuple):
    """What a scan took: combinations in all, and combinations that had to follow one another."""

    work: int
    depth: int


def affine(first, second):
    """Return the map h -> decay * h + drive that does `first` and then `second`.

    >>> affine((0.5, 1.0), (0.25, 2.0))
    (0.125, 2.25)
    """
    (decay1, drive1), (decay2, drive2) = first, second
    return decay2 * decay1, decay2 * drive1 + drive2


def sequential(combine, leaves):
    """Return (prefixes, Cost): each leaf combined with the prefix before it. Work n - 1, depth n - 1."""
    prefixes = [x.copy() for x in leaves]
    n = len(prefixes[0])
    for t in range(1, n):
        put(prefixes, t, combine(at(prefixes, t - 1), at(prefixes, t)))
    return tuple(prefixes), Cost(max(0, n - 1), max(0, n - 1))


def hillis_steele(combine, leaves):
    """Return (prefixes, Cost): at step k, every leaf is combined with the one 2^k before it [1]_.

    Work n log2(n) - n + 1 for a power of two, depth ceil(log2(n)): the fewest steps, with most of the leaves at work in
    each.

    References
    ----------
    .. [1] Hillis, Steele, Data parallel algorithms, Communications of the ACM 29(12), 1986.
    """
    prefixes = tuple(leaves)
    n, work, depth, reach = len(prefixes[0]), 0, 0, 1
    while reach < n:
        later = combine(at(prefixes, slice(None, n - reach)), at(prefixes, slice(reach, None)))
        prefixes = tuple(np.concatenate((x[:reach], y)) for x, y in zip(prefixes, later, strict=True))
        work, depth, reach = work + n - reach, depth + 1, 2 * reach
    return tuple(x.copy() for x in prefixes) if depth == 0 else prefixes, Cost(work, depth)


def blelloch(combine, leaves):
    """Return (prefixes, Cost): up a binary tree and down again [1]_.

    The way up leaves in every 2^k-th place the combination of the 2^k leaves that end there; the way down hands
    prefixes to the places between. Work 2n - 2 - log2(n) for a power of two, depth 2 log2(n) - 1: twice the steps of
    `hillis_steele`, for work that does not grow faster than the sequence. (In [1]_ the way down ends in the prefixes
    *before* each leaf; this is the form that ends in those up to it.)

    References
    ----------
    .. [1] Blelloch, Prefix sums and their applications, CMU-CS-90-190, 1990.
    """
    prefixes = [x.copy() for x in leaves]
    n, work, depth = len(prefixes[0]), 0, 0
    reaches = [1 << k for k in range((n - 1).bit_length())] if n else []
    up = [(reach, slice(2 * reach - 1, n, 2 * reach)) for reach in reaches]
    down = [(reach, slice(3 * reach - 1, n, 2 * reach)) for reach in reversed(reaches)]
    for reach, right in up + down:
        left = slice(right.start - reach, n - reach, right.step)
        count = len(range(n)[right])
        if count:
            put(prefixes, right, combine(at(prefixes, left), at(prefixes, right)))
            work, depth = work + count, depth + 1
    return tuple(prefixes), Cost(work, depth)


SCANS = {"sequential": sequential, "hillis_steele": hillis_steele, "blelloch": blelloch}


def reduce_tree(combine, leaves):
    """Return (the combination of all leaves, Cost): neighbours first. Work n - 1, depth ceil(log2(n)).

    >>> total, cost = reduce_tree(affine, (np.full(5, 0.5), np.ones(5)))
    >>> [float(x) for x in total], cost
    ([0.03125, 1.9375], Cost(work=4, depth=3))
    """
    left, work, depth = tuple(leaves), 0, 0
    if len(left[0]) == 0:
        raise ValueError("nothing to combine: there are no leaves")
    while (n := len(left[0])) > 1:
        pairs = combine(at(left, slice(0, n - 1, 2)), at(left, slice(1, n, 2)))
        odd = at(left, slice(n - n % 2, n))
        left = tuple(np.concatenate((x, rest)) for x, rest in zip(pairs, odd, strict=True))
        work, depth = work + n // 2, depth + 1
    return at(left, 0), Cost(work, depth)


def at(leaves, place):
    """Return some of the leaves."""
    return tuple(x[place] for x in leaves)


def put(leaves, place, values):
    """Overwrite some of the leaves."""
    for x, value in zip(leaves, values, strict=True):
        x[place] = value
