"""Dynamic Memory Compression: a head's new token opens a slot or is averaged into the last one; decoding over that.

Every head decides for itself, so heads differ in length. Each (b, g) head is a sequence of a pool of pages with one
key/value head, such as `minikernels.paged.PagePool`: it is handed in, and has ``P``, ``k_pages``, ``v_pages``,
``references``, ``page_with``, ``planned``, ``allocate``, ``append``, ``overwrite``, ``length``, ``pages_of``,
``table``, ``require`` and ``free``.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.numerics import FLOATS, score_scale
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import Ladder, back, gathered

__all__ = ["Heads", "allocate", "append", "decisions", "decode", "free", "lengths"]

DECODE = Ladder("kv_compression", {
    "reference": "reference_dmc.decode",
    "tiled": "tiled_dmc.decode",
    "v1_ragged_heads": "numba_dmc.launch_v1_ragged_heads",
})
BIAS = 5.0  # of a model that begins without merging, and gives every token nearly the same importance


@dataclass
class Heads:
    """Which sequences of a pool hold the heads of a batch, and what their last slots weigh.

    Attributes
    ----------
    sequences : ndarray of shape (B, G), int64
        Numbers that the pool gave out.
    weight : ndarray of shape (B, G), float64
        z: the sum of the importances merged into each head's last slot.
    """

    sequences: np.ndarray
    weight: np.ndarray


def allocate(pool, B, G):
    """Return empty `Heads` of B sequences with G key/value heads each."""
    if pool.k_pages.shape[2] != 1:
        raise ShapeError(f"the pool's k_pages have shape {tuple(pool.k_pages.shape)} = (pages, P, G, D); G must be 1: "
                         "every head is a sequence of its own")
    numbers = [pool.allocate() for _ in range(B * G)]
    return Heads(np.array(numbers, np.int64).reshape(B, G), np.zeros((B, G)))


def free(pool, heads):
    """Give all pages of the heads back."""
    for sequence in heads.sequences.ravel():
        pool.free(int(sequence))


def lengths(pool, heads):
    """Return how many slots each head has, an ndarray of shape (B, G), int64."""
    counted = [pool.length(int(sequence)) for sequence in heads.sequences.ravel()]
    return np.array(counted, np.int64).reshape(heads.sequences.shape)


def decisions(q, k, *, bias=BIAS):
    """Return what each head does with a new token: whether to merge it, and its importance.

    Parameters
    ----------
    q : array of shape (B, H, D), a float dtype
    k : array of shape (B, G, D), of q's kind and dtype
    bias : float

    Returns
    -------
    alpha : array of shape (B, G), bool
        ``k[-1] - bias > 0``: merge.
    omega : array of shape (B, G), float32 or wider
        ``sigmoid(q[-1] + bias)``, of a group's first query head.

    Notes
    -----
    Section 3 of [1]_; a model learns to say so in a channel of its keys and of its queries. One that was not trained
    for it never merges, but for chance.

    References
    ----------
    .. [1] Nawrot et al., Dynamic Memory Compression: Retrofitting LLMs for Accelerated Inference, arXiv:2403.09636.
    """
    (q, k), like, _ = gathered(q=q, k=k)
    sizes = bind(q=(q, "BHD"), k=(k, "BGD"))
    sizes.divides("G", "H")
    wide = np.result_type(same_dtype(FLOATS, q=q, k=k), np.float32)
    H, G, D = sizes.unpack("HGD")
    if D == 0:
        raise ShapeError("D is 0: the decision stands in the last channel of k, its importance in that of q")
    first = q[:, :: H // G] if G else q
    with np.errstate(over="ignore"):
        omega = 1 / (1 + np.exp(-(first[..., -1].astype(wide) + wide.type(bias))))
    return back(k[..., -1].astype(wide) > bias, like), back(omega, like)


def append(pool, heads, k, v, *, alpha, omega):
    """Let one token a sequence join: where alpha is true it is averaged into its head's last slot, else it opens one.

    Parameters
    ----------
    pool : PagePool
        With one key/value head.
    heads : Heads
        Of this pool.
    k, v : array of shape (B, G, D), of the pool's kind and dtype
    alpha : array of shape (B, G), bool
        Merge? A head's first token opens a slot whatever it says.
    omega : array of shape (B, G), a float dtype
        Importance, above 0 and finite.

    Raises
    ------
    ShapeError, DtypeError, DeviceError
        If the arrays do not fit the heads or the pool.
    OutOfPagesError
        The pool's own, if too few pages are free; nothing has changed.

    Notes
    -----
    Equation 3 of [1]_: with z the weight of the last slot, ``k = (z k + omega k_t) / (z + omega)``, v likewise, and
    ``z += omega``. Averages are taken in float32 or wider and rounded to the pool's dtype.
    """
    (k_pages, k, v, alpha, omega), *_ = gathered(k_pages=pool.k_pages, k=k, v=v, alpha=alpha, omega=omega)
    layout = {"heads": (heads.sequences, "BG"), "k": (k, "BGD"), "v": (v, "BGD")}
    bind(**layout, alpha=(alpha, "BG"), omega=(omega, "BG"), k_pages=(k_pages, ("pages", "P", "1", "D")))
    same_dtype([str(k_pages.dtype)], k=k, v=v)
    same_dtype(["bool"], alpha=alpha)
    same_dtype(FLOATS, omega=omega)
    alpha, omega = (np.array(x.tolist()).reshape(heads.sequences.shape) for x in (alpha, omega))  # to the host
    if not ((omega > 0) & (omega < np.inf)).all():
        raise ShapeError("omega must be above 0 and finite everywhere: it is what a token weighs")
    merge = alpha.astype(bool) & (lengths(pool, heads) > 0)
    pool.require(pages_needed(pool, heads, merge, k, v), f"append a token to {merge.size} heads")
    for b, g in np.ndindex(merge.shape):
        sequence, token = int(heads.sequences[b, g]), (k[b, g], v[b, g])
        if merge[b, g]:
            z, w = heads.weight[b, g], omega[b, g]
            pool.overwrite(sequence, -1, *(x[None] for x in averaged(last_slot(pool, sequence), token, z, w)))
            heads.weight[b, g] = z + w
        else:
            pool.append(sequence, *(x[None] for x in token))
            heads.weight[b, g] = omega[b, g]


def averaged(slot, token, z, omega):
    """Return a slot's key and value with a token's mixed in."""
    mixed = []
    for old, new in zip(slot, token, strict=True):
        wide = np.result_type(old.dtype, np.float32)
        share = wide.type(omega / (z + omega))
        mixed.append((old.astype(wide) + share * (new.astype(wide) - old.astype(wide))).astype(old.dtype))
    return mixed


def last_slot(pool, sequence):
    """Return the key and the value (D,) in a sequence's last slot."""
    place = pool.pages_of(sequence)[-1], (pool.length(sequence) - 1) % pool.P, 0
    return pool.k_pages[place], pool.v_pages[place]


def pages_needed(pool, heads, merge, k, v):
    """Return how many free pages a token takes: new ones, and copies of shared ones that it is written to.

    Of heads that share a page the last to write needs no copy, unless a sequence joins the page in this step: a page of
    one slot is full at once, and shared by all tokens that are alike. (There one page too many may be asked for, where
    a merged slot comes out like a token that opens one.)
    """
    opens = ~merge & (lengths(pool, heads) % pool.P == 0)
    written = Counter(pool.pages_of(int(sequence))[-1] for sequence in heads.sequences[~opens])
    new, joined = int(opens.sum()), set()
    if pool.P == 1:
        place = np.asarray(np.flatnonzero(opens), like=k)
        plan = pool.planned(*(x.reshape(merge.size, 1, x.shape[2])[place] for x in (k, v)), 0)
        new = sum(fresh for *_, fresh in plan)
        joined = {pool.page_with.get(digest) for _, digest, _ in plan}
    return new + sum(min(n, pool.references[page] - 1 + (page in joined)) for page, n in written.items())


def decode(q, pool, heads, *, scale=None, rung=None):
    """Return attention of one new token a sequence over the slots of its heads.

    Parameters
    ----------
    q : array of shape (B, H, D), of the pool's kind and dtype
    pool : PagePool
    heads : Heads
        (B, G); query head h reads head ``h // (H / G)``, which has as many slots as it has.
    scale : float, optional
        Factor on every score; ``D ** -0.5`` by default.
    rung : str, optional
        One of `DECODE`; by default ``tiled`` on NumPy arrays and ``v1_ragged_heads`` on a GPU.

    Returns
    -------
    array of shape (B, H, D), of q's kind and dtype
        0 in heads without slots.

    Notes
    -----
    ``o_h = softmax(q_h K_bg^T scale) V_bg``: a slot counts as one token, however many were merged into it, as [1]_ has
    it. HBM traffic: `minikernels.kv_compression.traffic_dmc`.

    References
    ----------
    .. [1] Nawrot et al., Dynamic Memory Compression, arXiv:2403.09636.
    """
    DECODE.check_name(rung)
    if not isinstance(heads, Heads):
        raise DtypeError(f"heads is of type {type(heads).__name__}; it must be Heads, which dmc.allocate makes")
    (q, k_pages, v_pages), like, place = gathered(q=q, k_pages=pool.k_pages, v_pages=pool.v_pages)
    sizes = bind(q=(q, "BHD"), heads=(heads.sequences, "BG"), k_pages=(k_pages, ("pages", "P", "1", "D")))
    sizes.divides("G", "H")
    same_dtype(FLOATS, q=q, k_pages=k_pages)
    DECODE.check_place(rung, place)
    scale = score_scale(scale, sizes["D"])
    if 0 in sizes.unpack("BHD") or 0 in k_pages.shape:
        return back(np.zeros_like(q), like)
    rung = rung or ("tiled" if place == "cpu" else "v1_ragged_heads")
    DECODE.check_dtype(rung, q=q)
    page_table, slots = pool.table([int(sequence) for sequence in heads.sequences.ravel()])
    if page_table.shape[1] == 0:  # no head has a slot
        return back(np.zeros_like(q), like)
    o = DECODE.function(rung)(q, k_pages, v_pages, page_table, slots, scale)
    return back(o.astype(q.dtype, copy=False), like)
